"""The table membership-point: every attack at the point of its ROC that the thesis reports."""

from collections.abc import Mapping
from typing import Any

from thesis_repro.experiments.membership.calibrated import FPR
from thesis_repro.experiments.membership.contests import (
    ATTACK,
    SETTING,
    TRAINING,
    TRAININGS,
    contest_cells,
)
from thesis_repro.experiments.membership.rates import called_at, called_exactly
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.contest import Bools
from thesis_repro.weaknesses.membership.guesses import SCORED


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each attack of each contest at the thesis's false-positive rate."""
    found = {row: at_point(results[0].arrays, row[1]) for row, results in gathered.items()}
    return {row: one for row, one in found.items() if one is not None}


def at_point(arrays: Mapping[str, Any], attack: str) -> Measurement | None:
    """What an attack finds where shadows give it the thesis's FPR; None where it has no scores."""
    called = called_at(arrays, attack, FPR / 100)
    if called is None:
        return None
    claimed, member = called
    values = found_at(claimed, member)
    exactly = called_exactly(arrays, attack, FPR / 100)
    values["exactly"] = statistics.over_targets_and_points(exactly & member, member)
    return Measurement(dict(values), len(member))


def found_at(claimed: Bools, member: Bools) -> dict[str, Estimate]:
    """TPR, FPR and precision of claims, (targets, points) each, over targets and points."""
    over = statistics.over_targets_and_points
    values = {
        "tpr": over(claimed & member, member),
        "fpr": over(claimed & ~member, ~member),
    }
    if claimed.any():
        values["precision"] = over(claimed & member, claimed)
    return values


TABLE = Table(
    TableSpec(
        name="membership-point",
        caption=(
            f"Members found at an FPR of {FPR}%, where the thesis's accuracy and precision put its "
            f"attack. {SETTING} Thresholds keep that rate on shadow models; realised: the rate "
            "that this gave on the targets. Exactly there: with the threshold that keeps "
            "it on the target itself, which no adversary knows."
        ),
        chapter="weaknesses/membership",
        keys=(TRAINING, ATTACK),
        columns=(
            Column("tpr", f"TPR at {FPR}%", "%", drift=3.0),
            Column("fpr", "realised", "%", drift=3.0),
            Column("precision", "precision", "%", drift=3.0),
            Column("exactly", "TPR exactly there", "%", drift=3.0),
        ),
        rows=tuple((t, a) for t in TRAININGS for a in SCORED),
        claims=published.claims("membership-point"),
    ),
    contest_cells(SCORED),
    assemble,
)
