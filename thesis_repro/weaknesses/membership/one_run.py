"""How private a training can be at most, seen in one run: guesses about canaries.

Each of m canaries is in the training set by a coin of its own. Who guesses the coins from the net
is right more often than (epsilon, delta)-privacy allows, or the training may be that private.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import binom

from thesis_repro.lab.checks import finite, truth

LEVEL = 0.05
"""One less the confidence of the bound."""
STEPS = 60
"""Halvings of the bracket of epsilon."""


def right_guesses(scores: ArrayLike, included: ArrayLike, guesses: int) -> int:
    """How many guesses are right: the highest scores are called in, the lowest out, half each.

    Equal scores are put in a random order, drawn anew from the number of canaries alone.

    Parameters
    ----------
    scores : (m,) float, higher for canaries that the net seems to have seen
    included : (m,) bool, the coins
    guesses : how many are made, even, at most m; fixed before the scores are seen

    Raises
    ------
    ValueError
        On lengths that differ, a score that is not finite, or a number of guesses that is odd or
        out of range.

    Examples
    --------
    >>> right_guesses([3.0, -1.0, 0.5, 0.0], [True, False, False, True], guesses=2)
    2
    """
    values, coins = np.asarray(scores, float), truth("included", included)
    if values.ndim != 1 or values.shape != coins.shape:
        raise ValueError(f"one score per canary is needed, got {values.shape} and {coins.shape}")
    finite("scores", values)
    if guesses % 2 or not 2 <= guesses <= len(values):
        raise ValueError(f"guesses need to be even, 2 to {len(values)}, got {guesses}")
    mixed = np.random.default_rng(len(values)).permutation(len(values))
    order = mixed[np.argsort(values[mixed], kind="stable")]
    lowest, highest = order[: guesses // 2], order[-(guesses // 2) :]
    return int(coins[highest].sum() + (~coins[lowest]).sum())


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """The largest chance of so many right guesses that (epsilon, delta)-privacy allows.

    Parameters
    ----------
    canaries : m, each included by a fair coin of its own
    guesses, right : how many were guessed, and rightly; the others are abstained from
    epsilon : >= 0
    delta : in [0, 1)

    Raises
    ------
    ValueError
        Unless 0 <= right <= guesses <= canaries, and on numbers out of their range.

    References
    ----------
    Steinke, Nasr and Jagielski 2023, theorem 5.2 and appendix D.

    Examples
    --------
    >>> round(p_value(10, 10, 10, epsilon=0.0), 6)  # ten fair coins, all guessed
    0.000977
    """
    if not 0 <= right <= guesses <= canaries or guesses < 1:
        raise ValueError(
            f"an audit needs 0 <= right <= guesses <= canaries and a guess, got {right}, "
            f"{guesses} and {canaries}"
        )
    if not (0 <= epsilon < np.inf and 0 <= delta < 1):
        raise ValueError(
            f"privacy needs epsilon >= 0 and delta in [0, 1), got {epsilon} and {delta}"
        )
    share = expit(epsilon)  # of right guesses about randomised response, the worst case
    found = float(binom.sf(right - 1, guesses, share))
    if delta and right:
        below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, share))
        found += 2 * canaries * delta * float((below / np.arange(1, right + 1)).max())
    return min(found, 1.0)


def epsilon_at_least(canaries: int, guesses: int, right: int, delta: float = 0.0) -> float:
    """The epsilon that such guesses rule out at 95% confidence: no smaller one can be proven.

    Parameters
    ----------
    canaries, guesses, right, delta : as for :func:`p_value`

    Returns
    -------
    float, >= 0; 0 where nothing is ruled out

    Raises
    ------
    ValueError
        As :func:`p_value`.

    Examples
    --------
    >>> round(epsilon_at_least(1000, 100, 75, 1e-4), 2)
    0.67
    """
    about = (canaries, guesses, right)
    if p_value(*about, 0.0, delta) >= LEVEL:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(*about, high, delta) < LEVEL:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if p_value(*about, middle, delta) < LEVEL:
            low = middle
        else:
            high = middle
    return low
