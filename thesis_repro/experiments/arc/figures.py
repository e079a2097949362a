"""Figures of the chapter arc/arc."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from thesis_repro import data
from thesis_repro.experiments.arc import judged
from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE
from thesis_repro.robustness import models, paths, transformations
from thesis_repro.robustness.outputs import ask
from thesis_repro.robustness.recipes import Training
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


def turning(training: Training, index: int = 0, pictures: int = 9) -> Figure:
    """A held-out digit that turns until its proof ends, and the radii that carry the proof."""
    net, test = models.trained(training).cpu(), data.held_out(training.dataset)
    x, path = test.x[index : index + 1], transformations.rotation(-60, 60)
    found = paths.certify_path(net, x, path)
    low, high = found.low.item(), found.high.item()
    beyond = 0.15 * (high - low)
    angles = torch.linspace(max(-60, low - beyond), min(60, high + beyond), pictures).double()
    images = path.images(x.double().expand(pictures, -1, -1, -1), angles)
    labels = ask(net.body, images.float()).argmax(1)
    figure = plt.figure(figsize=(7, 3.6))
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
    axis.set(xlabel="turned by (degrees)", ylabel="radius", ylim=(0, None))
    axis.set_xlim(float(angles[0]), float(angles[-1]))
    axis.legend(loc="upper right")
    return figure
