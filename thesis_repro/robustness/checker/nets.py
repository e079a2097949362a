"""The layers that a certificate lists, made from their entries and the weights."""

from collections.abc import Callable
from math import prod
from typing import Any

from thesis_repro.robustness.checker.convolution import Convolution
from thesis_repro.robustness.checker.elementwise import AvgPool2d, BatchNorm, MaxPool2d, Scale
from thesis_repro.robustness.checker.layers import Entry, Layer, Linear, Shape, Weights

DEPTH = 8
"""How deep sequences and residual sums may be nested."""


class Sequence(Layer):
    """Layers one after the other."""

    def __init__(self, entry: Entry, weights: Weights) -> None:
        super().__init__(entry, weights)
        self.layers = made(entry["layers"], weights)

    def measure(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.measure(shape)
        self.upper = prod(layer.upper for layer in self.layers) * (1 + 1e-12)
        self.lower = prod(layer.lower for layer in self.layers) * (1 - 1e-12)
        self.widest = max((layer.widest for layer in self.layers), default=0)
        self.outputs = prod(shape)
        return shape


class Residual(Sequence):
    """The input and what the branch makes of it, added: at most 1 + the branch."""

    def measure(self, shape: Shape) -> Shape:
        after = super().measure(shape)
        if after != shape:
            raise ValueError(f"layer {self.name!r}: its branch needs to keep {shape}, got {after}")
        self.upper, self.lower = (1 + self.upper) * (1 + 1e-12), 0.0
        return after


class Sum(Sequence):
    """What branches make of one input, added: at most the sum of their constants."""

    def measure(self, shape: Shape) -> Shape:
        shapes = [branch.measure(shape) for branch in self.layers]
        if not shapes or set(shapes) != {shapes[0]}:
            raise ValueError(f"layer {self.name!r}: its branches need to give one shape: {shapes}")
        self.upper = sum(branch.upper for branch in self.layers) * (1 + 1e-12)
        self.lower = 0.0
        self.widest = max(branch.widest for branch in self.layers)
        self.outputs = prod(shapes[0])
        return shapes[0]


def _residual(entry: Entry, weights: Weights) -> Layer:
    """One linear branch is merged with the identity, as I + W."""
    inner: list[Entry] = entry["layers"]
    if len(inner) == 1 and inner[0]["type"] == "Linear":
        return Linear(inner[0], weights, merged=True)
    if len(inner) == 1 and inner[0]["type"] == "Conv2d" and inner[0]["stride"] == [1, 1]:
        about = zip(*(inner[0][k] for k in ("kernel_size", "padding", "dilation")), strict=True)
        if all(k % 2 and p == k // 2 * d for k, p, d in about):
            return Convolution(inner[0], weights, merged=True)
    return Residual(entry, weights)


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value < 2**31


def _pair(low: int) -> Callable[[Any], bool]:
    one = _whole(low)
    return lambda value: isinstance(value, list) and len(value) == 2 and all(map(one, value))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


Geometry = dict[str, Callable[[Any], bool]]
FEATURES: Geometry = {"in_features": _whole(1), "out_features": _whole(1)}
WINDOWS: Geometry = {"kernel_size": _pair(1), "stride": _pair(1), "padding": _pair(0)}
INSIDE = {"Sequential": ".", "Residual": ".branch.", "Sum": ".branches."}
"""What stands between the name of a layer and the keys of the layers in it."""
INNER: Geometry = {"layers": lambda value: isinstance(value, list)}
NORM: Geometry = {
    "num_features": _whole(1),
    "eps": lambda value: type(value) in (int, float) and 0 <= value < 2.0**126,
}

KINDS: dict[str, tuple[Callable[..., Layer], Geometry]] = {
    "MinMax": (Layer, {}),
    "ReLU": (Layer, {}),
    "Identity": (Layer, {}),
    "Dropout": (Layer, {}),  # the identity in eval mode
    "Flatten": (Layer, {"start_dim": _whole(-5), "end_dim": _whole(-5)}),
    "PixelUnshuffle": (Layer, {"downscale_factor": _whole(1)}),
    "Linear": (Linear, FEATURES),
    "UnitLinear": (Linear, FEATURES),
    "Conv2d": (
        Convolution,
        WINDOWS
        | {"dilation": _pair(1), "in_channels": _whole(1), "out_channels": _whole(1)}
        | {"groups": _whole(1)},
    ),
    "LinearResidual": (Convolution, {"padding": _pair(0)}),
    "MaxPool2d": (MaxPool2d, WINDOWS | {"dilation": _pair(1), "ceil_mode": _flag}),
    "AvgPool2d": (
        AvgPool2d,
        WINDOWS
        | {"ceil_mode": _flag, "count_include_pad": _flag}
        | {"divisor_override": lambda value: value is None or _whole(1)(value)},
    ),
    "BatchNorm1d": (BatchNorm, NORM),
    "BatchNorm2d": (BatchNorm, NORM),
    "Scale": (Scale, {}),
    "Sequential": (Sequence, INNER),
    "Residual": (_residual, INNER),
    "Sum": (Sum, INNER),
}
"""By the type that the file names: how it is made, and what has to be said of it."""


def unknown(entries: list[Entry]) -> list[str]:
    """Types of layers that the checker does not know, in a list of checked entries."""
    found = []
    for entry in entries:
        if entry["type"] not in KINDS:
            found.append(entry["type"])
        elif "layers" in KINDS[entry["type"]][1]:
            found += unknown(entry["layers"])
    return found


def check_entries(
    entries: Any, extra: tuple[str, ...] = (), prefix: str = "", depth: int = 0
) -> None:
    """Refuse entries of layers that do not say just what their type needs, or lie about the place.

    A name says where a layer stands: it is the `prefix` of its list and a key without a dot that no
    other layer of the list has. By names weights are found, and by keys nets are built.

    Raises
    ------
    ValueError
        In one line that names the layer.
    """
    if not isinstance(entries, list) or depth > DEPTH:
        raise ValueError(f"layers need to be a list, nested at most {DEPTH} deep")
    keys = set[str]()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) for key in ("name", "type")
        ):
            raise ValueError(f"layer {index} needs a name and a type")
        kind, name = entry["type"], entry["name"]
        key = name[len(prefix) :]
        if not name.startswith(prefix) or not key or "." in key or key in keys:
            raise ValueError(
                f"layer {index} needs the name {prefix!r:.40} and a key of its own without a dot, "
                f"got {name!r:.40}"
            )
        keys.add(key)
        if kind not in KINDS:
            continue
        geometry = KINDS[kind][1]
        said = set(entry) - {"name", "type", *extra}
        if said != set(geometry):
            differing = ", ".join(sorted(said ^ set(geometry)))
            raise ValueError(f"layer {index} ({kind}): missing or unknown: {differing}")
        for key, holds in geometry.items():
            if not holds(entry[key]):
                raise ValueError(f"layer {index} ({kind}): {key} cannot be {entry[key]!r:.40}")
        if "layers" in geometry:
            inner = name + INSIDE[kind]
            check_entries(entry["layers"], prefix=inner, depth=depth + 1)
            found = [branch["name"] for branch in entry["layers"]]
            if kind == "Sum" and found != [f"{inner}{i}" for i in range(len(found))]:
                raise ValueError(f"layer {index} (Sum): its branches need the keys 0, 1, ...")


def made(entries: list[Entry], weights: Weights) -> list[Layer]:
    """The layers of checked entries, all of known types.

    Raises
    ------
    ValueError
        If a weight is missing or has another shape.
    """
    return [KINDS[entry["type"]][0](entry, weights) for entry in entries]
