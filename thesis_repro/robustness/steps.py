"""One step of a traced module as layers that a Lipschitz bound is known for."""

import copy
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, Sum, UnitLinear
from thesis_repro.robustness.structure import UnknownLayer

Shape = tuple[int, ...]
Layers = list[nn.Module]
SHAPE = "shape of the value"
FORMAT = "format of the value"
"""Under these names each node's `meta` holds the shape and the dtype of its tensor."""
TORCH = torch.__path__[0]


class Refused(UnknownLayer):
    """What cannot be adopted; the message names it and says what to do."""


def place(node: fx.Node) -> str:
    """Where a step stands: the layer, or the line of the forward."""
    if node.op == "call_module":
        return f"layer {str(node.target)!r}"
    frames = re.findall(r'File "(.*)", line (\d+)', node.stack_trace or "")
    own = [frame for frame in frames if not frame[0].startswith(TORCH)]
    return f"{own[-1][0]}, line {own[-1][1]}" if own else f"step {node.name!r}"


def called(node: fx.Node) -> str:
    """What a step calls, as its code names it."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")


def shape_of(node: fx.Node) -> Shape | None:
    """The shape of a node's value with its batch of three; None of what is no tensor."""
    return node.meta.get(SHAPE)


def operands(node: fx.Node) -> list[fx.Node]:
    """The tensors that a step works on, without sizes, constants and weights."""
    given = list(node.args[:1]) if called(node) in RESHAPING else [*node.args]
    given += [value for value in node.kwargs.values() if isinstance(value, fx.Node)]
    flat: list[Any] = []
    for value in given:
        flat += value if isinstance(value, list | tuple) else [value]
    return [
        value
        for value in flat
        if isinstance(value, fx.Node) and value.op != "get_attr" and shape_of(value) is not None
    ]


def is_sum(node: fx.Node) -> bool:
    """Whether a step adds two values and nothing else."""
    factor = node.kwargs.get("alpha", 1)
    return node.target in ADDING and len(operands(node)) == 2 and bool(factor == 1)


def layers_of(traced: fx.GraphModule, node: fx.Node, before: fx.Node) -> Layers:
    """The layers of a step that works on one value.

    Raises
    ------
    Refused
        Naming the step.
    """
    shape, after = shape_of(before), shape_of(node)
    if shape is None or after is None:
        raise Refused(f"{place(node)}: {called(node)} gives no tensor")
    try:
        if node.op == "call_module":
            return _module(traced.get_submodule(str(node.target)), shape[1:])
        return _call(traced, node, shape, after)
    except UnknownLayer as error:
        raise Refused(f"{place(node)}: {error}") from None


def _module(layer: nn.Module, shape: Shape) -> Layers:
    make = known(type(layer))
    if make is None:
        raise UnknownLayer(
            f"{type(layer).__name__}: no Lipschitz constant is known for this layer"
            f"{_remedy(type(layer).__name__)}"
        )
    return make(layer, shape)


def _remedy(kind: str) -> str:
    for start, remedy in REMEDIES.items():
        if kind.lower().startswith(start):
            return f"; {remedy}"
    return f"; known are {', '.join(sorted(kind.__name__ for kind in MODULES))}"


REMEDIES = {
    "softmax": "leave it out: the net needs to give logits",
    "log": "leave it out: the net needs to give logits",
    **dict.fromkeys(
        ("gelu", "silu", "sigmoid", "tanh", "elu", "leaky", "prelu", "hard", "mish", "selu"),
        "train with nn.ReLU or nets.MinMax instead",
    ),
    **dict.fromkeys(
        ("layernorm", "groupnorm", "instancenorm"),
        "train with nn.BatchNorm2d instead",
    ),
}


def _copied(layer: nn.Module, shape: Shape) -> Layers:
    found = copy.deepcopy(layer)
    vars(found).update({k: tuple(v) for k, v in vars(found).items() if isinstance(v, list)})
    return [found]


def _normalisation(layer: nn.BatchNorm2d, shape: Shape) -> Layers:
    if layer.running_var is None:
        raise UnknownLayer(
            f"{type(layer).__name__} without running statistics mixes the images of a batch: train "
            f"with track_running_stats=True"
        )
    return _copied(layer, shape)


def _convolution(layer: nn.Conv2d, shape: Shape) -> Layers:
    """With padding in numbers."""
    found = copy.deepcopy(layer)
    if layer.padding_mode != "zeros":
        raise UnknownLayer(
            f"Conv2d with padding_mode={layer.padding_mode!r}: only zero padding is known"
        )
    if isinstance(layer.padding, str):
        pads = [0, 0]
        if layer.padding == "same":
            spans = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
            if any(span % 2 for span in spans):
                raise UnknownLayer("Conv2d with padding='same' and an even kernel pads unevenly")
            pads = [span // 2 for span in spans]
        found.padding = (pads[0], pads[1])
    return [found]


def _adaptive(layer: nn.Module, shape: Shape) -> Layers:
    return _adaptive_to(isinstance(layer, nn.AdaptiveMaxPool2d), layer.output_size, shape)


def _adaptive_to(largest: bool, wanted: Any, shape: Shape) -> Layers:
    sides = wanted if isinstance(wanted, list | tuple) else (wanted, wanted)
    if len(shape) != 3:
        raise UnknownLayer(f"adaptive pooling takes images, got values of shape {shape}")
    windows = []
    for side, size in zip(sides, shape[1:], strict=True):
        if size % (side or size):
            raise UnknownLayer(
                f"adaptive pooling of {size} pixels to {side} has windows of several sizes: choose "
                f"an input size that {side} divides"
            )
        windows.append(size // (side or size))
    return [(nn.MaxPool2d if largest else nn.AvgPool2d)((windows[0], windows[1]))]


def _normalised(layer: Any, shape: Shape) -> Layers:
    mean, std = (torch.as_tensor(v, dtype=torch.float64) for v in (layer.mean, layer.std))
    return _scaled((1 / std)[:, None, None], (-mean / std)[:, None, None])


def _scaled(factor: Tensor, offset: Tensor) -> Layers:
    """In float64: `adopt` rounds it to the module's format."""
    layer = Scale(1.0)
    layer.factor, layer.offset = factor, offset
    return [layer]


MODULES: dict[type, Callable[[Any, Shape], Layers]] = {
    **dict.fromkeys((nn.Linear, UnitLinear, LinearResidual, MinMax, Residual, Sum, Scale), _copied),
    **dict.fromkeys((nn.AvgPool2d, nn.MaxPool2d, nn.Flatten, nn.PixelUnshuffle), _copied),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _normalisation),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), lambda *about: []),
    nn.ReLU: lambda layer, shape: [nn.ReLU()],
    nn.Conv2d: _convolution,
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), _adaptive),
}
"""Modules that are known, by their exact types: a layer, for inputs of a shape, as layers."""


def known(kind: type) -> Callable[[Any, Shape], Layers] | None:
    """How a type of module becomes layers, if it is known."""
    if (kind.__module__, kind.__name__) == ("torchvision.transforms.transforms", "Normalize"):
        return _normalised
    return MODULES.get(kind)


ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
RESHAPING = ("view", "reshape", "flatten", "squeeze", "contiguous", "clone")
ALIASES = {
    **dict.fromkeys(("iadd", "add_"), "add"),
    **dict.fromkeys(("isub", "sub_", "subtract"), "sub"),
    **dict.fromkeys(("imul", "mul_", "multiply"), "mul"),
    **dict.fromkeys(("itruediv", "div", "div_", "divide", "true_divide"), "truediv"),
}
CONSTANTS: dict[str, Callable[[Tensor, bool], tuple[Tensor, Tensor]]] = {
    "add": lambda c, _: (torch.ones_like(c), c),
    "sub": lambda c, swapped: (torch.full_like(c, -1.0 if swapped else 1.0), c if swapped else -c),
    "mul": lambda c, _: (c, torch.zeros_like(c)),
    "truediv": lambda c, _: (1 / c, torch.zeros_like(c)),
}
"""Arithmetic with a constant, as factor and offset; `swapped`: the constant comes first."""


def _call(traced: fx.GraphModule, node: fx.Node, shape: Shape, after: Shape) -> Layers:
    name = ALIASES.get(called(node), called(node))
    if name in CONSTANTS and len(node.args) == 2:
        return _constant(traced, node, name, shape, after)
    if name in RESHAPING:
        return _reshaped(node, shape, after)
    if name in ("relu", "relu_"):
        return [nn.ReLU()]
    if name in ("dropout", "dropout2d") and not _argument(node, 2, "training", True):
        return []
    if name == "mean":
        return _mean(node, shape, after)
    if name in POOLS:
        return POOLS[name](node, shape)
    raise UnknownLayer(f"{name}: no Lipschitz constant is known for this step{_remedy(name)}")


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _constant(
    traced: fx.GraphModule, node: fx.Node, name: str, shape: Shape, after: Shape
) -> Layers:
    swapped = not (isinstance(node.args[0], fx.Node) and node.args[0].op != "get_attr")
    value: Any = node.args[0 if swapped else 1]
    if isinstance(value, fx.Node):
        if value.op != "get_attr":
            raise UnknownLayer(f"{name} with a value that is no constant")
        value = operator.attrgetter(str(value.target))(traced)
    if (swapped and name == "truediv") or node.kwargs or shape != after:
        raise UnknownLayer(f"{name} in this form is not the scaling of one image by constants")
    form = None if isinstance(value, Tensor) else node.meta[FORMAT]
    constant = torch.as_tensor(value, dtype=form).detach().double()
    if constant.ndim == len(shape):
        if len(constant) != 1:
            raise UnknownLayer(f"{name} with constants that differ from image to image")
        constant = constant[0]
    return _scaled(*CONSTANTS[name](constant, swapped))


def _reshaped(node: fx.Node, shape: Shape, after: Shape) -> Layers:
    if after == shape:
        return []
    later = {called(user) for user in node.users if shape_of(user) is not None}
    if after[:1] == shape[:1] and (len(after) == 2 or later <= {*RESHAPING}):
        return [nn.Flatten()] if len(after) == 2 else []  # the last of several flattens
    raise UnknownLayer(
        f"{called(node)} makes {after[1:]} of one image of {shape[1:]}: it needs to flatten each "
        f"image, as x.flatten(1) does"
    )


def _mean(node: fx.Node, shape: Shape, after: Shape) -> Layers:
    """Global average pooling; the two axes at once."""
    axes: Any = _argument(node, 1, "dim", None)
    axes = axes if isinstance(axes, list | tuple) else [axes]
    if len(shape) != 4 or None in axes or sorted(a % 4 for a in axes) != [2, 3]:
        raise UnknownLayer("a mean needs to be over the height and width of images: x.mean((2, 3))")
    pool: Layers = [nn.AvgPool2d((shape[2], shape[3]))]
    return pool if len(after) == 4 else [*pool, nn.Flatten()]


def _pooling(names: tuple[tuple[str, Any], ...], kind: type[nn.Module]) -> Callable[..., Layers]:
    def make(node: fx.Node, shape: Shape) -> Layers:
        given = {
            key: _argument(node, place, key, default)
            for place, (key, default) in enumerate(names, 1)
        }
        if given.pop("return_indices", False):
            raise UnknownLayer("max pooling with return_indices has two outputs")
        return [kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})]

    return make


_WINDOW = (("kernel_size", None), ("stride", None), ("padding", 0))
_MAX = (*_WINDOW, ("dilation", 1), ("ceil_mode", False), ("return_indices", False))
_AVERAGE = (*_WINDOW, ("ceil_mode", False), ("count_include_pad", True), ("divisor_override", None))
POOLS: dict[str, Callable[[fx.Node, Shape], Layers]] = {
    "max_pool2d": _pooling(_MAX, nn.MaxPool2d),
    "avg_pool2d": _pooling(_AVERAGE, nn.AvgPool2d),
    "adaptive_avg_pool2d": lambda node, shape: _adaptive_to(False, node.args[1], shape[1:]),
    "adaptive_max_pool2d": lambda node, shape: _adaptive_to(True, node.args[1], shape[1:]),
}
