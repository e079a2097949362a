"""One pass through a net in float64, with what its own and the certified arithmetic may be off.

A layer z = W a + b of n terms, computed in an arithmetic with unit of rounding u, errs by
gamma(n) (|| |W| || ||a|| + ||b||), and hands on ||W|| times the error that reached it. Where each
output is a plain sum, added in any order, no partial sum exceeds the larger of its positive and
its negative terms' sum, (|W| |a| + |b| + |z|) / 2. The vector of these is computed at the image,
and moves by (|| |W| || + ||W||) / 2 per unit of a. What counts as zero below the normal numbers
comes on top. Source: Higham 2002, section 3.5; for partial sums section 4.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_repro.robustness.checker.bounds import LARGEST, TINY, Array, U, gamma
from thesis_repro.robustness.checker.layers import Layer
from thesis_repro.robustness.checker.nets import Residual, Sequence, Sum


@dataclass(frozen=True)
class State:
    """Activations x of n images in float64, and what is known of the true ones.

    own : how far x may be from the activations of exact arithmetic
    here, ball : how far the named arithmetic may be from them, at the image and within epsilon
    k : how far they move per unit of input
    over : where the named arithmetic might overflow
    """

    x: Array
    own: Array
    here: Array
    ball: Array
    k: float
    over: NDArray[np.bool_]

    def sizes(self, epsilon: float) -> tuple[Array, Array]:
        """At least the norm of the true activations; of computed ones within epsilon."""
        size = norms(self.x) + self.own
        return size, size + self.here + self.ball + self.k * epsilon


def norms(x: Array) -> Array:
    """At least the norm of each of x (n, ...)."""
    flat = x.reshape(len(x), -1)
    return np.asarray(np.linalg.norm(flat, axis=1) * (1 + gamma(flat.shape[1] + 2)) + 1e-150)


def advance(state: State, layer: Layer, epsilon: float, unit: float) -> State:
    """What a layer makes of it, in an arithmetic with this unit of rounding."""
    if isinstance(layer, Sum):
        first, *others = (advance(state, branch, epsilon, unit) for branch in layer.layers)
        for other in others:
            first = _sum(first, other, epsilon, unit)
        return first
    if isinstance(layer, Sequence):
        after = state
        for part in layer.layers:
            after = advance(after, part, epsilon, unit)
        return _sum(state, after, epsilon, unit) if isinstance(layer, Residual) else after
    size, wide = state.sizes(epsilon)
    y = layer(state.x)
    measured = layer.partial_sums(state.x, y)

    def lost(unit: float, moved: Array | float) -> Array:
        """By rounding, and where numbers below the normal ones count as zero.

        moved : how far the inputs may be from x
        """
        reach = norms(state.x) + moved
        tiny = TINY[unit] * 4 * (layer.roundings + 1) * layer.outputs**0.5
        if measured is None:
            passed = layer.absolute * reach + layer.shift
        else:
            passed = measured + (layer.absolute + layer.upper) / 2 * moved * (1 + 1e-12)
        return np.asarray(
            gamma(layer.roundings, unit) * passed
            + tiny * (1 + layer.largest + layer.operands * reach)
        )

    apart = wide - size + 2 * state.own
    highest = np.maximum(layer.absolute * wide + layer.shift, wide) + layer.largest * 2.0**26
    highest = highest + layer.way * wide + layer.way_shift
    return State(
        y,
        layer.upper * state.own + lost(U, 0.0),
        layer.upper * state.here + lost(unit, state.own + state.here),
        layer.upper * state.ball + lost(unit, apart),
        state.k * layer.upper + TINY[U],  # the product may count as zero
        state.over | ~(highest < LARGEST[unit]) | (not layer.fits(unit)),
    )


def _sum(state: State, branch: State, epsilon: float, unit: float) -> State:
    """Activations and what a branch made of the same input, added."""
    (size, wide), (more, wider) = state.sizes(epsilon), branch.sizes(epsilon)
    return State(
        state.x + branch.x,
        state.own + branch.own + 2 * U * (size + more),
        state.here + branch.here + 2 * unit * (size + more + state.here + branch.here),
        state.ball + branch.ball + 2 * unit * (wide + wider),
        state.k + branch.k,
        state.over | branch.over | ~(wide + wider < LARGEST[unit]),
    )
