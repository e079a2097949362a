"""Figures of the chapter explanations/experts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from thesis_repro.figures import PALETTE
from thesis_repro.lab.cells import Result
from thesis_repro.tables.spec import Frame

STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))


def rankings(frame: Frame, dataset: str = "MNIST") -> Figure:
    """Recall and precision of what is left of a net, by the ranking that chose its units."""
    rows = frame.data[(frame.data["dataset"] == dataset) & (frame.data["digit"] == "mean of all")]
    rows = rows[rows["status"] == "run"]
    figure, axis = plt.subplots(figsize=(8, 3.0))
    for measure, shift, colour, hatch in (
        ("recall", -0.2, PALETTE[0], ""),
        ("precision", 0.2, PALETTE[1], "//"),
    ):
        place = np.arange(len(rows)) + shift
        axis.barh(place, rows[measure], 0.38, color=colour, hatch=hatch, ec="white", label=measure)
        for at, value in zip(place, rows[measure], strict=True):
            axis.text(value + 1, at, f"{value:.0f}", va="center", fontsize=10)
    kept = [f"{ranking} ({units} kept)" for ranking, units in rows[["ranking", "kept"]].to_numpy()]
    axis.set_yticks(range(len(rows)), kept)
    axis.invert_yaxis()
    axis.set(xlabel="% of a class's images found; % of the calls that are right", xlim=(0, 108))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def compression(budgets: Sequence[int], curves: Mapping[str, np.ndarray], whole: float) -> Figure:
    """Mean balanced accuracy over the number of units kept, ranking by ranking."""
    figure, axis = plt.subplots(figsize=(9, 3.8))
    for (name, values), colour, (style, mark) in zip(curves.items(), PALETTE, STYLES, strict=False):
        axis.plot(budgets, 100 * values, style, marker=mark, ms=5, color=colour, label=name)
    axis.axhline(100 * whole, color="black", lw=1)
    axis.text(budgets[0], 100 * whole + 0.8, "all units", fontsize=9)
    axis.axhline(50, color="0.6", lw=1)
    axis.text(budgets[0], 50.8, "calls everything, or nothing", fontsize=9, color="0.35")
    axis.set_xscale("log", base=2)
    axis.set_xticks(budgets, [str(b) for b in budgets])
    axis.minorticks_off()
    axis.set(xlabel="units kept, at most", ylabel="balanced accuracy (%)", ylim=(45, 101))
    figure.legend(title="units ranked by", loc="outside upper center", ncols=4)
    return figure


def deletion(results: Mapping[str, Result]) -> Figure:
    """Probability of the net's answer while pixels are deleted, and while they are inserted."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for axis, kind in zip(axes, ("deletion", "insertion"), strict=True):
        for (name, result), colour, (style, _) in zip(
            results.items(), PALETTE, STYLES, strict=False
        ):
            curve = result.arrays[f"curve_{kind}"]
            share = np.linspace(0, 100, len(curve))
            axis.plot(share, curve, style, color=colour, label=name)
        done = "deleted" if kind == "deletion" else "inserted"
        axis.set(xlabel=f"pixels {done} (%)", ylim=(0, 1.02), xlim=(0, 100))
    axes[0].set_ylabel("probability of the net's answer")
    axes[1].legend(loc="lower right", bbox_to_anchor=(1, 0.05), title="order")
    return figure
