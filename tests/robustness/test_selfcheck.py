"""What a check of a library's convolutions refutes, and what happens then."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thesis_repro.robustness import GloroNet, certify, products, selfcheck

INPUT = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])
KERNEL = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
OUTPUT = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1.0]])


def winograd(x, weight, bias, stride, padding, dilation, groups):
    """F(2x2, 3x3), as Lavin and Gray 2016: 16 products for 4 outputs of 36."""
    assert (stride, dilation, groups) == ((1, 1), (1, 1), 1) and weight.shape[2:] == (3, 3)
    b, g, a = (m.to(x.dtype) for m in (INPUT, KERNEL, OUTPUT))
    size = [side + 2 * p - 2 for side, p in zip(x.shape[2:], padding, strict=True)]
    odd = [s % 2 for s in size]
    x = F.pad(x, (padding[1], padding[1] + odd[1], padding[0], padding[0] + odd[0]))
    tiles = b @ x.unfold(2, 4, 2).unfold(3, 4, 2) @ b.T  # (n, in, down, right, 4, 4)
    found = torch.einsum("ncijab,ocab->noijab", tiles, g @ weight @ g.T)
    found = (a @ found @ a.T).permute(0, 1, 2, 4, 3, 5)
    found = found.reshape(*found.shape[:2], 2 * found.shape[2], -1)[:, :, : size[0], : size[1]]
    return found if bias is None else found + bias[:, None, None]


def by_fft(x, weight, bias, stride, padding, dilation, groups):
    """Valid outputs of a circular correlation; stride 1, one group."""
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    images, kernels = torch.fft.rfft2(x), torch.fft.rfft2(weight, s=x.shape[2:])
    found = torch.fft.irfft2(torch.einsum("nchw,ochw->nohw", images, kernels.conj()), s=x.shape[2:])
    (high, wide), (down, right) = x.shape[2:], weight.shape[2:]
    found = found[:, :, : high - down + 1, : wide - right + 1]
    return found if bias is None else found + bias[:, None, None]


SHAPE, WEIGHT = (8, 16, 15), (6, 8, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transform", [winograd, by_fft])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_a_convolution_by_transforms_is_refuted(dtype, transform, padding):
    x, weight = torch.randn(2, *SHAPE, dtype=dtype), torch.randn(WEIGHT, dtype=dtype)
    found = transform(x, weight, None, (1, 1), padding, (1, 1), 1)
    torch.testing.assert_close(found, F.conv2d(x, weight, None, 1, padding))  # no other fault
    given = SHAPE, WEIGHT, (1, 1), padding, (1, 1), 1, dtype
    assert not selfcheck.conventional(*given, convolving=transform)
    assert selfcheck.conventional(*given, convolving=products.convolve)


@pytest.mark.parametrize(
    ("shape", "kernel", "about"),
    [
        ((3, 32, 32), (32, 3, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),
        ((32, 16, 16), (32, 32, 4, 4), ((2, 2), (1, 1), (1, 1), 1)),
        ((4, 9, 7), (6, 2, 3, 2), ((2, 1), (0, 2), (2, 1), 2)),
        ((4, 5, 5), (4, 4, 1, 1), ((1, 1), (0, 0), (1, 1), 1)),
        ((1, 8, 8), (2, 1, 8, 8), ((1, 1), (0, 0), (1, 1), 1)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_convolutions_of_this_machine_are_not_refuted(shape, kernel, about, dtype):
    with torch.backends.nnpack.flags(enabled=False):
        assert selfcheck.conventional(shape, kernel, *about, dtype, convolving=F.conv2d)


def test_where_the_library_is_refuted_certificates_come_from_products(monkeypatch):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 3)
    )
    net, x = GloroNet(body, 0.01, (2, 8, 8)).eval(), torch.rand(9, 2, 8, 8)
    expected = certify(net, x)
    asked = []

    def library(x, *given):
        asked.append(len(x))
        return winograd(x, *given)

    selfcheck._known.cache_clear()
    monkeypatch.setattr(F, "conv2d", library)
    found = certify(copy.deepcopy(net), x, used=net.bound())
    again = certify(copy.deepcopy(net), x, used=net.bound())
    monkeypatch.undo()
    selfcheck._known.cache_clear()
    assert asked == [selfcheck.IMAGES]  # asked for the check, once, and never for an answer
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.margin, expected.margin)
    assert torch.equal(found.margin, again.margin)
