"""Intervals and tests behind the verdicts; scipy and statsmodels do the work."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from thesis_repro.lab.store import Result
from thesis_repro.tables.estimate import Estimate

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Exact 95% interval of a rate, k successes in n trials, as shares in [0, 1].

    Raises
    ------
    ValueError
        Unless 0 <= k <= n and n >= 1.
    """
    from scipy.stats import binomtest

    if not 0 <= k <= n or n < 1:
        raise ValueError(f"a rate needs 0 <= k <= n and n >= 1, got k={k}, n={n}")
    interval = binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def student_t(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of at least two independent values."""
    from scipy.stats import sem, t

    if len(values) < 2:
        raise ValueError(f"Student's t needs at least two values, got {len(values)}")
    center = math.fsum(values) / len(values)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * sem(values))
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


def exact_rate(k: int, n: int, how: str) -> Estimate:
    """A share in percent with its exact interval, which `how` names."""
    low, high = clopper_pearson(k, n)
    return Estimate(100 * k / n, 100 * low, 100 * high, how)


def mean_over(values: Sequence[float], what: str) -> Estimate:
    """The mean of at least two values and Student's interval, e.g. over "runs"."""
    low, high = student_t(values)
    return Estimate(
        math.fsum(values) / len(values), low, high, f"Student t over {len(values):,} {what}"
    )


def summarise_rate(cells: Sequence[Mapping[str, int]], what: str = "seeds") -> Estimate:
    """Mean over seeds (or what else has a cell each) in percent, with its interval.

    With fewer than three seeds the interval is over the test points of one seed: seeds share
    their points, so counting them again would make it too narrow.
    """
    shares = [100 * cell["k"] / cell["n"] for cell in cells]
    if len(shares) >= ENOUGH_SEEDS:
        found = mean_over(shares, what)
        return replace(found, low=max(found.low, 0.0), high=min(found.high, 100.0))
    mean, n = math.fsum(shares) / len(shares), cells[0]["n"]
    found = exact_rate(round(mean / 100 * n), n, f"Clopper-Pearson over {n:,} points")
    return replace(found, value=mean)


def summarise_number(values: Sequence[float], what: str = "seeds") -> Estimate:
    """Mean over seeds (or what else has a cell each); with three or more, its interval."""
    if len(values) >= ENOUGH_SEEDS:
        return mean_over(values, what)
    return Estimate(math.fsum(values) / len(values))


def gather(results: Sequence[Result], column: str) -> list[object]:
    """The values of one column over seeds; cells that lack it are left out."""
    return [r.values[column] for r in results if r.values.get(column) is not None]
