"""Walking through a net: its layers with their input shapes, and the linear maps among them."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.nets import LinearResidual, Residual, UnitLinear
from thesis_repro.robustness.convolution import Convolution

Shape = tuple[int, ...]
"""The shape of one input, without the batch dimension."""


class UnknownLayer(ValueError):
    """A layer whose Lipschitz constant is not known; the message names it."""


def layers(body: nn.Sequential, input_shape: Shape) -> Iterator[tuple[str, nn.Module, Shape]]:
    """Walk a net in order; yields (name, layer, input shape of the layer).

    A module that stands in the net twice comes twice.

    Raises
    ------
    UnknownLayer
        If the net is not a plain nn.Sequential, or has hooks.
    """
    if type(body) is not nn.Sequential:
        raise UnknownLayer(f"a net needs to be a plain nn.Sequential, got {type(body).__name__}")
    plain("", body)
    x = torch.zeros(1, *input_shape)
    for parameter in body.parameters():
        x = x.to(parameter)
        break
    for name, layer in body._modules.items():
        assert layer is not None
        yield name, layer, tuple(x.shape[1:])
        x = _evaluated(layer, x)


def _evaluated(layer: nn.Module, x: Tensor) -> Tensor:
    """layer(x) in eval mode, so that no running statistics move."""
    modes = [(module, module.training) for module in layer.modules()]
    layer.eval()
    try:
        with torch.no_grad():
            return cast(Tensor, layer(x))
    finally:
        for module, mode in modes:
            module.training = mode


def plain(name: str, layer: nn.Module) -> None:
    """Refuse what makes a layer compute something else than its type says."""
    kind = type(layer).__name__
    if "forward" in vars(layer) or any(
        getattr(layer, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks")
    ):
        raise UnknownLayer(f"layer {name!r} ({kind}) has a hook or a forward of its own: remove it")


def plain_linear(name: str, layer: nn.Module) -> nn.Linear:
    """The layer, if it is nn.Linear or UnitLinear itself and has no hooks."""
    if type(layer) not in (nn.Linear, UnitLinear):
        raise UnknownLayer(f"layer {name!r} needs to be nn.Linear, got {type(layer).__name__}")
    plain(name, layer)
    return cast(nn.Linear, layer)


def rows(head: nn.Linear) -> Tensor:
    """The rows (classes, features) that a last layer multiplies by, with gradients."""
    return head.rows() if isinstance(head, UnitLinear) else head.weight


def linear_map(layer: nn.Module, x: Tensor) -> Tensor:
    """The linear part of a layer (no bias), for x (batch, *input shape).

    Of nn.Linear, nn.Conv2d, LinearResidual, or a Residual of one of the first two.
    """
    if isinstance(layer, Residual):
        return x + linear_map(_single(layer), x)
    if isinstance(layer, LinearResidual):
        return F.conv2d(x, layer.merged().to(x.dtype), None, padding=layer.padding)
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight.to(x.dtype))
    conv = checked(layer)
    return F.conv2d(
        x, conv.weight.to(x.dtype), None, conv.stride, padding_of(conv), conv.dilation, conv.groups
    )


def adjoint_map(layer: nn.Module, y: Tensor, input_shape: Shape) -> Tensor:
    """The transpose of :func:`linear_map`, for y (batch, *output shape)."""
    if isinstance(layer, Residual):
        return y + adjoint_map(_single(layer), y, input_shape)
    if isinstance(layer, LinearResidual):
        return F.conv_transpose2d(y, layer.merged().to(y.dtype), None, padding=layer.padding)
    if isinstance(layer, nn.Linear):
        return F.linear(y, layer.weight.to(y.dtype).T)
    conv = checked(layer)
    padding = padding_of(conv)
    reached = [
        (y.shape[2 + d] - 1) * conv.stride[d]
        - 2 * padding[d]
        + conv.dilation[d] * (conv.kernel_size[d] - 1)
        + 1
        for d in (0, 1)
    ]
    # pixels at the far edge that no window reaches get a zero row
    rest = [input_shape[1 + d] - reached[d] for d in (0, 1)]
    return F.conv_transpose2d(
        y,
        conv.weight.to(y.dtype),
        None,
        conv.stride,
        padding,
        rest,
        conv.groups,
        conv.dilation,
    )


def _single(layer: Residual) -> nn.Module:
    if len(layer.branch) != 1:
        raise UnknownLayer(f"a residual branch of {len(layer.branch)} layers is not one linear map")
    return layer.branch[0]


def checked(layer: nn.Module) -> nn.Conv2d:
    """The layer, if it is a convolution with zero padding.

    Raises
    ------
    UnknownLayer
    """
    if not isinstance(layer, nn.Conv2d):
        raise UnknownLayer(f"{type(layer).__name__} is not a linear layer")
    if layer.padding_mode != "zeros":
        raise UnknownLayer(
            f"Conv2d with padding_mode={layer.padding_mode!r}: only zero padding is known"
        )
    return layer


def padding_of(conv: nn.Conv2d) -> tuple[int, int]:
    """Rows and columns of zeros on each side of a convolution's input.

    Raises
    ------
    UnknownLayer
        For padding that is named "same".
    """
    if isinstance(conv.padding, str):
        if conv.padding == "valid":
            return (0, 0)
        raise UnknownLayer(f"Conv2d with padding={conv.padding!r}: give the padding as numbers")
    return cast(tuple[int, int], conv.padding)


def convolutions(layer: nn.Conv2d, input_shape: Shape) -> list[Convolution]:
    """The groups of a convolution, in float64 on the CPU."""
    conv = checked(layer)
    weight = conv.weight.detach().to("cpu", torch.float64)
    stride, dilation = cast(tuple[int, int], conv.stride), cast(tuple[int, int], conv.dilation)
    size = input_shape[1], input_shape[2]
    return [
        Convolution(part, stride, padding_of(conv), dilation, size)
        for part in weight.chunk(conv.groups)
    ]
