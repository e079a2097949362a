r"""How far floating point may carry a net's logits from the logits of exact arithmetic.

A certificate speaks of the function f that the weights define in exact arithmetic, and of the
computed one, at x and at every x' in the ball. Let a^ be the computed input of a layer and ||a^||
its norm, which the forward pass measures at x. A layer z = W a + b of fan-in n then errs by

    || fl(W a^ + b) - (W a^ + b) ||  <=  gamma(n+1) ( N ||a^|| + ||b|| ),   N >= || |W| ||,

and hands on K >= ||W|| times the error that reached it. So the errors delta of all layers follow
one after the other. In the ball ||a^|| is not measured; there it is at most ||a^(x)|| + L epsilon
+ delta(x) + delta(x'), L the product of the bounds before the layer. Layers that select or permute
round nothing. Source: Higham 2002, section 3.5, carried through the net in the L2 norm.

What is assumed of the machine: every sum and product is rounded to nearest in the net's own
format, in any order, fused or not, denormal numbers flushed or not; inner products are added up
conventionally, so no Winograd or FFT convolution, TF32 or bfloat16.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.lab import threads
from thesis_repro.nets import LinearResidual, Residual, Scale, UnitLinear
from thesis_repro.robustness import lipschitz, proof, rules, symbol
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.convolution import Convolution
from thesis_repro.robustness.structure import precision
from thesis_repro.robustness.walk import Shape, convolutions, layers

SMALLEST = {torch.float32: 2.0**-126, torch.float64: 2.0**-1022}
LARGEST = {torch.float32: 2.0**126, torch.float64: 2.0**1022}


@dataclass(frozen=True)
class Affine:
    """An upper bound at + slope * rho."""

    at: float = 0.0
    slope: float = 0.0

    def __add__(self, other: "Affine") -> "Affine":
        return Affine(proof.up(self.at + other.at), proof.up(self.slope + other.slope))

    def __rmul__(self, factor: float) -> "Affine":
        return Affine(proof.up(factor * self.at), proof.up(factor * self.slope))


@dataclass(frozen=True)
class Step:
    """What one layer does: bounds of ||W||, || |W| ||, ||b||; additions per output; outputs."""

    norm: float
    absolute: float
    bias: float
    terms: int
    outputs: int
    largest: float = 0.0


@dataclass(frozen=True)
class State:
    """Where a walk through one layer (with the layers inside it) stands, from an exact input a.

    zero : the activations for a = 0, float64, and the rounding of these
    lip : the product of the bounds so far
    error, highest : of the computed values, affine in ||a||
    """

    zero: Tensor
    lip: float = 1.0
    error: Affine = field(default_factory=Affine)
    zero_error: float = 0.0
    highest: Affine = field(default_factory=Affine)

    @property
    def size(self) -> Affine:
        """Of the exact activations: those at zero, and what the input can add."""
        return Affine(proof.up(proof.length(self.zero) + self.zero_error), self.lip)


@dataclass(frozen=True)
class Local:
    """One layer: its norm bound, its own error and highest value, affine in ||a^||."""

    norm: float
    error: Affine
    highest: Affine


@dataclass(frozen=True)
class Rounding:
    """What is needed to bound the rounding of each logit difference y_i - y_j at an input.

    locals : per layer before the last
    apart, pair : (classes, classes) float64: ||w_i - w_j||; what the last layer itself may err
        per unit of its input's norm
    fixed : (classes, classes) float64: what it may err for its biases
    limit : above this the format might overflow
    """

    locals: tuple[Local, ...]
    apart: Tensor
    pair: Tensor
    fixed: Tensor
    limit: float

    def budget(self, norms: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Budgets (n, classes) of the pairs with the top class: a constant part, and per epsilon;
        and the radius (n,) up to which overflow is excluded.

        A certificate takes off the rounding at x and the rounding at any x' of the ball.

        Parameters
        ----------
        norms : (n, layers) float64, of the computed input of each layer at x
        top : (n,), the top class
        """
        walk = self._walk
        one = torch.ones(len(norms), 1, dtype=torch.float64)
        found = torch.cat([norms, one], 1) @ walk.matrix
        errors, sizes = found[:, -2:].unbind(1)
        # NaN, from weights that overflow, compares as false: nothing is excluded
        room = ((walk.limits - found[:, :-2]) / walk.slopes).amin(1)
        room = torch.where(room >= 0, room, 0.0) / (1 + 1e-12)
        apart, pair = self.apart[top], self.pair[top]
        fixed = 2 * self.fixed[top] + apart * errors[:, None]
        fixed = (fixed + pair * sizes[:, None]) * (1 + 1e-12)
        slope = (apart * walk.slope + pair * walk.wider) * (1 + 1e-12)
        return torch.where(room[:, None] > 0, fixed, torch.inf), slope, room

    @cached_property
    @np.errstate(over="ignore", invalid="ignore")  # infinity and NaN exclude what they reach
    def _walk(self) -> "Walk":
        """The recursion through the layers; all in it is affine in the norms that are measured."""
        layers = len(self.locals) + 1
        unit = np.eye(layers + 1)  # one row per norm, and the constant
        here, ball, slope, lip = 0 * unit[0], 0 * unit[0], 0.0, 1.0
        highest, slopes = [], []
        for index, local in enumerate(self.locals):
            size, wider = unit[index] + here + ball, lip + slope  # in the ball: + wider epsilon
            e, high = local.error, local.highest
            highest.append(high.at * unit[-1] + high.slope * size)
            slopes.append(high.slope * wider)
            here, ball, slope, lip = (
                local.norm * here + e.at * unit[-1] + e.slope * unit[index],
                local.norm * ball + e.at * unit[-1] + e.slope * size,
                local.norm * slope + e.slope * wider,
                lip * local.norm,
            )
        size, wider = unit[-2] + here + ball, lip + slope
        matrix = np.stack([*highest, size, here + ball, unit[-2] + size], 1)
        limits = torch.full((layers,), self.limit, dtype=torch.float64)
        limits[-1] /= 1 + self.pair.max()
        lines = torch.tensor([*slopes, wider], dtype=torch.float64)
        return Walk(torch.from_numpy(matrix), lines, limits, slope, wider)


@dataclass(frozen=True)
class Walk:
    """What :class:`Rounding` needs of all layers at once, for norms and a constant (layers + 1,).

    matrix : (layers + 1, layers + 2), to the highest value before each layer's overflow at x, the
        errors at x and in the ball that reach the last layer, the norms of its inputs there
    slopes, limits : (layers,), how the highest values grow with the radius, and how far they may
    slope, wider : how the error and the norm before the last layer grow with the radius
    """

    matrix: Tensor
    slopes: Tensor
    limits: Tensor
    slope: float
    wider: float


@threads.limit(1)
def of(
    body: nn.Sequential, input_shape: Shape, bounds: Sequence[float], head: nn.Linear
) -> Rounding:
    """The rounding of a net whose layers before the last have these norm bounds.

    Raises
    ------
    ValueError
        If the weights are neither float32 nor float64.
    """
    dtype = precision(body)
    found = []
    for (_, layer, shape), norm in zip(layers(body, input_shape), bounds, strict=False):
        state = State(torch.zeros(1, *shape, dtype=torch.float64))
        after = _advance(state, layer, shape, norm, dtype)
        found.append(Local(norm, after.error, after.highest))
    weight, roundings = last(head)
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu()
    sizes, biases = proof.lengths(weight) * (1 + 1e-12), bias.double().abs()
    apart = differences(weight) * (1 + 1e-12)
    apart = apart + 2 * proof.gamma(roundings) * sizes.max()
    unit = proof.gamma(weight.shape[1] + 1 + roundings, UNITS[dtype])
    tiny = _underflow(weight.shape[1], 1, float(weight.abs().max()), dtype, Affine(0.0, 1.0))
    return Rounding(
        tuple(found),
        apart,
        unit * (sizes[:, None] + sizes[None]) + 2 * tiny.slope,
        unit * (biases[:, None] + biases[None]) * (1 + 1e-12) + 2 * tiny.at,
        LARGEST[dtype] / (1 + float(biases.max())) if len(biases) else LARGEST[dtype],
    )


def differences(weight: Tensor) -> Tensor:
    """||w_i - w_j|| of the rows (classes, features) float64: (classes, classes), zero diagonal.

    Up to gamma(features + 5); each row that differs is scaled by itself, so that none underflows.
    """
    return torch.stack([proof.lengths(weight - row) for row in weight])


def last(head: nn.Linear) -> tuple[Tensor, int]:
    """The rows of a last layer, float64, and how often each entry was rounded on the way.

    Raises
    ------
    ValueError
        If a weight is not finite, or a row that is divided by its norm is too small or too large.
    """
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise ValueError("the last layer has weights that are not finite")
    weight = head.weight.detach().to("cpu", torch.float64)
    if not isinstance(head, UnitLinear):
        return weight, 0
    norms = proof.lengths(weight)
    if not ((norms > 1e-12) & (norms < 1e12)).all():  # squares would underflow or overflow
        raise ValueError("rows of a UnitLinear layer need norms between 1e-12 and 1e12")
    return weight / norms[:, None], weight.shape[1] + 4


def measured(layer: nn.Module) -> bool:
    """Whether the layer rounds, so that the norm of its input matters."""
    return type(layer) not in rules.SELECTING and type(layer) is not nn.MaxPool2d


def norms(x: Tensor) -> Tensor:
    """At least the norm of each of x (n, ...): (n,) float64."""
    flat = x.flatten(1)
    loss = 2 * proof.gamma(flat.shape[1] + 2, UNITS[x.dtype])
    found: Tensor = torch.linalg.vector_norm(flat, dim=1).double()
    return found * (1 + loss) + 1e-16  # squares below the smallest number count as zero


def _advance(
    state: State, layer: nn.Module, shape: Shape, norm: float, dtype: torch.dtype
) -> State:
    zero = _in_double(layer, state.zero)
    if isinstance(layer, nn.Sequential):
        for name, part, inner in layers(layer, shape):
            value = lipschitz.layer_bound(name, part, inner).value
            state = _advance(state, part, inner, value, dtype)
        return state
    if isinstance(layer, Residual):
        branch = _advance(state, layer.branch, shape, math.nan, dtype)
        reached = state.size + state.error + branch.size + branch.error
        lip = proof.times(state.lip, norm)
        return State(
            zero,
            lip,
            state.error + branch.error + UNITS[dtype] * reached,
            proof.up(state.zero_error + branch.zero_error + proof.UNIT * reached.at),
            state.highest + branch.highest + reached,
        )
    read = STEPS.get(type(layer))
    if read is None:  # a layer that selects or permutes
        lost = SMALLEST[dtype] * math.sqrt(zero.numel())
        return replace(
            state,
            zero=zero,
            lip=proof.times(state.lip, norm),
            error=norm * state.error + Affine(lost),
            zero_error=proof.up(norm * state.zero_error),
        )
    step = read(layer, shape, norm, zero)
    reached = state.size + state.error
    passed = step.absolute * reached + Affine(step.bias)
    small = _underflow(step.terms, step.outputs, step.largest, dtype, reached)
    exact = proof.gamma(step.terms + 1)
    at_zero = state.size.at
    return State(
        zero,
        proof.times(state.lip, norm),
        norm * state.error + proof.gamma(step.terms + 1, UNITS[dtype]) * passed + small,
        proof.up(norm * state.zero_error + exact * (step.absolute * at_zero + step.bias)),
        state.highest + passed,
    )


def _in_double(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, copy.deepcopy(layer).to("cpu", torch.float64).eval()(x))


def _underflow(
    terms: int, outputs: int, largest: float, dtype: torch.dtype, reached: Affine
) -> Affine:
    """What is lost where operands or results below the normal numbers count as zero."""
    each = SMALLEST[dtype] * 2 * (terms + 1) * math.sqrt(outputs)
    return each * Affine(1 + largest) + each * reached


def _linear_step(layer: nn.Linear, shape: Shape, norm: float, zero: Tensor) -> Step:
    return Step(
        norm,
        proof.matrix_norm(layer.weight.detach().abs()),
        _bias(layer.bias, zero.numel() // layer.out_features),
        layer.in_features,
        zero.numel(),
        float(layer.weight.detach().abs().max()),
    )


def _conv_step(layer: nn.Conv2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    groups = convolutions(layer, shape)
    terms = groups[0].weight[0].numel()
    return Step(
        norm,
        max(map(absolute_norm, groups)),
        _bias(layer.bias, zero.numel() // layer.out_channels),
        terms,
        zero.numel(),
        float(layer.weight.detach().abs().max()),
    )


def _residual_step(layer: LinearResidual, shape: Shape, norm: float, zero: Tensor) -> Step:
    _, sizes = rules.linear_residual(layer, shape)
    return Step(
        norm,
        absolute_norm(sizes),
        _bias(layer.bias, zero.numel() // len(layer.gain)),
        sizes.weight[0].numel() + 8,  # scale, gain, weight and identity: four more roundings
        zero.numel(),
        float(sizes.weight.max()),
    )


def absolute_norm(conv: Convolution) -> float:
    """At least || |W| || of a convolution: its symbol is largest at frequency zero."""
    phases = symbol.polyphase(conv)[0].abs()
    taps = phases.shape[0] * phases.shape[1]
    return proof.up(proof.matrix_norm(phases.sum((0, 1))), taps)


def _pool_step(layer: nn.AvgPool2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    height, width = rules.pair(layer.kernel_size)
    return Step(norm, norm, 0.0, height * width + 2, zero.numel(), 1.0)


def _batch_norm_step(layer: nn.BatchNorm2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    factor, mean = rules.batch_norm_terms(layer)
    shift = 0.0 if layer.bias is None else layer.bias.detach().cpu().double().abs()
    offset = proof.length((factor * mean).abs() + shift) * math.sqrt(zero.numel() / len(mean))
    # mean, variance, root, quotient, products and sum: at most 12 roundings of each term
    return Step(norm, norm, proof.up(offset, 100), 12, zero.numel(), norm)


def _scale_step(layer: Scale, shape: Shape, norm: float, zero: Tensor) -> Step:
    offset = layer.offset.detach().to("cpu", torch.float64).expand(zero.shape[1:])
    return Step(norm, norm, proof.length(offset), 2, zero.numel(), norm)


def _bias(bias: Tensor | None, copies: int) -> float:
    if bias is None:
        return 0.0
    return proof.times(proof.length(bias), proof.up(math.sqrt(copies)))


STEPS: dict[type[nn.Module], Callable[[Any, Shape, float, Tensor], Step]] = {
    nn.Linear: _linear_step,
    nn.Conv2d: _conv_step,
    LinearResidual: _residual_step,
    nn.AvgPool2d: _pool_step,
    nn.BatchNorm1d: _batch_norm_step,
    nn.BatchNorm2d: _batch_norm_step,
    Scale: _scale_step,
}
