"""The picture of the evidence page: one row per published value, our interval against it."""

import io
import math
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, RED, SKY

MARKS = {
    "exceeded": ("^", GREEN),
    "reproduced": ("o", BLUE),
    "trend": ("s", ORANGE),
    "not reproduced": ("X", RED),
    "not published": ("D", SKY),
}
"""Marker and colour of each verdict: either tells it alone."""

GREY = "#7F7F7F"
ROW_INCHES = 0.32


def forest(claims: pd.DataFrame) -> Figure:
    """Draw published values (bars) and ours (marks with 95% intervals), one panel per unit.

    Parameters
    ----------
    claims : DataFrame
        As `tables.evidence()` returns it. A claim that was not run shows its bar alone; the pale
        band is the tolerance.

    Raises
    ------
    ValueError
        If there is no claim.
    """
    if claims.empty:
        raise ValueError("a forest plot needs at least one claim, got none")
    panels = list(claims.groupby("unit", sort=False))
    heights = [len(rows) for _, rows in panels]
    height = ROW_INCHES * sum(heights) + 0.9 * len(panels) + 0.5
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (unit, rows) in zip(axes, panels, strict=True):
        _panel(ax, rows.to_dict("records"), str(unit))
    marks: dict[str, Artist] = {}
    for ax in axes:
        marks |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(list(marks.values()), list(marks), loc="outside upper center", ncols=3)
    return figure


def _panel(ax: Axes, rows: list[dict[str, Any]], unit: str) -> None:
    for y, row in enumerate(rows):
        if _is_number(row["thesis"]):
            low, width = row["thesis"] - row["tolerance"], 2 * row["tolerance"]
            ax.barh(y, width, left=low, height=0.7, color="0.9")
            ax.plot(row["thesis"], y, "|", color=BLACK, ms=11, mew=2, label="published")
        if not _is_number(row["recorded"]):
            if _is_number(row["thesis"]):
                ax.text(row["thesis"], y, "    not run", fontsize=8, va="center", color=GREY)
            continue
        mark, colour = MARKS[row["verdict"]]
        if _is_number(row["low"]) and _is_number(row["high"]):
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
        ax.plot(row["recorded"], y, mark, color=colour, ms=7, label=f"ours: {row['verdict']}")
    labels = [f"{row['row']}: {row['measure']}" for row in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(unit or "value")
    ax.use_sticky_edges = False
    ax.margins(x=0.08)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)


def _is_number(value: Any) -> bool:
    return value is not None and not math.isnan(value)


def alt(claims: pd.DataFrame) -> str:
    """What the picture shows, for those who do not see it."""
    counts = claims["verdict"].value_counts(sort=False)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Forest plot of {len(claims)} published values with our intervals: {said}."


def svg(claims: pd.DataFrame) -> str:
    """The picture as SVG text, the same for the same claims."""
    out = io.StringIO()
    with rc_context({"svg.hashsalt": "evidence", "svg.fonttype": "path"}):
        forest(claims).savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
