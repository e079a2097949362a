"""The table membership-low-fpr: true-positive rates where false alarms are few."""

import math
from collections.abc import Sequence
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
from thesis_repro.experiments.membership.rates import Counts, note
from thesis_repro.lab.cells import Result, compute, lookup
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.spec import Column, Gathered, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.guesses import SCORED

LOW_FPR = (("tpr1", "fpr1"), ("tpr01", "fpr01"))
"""For each rate of `FPRS` the columns of what was found and of the rate that this took."""


def exact(counts: Sequence[Counts]) -> tuple[float, float, float, str]:
    """Mean share over targets in percent, with the exact interval over the points of one."""
    n = counts[0]["n"]
    mean = 100 * math.fsum(c["k"] / c["n"] for c in counts) / len(counts)
    low, high = statistics.clopper_pearson(round(mean / 100 * n), n)
    return mean, 100 * low, 100 * high, f"Clopper-Pearson over {n:,} points"


def assemble(_: Profile, gathered: Gathered) -> dict[Row, dict[str, Any]]:
    """True-positive rates at low false-positive rates, where these can be measured."""
    records = {}
    for row, results in gathered.items():
        if not results or row[1] not in results[0].values["targets"][0]["attacks"]:
            continue
        found = [t["attacks"][row[1]] for t in results[0].values["targets"]]
        record: dict[str, Any] = {"seeds": len(found), "interval": ""}
        lacking = [name for name in FPRS if not found[0][name]["measurable"]]
        for name, (tpr, fpr) in zip(FPRS, LOW_FPR, strict=True):
            if name not in lacking:
                note(record, tpr, exact([f[name]["tpr"] for f in found]))
                record[fpr] = exact([f[name]["fpr"] for f in found])[0]
        if lacking:
            n = found[0]["recall"]["n"]
            record["note"] = f"{' and '.join(lacking)} not measurable at n = {n:,}"
        records[row] = record
    return records


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
