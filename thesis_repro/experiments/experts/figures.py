"""Figures of the chapter explanations/experts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from thesis_repro.figures import PALETTE
from thesis_repro.lab.cells import Result

STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))


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
    axis.legend(title="units ranked by", loc="upper left", bbox_to_anchor=(1, 1))
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
