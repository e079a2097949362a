"""The table membership-low-fpr: true-positive rates where false alarms are few."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thesis_repro.experiments.membership.contests import (
    ATTACK,
    FPRS,
    SETTING,
    TRAINING,
    TRAININGS,
    contest_cell,
    contest_cells,
)
from thesis_repro.experiments.membership.rates import Counts
from thesis_repro.lab.cells import Result, compute, lookup
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.guesses import SCORED

LOW_FPR = (("tpr1", "fpr1"), ("tpr01", "fpr01"))
"""For each rate of `FPRS` the columns of what was found and of the rate that this took."""


def exact(counts: Sequence[Counts]) -> Estimate:
    """Mean share over targets in percent, with the exact interval over the points of one."""
    n = counts[0]["n"]
    mean = 100 * math.fsum(c["k"] / c["n"] for c in counts) / len(counts)
    found = statistics.exact_rate(round(mean / 100 * n), n, f"Clopper-Pearson over {n:,} points")
    return replace(found, value=mean)


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """True-positive rates at low false-positive rates, where these can be measured."""
    return {
        row: _at_low_fpr([t["attacks"][row[1]] for t in results[0].values["targets"]])
        for row, results in gathered.items()
        if row[1] in results[0].values["targets"][0]["attacks"]
    }


def _at_low_fpr(found: Sequence[Mapping[str, Any]]) -> Measurement:
    """One attack, of which there is the answer on each target."""
    values: dict[str, Estimate | str] = {}
    lacking = [name for name in FPRS if not found[0][name]["measurable"]]
    for name, (tpr, fpr) in zip(FPRS, LOW_FPR, strict=True):
        if name not in lacking:
            values[tpr] = exact([f[name]["tpr"] for f in found])
            values[fpr] = Estimate(exact([f[name]["fpr"] for f in found]).value)
    n = found[0]["recall"]["n"]
    note = f"{' and '.join(lacking)} not measurable at n = {n:,}" if lacking else ""
    return Measurement(values, len(found), note)


def results(profile: Profile) -> dict[str, Result]:
    """All attacks on the targets of each way of training, from the store where there.

    Of a paper run those that the store has.
    """
    found = {}
    for training in TRAININGS:
        cell = contest_cell(training, profile)
        if cell is None:
            continue
        result = compute(cell) if profile.name == "quick" else lookup(cell)
        if result is not None:
            found[training] = result
    return found


TABLE = Table(
    TableSpec(
        name="membership-low-fpr",
        caption=(
            f"Members found at low false-positive rates. {SETTING} The threshold keeps the rate at "
            "or below the wanted one; realised: the rate that this gave. A rate is measurable "
            "where it allows 10 false alarms."
        ),
        chapter="weaknesses/membership",
        keys=(TRAINING, ATTACK),
        columns=(
            Column("tpr1", "TPR at 1%", "%", "{:.2f}", drift=2.0),
            Column("fpr1", "realised", "%", "{:.2f}", drift=0.5),
            Column("tpr01", "TPR at 0.1%", "%", "{:.2f}", drift=1.0),
            Column("fpr01", "realised", "%", "{:.3f}", drift=0.1),
        ),
        rows=tuple((t, a) for t in TRAININGS for a in SCORED),
    ),
    contest_cells(SCORED),
    assemble,
)
