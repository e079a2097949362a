"""What has to hold in the chapter robustness/relaxed: the paper's claims in words, with numbers."""

from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.relaxed.settings import PLAIN, PLANE, RELAXED, TOP
from thesis_repro.tables.conditions import HEADINGS, Condition, listed
from thesis_repro.tables.spec import Frame

FEWER, HIGHER, SHARE = 5.0, 3.0, 1 / 3
"""What has to be gained: points of rejection, points of VRA; largest share of area in the plane."""


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """No set is broken; in the plane less area is rejected, elsewhere fewer points; more VRA."""
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
        if objective != RELAXED:
            continue
        row = by.loc[(title, guarantee, objective)]
        if title == PLANE.title:
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
            continue
        for column, what, needed in (
            ("fewer", "fewer rejected than by top-1 GloRo", FEWER),
            ("higher", "VRA above that of top-1 GloRo", HIGHER),
        ):
            ends = f"[{row[f'{column}_low']:.1f}, {row[f'{column}_high']:.1f}]"
            found.append(
                Condition(
                    f"{title}, {guarantee}: {what}",
                    f"at least {needed:g} points",
                    f"{row[column]:.1f} {ends}".replace("-", "−"),
                    bool(row[column] >= needed),
                )
            )
    return found


def verdicts(frame: Frame) -> Any:
    """The conditions as a numbered table."""
    found = conditions(frame.data[frame.data["status"] == "run"])
    caption = f"Conditions of ours for what the paper claims in words: run {frame.run}."
    return tables.small(listed(found), f"relaxed-{frame.run}", caption, keys=len(HEADINGS))
