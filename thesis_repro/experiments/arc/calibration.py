"""The table arc-calibration: do certified nets know how often they are right?"""

from collections.abc import Mapping

import pandas as pd

from thesis_repro.experiments.arc.judged import (
    IMAGES,
    NET,
    PAPER,
    ROTATED,
    SHIFT,
    TEST,
    plan,
    with_ends,
)
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import ABOVE, Condition, between, every, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

TRAINED, SCALED = SOFTMAXES = ("as trained", "temperature fitted")


def cells(profile: Profile) -> Plan:
    """The plan of `arc-calibration`: one cell for both rows of a net and kind of images."""
    return [((*row, how), cell) for row, cell in plan(profile) for how in SOFTMAXES]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """What the first seed's cell found, before or after temperature."""
    return {row: _measured(results[0].values, row[-1]) for row, results in gathered.items()}


def _measured(values: Mapping[str, object], how: str) -> Measurement:
    found, right = values[how], values["accuracy"]
    assert isinstance(found, dict) and isinstance(right, dict)
    n = right["n"]
    accuracy = statistics.exact_rate(right["k"], n, f"Clopper-Pearson over {n:,} points")
    temperature = values["temperature"] if how == SCALED else 1.0
    assert isinstance(temperature, float)
    return Measurement(
        {
            "accuracy": accuracy,
            "confidence": Estimate(found["confidence"]),
            "error": with_ends(found["error"], f"bootstrap over {n:,} points"),
            "brier": with_ends(found["brier"], "two standard errors"),
            "nll": with_ends(found["nll"], "two standard errors"),
            "temperature": Estimate(temperature),
        },
        seeds=1,
    )


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """The directions that were written down before the run."""
    scaled = frame[frame["softmax"] == SCALED].set_index(["net", "images"])
    trained = frame[frame["softmax"] == TRAINED].set_index(["net", "images"])
    names = frame["net"].unique()
    t = scaled["temperature"].groupby("net").first()
    fell = [between(trained.loc[(n, TEST)], scaled.loc[(n, TEST)], "nll") for n in names]
    worse = [between(scaled.loc[(n, ROTATED)], scaled.loc[(n, TEST)], "error") for n in names]
    return [
        Condition(
            "GloRo nets are underconfident: the fitted temperature is below 1",
            "below 1 on every net",
            ", ".join(f"{value:.2f}" for value in t),
            bool((t < 1).all()),
        ),
        Condition(
            "temperature lowers the loss on test images",
            "interval of the fall above 0, on every net (as if independent, so too wide)",
            ", ".join(said(less, 4) for less in fell),
            every(reaches(less, ABOVE) for less in fell),
        ),
        Condition(
            "after temperature, turned images are worse calibrated than test images",
            "interval of the difference above 0 points, on every net",
            ", ".join(f"{said(more, 2)} points" for more in worse),
            every(reaches(more, ABOVE) for more in worse),
        ),
    ]


TABLE = Table(
    TableSpec(
        name="arc-calibration",
        caption=(
            "How well GloRo nets know how often they are right, on test images and on images that "
            "nothing was promised of: accuracy, mean confidence (softmax of the label, the bottom "
            "class left out), calibration error (debiased, 15 equally full bins), Brier score and "
            "negative log-likelihood, as trained and with a temperature that was fitted on "
            "every fifth test image, which is not judged."
        ),
        chapter="arc/arc",
        keys=(NET, SHIFT, Column("softmax", "softmax", kind="key")),
        columns=(
            Column("accuracy", "accuracy", "%", kind="rate", drift=4.0),
            Column("confidence", "confidence", "%", drift=4.0),
            Column("error", "calibration error", "%", drift=3.0),
            Column("brier", "Brier score", format="{:.4f}", drift=0.05),
            Column("nll", "negative log-likelihood", "nats", "{:.4f}", drift=0.12),
            Column("temperature", "temperature", format="{:.2f}", drift=0.15),
        ),
        rows=tuple((net, images, how) for net in PAPER for images in IMAGES for how in SOFTMAXES),
        claims=published.claims("arc-calibration"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
