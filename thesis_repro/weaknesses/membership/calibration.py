"""Thresholds, found where membership is known: on shadow models, never on the target's points."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from thesis_repro.weaknesses.membership.game import scored

Floats = NDArray[np.float64]

ENOUGH_CLAIMS = 400
"""With fewer claimed points a precision is not known to five points."""


def _ladder(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Thresholds, each just below a distinct score, with the claims and true claims above it."""
    values, truth = scored(scores, member)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    true = np.cumsum(truth[order])[last]
    following = np.append(ranked[last[:-1] + 1], -np.inf) if len(last) else ranked
    thresholds = np.append((ranked[last[:-1]] + following[:-1]) / 2, -np.inf)
    # halfway between neighbours can round up to the higher one, which would then not be claimed
    thresholds = np.where(thresholds < ranked[last], thresholds, following)
    return np.asarray(thresholds, float), np.asarray(last + 1.0), np.asarray(true, float)


def best_accuracy(scores: ArrayLike, member: ArrayLike) -> float:
    """The threshold with the most right answers; of equals, the one with the fewest claims.

    Constant scores tell nothing: the answer is then infinity, and nobody is claimed.

    Parameters
    ----------
    scores : (n,) float
    member : (n,) bool, half of them True

    Raises
    ------
    ValueError
        If a score is not finite, lengths differ, or the game is not balanced.

    Examples
    --------
    >>> best_accuracy([0.9, 0.8, 0.2, 0.1], [True, True, False, False]) < 0.8
    True
    """
    thresholds, claims, true = _ladder(scores, member)
    gained = 2 * true - claims  # right answers beyond claiming nobody
    at = int(gained.argmax())
    return float(thresholds[at]) if gained[at] > 0 else math.inf


def for_precision(
    scores: ArrayLike, member: ArrayLike, precision: float, least: int = ENOUGH_CLAIMS
) -> float:
    """The lowest threshold that shows a precision on points of known membership, half members.

    It shows one: the lower end of its claims' one-sided 95% interval (Clopper-Pearson) is at least
    the wanted one. The interval is that of one threshold; the lowest of all that pass is taken,
    which falls short more often than one in twenty times. At least `least` points have to be
    claimed there; infinity where that cannot be had, so that nobody is claimed.

    Parameters
    ----------
    scores : (n,) float
    member : (n,) bool, half of them True
    precision : wanted, in (1/2, 1)
    least : claims that the estimate rests on, >= 1

    Raises
    ------
    ValueError
        As :func:`best_accuracy`, and if precision or least is out of range.

    Examples
    --------
    >>> member = np.arange(2000) < 1000
    >>> threshold = for_precision(np.where(member, 1.0, 0.0), member, 0.8)
    >>> threshold < 1.0
    True
    """
    if not 0.5 < precision < 1 or least < 1:
        raise ValueError(
            f"calibration needs 1/2 < precision < 1 and least >= 1, got {precision} and {least}"
        )
    thresholds, claims, true = _ladder(scores, member)
    lower = beta.ppf(0.05, np.maximum(true, 1), claims - true + 1)
    good = np.flatnonzero((claims >= least) & (true > 0) & (lower >= precision))
    return float(thresholds[good[-1]]) if len(good) else math.inf
