"""Three proven bounds of the operator norm of a zero-padded convolution.

dense   the finite operator as a matrix; for small ones.
fast    the symbol of a convolution on a torus that contains the finite one: module `symbol`.
tight   the finite operator by a banded Cholesky factorisation: module `banded`.
"""

from dataclasses import replace

from thesis_repro.robustness import banded, proof, symbol
from thesis_repro.robustness.convolution import Convolution

METHODS = ("auto", "fast", "tight", "dense")
RATE = 2e10
"""Operations per second that costs are reckoned with; fixed, so that choices are the same."""
LARGEST_MATRIX = 2**23


def norm(conv: Convolution, method: str = "auto", seconds: float = 0.5) -> tuple[float, str]:
    """At least the operator norm of a convolution, and the method that gave it.

    Parameters
    ----------
    conv : Convolution
    method : "fast", "tight", "dense", or "auto": the finite operator, by the cheaper of the last
        two, where that is reckoned to take at most `seconds`, else "fast"
    seconds : time that "auto" may take, reckoned at 2e10 operations a second

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or the method is unknown or does not fit the layer.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    scaled, exponent = proof.normalised(conv.weight)
    if not scaled.any() or 0 in conv.out_size:
        return 0.0, "zero"
    conv = replace(conv, weight=scaled)
    if method == "auto":
        method = _choice(conv, seconds)
    if method == "dense":
        value = proof.stack_norm(conv.matrix()[None])
    elif method == "tight":
        value = banded.norm(conv)
    else:
        value = symbol.norm(conv)
    return proof.restored(value, exponent), method


def _choice(conv: Convolution, seconds: float) -> str:
    """The cheaper of the two methods for the finite operator, if there is time for it."""
    inputs, outputs = conv.dimensions
    small = min(inputs, outputs)
    costs = {"tight": banded.operations(conv)}
    if inputs * outputs <= LARGEST_MATRIX:
        costs["dense"] = float(small) * (2 * inputs * outputs + small**2)
    method = min(costs, key=lambda name: costs[name])
    return method if costs[method] <= seconds * RATE else "fast"
