"""Nets from files that state their layers: the way back from `certificate.write_net`."""

import json
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as unpack
from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, Sum, UnitLinear
from thesis_repro.robustness.checker.nets import check_entries
from thesis_repro.robustness.gloro import GloroNet

__all__ = ["load"]

Entry = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def load(path: Path | str, epsilon: float) -> GloroNet:
    """Load a net that `certificate.write_net` wrote, in eval mode, on the CPU.

    Parameters
    ----------
    path : safetensors file
    epsilon : radius > 0 of the net

    Raises
    ------
    ValueError
        If the file is none, does not state its layers, or states others than its weights are for;
        as :func:`precision`.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from thesis_repro.robustness import certificate
    >>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2))
    >>> file = certificate.write_net(Path(tempfile.mkdtemp()) / "own.safetensors", net)
    >>> torch.equal(load(file, 0.2).head.weight, net.head.weight)
    True
    """
    path = Path(path).expanduser()
    content = path.read_bytes()
    try:
        tensors = unpack(content)
        (length,) = struct.unpack("<Q", content[:8])
        said = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("architecture")
    except (SafetensorError, ValueError, struct.error):
        raise ValueError(f"{path.name} is not a safetensors file") from None
    try:
        about = json.loads(said)
    except (TypeError, ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or not {"input_shape", "layers"} <= set(about):
        raise ValueError(
            f"{path.name} does not state its layers: certificate.write_net writes a file that "
            f"does, and one of a committed model needs its card {path.with_suffix('.json').name} "
            f"beside"
        )
    try:
        check_entries(about["layers"])
        with torch.random.fork_rng(devices=[]):  # layers start at random before they are filled
            body = _sequence(about["layers"], tensors)
        body.to(precision(path, tensors))
        net = GloroNet(body, epsilon, tuple(about["input_shape"]))
        net.load_state_dict(dict(tensors))
    except (LookupError, ArithmeticError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path.name}: its weights are not for the layers it states: {said}"
        ) from None
    return net.eval()


def precision(path: Path, weights: Tensors) -> torch.dtype:
    """The one format of the net's weights in a file; what a training keeps beside may have another.

    Raises
    ------
    ValueError
        On a mixture, or if no weight is a float.

    Examples
    --------
    >>> precision(Path("own.safetensors"), {"body.1.weight": torch.zeros(2, 4)})
    torch.float32
    """
    body = [value for key, value in weights.items() if key.startswith("body.")]
    found = {value.dtype for value in body if value.is_floating_point()}
    if len(found) != 1:
        names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in found)) or "none"
        raise ValueError(f"{path.name}: its weights need to be of one format, got {names}")
    return found.pop()


def _sequence(entries: list[Entry], tensors: Tensors) -> nn.Sequential:
    return nn.Sequential(OrderedDict((_last(e["name"]), _made(e, tensors)) for e in entries))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _made(entry: Entry, tensors: Tensors) -> nn.Module:
    kind = entry["type"]
    if kind not in MAKERS:
        raise ValueError(f"layer {entry['name']!r} has the unknown type {kind!r}")
    about = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    own = {
        key.removeprefix(f"body.{entry['name']}."): value
        for key, value in tensors.items()
        if key.startswith(f"body.{entry['name']}.")
    }
    inner = _sequence(entry["layers"], tensors) if "layers" in entry else nn.Sequential()
    for key in ("name", "type", "layers"):
        about.pop(key, None)
    return MAKERS[kind](about, own, inner)


Maker = Callable[[dict[str, Any], Tensors, nn.Sequential], nn.Module]


def _plain(kind: Callable[..., nn.Module]) -> Maker:
    return lambda about, own, inner: kind(**about)


def _biased(kind: Callable[..., nn.Module]) -> Maker:
    return lambda about, own, inner: kind(**about, bias="bias" in own)


def _norm(kind: Callable[..., nn.Module]) -> Maker:
    return lambda about, own, inner: kind(**about, affine="weight" in own)


def _scale(about: dict[str, Any], own: Tensors, inner: nn.Sequential) -> nn.Module:
    return Scale(torch.zeros_like(own["factor"]), torch.zeros_like(own["offset"]))


def _linear_residual(about: dict[str, Any], own: Tensors, inner: nn.Sequential) -> nn.Module:
    layer = LinearResidual(len(own["weight"]), 1.0, own["weight"].shape[-1])
    if about["padding"] != (layer.padding, layer.padding):
        raise ValueError(f"LinearResidual pads by {layer.padding}, got {about['padding']}")
    return layer


def _residual(about: dict[str, Any], own: Tensors, inner: nn.Sequential) -> nn.Module:
    found = Residual()
    found.branch = inner
    return found


MAKERS: dict[str, Maker] = {
    **{kind.__name__: _plain(kind) for kind in (MinMax, nn.ReLU, nn.Identity, nn.Dropout)},
    **{kind.__name__: _plain(kind) for kind in (nn.Flatten, nn.PixelUnshuffle)},
    **{kind.__name__: _plain(kind) for kind in (nn.MaxPool2d, nn.AvgPool2d)},
    **{kind.__name__: _biased(kind) for kind in (nn.Linear, UnitLinear, nn.Conv2d)},
    **{kind.__name__: _norm(kind) for kind in (nn.BatchNorm1d, nn.BatchNorm2d)},
    "Scale": _scale,
    "LinearResidual": _linear_residual,
    "Sequential": lambda about, own, inner: inner,
    "Residual": _residual,
    "Sum": lambda about, own, inner: Sum(*inner),
}
"""By the type that a file names: its geometry, its tensors and its inner layers as a layer."""
