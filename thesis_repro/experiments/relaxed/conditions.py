"""What has to hold in the chapter robustness/relaxed: the paper's claims in words, with numbers."""

from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.relaxed.settings import PLAIN, PLANE, RELAXED, TOP
from thesis_repro.tables.conditions import HEADINGS, Condition, listed, of, reaches, said
from thesis_repro.tables.spec import Frame

FEWER, HIGHER, SHARE = 5.0, 3.0, 1 / 3
"""What has to be gained: points of rejection, points of VRA; largest share of area in the plane."""


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """No set is broken; in the plane less area is rejected, elsewhere fewer points; more VRA.

    The paper says so of nets that are trained for a guarantee. Of a GloRo net that is asked another
    question it is asked too.
    """
    broken, attacked = rows["broken"], rows["attacked"]
    found = [
        Condition(
            "no guaranteed set is broken by the set attack",
            "0",
            f"{broken.sum():.0f} of {attacked.sum():,.0f}",
            bool((broken == 0).all()),
        )
    ]
    by = rows.set_index(["dataset", "guarantee", "objective"])
    for title, guarantee, objective in by.index:
        row = by.loc[(title, guarantee, objective)]
        if title == PLANE.title and objective == RELAXED:
            before = by.loc[(title, TOP, PLAIN), "rejected"]
            share = row["rejected"] / before if before else np.inf
            found.append(
                Condition(
                    f"{title}, {guarantee}: area that is rejected, as a share of top-1 GloRo's",
                    f"at most {SHARE:.2f}",
                    f"{share:.2f}",
                    bool(share <= SHARE),
                )
            )
        elif title != PLANE.title and guarantee != TOP:
            found += _gains(title, guarantee, objective, row)
    return found


def _gains(title: str, guarantee: str, objective: str, row: pd.Series) -> list[Condition]:
    """By how much a net does better under a guarantee than top-1 GloRo does."""
    plain = objective == PLAIN
    whose = f"{guarantee} of the same GloRo net" if plain else guarantee
    return [
        Condition(
            f"{title}, {whose}: {what}",
            f"at least {needed:g} points, with the interval",
            said(of(row, column)),
            reaches(of(row, column), needed),
        )
        for column, what, needed in (
            ("fewer", "fewer rejected than by top-1 GloRo", FEWER),
            ("higher", "VRA above that of top-1 GloRo", HIGHER),
        )
    ]


def verdicts(frame: Frame) -> Any:
    """The conditions as a numbered table."""
    found = conditions(frame.data[frame.data["status"] == "run"])
    caption = f"Conditions of ours for what the paper claims in words: run {frame.run}."
    return tables.small(listed(found), f"relaxed-{frame.run}", caption, keys=len(HEADINGS))
