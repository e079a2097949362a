"""Figures of the chapter robustness/lipschitz."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE
from thesis_repro.robustness import GloroNet, certify, lipschitz
from thesis_repro.tables.spec import Frame

STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)


def soundness(frame: Frame) -> Figure:
    """What each step towards a proof costs: VRA of one net by how its constant was got."""
    rows = frame.data[frame.data["status"] == "run"]
    nets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = plt.subplots(1, len(nets), figsize=(9, 2.9), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], nets, strict=True):
        mine = rows[rows["dataset"] == name]
        for place, (_, row) in enumerate(mine.iterrows()):
            proved = row["sound"] != "no"
            face, hatch = (BLUE, "") if proved else ("white", "///")
            axis.barh(place, row["vra"], 0.6, color=face, hatch=hatch, ec=BLUE)
            axis.text(row["vra"] + 1.5, place, f"{row['vra']:.1f}", va="center", fontsize=10)
        axis.set_yticks(range(len(mine)), mine["method"])
        axis.set(title=name, xlabel="VRA (% of test points)", xlim=(0, 115))
    axes[0, 0].invert_yaxis()
    return figure


def from_below(net: GloroNet) -> Figure:
    """Power iteration and the proven bound of each layer, over the number of steps."""
    figure, axis = plt.subplots(figsize=(7, 3.8))
    styles = iter(zip(PALETTE, ("-", "--", "-.", ":"), "os^v", strict=False))
    for name, layer, shape in list(lipschitz.named_layers(net.body, net.input_shape))[:-1]:
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        bound = lipschitz.upper_bound(layer, shape)
        start = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1)).double()
        found, done = [], 0
        for steps in STEPS:
            sigma, start = lipschitz.estimate(layer, shape, steps - done, start)
            found.append(100 * (sigma.item() / bound))
            done = steps
        colour, style, marker = next(styles)
        title = f"layer {name} ({type(layer).__name__})"
        axis.plot(STEPS, found, style, color=colour, marker=marker, ms=4, label=title)
    axis.axhline(100, color=BLACK, lw=1)
    axis.text(1, 100.6, "proven bound", fontsize=9)
    axis.set(xscale="log", xlabel="steps of power iteration", ylabel="estimate (% of the bound)")
    axis.set(ylim=(min(75, axis.get_ylim()[0]), 103))
    axis.legend(loc="lower right")
    return figure


def margins_and_budgets(net: GloroNet, x: Tensor) -> Figure:
    """How large the rounding budget is beside the margins that it is taken off."""
    certificate = certify(net, x)
    figure, axis = plt.subplots(figsize=(7, 3.4))
    edges = np.logspace(-3, 2, 51).tolist()
    margin = (certificate.margin + certificate.budget).clamp_min(0).numpy()
    axis.hist(margin, edges, color=BLUE, alpha=0.7, label="margin before rounding, if positive")
    axis.hist(
        certificate.budget.numpy(),
        edges,
        histtype="step",
        color=ORANGE,
        lw=2,
        label="rounding budget",
    )
    axis.set(xscale="log", xlabel="logit units", ylabel="test points")
    axis.legend(loc="upper right", fontsize=9)
    return figure
