"""Walking through a net: its layers with their input shapes, and the linear maps among them."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, UnitLinear
from thesis_repro.robustness.arithmetic import evaluated
from thesis_repro.robustness.convolution import Convolution
from thesis_repro.robustness.structure import UnknownLayer, check_unmodified, tensors

Shape = tuple[int, ...]
"""The shape of one input, without the batch dimension."""


def named_layers(body: nn.Sequential, input_shape: Shape) -> Iterator[tuple[str, nn.Module, Shape]]:
    """Walk a net in order; yields (name, layer, input shape of the layer).

    A module that stands in the net twice comes twice.

    Raises
    ------
    UnknownLayer
        If the net is not a plain nn.Sequential, has hooks, or a layer gives another shape than its
        type should.
    """
    if type(body) is not nn.Sequential:
        raise UnknownLayer(f"a net needs to be a plain nn.Sequential, got {type(body).__name__}")
    check_unmodified("", body)
    x = _zero(body, input_shape)
    for name, layer in body._modules.items():
        assert layer is not None
        yield name, layer, tuple(x.shape[1:])
        x = _through(name, layer, x)


def check_shape(name: str, layer: nn.Module, shape: Shape) -> None:
    """Refuse a layer that gives another shape than its type should, as by broadcasting.

    Raises
    ------
    UnknownLayer
        Saying what was expected.
    ValueError
        If the layer does not take inputs of this shape.
    """
    try:
        _through(name, layer, _zero(layer, shape))
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"layer {name!r} ({type(layer).__name__}) takes no inputs of shape {shape}: "
            f"{str(error).splitlines()[0]}"
        ) from None


def _zero(layer: nn.Module, shape: Shape) -> Tensor:
    x = torch.zeros(1, *shape)
    for value in tensors(layer):
        return x.to(value) if value.is_floating_point() else x.to(value.device)
    return x


def _through(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    check_unmodified(name, layer)
    before = tuple(x.shape)
    with evaluated(layer), torch.no_grad():
        y: Tensor = layer(x.clone())  # a layer may work in place
    if not _fits(layer, before, tuple(y.shape)):
        raise UnknownLayer(
            f"layer {name!r} ({type(layer).__name__}) makes {tuple(y.shape)} of one input of shape "
            f"{before}, which is not what its bound is for"
        )
    return y


KEEPING = (
    *(MinMax, Scale, Residual, LinearResidual),
    *(nn.ReLU, nn.Identity, nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d),
)
"""Layers whose bounds hold if inputs and outputs have one shape."""


def _fits(layer: nn.Module, before: Shape, after: Shape) -> bool:
    """Whether one input (1, ...) became what the bound of this type of layer is about."""
    match layer:
        case nn.Linear():
            return after == (*before[:-1], layer.out_features)
        case nn.Conv2d():
            size = convolutions(layer, before[1:])[0].out_size if len(before) == 4 else None
            return size is not None and after == (1, layer.out_channels, *size)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return len(before) == len(after) == 4 and after[:2] == before[:2]
        case nn.Flatten() | nn.PixelUnshuffle():
            return after[0] == 1 and math.prod(after) == math.prod(before)
    return type(layer) not in KEEPING or after == before


def linear_head(name: str, layer: nn.Module) -> nn.Linear:
    """The layer, if it is nn.Linear or UnitLinear itself and has no hooks."""
    if type(layer) not in (nn.Linear, UnitLinear):
        raise UnknownLayer(f"layer {name!r} needs to be nn.Linear, got {type(layer).__name__}")
    check_unmodified(name, layer)
    return cast(nn.Linear, layer)


def head_weight(head: nn.Linear) -> Tensor:
    """The rows (classes, features) that a last layer multiplies by, with gradients."""
    return head.rows() if isinstance(head, UnitLinear) else head.weight


def linear_map(layer: nn.Module, x: Tensor) -> Tensor:
    """The linear part of a layer (no bias), for x (batch, *input shape).

    Of nn.Linear, nn.Conv2d, LinearResidual, or a Residual of one of the first two.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return reweighted(layer, layer.weight, x)
    if isinstance(layer, Residual):
        return x + linear_map(_single(layer), x)
    if isinstance(layer, LinearResidual):
        return F.conv2d(x, layer.merged().to(x.dtype), None, padding=layer.padding)
    raise UnknownLayer(f"{type(layer).__name__} is not a linear layer")


def reweighted(layer: nn.Linear | nn.Conv2d, weight: Tensor, x: Tensor) -> Tensor:
    """As :func:`linear_map`, of a layer like this one with another weight."""
    weight = weight.to(x.dtype)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    conv = zero_padded(layer)
    return F.conv2d(x, weight, None, conv.stride, padding_of(conv), conv.dilation, conv.groups)


def adjoint_map(layer: nn.Module, y: Tensor, input_shape: Shape) -> Tensor:
    """The transpose of :func:`linear_map`, for y (batch, *output shape)."""
    if isinstance(layer, Residual):
        return y + adjoint_map(_single(layer), y, input_shape)
    if isinstance(layer, LinearResidual):
        return F.conv_transpose2d(y, layer.merged().to(y.dtype), None, padding=layer.padding)
    if isinstance(layer, nn.Linear):
        return F.linear(y, layer.weight.to(y.dtype).T)
    conv = zero_padded(layer)
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


def zero_padded(layer: nn.Module) -> nn.Conv2d:
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
    conv = zero_padded(layer)
    weight = conv.weight.detach().to("cpu", torch.float64)
    stride, dilation = cast(tuple[int, int], conv.stride), cast(tuple[int, int], conv.dilation)
    size = input_shape[1], input_shape[2]
    return [
        Convolution(part, stride, padding_of(conv), dilation, size)
        for part in weight.chunk(conv.groups)
    ]
