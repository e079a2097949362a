"""Intervals and tests behind the verdicts; scipy and statsmodels do the work.

Examples
--------
>>> low, high = clopper_pearson(90, 100)
>>> round(low, 3), round(high, 3)  # shares; a rate is in percent
(0.824, 0.951)
>>> exact_rate(90, 100, "exact").value, summarise_rate([{"k": 90, "n": 100}]).how
(90.0, 'Clopper-Pearson over 100 points')
>>> [round(end, 3) for end in student_t([1.0, 2.0, 3.0])], mean_over([1.0, 3.0], "runs").how
([-0.484, 4.484], 'Student t over 2 runs')
>>> summarise_number([1.0, 3.0]).value, gather([Result({"k_sub": 2.0}), Result({})], "k_sub")
(2.0, [2.0])
>>> mcnemar([1, 1, 1, 0], [0, 0, 0, 0]), mcnemar_range(3, 0, 4)
(0.25, (0.25, 0.25))
>>> paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], "nets")[0].value
1.0
>>> ratio_of_medians([2.0, 4.0], [1.0, 1.0]).value, holm([0.01, 0.04])
(3.0, [0.02, 0.04])
>>> ratio_in_turn([2.0, 4.0], [1.0, 2.0]).value  # the second round is slow for both
2.0
>>> over_targets_and_points([[1, 0], [1, 1]]).value, more_points([[1, 1, 0]], [[1, 0, 0]]).how
(75.0, 'differences: paired Student t over 3 points')
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thesis_repro.lab import checks
from thesis_repro.lab.store import Result
from thesis_repro.tables import signs
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


def mcnemar(first: Sequence[bool | int], second: Sequence[bool | int]) -> float:
    """Exact p-value that two models are right (1, else 0) equally often on the same points."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    a, b = checks.truth("first", first), checks.truth("second", second)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"McNemar needs two vectors of one length, got {a.shape} and {b.shape}")
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    return float(exact(table, exact=True).pvalue)


def mcnemar_range(first: int, second: int, n: int) -> tuple[float, float]:
    """The least and the largest p-value of McNemar's exact test that so many wins allow.

    Where a record has how often each of two models won the same n games, but not which, the
    p-value depends on how many games both won. Both ends on one side of a level decide the test.

    Raises
    ------
    ValueError
        Unless 0 <= first, second <= n and n >= 1.
    """
    if not (0 <= first <= n and 0 <= second <= n and n >= 1):
        raise ValueError(f"wins lie between 0 and n >= 1, got {first} and {second} of {n}")
    ends = []
    for both in (min(first, second), max(first + second - n, 0)):
        won, lost = first - both, second - both
        pairs = [(1, 1)] * both + [(1, 0)] * won + [(0, 1)] * lost
        pairs += [(0, 0)] * (n - both - won - lost)
        ends.append(mcnemar(*zip(*pairs, strict=True)))
    return min(ends), max(ends)


def paired(first: Sequence[float], second: Sequence[float], what: str) -> tuple[Estimate, float]:
    """The mean difference of pairs, first less second, and a p-value that it is not above zero.

    The interval is a bootstrap over pairs (BCa, Efron 1987, by scipy), the test a permutation of
    signs, all of them counted (:mod:`tables.signs`).

    Raises
    ------
    ValueError
        For fewer than three pairs or more than `signs.MOST`, vectors of different lengths, or a
        value that is not finite.
    """
    from scipy.stats import bootstrap

    apart = _differences(first, second)
    if apart.ndim != 1 or len(apart) < ENOUGH_SEEDS:
        raise ValueError(f"at least {ENOUGH_SEEDS} pairs are compared, got shape {apart.shape}")
    value = float(apart.mean())
    how = f"bootstrap over {len(apart):,} pairs of {what}"
    p = signs.p_value(apart)
    if np.ptp(apart) == 0:  # the bootstrap of a constant has no spread
        return Estimate(value, value, value, how), p
    ends = bootstrap((apart,), np.mean, confidence_level=CONFIDENCE, rng=0).confidence_interval
    return Estimate(value, float(ends.low), float(ends.high), how), p


def _differences(first: Any, second: Any) -> Any:
    """Of pairs, which one value for many would not be; NaN would pass a test as the largest."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need two vectors of one length, got {a.shape} and {b.shape}")
    checks.finite("first", a)
    checks.finite("second", b)
    return a - b


def ratio_of_medians(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The median of the first over that of the second, with a percentile bootstrap over calls.

    Raises
    ------
    ValueError
        For fewer than two calls of either, or a time that is no number above 0.
    """
    checks.finite("first", first)
    checks.finite("second", second)
    if min(len(first), len(second)) < 2 or min(*first, *second) <= 0:
        raise ValueError("a ratio of times needs two calls or more of each, all above 0 s")

    def ratio(a: Any, b: Any, axis: int = -1) -> Any:
        return np.median(a, axis) / np.median(b, axis)

    how = f"bootstrap over {min(len(first), len(second))} calls or more"
    return _resampled(ratio, how, np.asarray(first, float), np.asarray(second, float))


def _resampled(measure: Any, how: str, *samples: Any) -> Estimate:
    """A measure of samples, with a percentile bootstrap over each of them."""
    from scipy.stats import bootstrap

    found = bootstrap(
        samples, measure, confidence_level=CONFIDENCE, method="percentile", n_resamples=2000, rng=0
    ).confidence_interval
    return Estimate(float(measure(*samples)), float(found.low), float(found.high), how)


def ratio_in_turn(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The median over rounds of the first time over the second, with a bootstrap over rounds.

    For calls that were timed in turn: what a round's moment does to both is left out.

    Parameters
    ----------
    first, second : (rounds,) seconds of the two calls of each round

    Raises
    ------
    ValueError
        For fewer than two rounds, rounds that lack a call, or a time that is no number above 0.
    """
    checks.finite("first", first)
    checks.finite("second", second)
    if len(first) != len(second):
        raise ValueError(f"rounds have a call of each, got {len(first)} and {len(second)}")
    if len(first) < 2 or min(*first, *second) <= 0:
        raise ValueError("a ratio of times needs two rounds or more, all calls above 0 s")
    ratios = np.divide(first, second)
    return _resampled(np.median, f"bootstrap over {len(ratios)} rounds", ratios)


def over_targets_and_points(hits: Any, of: Any = None, draws: int = 1000) -> Estimate:
    """A share in percent over targets that are judged on the same points, with its interval.

    Targets and points are drawn anew, each with replacement and independently (the bootstrap of
    two crossed factors, Owen 2007): a point that is hard is so for every target, so that an
    interval over targets alone is too narrow.

    Parameters
    ----------
    hits : (targets, points); may be below zero, as for differences
    of : (targets, points), what the share is of; all of it by default. Where a draw has none of
        it, the draw is left out; where there is none at all, the share is NaN.

    Raises
    ------
    ValueError
        For no points, or shapes that differ.
    """
    top = np.asarray(hits, np.float32)
    bottom = np.ones_like(top) if of is None else np.asarray(of, np.float32)
    if top.ndim != 2 or not top.size or top.shape != bottom.shape:
        raise ValueError(f"hits are (targets, points), got {top.shape} and {bottom.shape}")
    checks.finite("hits", top)
    checks.finite("of", bottom)
    targets, points = top.shape
    rng = np.random.default_rng(0)
    shares = np.empty(draws)
    for draw in range(draws):
        rows = rng.integers(targets, size=targets)
        times = np.bincount(rng.integers(points, size=points), minlength=points)
        weights = times.astype(np.float32)
        total = float((bottom @ weights)[rows].sum())
        shares[draw] = (top @ weights)[rows].sum() / total if total else np.nan
    low, high = np.nanquantile(100 * shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = 100 * float(top.sum(dtype=float) / bottom.sum(dtype=float))
    how = f"bootstrap over {targets} targets and their {points:,} points"
    return Estimate(value, float(low), float(high), how)


def more_points(ours: Sequence[Any], base: Sequence[Any]) -> Estimate:
    """How many more points, in percent, are true of ours: paired by point and seed.

    Parameters
    ----------
    ours, base : for each seed (points,) bool. From three seeds on the interval is over seeds, else
        over points.

    Raises
    ------
    ValueError
        On other numbers of points, or a value that is not finite.
    """
    apart = [100.0 * _differences(a, b) for a, b in zip(ours, base, strict=True)]
    if len(apart) >= ENOUGH_SEEDS:
        return mean_over([float(d.mean()) for d in apart], "seeds")
    found = mean_over(np.mean(apart, 0).tolist(), "points")
    return replace(found, how=f"differences: paired {found.how}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in its order; none is NaN (Holm 1979)."""
    checks.shares("p_values", p_values)
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, (p, place) in enumerate(sorted((p, i) for i, p in enumerate(p_values))):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p))  # never below a smaller p's
        adjusted[place] = floor
    return adjusted


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
