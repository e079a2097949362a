"""The constant of a net while it trains: one estimate per layer, with gradients.

Linear layers get power iteration with a vector that is kept from step to step, batch
normalisation its largest factor, layers that do not change their bound. Like `lipschitz.estimate`
this approaches the bound from below, so it serves training and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, Residual, Sum
from thesis_repro.robustness import lipschitz, rules
from thesis_repro.robustness.layers import Shape, convolutions, named_layers

Sigma = Callable[[str, nn.Module, Shape], Tensor]
"""Estimates the norm of a linear layer, from its name, itself and the shape of its input."""


@dataclass(frozen=True)
class Factor:
    """What one layer contributes to the constant.

    name : the layer in the net, e.g. "3" or "3.branch.0"
    shape : of its input
    kind : "power" (iterate), "batch norm", "sum" (1 + product of `inner`), "branches" (sum of
        `inner`), "branch" (product of `inner`), "fixed" (`value`)
    """

    name: str
    shape: Shape
    kind: str
    value: float = 1.0
    inner: tuple["Factor", ...] = ()


def factors(body: nn.Sequential, input_shape: Shape, prefix: str = "") -> tuple[Factor, ...]:
    """The factors of a net or of a part of one, layer by layer.

    Raises
    ------
    UnknownLayer
        If no Lipschitz constant is known for a layer; the message names it.
    """
    found: list[Factor] = []
    for name, layer, shape in named_layers(body, input_shape) if len(body) else ():
        found += _of(f"{prefix}{name}", layer, shape)
    return tuple(found)


def _of(name: str, layer: nn.Module, shape: Shape) -> tuple[Factor, ...]:
    match layer:
        case nn.Sequential():
            return factors(layer, shape, f"{name}.")
        case nn.Conv2d():
            convolutions(layer, shape)  # refuses what is not known
            return (Factor(name, shape, "power"),)
        case nn.Linear() | LinearResidual():
            return (Factor(name, shape, "power"),)
        case Residual() if rules.merged(layer.branch, shape) is not None:
            return (Factor(name, shape, "power"),)
        case Residual():
            inner = factors(layer.branch, shape, f"{name}.branch.")
            return (Factor(name, shape, "sum", inner=inner),)
        case Sum():
            inner = tuple(
                _branch(branch, shape, f"{name}.branches.{i}")
                for i, branch in enumerate(layer.branches)
            )
            return (Factor(name, shape, "branches", inner=inner),)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return (Factor(name, shape, "batch norm"),)
    value = rules.fixed(name, layer, shape)  # refuses what it does not know
    return (Factor(name, shape, "fixed", value),) if value != 1.0 else ()


def _branch(branch: nn.Module, shape: Shape, name: str) -> Factor:
    assert isinstance(branch, nn.Sequential)
    return Factor(name, shape, "branch", inner=factors(branch, shape, f"{name}."))


def iterated(parts: tuple[Factor, ...]) -> list[Factor]:
    """The factors that power iteration estimates, those inside sums included."""
    found = []
    for part in parts:
        found += [part] if part.kind == "power" else iterated(part.inner)
    return found


def product(body: nn.Module, parts: tuple[Factor, ...], sigma: Sigma) -> Tensor:
    """The product of the factors with the present weights, a scalar with gradients."""
    total = torch.ones((), device=next(body.parameters()).device)
    for part in parts:
        layer = body.get_submodule(part.name)
        if part.kind == "power":
            total = total * sigma(part.name, layer, part.shape)
        elif part.kind == "sum":
            total = total * (1 + product(body, part.inner, sigma))
        elif part.kind == "branch":
            total = total * product(body, part.inner, sigma)
        elif part.kind == "branches":
            total = total * torch.stack([product(body, (b,), sigma) for b in part.inner]).sum()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            total = total * _batch_norm(layer)
        else:
            total = total * part.value
    return total


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """The largest factor of eval mode; the running variance is a number to it, not a function."""
    assert layer.running_var is not None
    deviation = (layer.running_var + layer.eps).sqrt()
    gain = torch.ones_like(deviation) if layer.weight is None else layer.weight
    return (gain.abs() / deviation).amax()


def power(steps: int, vectors: Callable[[str], Tensor]) -> Sigma:
    """Power iteration from the vector kept under each layer's name, which moves on in place."""

    def sigma(name: str, layer: nn.Module, shape: Shape) -> Tensor:
        vector = vectors(name)
        value, after = lipschitz.estimate(layer, shape, steps, vector)
        with torch.no_grad():
            vector.copy_(after)  # in place, so that a recorded step finds it again
        return value

    return sigma
