"""Lipschitz constants of layers in the L2 norm.

`estimate` is power iteration: it approaches the operator norm from below and serves training.
`upper_bound` is what certificates rest on: proven in float64, rounding included. The proofs are
in `proof` (matrices), `symbol` and `banded` (convolutions); `rules` has one for each type of layer.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from thesis_repro.lab import threads
from thesis_repro.robustness import operators, rules
from thesis_repro.robustness.layers import (
    Shape,
    adjoint_map,
    linear_head,
    linear_map,
    named_layers,
)
from thesis_repro.robustness.structure import UnknownLayer

__all__ = [
    "LayerBound",
    "Shape",
    "UnknownLayer",
    "adjoint_map",
    "estimate",
    "layer_bound",
    "linear_head",
    "linear_map",
    "named_layers",
    "upper_bound",
]


def estimate(
    layer: nn.Module, input_shape: Shape, steps: int, vector: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Power iteration on W^T W: a lower estimate of the operator norm, for training.

    Gradients flow through sigma = ||W v|| / ||v|| only, not through the iteration; at the top
    singular vector this is the exact gradient u v^T.

    Parameters
    ----------
    layer : nn.Linear, nn.Conv2d, LinearResidual, or Residual of one nn.Linear or nn.Conv2d
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

    Examples
    --------
    >>> layer = nn.Conv2d(1, 4, 3)
    >>> sigma, _ = estimate(layer, (1, 8, 8), 100)
    >>> 0 < sigma.item() <= upper_bound(layer, (1, 8, 8)) * (1 + 1e-5)
    True
    """
    weight = next(layer.parameters(), None)
    if weight is None:
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
    """The bound of one layer and how it was got.

    Examples
    --------
    >>> layer_bound("head", nn.Linear(4, 2), (4,)).layer
    'Linear'
    """

    name: str
    layer: str
    value: float
    method: str


def upper_bound(
    layer: nn.Module, input_shape: Shape, method: str = "auto", seconds: float = 0.5
) -> float:
    """Upper bound of the Lipschitz constant of one layer, float64, proven.

    Never below the true constant of the layer in eval mode, for the function that its weights
    define in exact arithmetic. What rounding does to the net's outputs is the business of
    `rounding`.

    Parameters
    ----------
    layer : a layer of a known type (not a subclass of one)
    input_shape : shape of one input of the layer
    method : for convolutions "fast", "tight", "dense" or "auto", the best within `seconds`
    seconds : reckoned time of "auto", at 2e10 operations a second

    Raises
    ------
    UnknownLayer
        If the layer is none that is known; the message names it.
    ValueError
        If a weight is NaN or infinite, or the method is unknown.

    Notes
    -----
    nn.Linear, nn.Conv2d (zero padding): operator norm; `proof`, `convolution`.
    nn.MaxPool2d: the root of the number of windows that a pixel may sit in.
    nn.AvgPool2d: a Kronecker product of two small matrices, whose norms multiply.
    nn.BatchNorm1d, nn.BatchNorm2d: the largest |gamma| / sqrt(variance + eps).
    Scale: the largest factor. Residual: of x + W x the norm of I + W, else 1 + the branch.
    Sum: the sum of the branches.
    LinearResidual: the norm of its merged kernel.
    nn.Sequential: the product. MinMax, nn.ReLU, nn.Flatten, nn.Identity, nn.PixelUnshuffle: 1.

    Examples
    --------
    >>> upper_bound(nn.ReLU(), (5,))
    1.0
    >>> layer = nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    >>> 3.0 <= upper_bound(layer, (2,)) < 3.0 + 1e-9
    True
    """
    return layer_bound("", layer, input_shape, method, seconds).value


@threads.limit(1)
def layer_bound(
    name: str,
    layer: nn.Module,
    input_shape: Shape,
    method: str = "auto",
    seconds: float = 0.5,
) -> LayerBound:
    """As :func:`upper_bound`, with the method said.

    Examples
    --------
    >>> layer_bound("pool", nn.MaxPool2d(2), (1, 8, 8))
    LayerBound(name='pool', layer='MaxPool2d', value=1.0, method='1 windows per pixel')
    """
    if method not in operators.METHODS:
        choices = ", ".join(operators.METHODS)
        raise ValueError(f"unknown method {method!r}; choose one of {choices}")
    value, how = rules.bound_of(name, layer, input_shape, method, seconds)
    return LayerBound(name, type(layer).__name__, value, how)
