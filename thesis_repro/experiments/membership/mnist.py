"""The table membership-mnist: every attack on digits, against what the thesis publishes."""

from collections.abc import Mapping

import pandas as pd

from thesis_repro.experiments.membership.contests import (
    ATTACK,
    PLAIN,
    SETTING,
    TRAINING,
    TRAININGS,
    contest_cells,
)
from thesis_repro.experiments.membership.rates import answers
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.spec import Claim, Column, Gathered, Row, Table, TableSpec
from thesis_repro.weaknesses.membership.guesses import ATTACKS, GENERAL, NAIVE, SHADOW

SLIDES = "thesis slides, “Summary of Results”, membership, at a generalization error of 1.1%"
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


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each attack on each way of training."""
    return {
        row: answers(results[0].values["targets"], row[1])
        for row, results in gathered.items()
        if row[1] in results[0].values["targets"][0]["attacks"]
    }


def order_holds(frame: pd.DataFrame) -> bool:
    """The learned white-box attack is more accurate than naive and shadow, in every training."""
    by = frame.pivot(index="training", columns="attack", values="accuracy")
    return bool((by[GENERAL] > by[[NAIVE, SHADOW]].max(axis=1)).all())


TABLE = Table(
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
    assemble,
)
