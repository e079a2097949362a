"""Figures of the chapter arc/arc."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from thesis_repro.experiments.arc import judged
from thesis_repro.figures import PALETTE
from thesis_repro.robustness import models
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
