"""What a remedy took away of a bias: by signed means over runs, and only where there is some."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from thesis_repro.experiments.bias.synthetic import pooled, summary
from thesis_repro.experiments.bias.two_classes import FULL, Floats
from thesis_repro.lab.cells import Result
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.weaknesses import bias

DRAWS = 9_999
"""Resamples of the bootstrap."""
HALF, COST = 0.5, 0.5
"""A remedy is to leave at most this share of the bias, and to cost at most so many points."""


def removed(before: Floats, after: Floats) -> Estimate:
    """Share of the mean signed bias that is gone, in percent, with its interval.

    Averaged over runs first, the chance of single runs cancels. The interval resamples the runs,
    each with its bias before and after.

    Parameters
    ----------
    before, after : (runs,) signed bias of each run, in one unit

    Raises
    ------
    ValueError
        With fewer than two runs, or as many before as not after.
    """
    from scipy.stats import bootstrap

    if before.shape != after.shape or before.ndim != 1 or len(before) < 2:
        raise ValueError(
            f"a share removed needs two runs or more, each before and after, got shapes "
            f"{before.shape} and {after.shape}"
        )

    def share(first: Floats, second: Floats, axis: int) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have no bias at all
            return np.asarray(100 * (1 - np.abs(second.mean(axis)) / np.abs(first.mean(axis))))

    found = bootstrap(
        (before, after), share, paired=True, vectorized=True, n_resamples=DRAWS,
        method="percentile", random_state=0,
    ).confidence_interval  # fmt: skip
    value = float(share(before, after, 0))
    how = f"percentile bootstrap over {len(before):,} paired runs"
    return Estimate(value, float(found.low), float(found.high), how)


def beyond(low: float, high: float, chance: float) -> bool:
    """Whether an interval of signed bias lies wholly beyond what chance shows on one test set."""
    return low > chance or high < -chance


def pool(results: Sequence[Result], name: str, full: str) -> Measurement:
    """What one remedy did over the runs of some cells; `full` names the model before it.

    `chance`, of the model itself, is 0 where bias was exact. `removed` is left out where the bias
    before is not beyond chance: there is nothing to be removed.
    """
    signed, before = (100 * pooled(results, f"{one}.bias") for one in (name, full))
    right = 100 * pooled(results, f"{full}.accuracy")
    n = results[0].values.get("test_points")
    chance = 100 * bias.chance(1 - right.mean() / 100, n) if n else 0.0
    values = summary({"bias": signed, "accuracy": 100 * pooled(results, f"{name}.accuracy")})
    values["kept"] = Estimate(float(pooled(results, f"{name}.kept").mean()))
    if name == full:
        values["chance"] = Estimate(chance)
        return Measurement(values)
    there = summary({"before": before})["before"]
    assert isinstance(there, Estimate)
    if beyond(there.low, there.high, chance):
        values["removed"] = removed(before, signed)
    return Measurement(values)


def has_bias(rows: pd.DataFrame) -> bool:
    """Whether the model of these rows, one for each remedy, has a bias beyond chance."""
    full = rows[rows["remedy"] == FULL].iloc[0]
    return beyond(full["bias_low"], full["bias_high"], full["chance"])


def halves(rows: pd.DataFrame, remedy: str) -> bool:
    """Whether a remedy halves the mean bias and costs at most half a point of accuracy."""
    by = rows.set_index("remedy")
    cut = abs(by.loc[remedy, "bias"]) <= HALF * abs(by.loc[FULL, "bias"])
    return bool(cut and by.loc[remedy, "accuracy"] >= by.loc[FULL, "accuracy"] - COST)
