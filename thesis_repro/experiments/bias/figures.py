"""Figures of the chapter weaknesses/bias."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_repro.experiments.bias.two_classes import EXPERTS, FULL, L1, PARITY, SHIFT
from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, PALETTE, PINK, SKY
from thesis_repro.lab.cells import Result
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses import bias

MARKS = {
    FULL: (BLACK, "o"),
    PARITY: (ORANGE, "v"),
    EXPERTS: (BLUE, "D"),
    L1: (PINK, "s"),
    SHIFT: (GREEN, "^"),
}
"""Colour and marker of each remedy."""


def bayes_curves(priors: tuple[float, ...] = (0.6, 0.75, 0.9), n: int = 200_000) -> Figure:
    """Bias of the best possible rule over the separation; dots are simulated."""
    figure, axis = plt.subplots(figsize=(7, 3.6))
    lines, dots = np.linspace(0.05, 5, 200), np.arange(0.5, 5.1, 0.5)
    for prior, colour, style in zip(priors, PALETTE, ("-", "--", "-."), strict=False):
        curve = [100 * bias.bayes_bias(d, prior) for d in lines]
        axis.plot(lines, curve, style, color=colour, label=f"prior p* = {prior}")
        found = [100 * bias.simulated_bias(d, prior, n, i) for i, d in enumerate(dots)]
        axis.plot(dots, found, "o", color=colour, ms=4)
    axis.axhline(0, color=BLACK, lw=0.8)
    axis.set(
        xlabel="separation D of the classes (standard deviations)",
        ylabel="bias (points)",
        xlim=(0, 5),
    )
    axis.legend()
    return figure


def growth(frame: Frame) -> Figure:
    """Absolute bias over the number of weak features, and over the training points."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    weak = _sweep(frame, "weak features")
    _band(left, weak, "bias", BLUE, "o", "-", "asymmetric: all point to class 1")
    _band(left, weak, "symmetric", ORANGE, "s", "--", "symmetric: half point to class 0")
    left.set(xlabel="number of weak features", ylabel="bias (points)")
    left.legend(fontsize=9)
    points = _sweep(frame, "training points")
    _band(right, points, "bias", BLUE, "o", "-", "")
    sizes = points["x"].astype(int)
    right.set_xscale("log")
    right.set_xticks(sizes, [f"{n:,}" for n in sizes])
    right.minorticks_off()
    right.set(xlabel="training points (200 asymmetric weak features)")
    for axis in (left, right):
        axis.axhline(0, color=BLACK, lw=0.8)
    return figure


def _sweep(frame: Frame, name: str) -> pd.DataFrame:
    rows = frame.data[frame.data["sweep"] == name].copy()
    rows["x"] = rows["value"].astype(float)
    return rows


def _band(
    axis: Axes, rows: pd.DataFrame, column: str, colour: str, marker: str, style: str, label: str
) -> None:
    axis.plot(rows["x"], rows[column], style, marker=marker, color=colour, ms=5, label=label)
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    axis.fill_between(rows["x"], low, high, color=colour, alpha=0.25, lw=0)


def weights(few: Result, many: Result, labels: tuple[str, str]) -> Figure:
    """Learned weights of weak features beside the Bayes-optimal one, for two training sizes.

    Each rule is scaled so that its strong features have, on average, the weight that the best
    rule gives them: a scale changes no prediction.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6))
    strong = bias.Mixture.strong
    mixture = bias.Mixture(len(few.arrays["weights"]) - strong)
    best, _ = mixture.bayes_rule()
    wanted = np.abs(best[:strong]).mean()
    scaled = [
        result.arrays["weights"][strong:]
        * (wanted / (result.arrays["weights"][:strong] * np.sign(best[:strong])).mean())
        for result in (few, many)
    ]
    edge = max(np.abs(values).max() for values in scaled)
    bins = np.linspace(-edge, edge, 41).tolist()
    for values, colour, label in zip(scaled, (ORANGE, BLUE), labels, strict=True):
        axis.hist(values, bins, color=colour, alpha=0.55, label=label)
        axis.hist(values, bins, color=colour, histtype="step", lw=1.5)
    axis.axvline(best[strong], color=BLACK, ls="--", label=f"Bayes-optimal: {best[strong]:.2f}")
    axis.set(xlabel="weight of a weak feature (strong ones: 1)", ylabel="weak features")
    axis.legend(fontsize=9)
    return figure


def remedies(frame: Frame) -> Figure:
    """Bias that each remedy leaves on each data set, with intervals; a panel for each learner."""
    ran = frame.data[frame.data["status"] == "run"]
    names = list(dict.fromkeys(ran["dataset"]))
    learners = list(dict.fromkeys(ran.loc[ran["dataset"] == names[-1], "learner"]))
    figure, axes = plt.subplots(
        1, len(learners), figsize=(9, 0.5 * len(names) + 1.4), sharex=True, sharey=True
    )
    for axis, learner in zip(axes, learners, strict=True):
        for (remedy, (colour, marker)), shift in zip(
            MARKS.items(), np.linspace(-0.3, 0.3, len(MARKS)), strict=True
        ):
            rows = ran[(ran["remedy"] == remedy) & (ran["learner"] == learner)]
            y = np.array([names.index(name) for name in rows["dataset"]]) + shift
            reach = [rows["bias"] - rows["bias_low"], rows["bias_high"] - rows["bias"]]
            axis.errorbar(
                rows["bias"], y, xerr=reach, fmt=marker, color=colour, ms=5, lw=1, label=remedy
            )
        axis.axvline(0, color=BLACK, lw=0.8)
        axis.set(xlabel="bias (points), mean and 95% interval", title=f"learner: {learner}")
        axis.grid(axis="x", lw=0.4)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        title="remedy",
        loc="outside upper center",
        ncols=len(MARKS),
        fontsize=9,
    )
    return figure


def units(influence: np.ndarray, kept: np.ndarray) -> Figure:
    """The units of a layer by their influence; those that the experts keep are dark."""
    figure, axis = plt.subplots(figsize=(9, 3.2))
    order = np.argsort(-influence)
    values, dark = influence[order], kept[order]
    place = np.arange(len(values))
    axis.bar(place[~dark], values[~dark], width=0.8, color=SKY, alpha=0.5, label="set to zero")
    axis.bar(place[dark], values[dark], width=0.8, color=BLUE, hatch="//", label="kept: experts")
    axis.axhline(0, color=BLACK, lw=0.8)
    axis.set(
        xlabel="units of the layer, from the most positive influence to the most negative",
        ylabel="influence on\n“class 1 and not class 0”",
    )
    axis.legend()
    return figure
