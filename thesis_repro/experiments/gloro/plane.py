"""Drawings of the chapter robustness/gloro in one dimension and in two: no data set is needed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE, REJECTED
from thesis_repro.robustness import REJECT, toy2d


def lipschitz_line(epsilon: float = 0.6, k: float = 1.0) -> Figure:
    """Two logits over one input: how far each can move within epsilon, and the bottom logit."""
    x = np.linspace(0, 4, 400)
    first, second = 1.6 + 0.9 * np.tanh(x - 2), 1.6 - 0.9 * np.tanh(x - 2)
    at = 3.1
    y1, y2 = np.interp(at, x, first), np.interp(at, x, second)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    left.plot(x, first, color=BLUE, label="logit of class 1")
    left.plot(x, second, color=ORANGE, ls="--", label="logit of class 2")
    near = np.abs(x - at) <= epsilon
    reach = k * np.abs(x - at)[near]
    left.fill_between(x[near], y1 - reach, y1 + reach, color=BLUE, alpha=0.2, lw=0)
    left.fill_between(x[near], y2 - reach, y2 + reach, color=ORANGE, alpha=0.25, lw=0)
    left.plot([at, at], [y1, y2], "o", color=BLACK, ms=5)
    left.annotate("", (at - epsilon, 0.35), (at, 0.35), arrowprops={"arrowstyle": "<->"})
    left.text(at - epsilon / 2, 0.42, "ε", ha="center")
    left.set(xlabel="input x", ylabel="logit", title="No cone of slope K reaches the other")
    left.legend(loc="upper left", fontsize=9)
    bottom = np.where(first > second, second, first) + 2 * k * epsilon
    right.plot(x, np.maximum(first, second), color=BLUE, label="largest logit")
    right.plot(x, bottom, color=BLACK, ls=":", label="bottom logit: runner-up + 2 K ε")
    rejected = bottom >= np.maximum(first, second)
    right.fill_between(x, 0.2, 3.6, where=rejected, color=REJECTED, alpha=0.6, lw=0, label="reject")
    right.set(xlabel="input x", title="Where the bottom logit wins, reject", ylim=(0.2, 3.6))
    right.legend(loc="lower left", fontsize=9)
    return figure


def toy(epsilons: Sequence[float] = (0.03, 0.08, 0.14)) -> Figure:
    """The plane, classified by GloRo nets of growing radius; the reject band grows with them."""
    figure, axes = plt.subplots(1, len(epsilons), figsize=(9, 3.5), sharex=True, sharey=True)
    points = toy2d.blobs()
    cells, side = toy2d.grid(160), 160
    colours = np.array([[*_rgb(c), 0.45] for c in (*PALETTE[:3], REJECTED)])
    for axis, epsilon in zip(axes, epsilons, strict=True):
        net = toy2d.trained(epsilon)
        labels = net.predict(cells, batch_size=len(cells)).view(side, side).numpy()
        axis.imshow(colours[labels], origin="lower", extent=(0, 1, 0, 1))
        for label, marker in enumerate("o^s"):
            mine = points.x[points.y == label].flatten(1).numpy()
            axis.scatter(*mine.T, s=9, marker=marker, color=PALETTE[label], lw=0)
        share = 100 * (labels == REJECT).mean()
        axis.set(title=f"ε = {epsilon}: {share:.0f}% rejected", xlabel="x₁", aspect="equal")
    axes[0].set_ylabel("x₂")
    return figure


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
