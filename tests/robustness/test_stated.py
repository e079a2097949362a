"""Nets from files that state their layers come back as they were."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certificate, certify, models, stated
from thesis_repro.robustness.checker.nets import check_entries

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


def stating(layers: list[Any], tensors: dict[str, torch.Tensor]) -> bytes:
    """A weights file that states these layers."""
    return save(tensors, {"architecture": json.dumps({"input_shape": SHAPE, "layers": layers})})


def test_what_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2))
    content = certificate.packed(net)
    weight = torch.zeros(2, 5)
    cases = {
        "text": (b"no weights", "not a safetensors file"),
        "bare": (save({"body.1.weight": weight}), "does not state its layers"),
        "deep": (
            save({"body.1.weight": weight}, {"architecture": "[" * 100_000}),
            "does not state its layers",
        ),
        "empty": (stating([], {"body.1.weight": weight}), "needs to be nn.Sequential ending in"),
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


def renamed(*place: int, name: str) -> Callable[[list[Any]], None]:
    def change(layers: list[Any]) -> None:
        *path, last = place
        for index in path:
            layers = layers[index]["layers"]
        layers[last]["name"] = name

    return change


def twice(layers: list[Any]) -> None:
    layers.insert(14, layers[14])


def crossed(layers: list[Any]) -> None:
    renamed(4, 0, name="7.branches.0.0")(layers)
    renamed(7, 0, 0, name="4.branch.0")(layers)


def branches_turned(layers: list[Any]) -> None:
    layers[7]["layers"].reverse()


@pytest.mark.parametrize(
    "change",
    [
        twice,
        crossed,
        branches_turned,
        renamed(0, name=""),
        renamed(0, name="a.b"),
        renamed(4, 0, name="4.0"),
        renamed(4, 0, name="4.branch."),
        renamed(6, 1, name="6.0"),
        renamed(7, 1, 0, name="7.branches.0.0"),
    ],
)
def test_names_that_lie_about_the_place_are_refused_by_both_readers(tmp_path, change) -> None:
    net = GloroNet(every_layer(), 0.1, SHAPE).eval()
    layers = certificate.architecture(net)["layers"]
    file = tmp_path / "own.safetensors"
    file.write_bytes(stating(layers, net.state_dict()))
    assert certificate.packed(stated.load(file, 0.1)) == certificate.packed(net)
    change(layers)
    file.write_bytes(stating(layers, net.state_dict()))
    for read in (lambda: check_entries(layers), lambda: stated.load(file, 0.1)):
        with pytest.raises(ValueError, match="needs the name|need the keys") as error:
            read()
        assert "\n" not in str(error.value)


def test_the_padding_of_a_merged_block_is_that_of_its_kernel(tmp_path: Path) -> None:
    net = GloroNet(every_layer(), 0.1, SHAPE)
    layers = certificate.architecture(net)["layers"]
    layers[5]["padding"] = [2, 2]
    (tmp_path / "own.safetensors").write_bytes(stating(layers, net.state_dict()))
    with pytest.raises(ValueError, match="LinearResidual pads by 1, got"):
        stated.load(tmp_path / "own.safetensors", 0.1)


def test_loading_leaves_the_random_numbers_of_a_program_alone(tmp_path: Path) -> None:
    net = GloroNet(every_layer(), 0.1, SHAPE)
    file = certificate.write_net(tmp_path / "own.safetensors", net)
    before = torch.get_rng_state()
    models.load(file, 0.1)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_of_two_formats_are_refused_when_written_and_when_read(tmp_path: Path) -> None:
    net = GloroNet(every_layer(), 0.1, SHAPE)
    layers = certificate.architecture(net)["layers"]
    net.body[1].double()
    file = tmp_path / "own.safetensors"
    with pytest.raises(ValueError, match="in float32 or in float64, got float32 and float64$"):
        certificate.write_net(file, net)
    assert not file.exists()
    file.write_bytes(stating(layers, net.state_dict()))
    says = r"^own\.safetensors: its weights need to be of one format, got float32 and float64$"
    with pytest.raises(ValueError, match=says):
        stated.load(file, 0.1)
