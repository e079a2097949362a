"""How far one layer may err by rounding, in each format, from an exact input a.

The bounds of `rounding` for a layer need N >= || |W| ||, ||b|| and the fan-in of each type of
layer. A layer with others inside it is gone through from one to the next.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, Residual, Scale, Sum
from thesis_repro.robustness import lipschitz, proof, rules, symbol
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.convolution import Convolution
from thesis_repro.robustness.layers import Shape, convolutions, named_layers

SMALLEST = {torch.float32: 2.0**-126, torch.float64: 2.0**-1022}


@dataclass(frozen=True)
class Affine:
    """An upper bound at + slope * rho."""

    at: float = 0.0
    slope: float = 0.0

    def __add__(self, other: "Affine") -> "Affine":
        return Affine(proof.round_up(self.at + other.at), proof.round_up(self.slope + other.slope))

    def __rmul__(self, factor: float) -> "Affine":
        return Affine(proof.round_up(factor * self.at), proof.round_up(factor * self.slope))


@dataclass(frozen=True)
class Step:
    """What one layer does.

    norm, absolute, bias : bounds of ||W||, || |W| ||, ||b||
    roundings : so many count for each output
    outputs : their number
    largest : weight, and what else an operand or result that counts as zero is multiplied by
    operands : at least 1, and what weights and inputs are multiplied by before they meet
    way : what a value on the way to an output reaches, beyond sums of |W| |a| and |b|
    sums : whether each output is a plain sum of products, so that partial sums bound its error
    """

    norm: float
    absolute: float
    bias: float
    roundings: int
    outputs: int
    largest: float = 0.0
    operands: float = 1.0
    way: Affine = Affine()
    sums: bool = False

    @property
    def partial(self) -> float:
        """At least the norm of the largest partial sums, per norm of the input."""
        if not self.sums:
            return self.absolute
        return proof.round_up((self.absolute + self.norm) / 2)


@dataclass(frozen=True)
class Computed:
    """In one format: the error and the highest of the computed values, affine in ||a||.

    error : but for what the last layer errs for its partial sums
    unit, partial : this is at most unit times the norm of these, which is at most `partial`
    """

    error: Affine = field(default_factory=Affine)
    highest: Affine = field(default_factory=Affine)
    unit: float = 0.0
    partial: Affine = field(default_factory=Affine)

    @property
    def whole(self) -> Affine:
        """The error, partial sums and all."""
        return self.error + self.unit * self.partial


@dataclass(frozen=True)
class State:
    """Where a walk through one layer (with the layers inside it) stands, from an exact input a.

    zero : the activations for a = 0, float64, and the rounding of these
    lip : the product of the bounds so far
    computed : by format
    """

    zero: Tensor
    computed: dict[torch.dtype, Computed]
    lip: float = 1.0
    zero_error: float = 0.0

    @property
    def size(self) -> Affine:
        """Of the exact activations: those at zero, and what the input can add."""
        return Affine(proof.round_up(proof.length(self.zero) + self.zero_error), self.lip)


def errors(
    layer: nn.Module, shape: Shape, norm: float, formats: Iterable[torch.dtype]
) -> dict[torch.dtype, Computed]:
    """What a layer of this norm bound may err, and reach, for an input of `shape`."""
    start = State(torch.zeros(1, *shape, dtype=torch.float64), {f: Computed() for f in formats})
    found = _advance(start, layer, shape, norm).computed
    if type(layer) in SUMS:
        return found
    return {dtype: Computed(now.whole, now.highest) for dtype, now in found.items()}


def _advance(state: State, layer: nn.Module, shape: Shape, norm: float) -> State:
    zero, size = _in_double(layer, state.zero), state.size
    if isinstance(layer, nn.Sequential):
        for name, part, inner in named_layers(layer, shape):
            value = lipschitz.layer_bound(name, part, inner).value
            state = _advance(state, part, inner, value)
        return state
    if isinstance(layer, Residual):
        branch = _advance(state, layer.branch, shape, math.nan)
        return _summed(state, branch, zero, proof.multiply_up(state.lip, norm))
    if isinstance(layer, Sum):
        first, *others = (_advance(state, branch, shape, math.nan) for branch in layer.branches)
        for other in others:
            lip = proof.round_up(first.lip + other.lip)
            first = _summed(first, other, first.zero + other.zero, lip)
        return first
    read, lip = STEPS.get(type(layer)), proof.multiply_up(state.lip, norm)
    if read is None:  # a layer that selects or permutes
        count = math.sqrt(zero.numel())
        after = {
            dtype: Computed(norm * now.whole + Affine(SMALLEST[dtype] * count), now.highest)
            for dtype, now in state.computed.items()
        }
        return State(zero, after, lip, proof.round_up(norm * state.zero_error))
    step = read(layer, shape, norm, zero)
    after = {}
    for dtype, now in state.computed.items():
        before = now.whole
        reached = size + before
        sums = step.absolute * reached + Affine(step.bias)
        highest = now.highest + sums + (step.way.slope * reached + Affine(step.way.at))
        # what a measured sum lacks by underflow is no more than what the layer itself loses
        met = step.operands * reached
        small = 2.0 * underflow(step.roundings, step.outputs, step.largest, dtype, met)
        unit = proof.gamma(step.roundings, UNITS[dtype])
        partial = step.partial * reached + Affine(step.bias)
        after[dtype] = Computed(norm * before + small, highest, unit, partial)
    exact = proof.gamma(step.roundings) * (step.absolute * size.at + step.bias)
    return State(zero, after, lip, proof.round_up(norm * state.zero_error + exact))


def _summed(state: State, branch: State, zero: Tensor, lip: float) -> State:
    """Activations and those that a branch made of the same input, added.

    zero, lip : of the sum
    """
    after = {}
    for dtype, now in state.computed.items():
        other = branch.computed[dtype]
        reached = state.size + now.whole + branch.size + other.whole
        error = now.whole + other.whole + UNITS[dtype] * reached
        after[dtype] = Computed(error, now.highest + other.highest + reached)
    reached = state.size + branch.size
    lost = state.zero_error + branch.zero_error + proof.UNIT * reached.at
    return State(zero, after, lip, proof.round_up(lost))


def _in_double(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, copy.deepcopy(layer).to("cpu", torch.float64).eval()(x))


def underflow(
    roundings: int, outputs: int, largest: float, dtype: torch.dtype, reached: Affine
) -> Affine:
    """What is lost where operands or results below the normal numbers count as zero."""
    each = SMALLEST[dtype] * 2 * (roundings + 1) * math.sqrt(outputs)
    return each * Affine(1 + largest) + each * reached


def _linear_step(layer: nn.Linear, shape: Shape, norm: float, zero: Tensor) -> Step:
    return Step(
        norm,
        proof.matrix_norm(layer.weight.detach().abs()),
        _bias(layer.bias, zero.numel() // layer.out_features),
        layer.in_features + 2,
        zero.numel(),
        float(layer.weight.detach().abs().max()),
        sums=True,
    )


def _conv_step(layer: nn.Conv2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    groups = convolutions(layer, shape)
    return Step(
        norm,
        max(map(absolute_norm, groups)),
        _bias(layer.bias, zero.numel() // layer.out_channels),
        groups[0].weight[0].numel() + 2,
        zero.numel(),
        float(layer.weight.detach().abs().max()),
        sums=True,
    )


def _residual_step(layer: LinearResidual, shape: Shape, norm: float, zero: Tensor) -> Step:
    _, sizes = rules.linear_residual(layer, shape)
    parts = (layer.scale.double() * layer.gain.double(), layer.weight)
    operands = max(1.0, *(float(part.detach().abs().max()) for part in parts))
    return Step(
        norm,
        absolute_norm(sizes),
        _bias(layer.bias, zero.numel() // len(layer.gain)),
        sizes.weight[0].numel() + 9,  # scale, gain, weight and identity: four more roundings
        zero.numel(),
        float(sizes.weight.max()),
        operands,
        way=Affine(operands),  # scale times gain comes about before the weight
    )


def absolute_norm(conv: Convolution) -> float:
    """At least || |W| || of a convolution: its symbol is largest at frequency zero."""
    phases = symbol.polyphase(conv)[0].abs()
    taps = phases.shape[0] * phases.shape[1]
    return proof.round_up(proof.matrix_norm(phases.sum((0, 1))), taps)


def _pool_step(layer: nn.AvgPool2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    height, width = rules.pair(layer.kernel_size)
    window = Affine(slope=proof.round_up(math.sqrt(height * width)))  # a sum, before it is divided
    return Step(norm, norm, 0.0, height * width + 3, zero.numel(), 1.0, way=window)


def _batch_norm_step(layer: nn.BatchNorm2d, shape: Shape, norm: float, zero: Tensor) -> Step:
    factor, mean, inverse = rules.batch_norm_terms(layer)
    shift = 0.0 if layer.bias is None else layer.bias.detach().cpu().double().abs()
    offset = proof.length((factor * mean).abs() + shift) * math.sqrt(zero.numel() / len(mean))
    # (a - mean) / std * gain, in whatever order its products are taken
    gain = 1.0 if layer.weight is None else float(layer.weight.detach().abs().max())
    away, over = float(mean.abs().max()), float(inverse.max())
    copies = math.sqrt(zero.numel())
    # and gain / std, which the norm bounds, before there is an input
    reached = proof.round_up(max(1.0, over) * away * copies + over + norm, 4)
    way = Affine(reached, max(1.0, over))
    largest = proof.round_up(norm + gain + (1 + over) * (1 + away))
    # mean, variance, root, quotient, products and sum: at most 13 roundings of each term
    bias = proof.round_up(offset, 100)
    return Step(norm, norm, bias, 13, zero.numel(), largest, 1 + over, way)


def _scale_step(layer: Scale, shape: Shape, norm: float, zero: Tensor) -> Step:
    offset = layer.offset.detach().to("cpu", torch.float64).expand(zero.shape)
    return Step(norm, norm, proof.length(offset), 3, zero.numel(), norm)


def _bias(bias: Tensor | None, copies: int) -> float:
    if bias is None:
        return 0.0
    return proof.multiply_up(proof.length(bias), proof.round_up(math.sqrt(copies)))


SUMS = (nn.Linear, nn.Conv2d)
"""Layers whose outputs are plain sums of products: their partial sums can be measured."""

STEPS: dict[type[nn.Module], Callable[[Any, Shape, float, Tensor], Step]] = {
    nn.Linear: _linear_step,
    nn.Conv2d: _conv_step,
    LinearResidual: _residual_step,
    nn.AvgPool2d: _pool_step,
    nn.BatchNorm1d: _batch_norm_step,
    nn.BatchNorm2d: _batch_norm_step,
    Scale: _scale_step,
}
