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
from typing import Any, cast

import torch
from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, Residual, Scale, UnitLinear
from thesis_repro.robustness import lipschitz, proof, rules, symbol
from thesis_repro.robustness.convolution import Convolution
from thesis_repro.robustness.walk import Shape, convolutions, layers

UNITS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
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
        at_zero = proof.up(float(self.zero.norm()) + self.zero_error, self.zero.numel())
        return Affine(at_zero, self.lip)


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

    def budget(self, norms: Tensor, epsilon: float, top: Tensor) -> tuple[Tensor, Tensor]:
        """Budgets (n, classes) of the pairs with the top class: a constant part, and per epsilon.

        A certificate takes off the rounding at x and the rounding at any x' of the ball.

        Parameters
        ----------
        norms : (n, layers) float64, of the computed input of each layer at x
        epsilon : largest radius for which overflow is excluded
        top : (n,), the top class
        """
        zero = torch.zeros(len(norms), dtype=torch.float64)
        here, ball, slope, lip, over = zero, zero, zero, 1.0, zero > 0
        for index, local in enumerate(self.locals):
            measured = norms[:, index]
            size, wider = measured + here + ball, lip + slope  # in the ball: size + wider epsilon
            e = local.error
            highest = local.highest.at + local.highest.slope * (size + wider * epsilon)
            over = over | ~(highest <= self.limit)
            here, ball, slope = (
                local.norm * here + e.at + e.slope * measured,
                local.norm * ball + e.at + e.slope * size,
                local.norm * slope + e.slope * wider,
            )
            lip *= local.norm
        measured = norms[:, -1]
        size, wider = measured + here + ball, lip + slope
        over = over | ~(size + wider * epsilon <= self.limit / (1 + self.pair.max()))
        apart, pair = self.apart[top], self.pair[top]
        fixed = 2 * self.fixed[top] + apart * (here + ball)[:, None]
        fixed = (fixed + pair * (measured + size)[:, None]) * (1 + 1e-12)
        return (
            torch.where(over[:, None], torch.inf, fixed),
            (apart * slope[:, None] + pair * wider[:, None]) * (1 + 1e-12),
        )


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
    sizes, biases = weight.norm(dim=1) * (1 + 1e-12), bias.double().abs()
    apart = torch.stack([(weight - row).norm(dim=1) for row in weight]) * (1 + 1e-12)
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
    norms = weight.norm(dim=1)
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


def precision(body: nn.Module) -> torch.dtype:
    """The one format of a net's weights and buffers: float32 or float64.

    Raises
    ------
    ValueError
        On any other format, or a mixture.
    """
    tensors = [*body.parameters(), *body.buffers()]
    found = {t.dtype for t in tensors if t.is_floating_point()}
    if len(found) != 1 or not found <= set(UNITS):
        names = " and ".join(sorted(str(t).removeprefix("torch.") for t in found)) or "none"
        raise ValueError(f"certifying needs all weights in float32 or in float64, got {names}")
    return found.pop()


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
        lip = proof.up(state.lip * norm)
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
            lip=proof.up(state.lip * norm),
            error=norm * state.error + Affine(lost),
            zero_error=proof.up(norm * state.zero_error),
        )
    step = read(layer, shape, norm, zero)
    reached = state.size + state.error
    passed = step.absolute * reached + Affine(step.bias)
    small = _underflow(step.terms, step.outputs, step.largest, dtype, reached)
    exact = proof.gamma(step.terms + 1)
    at_zero = proof.up(float(state.zero.norm()) + state.zero_error, state.zero.numel())
    return State(
        zero,
        proof.up(state.lip * norm),
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
    offset = ((factor * mean).abs() + shift).norm().item() * math.sqrt(zero.numel() / len(mean))
    # mean, variance, root, quotient, products and sum: at most 12 roundings of each term
    return Step(norm, norm, proof.up(offset, 100), 12, zero.numel(), norm)


def _scale_step(layer: Scale, shape: Shape, norm: float, zero: Tensor) -> Step:
    offset = layer.offset.detach().to("cpu", torch.float64).expand(zero.shape[1:])
    return Step(norm, norm, proof.up(float(offset.norm()), zero.numel()), 2, zero.numel(), norm)


def _bias(bias: Tensor | None, copies: int) -> float:
    if bias is None:
        return 0.0
    size = float(bias.detach().to("cpu", torch.float64).norm())
    return proof.up(size * math.sqrt(copies), 2 * len(bias))


STEPS: dict[type[nn.Module], Callable[[Any, Shape, float, Tensor], Step]] = {
    nn.Linear: _linear_step,
    nn.Conv2d: _conv_step,
    LinearResidual: _residual_step,
    nn.AvgPool2d: _pool_step,
    nn.BatchNorm1d: _batch_norm_step,
    nn.BatchNorm2d: _batch_norm_step,
    Scale: _scale_step,
}
