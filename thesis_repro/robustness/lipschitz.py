"""Lipschitz constants of layers and nets in the L2 norm.

`estimate` is power iteration: it approaches the operator norm from below and serves training.
`upper_bound` is what certificates rest on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.nets import MinMax

Shape = tuple[int, ...]
"""The shape of one input, without the batch dimension."""

ONE_LIPSCHITZ = (MinMax, nn.ReLU, nn.Flatten, nn.Identity, nn.PixelUnshuffle)

CONVERGED = 1e-7
SAFETY = 1e-3
MAX_STEPS = 3000


class UnknownLayer(ValueError):
    """A layer whose Lipschitz constant is not known; the message names it."""


def linear_map(layer: nn.Module, x: Tensor) -> Tensor:
    """The linear part of a Linear or Conv2d layer (no bias), for x (batch, *input shape)."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight.to(x.dtype))
    conv = _checked(layer)
    return F.conv2d(
        x, conv.weight.to(x.dtype), None, conv.stride, _padding(conv), conv.dilation, conv.groups
    )


def adjoint_map(layer: nn.Module, y: Tensor, input_shape: Shape) -> Tensor:
    """The transpose of :func:`linear_map`, for y (batch, *output shape)."""
    if isinstance(layer, nn.Linear):
        return F.linear(y, layer.weight.to(y.dtype).T)
    conv = _checked(layer)
    padding = _padding(conv)
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


def _checked(layer: nn.Module) -> nn.Conv2d:
    if not isinstance(layer, nn.Conv2d):
        raise UnknownLayer(f"{type(layer).__name__} is not a linear layer")
    if layer.padding_mode != "zeros":
        raise UnknownLayer(
            f"Conv2d with padding_mode={layer.padding_mode!r}: only zero padding is known"
        )
    return layer


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    if isinstance(conv.padding, str):
        if conv.padding == "valid":
            return (0, 0)
        raise UnknownLayer(f"Conv2d with padding={conv.padding!r}: give the padding as numbers")
    return cast(tuple[int, int], conv.padding)


def layers(body: nn.Sequential, input_shape: Shape) -> Iterator[tuple[str, nn.Module, Shape]]:
    """Walk a net in order; yields (name, layer, input shape of the layer)."""
    device = next(body.parameters()).device
    x = torch.zeros(1, *input_shape, device=device)
    with torch.no_grad():
        for name, layer in body.named_children():
            yield name, layer, tuple(x.shape[1:])
            x = layer(x)


def estimate(
    layer: nn.Module, input_shape: Shape, steps: int, vector: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Power iteration on W^T W: a lower estimate of the operator norm, for training.

    Gradients flow through sigma = ||W v|| / ||v|| only, not through the iteration; at the top
    singular vector this is the exact gradient u v^T.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
    input_shape : shape of one input of the layer
    steps : iterations, >= 0
    vector : (starts, *input_shape), optional
        Where to go on from; the best start counts. A fixed random vector without it.

    Returns
    -------
    sigma : scalar tensor, at most the true norm up to rounding
    vector : the iterate to go on from, detached

    Raises
    ------
    UnknownLayer
        If the layer is not linear.
    """
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise UnknownLayer(f"{type(layer).__name__} is not a linear layer")
    if vector is None:
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(1, *input_shape, generator=generator)
    v = vector.to(weight.device, vector.dtype)
    with torch.no_grad():
        for _ in range(steps):
            v = _unit(adjoint_map(layer, linear_map(layer, _unit(v)), input_shape), v)
    v = _unit(v, v)
    sigma = linear_map(layer, v).flatten(1).norm(dim=1).max()
    return sigma, v.detach()


def _unit(x: Tensor, fallback: Tensor | None = None) -> Tensor:
    """Divide each start by its true norm, scaled first so that tiny weights do not underflow."""
    flat = x.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    scaled = flat / largest
    unit = scaled / scaled.norm(dim=1, keepdim=True)
    if fallback is not None:  # a zero map leaves the iterate where it is
        unit = torch.where(largest > 0, unit, fallback.flatten(1))
    return cast(Tensor, unit.view_as(x))


@dataclass(frozen=True)
class LayerBound:
    """The bound of one layer and how it was got."""

    name: str
    layer: str
    value: float
    method: str


def upper_bound(layer: nn.Module, input_shape: Shape) -> float:
    """Upper bound of the Lipschitz constant of one layer, float64.

    Raises
    ------
    UnknownLayer
        If the layer is none that is known.
    """
    return layer_bound("", layer, input_shape).value


def layer_bound(name: str, layer: nn.Module, input_shape: Shape) -> LayerBound:
    """As :func:`upper_bound`, with the method said."""
    kind = type(layer).__name__
    if isinstance(layer, ONE_LIPSCHITZ):
        return LayerBound(name, kind, 1.0, "1-Lipschitz")
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return LayerBound(name, kind, _converged(layer, input_shape), "power iteration")
    raise UnknownLayer(f"layer {name!r} ({kind}): no Lipschitz constant is known for this layer")


def _converged(layer: nn.Module, input_shape: Shape) -> float:
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(4, *input_shape, generator=generator, dtype=torch.float64)
    v = v.to(cast(Tensor, layer.weight).device)
    before = 0.0
    with torch.no_grad():
        for _ in range(0, MAX_STEPS, 50):
            sigma, v = estimate(layer, input_shape, 50, v)
            if not math.isfinite(sigma.item()):
                raise ValueError(f"{type(layer).__name__} has weights that are not finite")
            if sigma.item() - before <= CONVERGED * before:
                break
            before = sigma.item()
    return sigma.item() * (1 + SAFETY)
