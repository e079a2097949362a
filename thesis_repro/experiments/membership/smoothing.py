"""The table membership-smoothing: label smoothing narrows the gap and gives more away.

Stated before the run, from nets with smoothing 0.1 that had been seen before: for every smoothing
above zero, (1) the learned attack finds more members at the thesis's false-positive rate than
without, by an interval over targets and points that lies above zero, and (2) the gap is no wider.
The same is asked of LiRA and RMIA, which see outputs alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from thesis_repro.experiments.membership.calibrated import FPR
from thesis_repro.experiments.membership.contests import (
    PLAIN,
    SMOOTH_N,
    contest_of,
    victim,
)
from thesis_repro.experiments.membership.rates import answers, called_at, rate
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import ABOVE, Condition, between, every, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, OFFLINE, RMIA

SMOOTHINGS = (0.0, 0.05, 0.1, 0.2, 0.3)
COLUMNS = {"ours": GENERAL, "loss": LOSS, "lira": OFFLINE, "rmia": RMIA}
"""Columns of TPR by the attack that they are of."""
LEADS = {"ours": "lead", "lira": "lead_lira", "rmia": "lead_rmia"}
"""For each column that something is stated about, that of its rise over no smoothing."""


def plan(profile: Profile) -> Plan:
    """The plan of `membership-smoothing`: one contest each, of as many members."""
    base = victim(PLAIN, profile)
    if profile.name == "paper":
        base = replace(base, n=SMOOTH_N)
    return [((f"{s:g}",), contest_of(replace(base, smoothing=s), profile)) for s in SMOOTHINGS]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each smoothing, and its rise over none: the same targets, members and points."""
    none = gathered.get((f"{SMOOTHINGS[0]:g}",))
    return {
        row: _one(results[0], None if none is None else none[0])
        for row, results in gathered.items()
    }


def _one(result: Result, none: Result | None) -> Measurement:
    targets = result.values["targets"]
    known = answers(targets, GENERAL, result.arrays).values
    values: dict[str, Estimate | str] = {n: known[n] for n in ("gap", "accuracy", "auc")}
    values["test"] = rate([t["test"] for t in targets])
    for column, attack in COLUMNS.items():
        called = called_at(result.arrays, attack, FPR / 100)
        if called is None:
            continue
        claimed, member = called
        values[column] = statistics.over_targets_and_points(claimed & member, member)
        if attack == GENERAL:
            values["fpr"] = statistics.over_targets_and_points(claimed & ~member, ~member)
        if column not in LEADS or none is None:
            continue
        if result is none:
            values[LEADS[column]] = Estimate(0.0)
            continue
        base = called_at(none.arrays, attack, FPR / 100)
        if base is None:
            continue
        if base[1].shape != member.shape or (base[1] != member).any():
            raise ValueError("smoothings are compared on the same targets and members")
        more = (claimed & member).astype(float) - (base[0] & member)
        values[LEADS[column]] = statistics.over_targets_and_points(more, member)
    return Measurement(values, len(targets))


def conditions(frame: pd.DataFrame) -> Sequence[Condition]:
    """What was stated before the run: more is found, and the gap is no wider."""
    by = frame.set_index("smoothing")
    none = f"{SMOOTHINGS[0]:g}"
    smoothed = [f"{s:g}" for s in SMOOTHINGS[1:] if f"{s:g}" in by.index]
    if none not in by.index or not smoothed:
        return []
    found = []
    for column, lead in LEADS.items():
        least = float(by.loc[smoothed, f"{lead}_low"].min())
        found.append(
            Condition(
                f"label smoothing: {COLUMNS[column]} finds more members than without",
                f"every interval of the rise above 0, {len(smoothed)} smoothings",
                f"the lowest end is {least:+.1f} points".replace("-", "−"),
                every(reaches(of(by.loc[s], lead), ABOVE) for s in smoothed),
            )
        )
    wider = [between(by.loc[s], by.loc[none], "gap") for s in smoothed]
    widest = max(wider, key=lambda gap: gap.value)
    found.append(
        Condition(
            "label smoothing: the gap is no wider than without",
            "interval of at most 0 points more, at every smoothing",
            f"at most {said(widest, 2)} points more",
            every(reaches(gap, 0.0, at_most=True) for gap in wider),
        )
    )
    return found


TABLE = Table(
    TableSpec(
        name="membership-smoothing",
        caption=(
            f"Label smoothing: TPR of four attacks at an FPR of {FPR}% on shadows. Rise: ours, "
            "LiRA's and RMIA's TPR less that without smoothing, paired over targets and points. "
            "Realised: the FPR of ours on the targets. "
            "Gap: train less test accuracy; accuracy and AUC are ours. Digits; quick: 1,000 "
            "members; paper: 12,000."
        ),
        chapter="weaknesses/membership",
        keys=(Column("smoothing", "smoothing", kind="key"),),
        columns=(
            Column("gap", "gap", "points", "{:.2f}", drift=1.0),
            Column("test", "test accuracy", "%", drift=2.0),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("auc", "AUC", "%", drift=2.0),
            Column("ours", "ours", "%", drift=3.0),
            Column("fpr", "realised", "%", drift=3.0),
            Column("lead", "rise", "points", drift=3.0),
            Column("loss", "loss", "%", drift=3.0),
            Column("lira", "LiRA", "%", drift=3.0),
            Column("lead_lira", "rise", "points", drift=3.0),
            Column("rmia", "RMIA", "%", drift=3.0),
            Column("lead_rmia", "rise", "points", drift=3.0),
        ),
        rows=tuple((f"{s:g}",) for s in SMOOTHINGS),
        claims=published.claims("membership-smoothing"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
