"""Nets from files that state their layers come back as they were."""

from pathlib import Path

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certificate, certify, models, stated

SHAPE = (2, 8, 8)


def every_layer() -> nn.Sequential:
    torch.manual_seed(0)
    sum_ = nets.Sum(nn.Conv2d(4, 2, 1, 2), nn.Sequential(nn.Conv2d(4, 2, 3, 2, 1), nn.ReLU()))
    return nn.Sequential(
        nets.Scale(torch.rand(2, 1, 1), -0.5),
        nn.Conv2d(2, 4, 3, padding=(1, 1), groups=2, bias=False),
        nn.BatchNorm2d(4),
        nets.MinMax(),
        nets.Residual(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        nets.LinearResidual(4, 0.5),
        nn.Sequential(nn.Identity(), nn.Dropout(0.1)),
        sum_,
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.PixelUnshuffle(1),
        nn.Flatten(),
        nn.Linear(2, 6),
        nn.BatchNorm1d(6, affine=False),
        nn.ReLU(),
        nets.UnitLinear(6, 3),
    ).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_of_every_layer_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    net = GloroNet(every_layer().to(dtype), 0.1, SHAPE).eval()
    file = certificate.write_net(str(tmp_path / "own.safetensors"), net)
    found = models.load(str(file), 0.1)
    assert certificate.architecture(found) == certificate.architecture(net)
    assert certificate.packed(found) == certificate.packed(net)
    x = torch.rand(3, *SHAPE, dtype=dtype)
    assert torch.equal(found.body(x), net.body(x))
    assert torch.equal(certify(found, x).radius, certify(net, x).radius)
    assert set(stated.MAKERS) == {kind.__name__ for kind in certificate.GEOMETRY}


def test_what_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save

    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2))
    content = certificate.packed(net)
    weight = torch.zeros(2, 5)
    cases = {
        "text": (b"no weights", "not a safetensors file"),
        "bare": (save({"body.1.weight": weight}), "does not state its layers"),
        "other": (
            content.replace(b'\\"in_features\\":4', b'\\"in_features\\":5'),
            "not for the layers",
        ),
        "unknown": (content.replace(b"Flatten", b"Fl_tten"), "unknown type 'Fl_tten'"),
    }
    for name, (bytes_, says) in cases.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(bytes_)
        with pytest.raises(ValueError, match=says) as error:
            models.load(file, 0.1)
        assert "\n" not in str(error.value)
    file.write_bytes(content)
    with pytest.raises(ValueError, match="has no card beside.* give epsilon"):
        models.load(file)
