"""The table membership-calibrated: precision that is wanted against what is achieved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thesis_repro.experiments.membership.contests import (
    DIGITS,
    SETTING,
    SHADOWS,
    TRAINING,
    TRAININGS,
    contest_cells,
)
from thesis_repro.experiments.membership.rates import rate
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.calibration import ENOUGH_CLAIMS
from thesis_repro.weaknesses.membership.contest import Contest

WANTED = tuple(f"{p}%" for p in Contest(DIGITS, (), SHADOWS).precisions)


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Wanted precision against what was achieved, with the number of points claimed."""
    return {
        row: _calibrated(
            [t["calibrated"][row[1].rstrip("%")] for t in results[0].values["targets"]]
        )
        for row, results in gathered.items()
    }


def _calibrated(found: Sequence[Mapping[str, Any]]) -> Measurement:
    """One wanted precision, of which there is the answer on each target."""
    claims = [f["claims"] for f in found]
    values = {name: rate([f[name] for f in found]) for name in ("precision", "recall")}
    values["claims"] = Estimate(math.fsum(claims) / len(found))
    few = min(claims) < ENOUGH_CLAIMS
    note = f"too few: under {ENOUGH_CLAIMS} claims on some target" if few else ""
    return Measurement(values, len(found), note)


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
    ),
    contest_cells(WANTED),
    assemble,
)
