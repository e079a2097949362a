"""Tables of the chapter weaknesses/membership: plans, assembly, specs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.membership.arena import Contest
from thesis_repro.experiments.membership.cells import (
    ATTACKS,
    FPRS,
    GENERAL,
    NAIVE,
    SHADOW,
    contest,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.spec import Claim, Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses.membership import victims
from thesis_repro.weaknesses.membership.calibration import ENOUGH_CLAIMS
from thesis_repro.weaknesses.membership.victims import Victim

PLAIN, SMOOTH = "cross-entropy", "label smoothing"
TRAININGS = (PLAIN, SMOOTH)
DIGITS = Victim("mnist-5k", "mlp", 1000, 20, 0.1, width=128)
"""The nets of the quick profile."""
LENET = Victim("mnist", "cnn", 15_000, 20, 0.04)
SMOOTHING, SMOOTH_N = 0.1, 12_000
PER_SEED = {"quick": 3, "paper": 2}
"""Targets for each seed of a profile."""
SHADOWS = 4


def targets(profile: Profile) -> tuple[int, ...]:
    """Indices of the targets of a profile's seeds."""
    many = PER_SEED[profile.name]
    return tuple(many * seed + i for seed in profile.seeds for i in range(many))


def victim(training: str, profile: Profile) -> Victim:
    """How the nets of one row are trained."""
    base = DIGITS if profile.name == "quick" else replace(LENET, device=profile.device)
    if training == PLAIN:
        return base
    n = base.n if profile.name == "quick" else SMOOTH_N
    return replace(base, n=n, smoothing=SMOOTHING)


def contest_cell(training: str, profile: Profile) -> Cell | None:
    """The contest of one way of training; None where its data is not here."""
    return contest_of(victim(training, profile), profile)


def contest_of(trained: Victim, profile: Profile) -> Cell | None:
    """The contest on nets trained in this way; None where their data is not here."""
    if not data.available(trained.dataset):
        return None
    config = Contest(trained, targets(profile), SHADOWS)
    return Cell(contest, config, victims.cell(trained).data)


def result(training: str, profile: Profile) -> Result:
    """All attacks on the targets of one way of training, from the store where there."""
    cell = contest_cell(training, profile)
    if cell is None:
        raise ValueError(f"{victim(training, profile).dataset} is not here")
    return compute(cell)


def contest_cells(names: Sequence[str]) -> Callable[[Profile], Plan]:
    """The plan of a table with one row for each training and name; rows share their contest."""

    def plan(profile: Profile) -> Plan:
        return [
            ((training, name), contest_cell(training, profile))
            for training in TRAININGS
            for name in names
        ]

    return plan


Counts = dict[str, int]


def rate(counts: Sequence[Counts]) -> tuple[float, float, float, str]:
    """Mean share over targets in percent, with its 95% interval.

    Student t over three or more targets, else Clopper-Pearson over the points of one.
    """
    usable = [c for c in counts if c["n"]]
    if not usable:
        return math.nan, math.nan, math.nan, ""
    mean, low, high, method = statistics.summarise_rate(usable)
    return mean, low, high, method.replace("seeds", "targets")


def exact(counts: Sequence[Counts]) -> tuple[float, float, float, str]:
    """Mean share over targets in percent, with the exact interval over the points of one."""
    n = counts[0]["n"]
    mean = 100 * math.fsum(c["k"] / c["n"] for c in counts) / len(counts)
    low, high = statistics.clopper_pearson(round(mean / 100 * n), n)
    return mean, 100 * low, 100 * high, f"Clopper-Pearson over {n:,} points"


def note(record: dict[str, Any], name: str, found: tuple[float, float, float, str]) -> None:
    """Put a measure with its interval into the record of a row."""
    mean, low, high, method = found
    record |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    if method and method not in record.get("interval", ""):
        record["interval"] = "; ".join(filter(None, [record.get("interval", ""), method]))


def note_mean(record: dict[str, Any], name: str, values: Sequence[float]) -> None:
    """Put the mean over targets into the record of a row; with three or more its interval, too."""
    mean, low, high, _ = statistics.summarise_number(values)
    record |= {name: mean, f"{name}_low": low, f"{name}_high": high}


def answers(trained: Sequence[Mapping[str, Any]], attack: str) -> dict[str, Any]:
    """The record of one attack over the targets of a contest."""
    found = [t["attacks"][attack] for t in trained]
    record: dict[str, Any] = {"seeds": len(found)}
    gaps = [
        100 * (t["train"]["k"] / t["train"]["n"] - t["test"]["k"] / t["test"]["n"]) for t in trained
    ]
    note_mean(record, "gap", gaps)
    note_mean(record, "auc", [100 * f["auc"] for f in found])
    for name in ("accuracy", "precision", "recall"):
        note(record, name, rate([f[name] for f in found]))
    return record


def assemble_attacks(_: Profile, gathered: Gathered) -> dict[Row, dict[str, Any]]:
    """One record for each attack on each way of training."""
    return {
        row: answers(results[0].values["targets"], row[1])
        for row, results in gathered.items()
        if results and row[1] in results[0].values["targets"][0]["attacks"]
    }


def assemble_low_fpr(_: Profile, gathered: Gathered) -> dict[Row, dict[str, Any]]:
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


def assemble_calibrated(_: Profile, gathered: Gathered) -> dict[Row, dict[str, Any]]:
    """Wanted precision against what was achieved, with the number of points claimed."""
    records = {}
    for row, results in gathered.items():
        if not results:
            continue
        found = [t["calibrated"][row[1].rstrip("%")] for t in results[0].values["targets"]]
        record: dict[str, Any] = {"seeds": len(found), "interval": ""}
        for name in ("precision", "recall"):
            note(record, name, rate([f[name] for f in found]))
        record["claims"] = math.fsum(f["claims"] for f in found) / len(found)
        if min(f["claims"] for f in found) < ENOUGH_CLAIMS:
            record["note"] = f"too few: under {ENOUGH_CLAIMS} claims on some target"
        records[row] = record
    return records


def order_holds(frame: pd.DataFrame) -> bool:
    """The learned white-box attack is more accurate than naive and shadow, in every training."""
    by = frame.pivot(index="training", columns="attack", values="accuracy")
    return bool((by[GENERAL] > by[[NAIVE, SHADOW]].max(axis=1)).all())


SLIDES = "thesis slides, “Summary of Results”, membership, at a generalization error of 1.1%"
TRAINING = Column("training", "training", kind="key")
ATTACK = Column("attack", "attack", kind="key")
PUBLISHED = {NAIVE: (50.6, 50.3), SHADOW: (50.6, 50.6), GENERAL: (57.5, 64.0)}
CLAIMS = tuple(
    Claim(
        (training, attack),
        column,
        value,
        SLIDES,
        side="at least" if attack == GENERAL else "equal",
        tolerance=1.0,
    )
    for training in TRAININGS
    for attack, values in PUBLISHED.items()
    for column, value in zip(("accuracy", "precision"), values, strict=True)
    if training == PLAIN or attack == GENERAL
)
SETTING = (
    "Digits of MNIST; quick: a hidden layer of 128 units, 1,000 members; paper: convolutions of 20 "
    "and 50 channels (5x5) and 500 units, 15,000 members, 12,000 with label smoothing 0.1."
)

MEMBERSHIP_MNIST = Table(
    TableSpec(
        name="membership-mnist",
        caption=(
            f"Membership inference. {SETTING} As many non-members. Gap: train less test accuracy. "
            "Every threshold comes from shadow models."
        ),
        chapter="weaknesses/membership",
        keys=(TRAINING, ATTACK),
        columns=(
            Column("gap", "gap", "points", "{:.2f}", drift=1.0),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("precision", "precision", "%", drift=3.0),
            Column("recall", "recall", "%", drift=6.0),
            Column("auc", "AUC", "%", drift=1.5),
        ),
        rows=tuple((training, attack) for training in TRAININGS for attack in ATTACKS),
        claims=CLAIMS,
        trend=order_holds,
        trend_says="white-box is more accurate than naive and shadow",
    ),
    contest_cells(ATTACKS),
    assemble_attacks,
)

LOW_FPR = (("tpr1", "fpr1"), ("tpr01", "fpr01"))
MEMBERSHIP_LOW_FPR = Table(
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
        rows=tuple((t, a) for t in TRAININGS for a in ATTACKS if a != NAIVE),
    ),
    contest_cells([a for a in ATTACKS if a != NAIVE]),
    assemble_low_fpr,
)

WANTED = tuple(f"{p}%" for p in Contest(DIGITS, (), SHADOWS).precisions)
MEMBERSHIP_CALIBRATED = Table(
    TableSpec(
        name="membership-calibrated",
        caption=(
            f"The learned white-box attack, calibrated for a precision on shadow models. {SETTING} "
            "Claims: points called members, of all that are judged, per target."
        ),
        chapter="weaknesses/membership",
        keys=(TRAINING, Column("wanted", "wanted precision", kind="key")),
        columns=(
            Column("precision", "achieved", "%", drift=4.0),
            Column("recall", "recall", "%", drift=5.0),
            Column("claims", "claims", format="{:,.0f}", drift=120.0),
        ),
        rows=tuple((t, w) for t in TRAININGS for w in WANTED),
    ),
    contest_cells(WANTED),
    assemble_calibrated,
)
