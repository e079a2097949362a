"""Figures of the chapter robustness/gloro."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.gloro import losses as gloro_losses
from thesis_repro.experiments.gloro import schedule as gloro_schedule
from thesis_repro.experiments.gloro.frontier import (
    LAYERS,
    LOCAL,
    NOISE,
    NORMS,
    THESIS_ROW,
    family,
    year,
)
from thesis_repro.experiments.gloro.moving import Attacked, turned
from thesis_repro.experiments.gloro.overtrain import CHOSEN, STEPS
from thesis_repro.experiments.gloro.vra import vra
from thesis_repro.explanations import imagenet
from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, PALETTE, PINK, REJECTED, not_run
from thesis_repro.lab.cells import Result
from thesis_repro.robustness import REJECT, GloroNet, certify, models, toy2d
from thesis_repro.robustness.attacks import pgd_l2
from thesis_repro.tables.spec import Frame


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
    colours = np.array([to_rgba(c, 0.45) for c in (*PALETTE[:3], REJECTED)])
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


def vra_curves(results: Mapping[str, Result], largest: float = 2.5) -> Figure:
    """VRA over the radius, for each net; the radius at which its table certifies is marked."""
    if not results:
        return not_run()
    epsilons = np.linspace(0, largest, 251)
    figure, axis = plt.subplots(figsize=(7, 3.8))
    styles = zip(PALETTE, ("-", "--") * len(PALETTE), strict=False)
    for (title, result), (colour, style) in zip(results.items(), styles, strict=False):
        axis.plot(epsilons, vra(result, epsilons), style, color=colour, label=title)
        radius = float(Fraction(title.partition("radius ")[2].partition(",")[0]))
        axis.plot([radius], vra(result, np.array([radius])), "o", color=colour)
    axis.set(xlabel="radius ε (L2, pixels in [0, 1])", ylabel="VRA (% of test points)")
    axis.set(ylim=(0, 100), xlim=(0, largest))
    axis.legend()
    return figure


def closest_attacks(net: GloroNet, shown: Attacked) -> Figure:
    """Certified digits, the nearest point of another class that PGD finds, and the difference."""
    with torch.no_grad():
        after = net.body(shown.nearest).argmax(1)
    count = len(shown.x)
    figure, axes = plt.subplots(3, count, figsize=(9, 5.2))
    for column in range(count):
        change = (shown.nearest - shown.x)[column, 0]
        for axis, image, map_, limits in (
            (axes[0, column], shown.x[column, 0], "gray", (0, 1)),
            (axes[1, column], shown.nearest[column, 0], "gray", (0, 1)),
            (axes[2, column], change, "PuOr", (-1, 1)),
        ):
            axis.imshow(image, cmap=map_, vmin=limits[0], vmax=limits[1])
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(
            f"“{shown.y[column]}”\nsafe to {shown.radius[column]:.2f}", fontsize=10
        )
        text = f"“{after[column]}”\nat {shown.distance[column]:.2f}"
        axes[1, column].set_title(
            text if torch.isfinite(shown.distance[column]) else "none found", fontsize=10
        )
    for axis, label in zip(axes[:, 0], ("digit", "closest attack", "change"), strict=True):
        axis.set_ylabel(label)
    return figure


def schedules(histories: Mapping[str, Sequence[Mapping[str, float]]] | None = None) -> Figure:
    """Loss, K and VRA on the test set over the epochs, by the schedule of the radius.

    Without `histories` those of the table gloro-schedule are trained, or taken from the store.
    """
    histories = gloro_schedule.curves() if histories is None else histories
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.6))
    styles = zip(PALETTE, ("-", "--", "-."), "os^", strict=False)
    for (name, history), (colour, line, marker) in zip(histories.items(), styles, strict=False):
        epochs = [record["epoch"] for record in history]
        for axis, key in zip(axes, ("loss", "k", "vra"), strict=True):
            values = [record[key] for record in history]
            axis.plot(epochs, values, line, color=colour, marker=marker, ms=3, label=name)
    titles = ("training loss", "K, proven", "VRA (% of test points)")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlabel="epoch", title=title, ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def beyond(frame: Frame) -> Figure:
    """VRA on held-out images over the radius of the loss, by the number of steps.

    frame : of the table gloro-overtrain; a panel for each data set and radius that was run
    """
    rows = frame.data[(frame.data["status"] == "run") & (frame.data["multiple"] != CHOSEN)]
    multiple, _, way = (rows["multiple"].str.partition(", ")[part] for part in range(3))
    rows = rows.assign(times=multiple.astype(float), way=way)
    panels = list(rows.groupby(["dataset", "radius"], sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.4), squeeze=False)
    for axis, ((dataset, radius), part) in zip(axes[0], panels, strict=True):
        for way, label, colour, line_style, shift in (
            ("", "steps of the recipe", BLUE, "o-", -0.015),
            (STEPS, STEPS, ORANGE, "s--", 0.015),
        ):
            if len(line := part[part["way"] == way].sort_values("times")):
                place = line["times"] + shift
                axis.vlines(place, line["vra_low"], line["vra_high"], color=colour, lw=2, alpha=0.6)
                axis.plot(place, line["vra"], line_style, color=colour, label=label)
        axis.set(title=f"{dataset}, certified at {radius}", xlabel="radius of the loss, times that")
    axes[0, 0].set_ylabel("VRA (% of held-out images)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def tails(results: Mapping[str, Result] | None = None, radius: str = "0.3") -> Figure:
    """The lower tail of the certified radii of the points that are right, by the loss.

    Without `results` those of gloro-losses at the paper's scale, from the store or computed.
    """
    results = gloro_losses.curves("paper", radius=radius) if results is None else results
    figure, axis = plt.subplots(figsize=(7, 3.8))
    for (name, found), colour, line in zip(
        results.items(), PALETTE, ("-", "--", "-."), strict=False
    ):
        radii = np.sort(found.arrays["radius"][found.arrays["correct"]])
        share = 100 * np.arange(1, len(radii) + 1) / len(radii)
        axis.plot(radii, share, line, color=colour, drawstyle="steps-post", label=name)
    axis.axvline(float(radius), color=BLACK, lw=1)
    axis.axhline(100 * gloro_losses.TAIL, color=BLACK, lw=0.8, ls=":")
    axis.set(xlabel="certified radius (L2, pixels in [0, 1])", ylabel="right points below it (%)")
    axis.set(xlim=(0, 4 * float(radius)), ylim=(0, 25))
    axis.legend()
    return figure


STYLES = {NORMS: (ORANGE, "o"), LAYERS: (BLUE, "D"), LOCAL: (GREEN, "v"), NOISE: (PINK, "P")}
"""Colour and marker of each family."""
MARKS = ("o", BLACK), ("s", "none")


def frontier(frame: Frame) -> Figure:
    """VRA of published nets over the year, marked by what they certify by; ours as squares.

    Filled: trained on generated data, too. Named are the best of each family with and
    without generated data, the net of the thesis, and those of this book; the table lists all.

    frame : of the table gloro-frontier; rows that were not run are left out
    """
    figure, axis = plt.subplots(figsize=(9, 4.6))
    told: list[tuple[float, float, str]] = []
    best: dict[tuple[str, bool], tuple[float, float, str]] = {}
    for quoted in frame.spec.quoted:
        if "vra36" not in quoted.values:
            continue
        name, value = quoted.row[0], quoted.values["vra36"]
        kind, generated = family(name), quoted.row[1].startswith("generated")
        colour, shape = STYLES[kind]
        axis.plot(year(quoted), value, shape, mfc=colour if generated else "none", mec=colour, ms=8)
        found = (float(year(quoted)), value, name.partition(" (")[0].partition(",")[0])
        if name == THESIS_ROW:
            told.append((found[0], value, "GloRo 6C2F (the thesis)"))
        best[kind, generated] = max(best.get((kind, generated), found), found, key=lambda f: f[1])
    told += best.values()
    recorded = int(str(frame.provenance.get("date", max(f[0] for f in told)))[:4])
    for _, line in frame.data[frame.data["status"] == "run"].iterrows():
        value, colour = float(line["vra36"]), STYLES[family(str(line["method"]))][0]
        axis.plot(recorded, value, "s", mfc="none", mec=colour, ms=8)
        name = str(line["method"]).replace(", TRADES", "")
        told.append((float(recorded), value, f"{name} (this book)"))
    for at, value, name in told:
        axis.annotate(
            name, (at, value), (-7, -3), textcoords="offset points", fontsize=9, ha="right"
        )
    handles = [
        *(Line2D([], [], color=c, marker=m, ls="", mfc="none", ms=8) for c, m in STYLES.values()),
        *(Line2D([], [], color=BLACK, marker=m, mfc=f, ls="", ms=8) for m, f in MARKS),
    ]
    names = [*STYLES, "with generated data", "ours"]
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    axis.set(xlabel="year of publication", ylabel="VRA at 36/255 (% of images)")
    axis.set(xlim=(min(told)[0] - 1.2, max(told)[0] + 0.3))
    axis.locator_params(axis="x", integer=True)
    return figure


DOGS, SPORTS_CAR = range(151, 269), 817
"""ImageNet's numbers of dogs, and of what one is turned into."""


def dog(radius: float = 36 / 255, steps: int = 25) -> Figure:
    """A dog that noise turns into a sports car for a standard net; one whose label is proved.

    Above the first photograph of a dog that SqueezeNet gets right, and the smallest ball of a
    growing row in which the attack gets there; below the first dog of the CIFAR-10 test part that
    the committed GloRo net certifies at `radius`, and the strongest of five attacks inside.
    """
    photos, standard = data.photos(), imagenet.squeezenet()

    def model(pixels: Tensor) -> Tensor:
        logits: Tensor = standard.net(standard.inputs(pixels))
        return logits

    dogs = [at for at, label in enumerate(photos.y.tolist()) if label in DOGS]
    at = next(k for k in dogs if int(model(photos.x[k : k + 1]).argmax()) == int(photos.y[k]))
    x = photos.x[at : at + 1]
    car, length = turned(model, x, photos.y[at : at + 1], torch.tensor([SPORTS_CAR]), steps)
    with torch.no_grad():
        sure = [100 * float(model(point).softmax(1).max()) for point in (x, car)]
    kinds = (photos.kinds[at].replace("_", " "), "sports car")
    says = [f"“{kind}”, {share:.0f}%" for kind, share in zip(kinds, sure, strict=True)]
    figure, axes = plt.subplots(2, 3, figsize=(7.4, 5.2))
    _noise(axes[0], x, car, [f"SqueezeNet: {says[0]}", f"noise of length {length:.2f}", says[1]])

    net, small = models.load("cifar10-6c2f-gloro"), data.load("cifar10")
    test, names = small.test, small.classes
    some = (test.y == names.index("dog")).nonzero()[:, 0][:100]
    found = certify(net, test.x[some])
    proved = (found.labels == test.y[some]) & (found.radius >= radius)
    chosen = some[proved][:1]
    x, y, own = test.x[chosen], test.y[chosen], float(found.radius[proved][0])
    attacked = pgd_l2(net.body, x, y, radius, steps, 5)
    answer = names[int(net.body(attacked).argmax())]
    moved = float((attacked - x).norm())
    says = [f"GloRo: “dog”, proved to {own:.2f}", f"noise of length {moved:.2f}", f"“{answer}”"]
    _noise(axes[1], x, attacked, says)
    return figure


def _noise(axes: Sequence[Axes], x: Tensor, moved: Tensor, titles: Sequence[str]) -> None:
    """An image, its noise at the strength at which it can be seen, and the sum."""
    noise = (moved - x)[0].detach()
    times = 0.5 / float(noise.abs().max())
    pictures = (x[0], 0.5 + times * noise, moved[0].detach())
    for axis, picture, title in zip(axes, pictures, titles, strict=True):
        axis.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy())
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=9)
        axis.spines[:].set_visible(False)
    rms = float(noise.square().mean().sqrt())
    axes[1].set_xlabel(f"{rms:.4f} a value (RMS), shown {times:.0f} times as strong", fontsize=8)
