"""What has to hold in the chapter robustness/relaxed: the paper's claims in words, with numbers."""

from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.relaxed.settings import PLAIN, PLANE, RELAXED, TOP
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Frame

FEWER, HIGHER, SHARE = 5.0, 3.0, 1 / 3
"""What has to be gained: points of rejection, points of VRA; largest share of area in the plane."""


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """What has to hold, from the rows that were run."""
    found = [
        Condition(
            "no guaranteed set is broken by the set attack",
            "0",
            f"{frame['broken'].sum():.0f} of {frame['attacked'].sum():,.0f}",
            bool((frame["broken"] == 0).all()),
        )
    ]
    by = frame.set_index(["dataset", "guarantee", "objective"])
    for title, guarantee, objective in by.index:
        if objective != RELAXED:
            continue
        line = by.loc[(title, guarantee, objective)]
        if title == PLANE.title:
            before = by.loc[(title, TOP, PLAIN), "rejected"]
            share = line["rejected"] / before if before else np.inf
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
            ends = f"[{line[f'{column}_low']:.1f}, {line[f'{column}_high']:.1f}]"
            found.append(
                Condition(
                    f"{title}, {guarantee}: {what}",
                    f"at least {needed:g} points",
                    f"{line[column]:.1f} {ends}".replace("-", "−"),
                    bool(line[column] >= needed),
                )
            )
    return found


def verdicts(frame: Frame) -> Any:
    """The conditions as a numbered table."""
    ran = frame.data[frame.data["status"] == "run"]
    rows = [
        (c.says, c.needed, c.measured, "holds" if c.holds else "does not hold")
        for c in conditions(ran)
    ]
    headings = ["what has to hold", "needed", "measured", "verdict"]
    caption = f"Conditions of ours for what the paper claims in words: run {frame.run}."
    table = pd.DataFrame(rows, columns=headings)
    return tables.small(table, f"relaxed-{frame.run}", caption, keys=len(headings))
