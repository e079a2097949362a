r"""How far floating point may carry a net's logits from the logits of exact arithmetic.

A certificate speaks of the function f that the weights define in exact arithmetic, and of the
computed one, at x and at every x' in the ball. Take one output s = sum of t_k, of n products and a
bias. Let P be the sum of its positive terms, Q that of the others without their sign, and
M = max(P, Q) = (sum of |t_k| + |s|) / 2. In whatever order the terms are added, each partial sum
is one over a subset of them, so between -M and M, and each of the n additions errs by a unit u of
what it gives. With the n products, which are rounded first and together err by u (P + Q) <= 2 u M,

    | fl(s) - s |  <=  gamma(n+2) M.

(The errors e_1, e_2 ... of the additions, from the leaves up, obey |e_k| <= u (M + 2 u M + |e_1| +
... + |e_(k-1)|), so they sum to (M + 2 u M) gamma(n) at most; gamma(n) + 2 u (1 + gamma(n)) is
below gamma(n+2).) The usual bound, gamma(n+1) (P + Q), is nearly twice that where s cancels.
Source: after Higham 2002, sections 3.1 and 4.2, on sums in any order.

Of a layer z = W a + b, let a^ be the computed input and M(a^) the vector of these M. Its norm is

    || M(a^) ||  <=  (N + K)/2 ||a^|| + ||b||,   N >= || |W| ||,  K >= ||W||,

which costs nothing but ||a^||; or it is measured, by a second pass through |W| and |b|. The layer
hands on K times the error that reached it, so the errors delta of all layers follow one after the
other. In the ball nothing is measured. There a^' is within d = L epsilon + delta(x) + delta(x') of
a^(x), L the product of the bounds before the layer, and |W a^'| moves no further than |W| d:

    || M(a^') ||  <=  || M(a^(x)) || + (N + K)/2 d.

Layers that select or permute round nothing.

What is assumed of the machine: every sum and product is rounded to nearest in the named format, in
any order, fused or not, denormal numbers flushed or not; inner products are added up
conventionally. TF32 and bfloat16 are switched off (`arithmetic.exact`). Convolutions on a GPU are
matrix products (`products`), so that only products are asked of its library; that these are of the
named format, not emulated by narrower ones, is assumed. On a CPU the library's convolutions are
used where `selfcheck` does not refute that they add term by term, as Winograd and FFT do not; that
a kernel which passes is conventional is assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.lab import threads
from thesis_repro.nets import UnitLinear
from thesis_repro.robustness import proof
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.layer_rounding import Affine, Computed, errors, underflow
from thesis_repro.robustness.layers import Shape, named_layers
from thesis_repro.robustness.structure import precision

LARGEST = {torch.float32: 2.0**126, torch.float64: 2.0**1022}


@dataclass(frozen=True)
class Format:
    """What a net may err in one format.

    name : "float32" or "float64"
    layers : per layer before the last, its own error and highest value, affine in ||a^||, and
        what it errs per norm of its largest partial sums
    pair : (classes, classes) float64: what the last layer itself may err in a logit difference,
        per unit of its input's norm
    fixed : (classes, classes) float64: what it may err for its biases
    limits : (layers,) float64: above this, before each layer, the format might overflow
    """

    name: str
    layers: tuple[Computed, ...]
    pair: Tensor
    fixed: Tensor
    limits: Tensor

    def until(self, place: int, later: "Format") -> "Format":
        """This format before the layer at a place, and another one from there on."""
        return replace(
            later,
            name=f"{self.name}, then {later.name}",
            layers=self.layers[:place] + later.layers[place:],
            limits=torch.cat([self.limits[:place], later.limits[place:]]),
        )


@dataclass(frozen=True)
class Rounding:
    """What is needed to bound the rounding of each logit difference y_i - y_j at an input.

    bounds : per layer before the last, its norm bound
    distances : (classes, classes) float64: ||w_i - w_j||
    at : the format in which logits and norms are computed at x
    ball : the format of the function that the certificate is about, at any x' of the ball
    wide : float64
    dense : the place of the first dense layer
    """

    bounds: tuple[float, ...]
    distances: Tensor
    at: Format
    ball: Format
    wide: Format
    dense: int

    @cached_property
    def widened(self) -> "Rounding":
        """Of the net whose weights are widened to float64, evaluated there."""
        return replace(self, at=self.wide, ball=self.wide)

    @cached_property
    def refining(self) -> "Rounding":
        """Of the net itself, from a pass at x that is in float64 from the first dense layer on."""
        return replace(self, at=self.at.until(self.dense, self.wide))

    @cached_property
    def filtering(self) -> "Rounding":
        """Of the widened net, from the same pass: a dense layer errs the most and costs little."""
        return replace(self.refining, ball=self.wide)

    def budget(self, norms: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Budgets (n, classes) of the pairs with the top class: a constant part, and per epsilon;
        and the radius (n,) up to which overflow is excluded.

        A certificate takes off the rounding at x and the rounding at any x' of the ball.

        Parameters
        ----------
        norms : (n, layers) float64, of the computed input of each layer at x; of (n, 2 layers - 1)
            the others are norms of the largest partial sums of each layer but the last
        top : (n,), the top class
        """
        here, ball, slope, room = self.parts(norms, top)
        return here + ball, slope, room

    def parts(self, norms: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`budget`, with the constant part of x and that of the ball by themselves."""
        recursion, distances = self._recursion, self.distances[top]
        if norms.shape[1] == len(self.bounds) + 1:  # partial sums that were not measured
            norms = torch.cat([norms, norms[:, :-1] * self._partial[0] + self._partial[1]], 1)
        one = torch.ones(len(norms), 1, dtype=torch.float64)
        # through all layers at once, to what reaches the last one and the highest values before
        found = torch.cat([norms, one], 1) @ recursion.matrix
        here, ball, size, wide = found[:, -4:].T[:, :, None]
        highest, reached = found[:, :-4].chunk(2, 1)
        # the radius up to which nothing overflows; NaN, of an overflow, compares as false
        room = ((self.ball.limits - highest) / recursion.slopes).amin(1)
        safe = (room >= 0) & (reached <= self.at.limits).all(1)
        room = torch.where(safe, room, 0.0) / (1 + 1e-12)
        # what reached the last layer moves a difference of logits by at most the distance of its
        # rows; the last layer itself errs in proportion to its input, and for its biases
        here = (distances * here + self.at.pair[top] * size + self.at.fixed[top]) * (1 + 1e-12)
        ball = (distances * ball + self.ball.pair[top] * wide + self.ball.fixed[top]) * (1 + 1e-12)
        return torch.where(room[:, None] > 0, here, torch.inf), ball, self._slopes[top], room

    @cached_property
    def _slopes(self) -> Tensor:
        """How the budget of each pair grows with the radius: (classes, classes)."""
        known = self._recursion
        return (self.distances * known.slope + self.ball.pair * known.wider) * (1 + 1e-12)

    @cached_property
    def _partial(self) -> Tensor:
        """Of each layer's partial sums, what is there per norm of the input, and without one."""
        known = [layer.partial for layer in self.ball.layers]
        values = [(line.slope, line.at) for line in known]
        return torch.tensor(values, dtype=torch.float64).view(-1, 2).T

    @cached_property
    @np.errstate(all="ignore")  # infinity and NaN exclude what they reach
    def _recursion(self) -> "Recursion":
        """The recursion through the layers; all in it is affine in what is measured."""
        count = len(self.bounds)
        # one row per norm, one per layer's partial sums, and the constant
        unit = np.eye(2 * count + 2)
        one = unit[-1]
        here, ball, slope, lip = 0 * one, 0 * one, 0.0, 1.0
        highest, reached, slopes = [], [], []
        for norm, known, sums, at, inside in zip(
            self.bounds, unit, unit[count + 1 :], self.at.layers, self.ball.layers, strict=False
        ):
            # how far inputs in the ball may be from the one that is measured: + wider epsilon
            moved, wider = here + ball, lip + slope
            size = known + moved
            e, high, top = inside.error, inside.highest, at.highest
            more = inside.unit * inside.partial.slope
            highest.append(high.at * one + high.slope * size)
            reached.append(top.at * one + top.slope * known)
            slopes.append(high.slope * wider)
            here, ball, slope, lip = (
                norm * here + at.error.at * one + at.error.slope * known + at.unit * sums,
                norm * ball + e.at * one + e.slope * size + inside.unit * sums + more * moved,
                norm * slope + (e.slope + more) * wider,
                lip * norm,
            )
        known = unit[count]
        size, wider = known + here + ball, lip + slope
        highest, reached = [*highest, size], [*reached, known]
        matrix = np.stack([*highest, *reached, here, ball, known, size], 1)
        lines = torch.tensor([*slopes, wider], dtype=torch.float64)
        return Recursion(torch.from_numpy(matrix), lines, slope, wider)


@dataclass(frozen=True)
class Recursion:
    """What :class:`Rounding` needs of all layers at once, for what is measured and a constant.

    matrix : (2 layers, 2 layers + 4), to the highest value before each layer's overflow in the
        ball, and at x; to the errors that reach the last layer, at x and in the ball; to the norms
        of its inputs there
    slopes : (layers,), how the highest values grow with the radius
    slope, wider : how the error and the norm before the last layer grow with the radius
    """

    matrix: Tensor
    slopes: Tensor
    slope: float
    wider: float


@threads.limit(1)
def analyse(
    body: nn.Sequential, input_shape: Shape, bounds: Sequence[float], head: nn.Linear
) -> Rounding:
    """The rounding of a net whose layers before the last have these norm bounds.

    Raises
    ------
    ValueError
        If the weights are neither float32 nor float64.
    """
    own = precision(body)
    formats = dict.fromkeys((own, torch.float64))
    found = [
        errors(layer, shape, norm, formats)
        for (_, layer, shape), norm in zip(named_layers(body, input_shape), bounds, strict=False)
    ]
    weight, roundings = head_rows(head)
    sizes = proof.lengths(weight) * (1 + 1e-12)
    distances = differences(weight) * (1 + 1e-12)
    distances = distances + 2 * proof.gamma(roundings) * sizes.max()
    at, wide = (
        _format(head, [layer[dtype] for layer in found], dtype) for dtype in (own, torch.float64)
    )
    return Rounding(tuple(bounds), distances, at, at, wide, dense_from(body))


def _format(head: nn.Linear, before: Sequence[Computed], dtype: torch.dtype) -> Format:
    weight, roundings = head_rows(head)
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu()
    sizes, biases = proof.lengths(weight) * (1 + 1e-12), bias.double().abs()
    unit = proof.gamma(weight.shape[1] + 1 + roundings, UNITS[dtype])
    tiny = underflow(weight.shape[1], 1, float(weight.abs().max()), dtype, Affine(0.0, 1.0))
    pair = unit * (sizes[:, None] + sizes[None]) + 2 * tiny.slope
    fixed = unit * (biases[:, None] + biases[None]) * (1 + 1e-12) + 2 * tiny.at
    limit = LARGEST[dtype] / (1 + float(biases.max())) if len(biases) else LARGEST[dtype]
    limits = torch.full((len(before) + 1,), limit, dtype=torch.float64)
    limits[-1] /= 1 + sizes.max() + pair.max()  # of the logits, and of sums on their way
    return Format(str(dtype).removeprefix("torch."), tuple(before), pair, fixed, limits)


def dense_from(body: nn.Sequential) -> int:
    """The place of the first dense layer of a net that ends in one."""
    return next(place for place, layer in enumerate(body) if isinstance(layer, nn.Linear))


def classes_of(body: nn.Sequential) -> int:
    """How many logits a net gives."""
    head = body[-1]
    assert isinstance(head, nn.Linear)
    return head.out_features


def differences(weight: Tensor) -> Tensor:
    """||w_i - w_j|| of the rows (classes, features) float64: (classes, classes), zero diagonal.

    Up to gamma(features + 5); each row that differs is scaled by itself, so that none underflows.
    """
    return torch.stack([proof.lengths(weight - row) for row in weight])


def head_rows(head: nn.Linear) -> tuple[Tensor, int]:
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
