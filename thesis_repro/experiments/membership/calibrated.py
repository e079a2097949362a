"""The table membership-calibrated: precision that is wanted against what is achieved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro.experiments.membership.contests import (
    DIGITS,
    SETTING,
    SHADOWS,
    TRAINING,
    TRAININGS,
    contest_cells,
)
from thesis_repro.experiments.membership.rates import crossed, rate
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.claims import Measured
from thesis_repro.tables.conditions import Condition, every, of, reaches
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import (
    NOT_RUN,
    Column,
    Derived,
    Frame,
    Gathered,
    Row,
    Table,
    TableSpec,
)
from thesis_repro.weaknesses.membership.calibration import ENOUGH_CLAIMS
from thesis_repro.weaknesses.membership.contest import Contest

WANTED = tuple(f"{p}%" for p in Contest(DIGITS, (), SHADOWS).precisions)


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Wanted precision against what was achieved, with the number of points claimed."""
    return {
        row: _calibrated(
            [t["calibrated"][row[1].rstrip("%")] for t in results[0].values["targets"]],
            results[0].arrays,
            row[1],
        )
        for row, results in gathered.items()
    }


def _calibrated(
    found: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any], wanted: str
) -> Measurement:
    """One wanted precision, of which there is the answer on each target."""
    claims = [f["claims"] for f in found]
    values = {name: rate([f[name] for f in found]) for name in ("precision", "recall")}
    values |= crossed(values, arrays, wanted)
    values["claims"] = Estimate(math.fsum(claims) / len(found))
    few = min(claims) < ENOUGH_CLAIMS
    note = f"too few: under {ENOUGH_CLAIMS} claims on some target" if few else ""
    return Measurement(values, len(found), note)


TPR, FPR = 34.3, 19.3
"""The thesis's operating point, in percent. On as many non-members, accuracy 57.5 means
TPR - FPR = 2 x 57.5 - 100 = 15.0, and precision p = 64.0 means FPR = TPR (100 - p) / p: so
TPR = 15.0 / (1 - 36.0 / 64.0)."""


def _points(frame: Frame, training: str, end: str = "") -> list[tuple[float, float]]:
    """FPR and TPR of a training's calibrated thresholds, between those of nothing and of all."""
    found = [(0.0, 0.0), (100.0, 100.0)]
    for wanted in WANTED:
        line = frame.lookup((training, wanted))
        if line is None or line["status"] == NOT_RUN:
            return []
        recall, precision = (float(line[f"{name}{end}"]) for name in ("recall", "precision"))
        found.append((recall * (100 - precision) / precision, recall))
    return sorted(found)


def tpr_at(frame: Frame, row: Row) -> Measured | None:
    """TPR at the thesis's FPR on the chords between recorded thresholds: a ROC lies above them."""
    ends = [_points(frame, row[0], end) for end in ("", "_low", "_high")]
    if not all(ends):
        return None
    value, low, high = (
        float(np.interp(FPR, [fpr for fpr, _ in points], [tpr for _, tpr in points]))
        for points in ends
    )
    return Measured(value, low, high)


def precision_at(frame: Frame, row: Row) -> Measured | None:
    """Precision at the thesis's recall, on the same chords."""
    ends = [_points(frame, row[0], end) for end in ("", "_low", "_high")]
    if not all(ends):
        return None
    alarms = [
        np.interp(TPR, [tpr for _, tpr in points], [fpr for fpr, _ in points]) for points in ends
    ]
    value, low, high = (float(100 * TPR / (TPR + false)) for false in alarms)
    return Measured(value, low, high)


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Thresholds from shadows reach the precision that is wanted, where enough is claimed."""
    found = []
    for training, rows in frame.groupby("training", sort=False):
        judged = rows[~rows["note"].str.startswith("too few")]
        wanted = judged["wanted"].str.rstrip("%").astype(float)
        short = wanted - judged["precision"]
        near = [
            reaches(of(row, "precision"), least)
            for (_, row), least in zip(judged.iterrows(), wanted - NEAR, strict=True)
        ]
        found.append(
            Condition(
                f"calibration reaches the precision that is wanted, {training}",
                f"at most {NEAR:g} points below, with the interval, wherever it can be measured",
                f"at most {max(float(short.max()), 0.0):.1f} points below, at {len(judged)}"
                if near
                else "nowhere measurable",
                every(near) if near else None,
            )
        )
    return found


NEAR = 2.0

TABLE = Table(
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
        claims=published.claims("membership-calibrated"),
        derived=(
            Derived(Column("tpr_at", f"TPR at an FPR of {FPR}%", "%"), tpr_at),
            Derived(Column("precision_at", f"precision at a recall of {TPR}%", "%"), precision_at),
        ),
        conditions=conditions,
    ),
    contest_cells(WANTED),
    assemble,
)
