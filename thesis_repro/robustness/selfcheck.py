"""Whether a library's convolution adds up term by term, as a rounding budget assumes.

A Winograd convolution multiplies pixels with weights that are not theirs, and cancels what should
not be there; an FFT mixes pixels of all windows. Where a large pixel meets a small weight, and the
large weight a small pixel, or large pixels lie beside the window, their results are off by the
rounding of the large ones: far more than gamma(n) times the sum of the absolute terms of an output.
So a check can refute that a library adds conventionally; it cannot prove it. It is made once per
process, layer shape and setting of torch. Source: Lavin and Gray 2016, for the transforms.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_repro.robustness import arithmetic, products, proof
from thesis_repro.robustness.products import Convolving, Pair

SMALL = 2.0**-30
"""Size of the small pixels and weights beside large ones of size 1."""

IMAGES = 4
"""Images per check, each with its large pixels at other places."""


def conventional(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    convolving: Convolving,
) -> bool:
    """Whether no output of a convolution is off by more than term by term sums can be.

    Parameters
    ----------
    shape : of one image, (channels, height, width)
    kernel : (out, in / groups, height, width)
    convolving : what is checked, called as `torch.nn.functional.conv2d`
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(IMAGES, *shape, generator=generator, dtype=dtype) - 0.5
    weight = torch.rand(kernel, generator=generator, dtype=dtype) - 0.5
    reach = [(k - 1) * d + 1 for k, d in zip(kernel[2:], dilation, strict=True)]
    sizes = torch.full((IMAGES, 1, *shape[1:]), SMALL, dtype=dtype)
    for image, lattice in zip(range(IMAGES), sizes, strict=True):
        down, right = ((r // 2 + image) % (r + 3) for r in reach)
        lattice[:, down :: reach[0] + 3, right :: reach[1] + 3] = 1.0
    taps = torch.full((kernel[0], 1, kernel[2] * kernel[3]), SMALL, dtype=dtype)
    for output, tap in enumerate(taps):
        tap[:, output % tap.shape[1]] = 1.0
    x, weight = (x * sizes).to(device), (weight * taps.view(-1, 1, *kernel[2:])).to(device)
    about = stride, padding, dilation, groups
    found = convolving(x, weight, None, *about).double()
    x, weight = x.double(), weight.double()
    exact, terms = products.convolve(x, weight, None, *about), weight[0].numel()
    absolute = products.convolve(x.abs(), weight.abs(), None, *about)
    off = proof.gamma(terms, arithmetic.UNITS[dtype]) + 2 * proof.gamma(terms + 1)
    return bool(((found - exact).abs() <= off * absolute).all())


@cache
def _known(settings: tuple[object, ...], *about: object) -> bool:
    return conventional(*about, convolving=F.conv2d)  # type: ignore[arg-type]


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """By the library on a CPU, unless it was refuted; by products of our own otherwise."""
    about = stride, padding, dilation, groups
    if x.device.type == "cpu" and _known(
        arithmetic.settings("cpu"), tuple(x.shape[1:]), tuple(weight.shape), *about, x.dtype
    ):
        return F.conv2d(x, weight, bias, *about)
    return products.convolve(x, weight, bias, *about)
