"""The picture of the evidence page: our values and ratios against the published ones."""

import io
import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY

MARKS = {
    "exceeded": ("^", GREEN),
    "reproduced": ("o", BLUE),
    "same order of magnitude": ("P", SKY),
    "order only": ("s", ORANGE),
    "too short to judge": ("v", PINK),
    "not measurable": ("D", BLACK),
    "not reproduced": ("X", RED),
}
"""Marker and colour of each verdict that a number can get: either tells it alone."""

GREY = "#7F7F7F"
LINE_INCHES = 0.19
WIDTH = 46
BANDS = ((10.0, "0.95"), (3.0, "0.87"))
"""Factors around the published ratio, and the grey of each."""


def forest(claims: pd.DataFrame) -> Figure:
    """Draw published values and ours: one panel of ratios on a logarithmic axis, one per unit.

    Parameters
    ----------
    claims : DataFrame
        As `tables.overview.numbers` returns it: claims of a published value or factor. The pale
        band is the tolerance; of ratios, up to 3 and up to 10 times. Lines are our 95% intervals.

    Raises
    ------
    ValueError
        If there is no claim.
    """
    if claims.empty:
        raise ValueError("a forest plot needs at least one claim, got none")
    factor = claims["kind"] == "factor"
    panels = [("", claims[factor], True)] if factor.any() else []
    panels += [(str(u), rows, False) for u, rows in claims[~factor].groupby("unit", sort=False)]
    labels = [["\n".join(textwrap.wrap(s, WIDTH)) for s in rows["says"]] for _, rows, _ in panels]
    heights = [sum(1.4 + text.count("\n") for text in texts) for texts in labels]
    height = LINE_INCHES * sum(heights) + 0.8 * len(panels) + 0.6
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (unit, rows, log), texts in zip(axes, panels, labels, strict=True):
        _panel(ax, rows.to_dict("records"), texts, log)
        ax.set_xlabel("ours over the published ratio" if log else unit or "value")
    marks: dict[str, Artist] = {}
    for ax in axes:
        marks |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(list(marks.values()), list(marks), loc="outside upper center", ncols=3)
    return figure


def _panel(ax: Axes, rows: list[dict[str, Any]], labels: list[str], log: bool) -> None:
    if log:
        ax.set_xscale("log")
        for factor, grey in BANDS:
            ax.axvspan(1 / factor, factor, color=grey, zorder=0)
    places = []
    below = 0.0
    for text in labels:  # a label of more lines takes more room
        room = 1.4 + text.count("\n")
        places.append(below + room / 2)
        below += room
    for y, row in zip(places, rows, strict=True):
        value = 1.0 if log else row["value"]
        if not log:
            ax.barh(y, 2 * row["tolerance"], left=value - row["tolerance"], height=1, color="0.9")
        ax.plot(value, y, "|", color=BLACK, ms=11, mew=2, label="published")
        if not _is_number(row["recorded"]):
            ax.text(value, y, f"    {row['verdict']}", fontsize=8, va="center", color=GREY)
            continue
        unit = row["value"] if log else 1.0
        mark, colour = MARKS[row["verdict"]]
        if _is_number(row["low"]) and _is_number(row["high"]):
            ax.plot([row["low"] / unit, row["high"] / unit], [y, y], color=colour, lw=2)
        ours = f"ours: {row['verdict']}"
        ax.plot(row["recorded"] / unit, y, mark, color=colour, ms=7, label=ours)
    ax.set_yticks(places, labels, fontsize=8)
    ax.set_ylim(below, 0)
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
    return f"Forest plot of {len(claims)} published values and ratios with ours: {said}."


def svg(claims: pd.DataFrame) -> str:
    """The picture as SVG text, the same for the same claims."""
    out = io.StringIO()
    with rc_context({"svg.hashsalt": "evidence", "svg.fonttype": "path"}):
        forest(claims).savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
