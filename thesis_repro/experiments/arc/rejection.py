"""The table arc-rejection: which score finds the points that a certified net has wrong?"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from thesis_repro.experiments.arc.judged import (
    BOTTOM,
    COVERAGE,
    IMAGES,
    NET,
    PAPER,
    RADIUS,
    SCORES,
    SHIFT,
    TEST,
    plan,
    with_ends,
)
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, beyond, every, of, reaches
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

SAME = 1.0
"""Rankings within so many points of each other count as the same."""


def cells(profile: Profile) -> Plan:
    """The plan of `arc-rejection`: one cell for all scores of a net and kind of images."""
    return [((*row, score), cell) for row, cell in plan(profile) for score in SCORES]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """What the first seed's cell found, by score."""
    return {row: _measured(results[0].values, row[-1]) for row, results in gathered.items()}


def _measured(values: Mapping[str, Any], score: str) -> Measurement:
    ranked = values["scores"][score]
    how = f"paired bootstrap over {values['accuracy']['n']:,} points"
    found: dict[str, Estimate | str] = {
        name: with_ends(ranked[name], how) for name in ("risk", "ranking")
    }
    if score != SCORES[0]:
        found["ahead"] = with_ends(ranked["ahead"], how)
    if score == BOTTOM:  # it alone has a threshold of its own
        for name in ("rejected", "risk_kept", "risk_rejected"):
            if values[name]["n"]:
                found[name] = statistics.exact_rate(**values[name], how="Clopper-Pearson")
    return Measurement(found, seeds=1)


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """The directions that were written down before the run."""
    by = frame.set_index(["net", "images", "score"])
    ahead = [by.loc[(net, TEST, RADIUS)] for net in frame["net"].unique()]
    rows = [row for _, row in frame[frame["score"] == BOTTOM].iterrows()]
    apart = [beyond(of(row, "risk_rejected"), of(row, "risk_kept")) for row in rows]
    leads = [of(row, "ahead") for row in ahead]
    return [
        Condition(
            "on test images the certified radius ranks wrong points as softmax does",
            f"interval of the difference within {SAME:.0f} point, on every net",
            ", ".join(f"[{row['ahead_low']:.1f}, {row['ahead_high']:.1f}]" for row in ahead),
            every(
                reaches(lead, end, at_most)
                for lead in leads
                for end, at_most in ((-SAME, False), (SAME, True))
            ),
        ),
        Condition(
            "points that the bottom class takes are wrong more often than those it leaves",
            "intervals apart, on every net and kind of images",
            f"on {apart.count(True)} of {len(apart)}",
            every(apart),
        ),
    ]


TABLE = Table(
    TableSpec(
        name="arc-rejection",
        caption=(
            "Which score finds the points that a GloRo net has wrong: the share of wrong points "
            f"among the {COVERAGE:.0%} that a score would keep; how often a wrong point scores "
            "below a right one; how far this is ahead of softmax. For the bottom class at the "
            "net's own radius: what it rejects, and the share of wrong points among those that it "
            "keeps and rejects."
        ),
        chapter="arc/arc",
        keys=(NET, SHIFT, Column("score", "rejected by", kind="key")),
        columns=(
            Column("risk", "wrong of the kept", "%", drift=3.0),
            Column("ranking", "ranking", "%", drift=5.0),
            Column("ahead", "ahead of softmax", "points", "{:+.2f}", drift=4.0),
            Column("rejected", "rejected", "%", kind="rate", drift=8.0),
            Column("risk_kept", "wrong of the certified", "%", kind="rate", drift=2.0),
            Column("risk_rejected", "wrong of the rejected", "%", kind="rate", drift=6.0),
        ),
        rows=tuple((net, images, score) for net in PAPER for images in IMAGES for score in SCORES),
        claims=published.claims("arc-rejection"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
