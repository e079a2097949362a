"""Figures of the chapter arc/arc."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from thesis_repro import data
from thesis_repro.experiments.arc import judged, soundness
from thesis_repro.experiments.arc.soundness import MEASURES
from thesis_repro.experiments.arc.trainings import SAME
from thesis_repro.experiments.arc.universe import TRAININGS
from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE, not_run
from thesis_repro.robustness import models, paths, transformations
from thesis_repro.robustness.outputs import ask
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses import reliability


def risk_and_coverage(training: Training, images: str = judged.ROTATED) -> Figure:
    """The share of wrong points among those that are kept, by the score that rejects."""
    net, (fits, test) = models.trained(training).cpu(), judged.split(training)
    x = judged.shown(test.x, images)
    wrong = (ask(net.body, x).argmax(1) != test.y).double().numpy()
    figure, axis = plt.subplots(figsize=(7, 3.4))
    kept = np.linspace(0.05, 1, 96)
    styles = zip(
        PALETTE,
        ("-", "-.", "--", ":"),
        judged.scores(net, x, judged.temperature(net, fits)).items(),
        strict=False,
    )
    for colour, style, (name, score) in styles:
        risks = [100 * reliability.risk(score, wrong, share) for share in kept]
        axis.plot(100 * kept, risks, style, color=colour, lw=2, label=name)
    axis.axvline(100 * judged.COVERAGE, color="0.7", lw=1)
    axis.set(xlabel="images that are kept (%)", ylabel="wrong of these (%)", ylim=(0, None))
    axis.legend(title="rejected by", loc="upper left")
    return figure


def turning(training: Training, index: int = 0, pictures: int = 7) -> Figure:
    """A held-out digit that turns until its proof ends, or by 60 degrees, and the proof's radii."""
    net, test = models.trained(training).cpu(), data.held_out(training.dataset)
    x, path = test.x[index : index + 1], transformations.rotation(-60, 60)
    found = paths.certify_path(net, x, path)
    low, high = found.low.item(), found.high.item()
    beyond = 0.15 * (high - low)
    angles = torch.linspace(max(-60, low - beyond), min(60, high + beyond), pictures).double()
    images = path.images(x.double().expand(pictures, -1, -1, -1), angles)
    labels = ask(net.body, images.float()).argmax(1)
    figure = plt.figure(figsize=(6.2, 3.8))  # letters are read on a phone
    rows = figure.add_gridspec(2, pictures, height_ratios=(1, 1.6))
    for i, (angle, image, label) in enumerate(zip(angles, images, labels, strict=True)):
        axis = figure.add_subplot(rows[0, i])
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        proved = low <= angle <= high
        axis.set(xticks=[], yticks=[], title=f"{angle:.0f}°")
        axis.set_xlabel(f"“{label}”" + ("" if proved else "?"))
        for spine in axis.spines.values():
            spine.set(visible=True, color=BLUE if proved else ORANGE, linewidth=2.5)
    axis = figure.add_subplot(rows[1, :])
    at, order = found.balls.at.sort()
    axis.axvspan(low, high, color=BLUE, alpha=0.12, lw=0)
    axis.plot(at, found.balls.radius[order], "o-", color=BLUE, ms=3, lw=1, label="certified radius")
    axis.plot(at, found.balls.needed[order], ".", color=BLACK, ms=3, label="needed by the proof")
    axis.set(xlabel="turned by (degrees)", ylabel="radius (L2)", ylim=(0, None))
    axis.set_xlim(float(angles[0]), float(angles[-1]))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


BETTER = {
    soundness.CLEAN: (1, "clean accuracy"),
    soundness.VRA: (1, "VRA"),
    soundness.ERROR: (-1, "calibration error"),
    soundness.OBJECT: (1, "influence on the digit"),
    soundness.UNITS: (-1, "units that keep a class"),
    soundness.BIAS: (0, "signed bias"),
    soundness.AUC: (-1, "membership AUC"),
    soundness.TPR: (-1, "members found at 1%"),
    soundness.MARK: (-1, "watermark"),
    soundness.INSTANCE: (-1, "nearest to a member"),
}
"""Whether more (1) or less (-1) of a sign is sounder, 0 for neither; how its column is headed."""
ARROWS = {1: "\n↑", -1: "\n↓", 0: "\n "}
DARK = 2.5
"""Effects on whose blue white letters are easier to read."""


def signs(frame: Frame) -> Figure:
    """A row for each training, a column for each sign of soundness, filled by effect.

    Parameters
    ----------
    frame : of the table arc-trainings, live or recorded

    The colour is the paired difference from standard training over the half width of its
    interval, so it is pale where the interval is near zero or holds it; the text is the
    difference and this half width. Blue: sounder. Orange: less sound. Beside the head of a column
    an arrow says which way is sounder; a signed bias has none, since it is best at zero.
    """
    ran = frame.data[frame.data["status"] == "run"].set_index(["training", "measure"])
    names = [name for name in TRAININGS[1:] if (name, MEASURES[0]) in ran.index]
    if not names:
        return not_run()
    figure, axis = plt.subplots(figsize=(9, 1.4 + 0.62 * len(names)))
    colours = LinearSegmentedColormap.from_list("soundness", (ORANGE, "white", BLUE))
    effects = np.zeros((len(names), len(MEASURES)))
    for i, name in enumerate(names):
        for j, measure in enumerate(MEASURES):
            row = ran.loc[(name, measure)]
            half = (row["difference_high"] - row["difference_low"]) / 2
            gap = row["difference"]
            effects[i, j] = BETTER[measure][0] * gap / half if half > 0 else 0.0
            told = row["sign"] != SAME
            text = f"{gap:+.1f}\n±{half:.1f}".replace("-", "−")
            axis.text(j, i, text, ha="center", va="center", fontsize=8,
                      color="white" if effects[i, j] > DARK else BLACK,
                      fontweight="bold" if told else "normal")  # fmt: skip
    axis.imshow(effects, cmap=colours, vmin=-4, vmax=4, aspect="auto")
    heads = [
        "\n".join(textwrap.wrap(head, 11)) + ARROWS[way]
        for way, head in map(BETTER.__getitem__, MEASURES)
    ]
    axis.set_xticks(range(len(MEASURES)), heads, fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure
