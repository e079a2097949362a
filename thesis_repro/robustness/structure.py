"""What a net is made of: whether its layers compute what their types say, and whether it changed.

What is proved of a net is kept and used again. It depends on more than weights: on types, strides,
an eps, buffers that no state dict lists, hooks. All of that is looked at on every call.
"""

import math
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor, nn
from torch.nn.modules import module as registry
from torch.utils.module_tracker import ModuleTracker

from thesis_repro import nets
from thesis_repro.robustness.arithmetic import UNITS

OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has; what matters among them is looked at by name."""

SIMPLE = (int, float, bool, str, type(None))
"""Types of attributes that compare by value and do not change in place."""


PLAIN = (Tensor, nn.Parameter)
"""Types of parameters and buffers; any other tensor may compute something else than it holds."""

COMPUTING = ("__call__", "_call_impl", "forward", "_conv_forward", "merged", "rows")
"""Methods by which layers compute."""


def _methods(kind: type[nn.Module]) -> tuple[Any, ...]:
    return tuple(getattr(kind, name, None) for name in COMPUTING)


METHODS = {
    kind: _methods(kind)
    for kind in (*vars(nn).values(), *vars(nets).values())
    if isinstance(kind, type) and issubclass(kind, nn.Module)
}
"""What they were when this module was imported, of each type that may be a layer."""


class UnknownLayer(ValueError):
    """A layer whose Lipschitz constant is not known; the message names it."""


ONE_LOGIT = (
    "the net gives one logit, so that no label could change; it needs to give one for each class: "
    "nn.Linear with two outputs, the first of weight and bias 0, answers as the sign of the second"
)


def check_given(net: Any, epsilon: Any = 1.0) -> None:
    """Refuse what is no net that can be certified, and what is no radius.

    Raises
    ------
    ValueError
        On a bare module, a path or anything else without a bound, and on a net of one logit, in
        which no label could change; as :func:`check_epsilon`.
    """
    if not all(hasattr(net, name) for name in ("body", "epsilon", "input_shape", "bound")):
        raise ValueError(
            f"a GloroNet is needed, got {type(net).__name__}: GloroNet(adopt(module, input_shape), "
            f"epsilon, input_shape) makes one of a module, load(path, epsilon) of a file"
        )
    chain = isinstance(net.body, nn.Sequential) and len(net.body)
    head = net.body[-1] if chain else None
    if isinstance(head, nn.Linear) and head.out_features < 2:
        raise ValueError(ONE_LOGIT)
    check_epsilon(epsilon)


def check_epsilon(epsilon: Any) -> float:
    """The radius as a float: of a number of any kind, also a fraction, or of a scalar tensor.

    Raises
    ------
    ValueError
        Unless it is one number > 0 that float64 holds; True is none.

    Examples
    --------
    >>> from fractions import Fraction
    >>> check_epsilon(Fraction(1, 4))
    0.25
    """
    scalar = isinstance(epsilon, Tensor | np.ndarray) and epsilon.ndim == 0
    number = epsilon.item() if scalar else epsilon
    is_number = not isinstance(number, bool) and isinstance(number, Real)
    try:
        found = float(number) if is_number else 0.0
    except OverflowError:
        found = math.inf
    if not 0 < found < math.inf:
        raise ValueError(
            f"epsilon needs to be positive and finite, got {reprlib.repr(epsilon)}: give one "
            f"number, as 0.1"
        )
    return found


def check_shape(input_shape: Any) -> None:
    """Refuse what is no shape of one image.

    Raises
    ------
    ValueError
        Unless it is a sequence of whole numbers of at least 1.
    """
    given = list(input_shape) if isinstance(input_shape, Sequence | Size) else []
    if not given or not all(isinstance(side, int) and side > 0 for side in given):
        raise ValueError(
            f"input_shape needs to be that of one image, as (3, 32, 32), got {input_shape!r}"
        )


def check_windows(body: nn.Module) -> None:
    """Refuse a window, stride or padding that is a list, as pooling takes them.

    Raises
    ------
    UnknownLayer
        Naming the layer.
    """
    for name, layer in body.named_modules():
        for attribute in ("kernel_size", "stride", "padding", "dilation"):
            value = getattr(layer, attribute, None)
            if isinstance(value, list):
                raise UnknownLayer(
                    f"layer {name!r} ({type(layer).__name__}): {attribute} needs a number or a "
                    f"tuple, got {value}"
                )


def check_unmodified(name: str, layer: nn.Module) -> None:
    """Refuse what makes a layer compute something else than its type says.

    Raises
    ------
    UnknownLayer
        On a hook of the layer or of all modules, a method that the instance replaces, a tensor
        that is neither parameter nor buffer, or a missing module.
    """
    for hooks in (registry._global_forward_hooks, registry._global_forward_pre_hooks):
        # torch counts operations by hooks that only follow which module runs
        owners = (getattr(hook, "__self__", None) for hook in hooks.values())
        if any(type(owner) is not ModuleTracker for owner in owners):
            raise UnknownLayer("a hook is registered for all modules: remove it")
    kind, own = type(layer).__name__, vars(layer)
    if layer._forward_hooks or layer._forward_pre_hooks or any(map(callable, own.values())):
        raise UnknownLayer(f"layer {name!r} ({kind}) has a hook or a forward of its own: remove it")
    for attribute, value in own.items():
        if isinstance(value, Tensor):
            raise UnknownLayer(
                f"layer {name!r} ({kind}) has a tensor {attribute!r} that is neither parameter nor "
                f"buffer"
            )


def _check_made_of(name: str, layer: nn.Module) -> None:
    """Refuse methods that the class got since, tensors and branches of a type of their own."""
    about, known = f"layer {name!r} ({type(layer).__name__})", METHODS.get(type(layer))
    if known is not None and known != _methods(type(layer)):
        raise UnknownLayer(f"{about}: a method of its class was replaced: restore it")
    for held, value in [*layer._parameters.items(), *layer._buffers.items()]:
        if value is not None and type(value) not in PLAIN:
            given = type(value).__name__
            raise UnknownLayer(f"{about}: {held!r} needs to be a plain tensor, got {given}")
    branches: Iterable[Any] = [layer.branch] if isinstance(layer, nets.Residual) else []
    if isinstance(layer, nets.Sum):
        branches = layer.branches._modules.values()
    for branch in branches:
        if type(branch) is not nn.Sequential:
            given = type(branch).__name__
            raise UnknownLayer(f"{about}: a branch needs to be a plain nn.Sequential, got {given}")


def check_net(body: nn.Module) -> None:
    """As :func:`check_unmodified`, for a net and all modules in it, and what these are made of."""
    for name, layer in body.named_modules():
        check_unmodified(name, layer)
        _check_made_of(name, layer)


def described(layer: nn.Module, name: str = "") -> list[tuple[Any, ...]]:
    """Types, names, attributes and tensors' names of a layer and of all in it, with repeats."""
    about = tuple(
        (key, value if type(value) in SIMPLE else repr(value))
        for key, value in vars(layer).items()
        if key not in OWN
    )
    held = [key for key, value in layer._parameters.items() if value is not None]
    held += [key for key, value in layer._buffers.items() if value is not None]
    found: list[tuple[Any, ...]] = [(name, type(layer), about, held)]
    for part, inner in layer._modules.items():
        found += [(part, None)] if inner is None else described(inner, f"{name}.{part}")
    return found


def tensors(layer: nn.Module) -> list[Tensor]:
    """All parameters and buffers, also those that no state dict lists; repeats included."""
    here = [*layer._parameters.values(), *layer._buffers.values()]
    found = [value for value in here if value is not None]
    for inner in layer._modules.values():
        found += [] if inner is None else tensors(inner)
    return found


@dataclass(frozen=True)
class Snapshot:
    """All that the bound of a net depends on, as it was."""

    input_shape: tuple[int, ...]
    layers: list[tuple[Any, ...]]
    values: list[Tensor]

    def matches(self, body: nn.Module, input_shape: tuple[int, ...]) -> bool:
        """Whether the net is the same still; the device it is on does not count.

        Raises
        ------
        UnknownLayer
            As :func:`check_unmodified`.
        """
        check_net(body)
        return (
            tuple(input_shape) == self.input_shape
            and described(body) == self.layers
            and all(map(_same, tensors(body), self.values))
        )


def snapshot(body: nn.Module, input_shape: tuple[int, ...]) -> Snapshot:
    """The net as it is now."""
    copies = [value.detach().clone() for value in tensors(body)]
    return Snapshot(tuple(input_shape), described(body), copies)


def _same(now: Tensor, before: Tensor) -> bool:
    if now.dtype != before.dtype or now.shape != before.shape:
        return False
    now, before = now.detach().flatten(), before.to(now.device).flatten()
    if now.nbytes % 8 == 0:  # bit by bit, and two or more numbers at a time
        now, before = _words(now), _words(before)
    return torch.equal(now, before)


def _words(values: Tensor) -> Tensor:
    """Numbers (n,) as words of 64 bits; of views that do not lie as such words, a copy's."""
    aligned = values.is_contiguous() and values.storage_offset() * values.itemsize % 8 == 0
    return (values if aligned else values.clone()).view(torch.int64)


def precision(body: nn.Module) -> torch.dtype:
    """The one format of a net's weights and buffers: float32 or float64.

    Raises
    ------
    ValueError
        On any other format, or a mixture.
    """
    found = {value.dtype for value in tensors(body) if value.is_floating_point()}
    if len(found) != 1 or not found <= set(UNITS):
        names = " and ".join(sorted(str(t).removeprefix("torch.") for t in found)) or "none"
        raise ValueError(f"certifying needs all weights in float32 or in float64, got {names}")
    return found.pop()


def check_certifiable(body: nn.Module) -> torch.dtype:
    """What every certifier that reads weights asks first; gives the format of the weights.

    Raises
    ------
    UnknownLayer
        If the net is not a plain nn.Sequential, or as :func:`check_unmodified`.
    ValueError
        As :func:`precision`, or if a weight or buffer is NaN or infinite.
    """
    if type(body) is not nn.Sequential:
        raise UnknownLayer(f"a net needs to be a plain nn.Sequential, got {type(body).__name__}")
    check_net(body)
    for name, value in [*body.named_parameters(), *body.named_buffers()]:
        if not value.isfinite().all():
            raise ValueError(f"weights need to be finite, got NaN or infinity in {name}")
    return precision(body)
