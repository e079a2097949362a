"""Figures of the chapter weaknesses/membership."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY, not_run
from thesis_repro.lab.cells import Result
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses import membership
from thesis_repro.weaknesses.membership.game import ENOUGH_FALSE_ALARMS
from thesis_repro.weaknesses.membership.guesses import (
    ATTACKS,
    DISPLACED,
    GENERAL,
    LOSS,
    NAIVE,
    OFFLINE,
    ONLINE,
    RMIA,
    SHADOW,
)

Floats = NDArray[np.float64]

STYLES = {
    NAIVE: (BLACK, "o", "-"),
    LOSS: (SKY, "v", (0, (6, 1, 1, 1, 1, 1))),
    SHADOW: (PINK, "s", "--"),
    OFFLINE: (ORANGE, "^", "--"),
    ONLINE: (RED, "<", "-."),
    RMIA: (GREEN, "P", ":"),
    DISPLACED: (BLUE, "X", "--"),
    GENERAL: (BLUE, "D", "-"),
}
"""Colour, marker and line of each attack."""


def accuracies(frame: Frame) -> Figure:
    """Accuracy of each attack with its interval, one panel per way of training.

    Beside a paper run, diamonds are what the thesis publishes.
    """
    claims = [c for c in frame.spec.claims if c.column == "accuracy" and c.kind == "measured"]
    published = {c.row: c.value for c in claims if c.value is not None and frame.run != "quick"}
    rows = frame.data[frame.data["status"] == "run"]
    trainings = list(dict.fromkeys(rows["training"]))
    if not trainings:
        return not_run()
    figure, axes = plt.subplots(
        1, len(trainings), figsize=(9, 3.4), sharex=True, sharey=True, squeeze=False
    )
    for axis, training in zip(axes[0], trainings, strict=True):
        mine = rows[rows["training"] == training].set_index("attack")
        for at, attack in enumerate(ATTACKS):
            if attack not in mine.index:
                continue
            row = mine.loc[attack]
            colour, mark, _ = STYLES[attack]
            axis.plot([row["accuracy_low"], row["accuracy_high"]], [at, at], color=colour, lw=2)
            axis.plot(row["accuracy"], at, mark, color=colour, ms=7)
            if (training, attack) in published:
                value, label = published[training, attack], "published"
                axis.plot(value, at, "d", mfc="none", mec=BLACK, ms=10, label=label)
        axis.axvline(50, color="0.6", lw=0.8)
        axis.set_yticks(range(len(ATTACKS)), ATTACKS)
        axis.set_ylim(len(ATTACKS) - 0.5, -0.5)
        gap = mine["gap"].iloc[0]
        axis.set_title(f"{training}, generalization gap {gap:.1f} points")
        axis.set_xlabel("accuracy of the attack (%); 50 is guessing")
    marks = axes[0][0].get_legend_handles_labels()[0]
    if marks:
        figure.legend(handles=marks[:1], loc="outside upper center", fontsize=9)
    return figure


def gaussian_curve(n: int = 100, runs: int = 6) -> Figure:
    """Best possible accuracy over d/n in closed form, with runs of bayes_wb and of naive."""
    figure, axis = plt.subplots(figsize=(7, 3.4))
    ratios = np.geomspace(0.02, 8, 40)
    best = [100 * membership.optimum(max(1, round(r * n)), n) for r in ratios]
    axis.plot(ratios, best, color=BLACK, label="optimum, closed form")
    for at, d in enumerate((10, 30, 100, 300)):
        found = np.mean([_gaussian_run(d, n, run) for run in range(runs)], 0)
        names = ("bayes_wb, true means", "naive") if at == 0 else (None, None)
        axis.plot(d / n, found[0], "D", color=BLUE, label=names[0])
        axis.plot(d / n, found[1], "o", color=ORANGE, label=names[1])
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set(
        xlabel="features d per member n of a class (d/n)", ylabel="accuracy (%)", ylim=(49, 100)
    )
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _gaussian_run(d: int, n: int, run: int) -> tuple[float, float]:
    from thesis_repro.weaknesses.membership.gaussian import linear

    rng = np.random.default_rng([run, d])
    # classes as far apart for every d, so that the task is equally hard
    game = membership.GaussianGame(d, n, classes=5, spread=3 / np.sqrt(d))
    means = game.means(rng)
    (x, y), (others, _) = game.sample(means, rng), game.sample(means, rng)
    weights, bias = game.fit(x, y)
    points, labels = np.concatenate([x, others]), np.tile(y, 2)
    member = np.arange(len(points)) < len(x)
    scores = membership.bayes_wb(weights, bias, *linear(means), points, labels)
    naive = membership.naive(points @ weights.T + bias, labels)
    answers = (membership.judge(claimed, member) for claimed in (scores > 0, naive))
    wb, plain = (100 * found.accuracy for found in answers)
    return wb, plain


def roc(
    results: Mapping[str, Result], attacks: Sequence[str] = (LOSS, SHADOW, RMIA, GENERAL)
) -> Figure:
    """ROC curves on logarithmic axes, scores of all targets pooled; grey: too few false alarms."""
    if not results:
        return not_run()
    figure, axes = plt.subplots(
        1, len(results), figsize=(9, 4), sharex=True, sharey=True, squeeze=False
    )
    for axis, (training, result) in zip(axes[0], results.items(), strict=True):
        marks = [name for name in result.arrays if name.startswith("member.")]
        member = np.concatenate([result.arrays[name] for name in marks])
        n = len(result.arrays[marks[0]]) // 2
        floor = ENOUGH_FALSE_ALARMS / (n * len(marks))
        for attack in attacks:
            indices = [name.partition(".")[2] for name in marks]
            scores = np.concatenate([result.arrays[f"{attack}.{i}"] for i in indices])
            fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
            colour, _, style = STYLES[attack]
            axis.plot(fpr, tpr, ls=style, color=colour, label=attack)
        line = np.geomspace(1e-4, 1, 50)
        axis.plot(line, line, color="0.6", lw=0.8)
        axis.axvspan(1e-4, floor, color="0.9")
        axis.set(xscale="log", yscale="log", xlim=(floor / 3, 1), ylim=(floor / 3, 1))
        axis.set(xlabel="false-positive rate", title=training)
    axes[0][0].set_ylabel("true-positive rate")
    axes[0][0].legend(fontsize=9)
    return figure


def salience(found: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Displacement of pink threes in each net, beside that of threes it did not train on."""
    figure, axis = plt.subplots(figsize=(7, 2.6))
    for at, (marked, others) in enumerate(found.values()):
        scale = others.std()
        for shift, values, colour, mark, name in (
            (-0.15, others, "0.55", ".", "test threes, on grey"),
            (0.15, marked, PINK, "D", "the pink threes"),
        ):
            jitter = np.random.default_rng(0).uniform(-0.1, 0.1, len(values))
            label = name if at == 0 else None
            axis.plot(values / scale, at + shift + jitter, mark, color=colour, ms=4, label=label)
            middle = np.median(values) / scale
            axis.plot([middle] * 2, [at + shift - 0.13, at + shift + 0.13], color=BLACK, lw=2)
    axis.axvline(0, color="0.6", lw=0.8)
    axis.set_yticks(range(len(found)), [f"trained {name}" for name in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel("displacement (standard deviations over test threes)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure


def defences(frame: Frame) -> Figure:
    """Accuracy of two attacks under each defence, with the model's own accuracy beside its name."""
    rows = frame.data[frame.data["status"] == "run"]
    if not len(rows):
        return not_run()
    figure, axis = plt.subplots(figsize=(7.5, 0.5 * len(rows) + 1.2))
    for at, (_, row) in enumerate(rows.iterrows()):
        for shift, column, attack, name in (
            (-0.12, "naive", NAIVE, "naive"),
            (0.12, "accuracy", DISPLACED, "white-box, one layer"),
        ):
            colour, mark, _ = STYLES[attack]
            ends = [row[f"{column}_low"], row[f"{column}_high"]]
            axis.plot(ends, [at + shift] * 2, color=colour, lw=2)
            label = name if at == 0 else None
            axis.plot(row[column], at + shift, mark, color=colour, ms=7, label=label)
    says = [f"{r['defence']}\n(model right on {r['test']:.0f}%)" for _, r in rows.iterrows()]
    axis.axvline(50, color="0.6", lw=0.8)
    axis.set_yticks(range(len(rows)), says, fontsize=9)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel("accuracy of the attack (%); 50 is guessing")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure
