"""Shares over the targets of a contest, with intervals, as what a row measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement

Counts = dict[str, int]


def rate(counts: Sequence[Counts]) -> Estimate:
    """Mean share over targets in percent, with its 95% interval.

    Student t over three or more targets, else Clopper-Pearson over the points of one.
    """
    usable = [c for c in counts if c["n"]]
    return statistics.summarise_rate(usable, "targets") if usable else Estimate(math.nan)


def answers(trained: Sequence[Mapping[str, Any]], attack: str) -> Measurement:
    """What one attack gives over the targets of a contest."""
    found = [t["attacks"][attack] for t in trained]
    gaps = [
        100 * (t["train"]["k"] / t["train"]["n"] - t["test"]["k"] / t["test"]["n"]) for t in trained
    ]
    values: dict[str, Estimate | str] = {
        "gap": statistics.summarise_number(gaps, "targets"),
        "auc": statistics.summarise_number([100 * f["auc"] for f in found], "targets"),
    }
    values |= {name: rate([f[name] for f in found]) for name in ("accuracy", "precision", "recall")}
    return Measurement(values, seeds=len(found))
