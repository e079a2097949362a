"""Intervals and tests behind the verdicts; scipy and statsmodels do the work."""

import math
from collections.abc import Sequence

from thesis_repro.lab.store import Result

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a rate, k successes in n trials, as shares in [0, 1].

    Raises
    ------
    ValueError
        Unless 0 <= k <= n and n >= 1.
    """
    from scipy.stats import binomtest

    if not 0 <= k <= n or n < 1:
        raise ValueError(f"a rate needs 0 <= k <= n and n >= 1, got k={k}, n={n}")
    interval = binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def student_t(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the mean of at least two independent values."""
    from scipy.stats import sem, t

    if len(values) < 2:
        raise ValueError(f"Student's t needs at least two values, got {len(values)}")
    center = math.fsum(values) / len(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1) * sem(values))
    return center - half, center + half


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact p-value that two models are right equally often on the same points."""
    import numpy as np
    from statsmodels.stats.contingency_tables import mcnemar as exact

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"McNemar needs two vectors of one length, got {a.shape} and {b.shape}")
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    return float(exact(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in its order (Holm 1979)."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, (p, place) in enumerate(sorted((p, i) for i, p in enumerate(p_values))):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p))  # never below a smaller p's
        adjusted[place] = floor
    return adjusted


def summarise_rate(cells: Sequence[dict[str, int]]) -> tuple[float, float, float, str]:
    """Mean over seeds in percent, its interval, and which interval it is.

    With fewer than three seeds the interval is over the test points of one seed: seeds share
    their points, so counting them again would make it too narrow.
    """
    shares = [100 * cell["k"] / cell["n"] for cell in cells]
    mean = math.fsum(shares) / len(shares)
    if len(shares) >= ENOUGH_SEEDS:
        low, high = student_t(shares)
        return mean, max(low, 0.0), min(high, 100.0), f"Student t over {len(shares)} seeds"
    n = cells[0]["n"]
    low, high = clopper_pearson(round(mean / 100 * n), n)
    return mean, 100 * low, 100 * high, f"Clopper-Pearson over {n:,} points"


def summarise_number(values: Sequence[float]) -> tuple[float, float, float, str]:
    """Mean over seeds and, with three or more, its interval (else NaN)."""
    mean = math.fsum(values) / len(values)
    if len(values) >= ENOUGH_SEEDS:
        low, high = student_t(values)
        return mean, low, high, f"Student t over {len(values)} seeds"
    return mean, math.nan, math.nan, ""


def gather(results: Sequence[Result], column: str) -> list[object]:
    """The values of one column over seeds; cells that lack it are left out."""
    return [r.values[column] for r in results if r.values.get(column) is not None]
