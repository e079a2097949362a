"""Figures of the chapter robustness/relaxed."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.relaxed import rejection as experiments
from thesis_repro.experiments.relaxed.settings import CIFAR100, EUROSAT, PLAIN, SETTINGS
from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE, REJECTED, not_run
from thesis_repro.robustness import GloroNet, relaxed, toy2d
from thesis_repro.robustness.relaxed import Guarantee, SetCertificate
from thesis_repro.tables.spec import Frame

MARKERS = "o^s"


def planes(epsilon: float, k: int = 2, seed: int = 0, side: int = 160) -> Figure:
    """The plane under a GloRo net and under one trained for relaxed top-k: what each rejects."""
    points, x = toy2d.blobs(seed=seed), toy2d.grid(side)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
    for axis, (title, size, guarantee) in zip(
        axes, (("GloRo", 1, None), (f"relaxed top-{k}", k, relaxed.up_to(k))), strict=True
    ):
        net = toy2d.trained(epsilon, seed, guarantee)
        found = relaxed.certify(net, x, k=size, batch_size=len(x))
        axis.imshow(
            _colours(found).view(side, side, 3), origin="lower", extent=(0, 1, 0, 1), zorder=0
        )
        for label, marker in enumerate(MARKERS):
            mine = points.x[points.y == label].flatten(1).numpy()
            axis.scatter(*mine.T, s=9, marker=marker, color=PALETTE[label], lw=0)
        rejected = 100 * (~found.certified).double().mean()
        axis.set(title=f"{title}: {rejected:.0f}% rejected", xlabel="x₁", aspect="equal")
    axes[0].set_ylabel("x₂")
    return figure


def _colours(found: SetCertificate) -> Tensor:
    """Each point's colour: the mean over its smallest guaranteed set, paler for pairs; (n, 3)."""
    palette = torch.tensor([_rgb(colour) for colour in PALETTE[: found.classes]])
    members = found.sets().float()
    sizes = members.sum(1, keepdim=True)
    mixed = members @ palette / sizes.clamp_min(1)
    strength = torch.where(sizes > 1, 0.25, 0.5)
    shown = 1 - strength * (1 - mixed)
    return torch.where(sizes > 0, shown, torch.tensor(_rgb(REJECTED)))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def rejection(frame: Frame) -> Figure:
    """Rejection rate by guarantee: post hoc on the GloRo net, and on the net trained for it."""
    rows = frame.data[frame.data["status"] == "run"]
    titles = list(dict.fromkeys(rows["dataset"]))
    if not titles:
        return not_run()
    figure, axes = plt.subplots(1, len(titles), figsize=(9, 3.4), sharey=True, squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        mine = rows[rows["dataset"] == title]
        names = list(dict.fromkeys(mine["guarantee"]))
        styles = (("GloRo", -0.12, BLUE, "o"), ("relaxed", 0.12, ORANGE, "s"))
        for objective, shift, colour, marker in styles:
            part = mine[mine["objective"] == objective]
            at = np.array([names.index(name) for name in part["guarantee"]]) + shift
            error = np.abs(
                part[["rejected_low", "rejected_high"]].to_numpy().T - part["rejected"].to_numpy()
            )
            label = "GloRo net" if objective == "GloRo" else "trained for it"
            axis.errorbar(
                at, part["rejected"], error, fmt=marker, color=colour, capsize=3, label=label
            )
        axis.set(title=title, xticks=range(len(names)), xlim=(-0.5, len(names) - 0.5))
        axis.set_xticklabels(names)
    axes[0, 0].set(ylabel="rejected (% of points)", ylim=(0, 1.05 * rows["rejected_high"].max()))
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def by_radius(
    nets: Mapping[str, GloroNet], x: Tensor, guarantees: Mapping[str, Guarantee], largest: float
) -> Figure:
    """Rejection rate over the radius, for each net (panels) and guarantee (lines)."""
    epsilons = np.linspace(0, largest, 201)
    figure, axes = plt.subplots(1, len(nets), figsize=(9, 3.6), sharey=True, squeeze=False)
    for axis, (title, net) in zip(axes[0], nets.items(), strict=True):
        for (name, guarantee), colour, style in zip(
            guarantees.items(), PALETTE, ("-", "--", ":", "-."), strict=False
        ):
            radius = relaxed.certify(net, x, guarantee=guarantee).radius.cpu().numpy()
            rejected = 100 * (radius[:, None] <= epsilons[None]).mean(0)
            axis.plot(epsilons, rejected, style, color=colour, label=name)
        axis.axvline(net.epsilon, color=BLACK, lw=0.7, alpha=0.5)
        axis.set(title=title, xlabel="radius ε (L2)", xlim=(0, largest), ylim=(0, 100))
    axes[0, 0].set_ylabel("rejected (% of points)")
    axes[0, 0].legend(title="guarantee")
    return figure


def gallery(
    x: Tensor,
    y: Tensor,
    found: SetCertificate,
    classes: Sequence[str],
    count: int = 8,
) -> Figure:
    """Points without a guaranteed label and with a guaranteed set: one for each different set.

    The most frequent sets come first; of each, the point whose set has the widest margin is shown.
    Each picture has its label below and the guaranteed set above.
    """
    rows = (found.strictest > 1).nonzero()[:, 0]
    if not len(rows):
        raise ValueError("no point has a guaranteed set of two and more labels")
    margin = found.margin[rows].gather(1, found.strictest[rows][:, None] - 1)[:, 0]
    _, which, points = found.sets()[rows].unique(dim=0, return_inverse=True, return_counts=True)
    frequent = points.argsort(descending=True, stable=True)[:count]
    chosen = torch.stack(
        [rows[margin.masked_fill(which != one, -torch.inf).argmax()] for one in frequent]
    )
    sets = found.sets()[chosen]
    figure, axes = plt.subplots(1, len(chosen), figsize=(9, 2.0), squeeze=False)
    for axis, image, label, members in zip(axes[0], x[chosen], y[chosen], sets, strict=True):
        names = [classes[i] for i in members.nonzero()[:, 0].tolist()]
        _tile(axis, image, "{" + ", ".join(names) + "}", classes[label])
    return figure


def _tile(axis: Axes, image: Tensor, above: str, label: str) -> None:
    shown = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    axis.imshow(shown.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(above, fontsize=10)
    axis.set(xticks=[], yticks=[], xlabel=f"is “{label}”")


def together(name: str = CIFAR100, each: int = 2) -> Figure:
    """Pictures of a data set with sets that its GloRo net guarantees, at the paper's scale.

    The net of the table relaxed-rejection, asked for the largest RT of the data set.
    """
    largest = SETTINGS[name].sizes[-1]
    found = experiments.sets(name, f"RT{largest}", PLAIN, "paper").arrays
    loaded = data.load(name)
    classes = [one.replace("_", " ") for one in loaded.classes]
    return by_size(loaded.test.x, loaded.test.y, found["order"], found["strictest"], classes, each)


def tiles() -> Figure:
    """Satellite pictures with sets of labels that EuroSAT's GloRo net guarantees."""
    return together(EUROSAT)


def by_size(
    x: Tensor,
    y: Tensor,
    order: NDArray[np.int16],
    strictest: NDArray[np.int16],
    classes: Sequence[str],
    each: int = 2,
) -> Figure:
    """For each size of a guaranteed set the most frequent sets, each with its first point.

    A column for each size from 2 to that of `order` (n, K), which holds the labels by logit; of
    two sizes all pictures stand in one row. A point's set are its first `strictest` (n,) labels.
    The set stands above, the label below.
    """
    sizes = range(2, order.shape[1] + 1)
    rows = each if len(sizes) > 2 else 1
    figure, axes = plt.subplots(
        rows,
        len(sizes) * each // rows,
        figsize=(9, rows * (2.5 + 0.19 * sizes[-1])),
        squeeze=False,
    )
    figure.set_layout_engine("constrained")
    columns = axes.T if rows > 1 else axes.reshape(len(sizes), each)
    for size, column in zip(sizes, columns, strict=True):
        points: dict[tuple[int, ...], list[int]] = {}
        for at in np.flatnonzero(strictest == size).tolist():
            points.setdefault(tuple(sorted(order[at, :size].tolist())), []).append(at)
        frequent = sorted(points, key=lambda one: (-len(points[one]), one))[:each]
        for axis, labels in itertools.zip_longest(column, frequent):
            if labels is None:
                axis.set_axis_off()
                continue
            first = points[labels][0]
            _tile(axis, x[first], ",\n".join(classes[i] for i in labels), classes[int(y[first])])
    return figure


def matrices(
    counts: Mapping[str, NDArray[np.int64]], classes: Sequence[str], groups: Sequence[Sequence[int]]
) -> Figure:
    """How often two labels are guaranteed together, per net; pairs of one group are framed."""
    figure, axes = plt.subplots(1, len(counts), figsize=(9, 4.4), squeeze=False)
    largest = max(1, max(int(found.max()) for found in counts.values()))
    together = {(a, b) for group in groups for a in group for b in group if a != b}
    for axis, (title, found) in zip(axes[0], counts.items(), strict=True):
        image = axis.imshow(found, cmap="Blues", vmin=0, vmax=largest)
        for a, b in np.argwhere(found > 0):
            dark = found[a, b] > largest / 2
            axis.text(
                b,
                a,
                found[a, b],
                ha="center",
                va="center",
                fontsize=8.5,
                color="w" if dark else "k",
            )
        for a, b in together:
            axis.add_patch(Rectangle((b - 0.5, a - 0.5), 1, 1, fill=False, ec=ORANGE, lw=1.5))
        axis.set(title=title, xticks=range(len(classes)), yticks=range(len(classes)))
        axis.set_xticklabels(classes, rotation=0 if max(map(len, classes)) < 3 else 90)
        axis.set_yticklabels(classes)
        axis.set(xlabel="label", ylabel="label")
    figure.colorbar(image, ax=axes, shrink=0.8, label="points whose set has both")
    return figure
