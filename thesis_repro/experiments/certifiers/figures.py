"""Figures of the chapter robustness/certifiers."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from torch import Tensor, nn

from thesis_repro.experiments.certifiers.methods import BCP, GLORO, KW, METHODS, RS
from thesis_repro.experiments.certifiers.scaling import Curve
from thesis_repro.figures import BLACK, BLUE, GREEN, ORANGE, PINK, REJECTED, not_run
from thesis_repro.robustness import lipschitz
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.robustness.certifiers.smoothing import certified_radius
from thesis_repro.tables.spec import Frame, Row

MARKS = {GLORO: (BLUE, "o"), BCP: (ORANGE, "s"), KW: (GREEN, "D"), RS: (PINK, "^")}
"""Colour and marker of each method."""


def cost(frame: Frame) -> Figure:
    """Time over GloRo's by method, with intervals; and what the thesis publishes."""
    rows = frame.data[frame.data["net"].str.startswith("GloRo")].set_index("method")
    if not set(METHODS) <= set(rows.index[rows["status"] == "run"]):
        return not_run()
    quoted = [q for q in frame.spec.quoted if "ratio" in q.values]
    published = {q.row[-1]: q.values["ratio"] for q in quoted}
    figure, axis = plt.subplots(figsize=(8, 2.8))
    for place, name in enumerate(METHODS):
        colour, _ = MARKS[name]
        ratio, low, high = (rows.loc[name, f"ratio{end}"] for end in ("", "_low", "_high"))
        axis.barh(place, ratio, left=0, height=0.55, color=colour)
        if low < high:
            axis.errorbar(
                ratio, place, xerr=[[ratio - low], [high - ratio]], color=BLACK, capsize=3
            )
    axis.plot(
        [published[name] for name in METHODS],
        range(len(METHODS)),
        "D",
        mfc="white",
        mec=BLACK,
        ms=7,
        label="thesis, CIFAR-10 (quoted)",
    )
    taken = [f"{name}\n{_time(rows.loc[name, 'seconds'])}" for name in METHODS]
    axis.set_yticks(range(len(METHODS)), taken)
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(0.5, 3e5), xlabel="time for the test set over GloRo's")
    figure.legend(loc="outside upper center", fontsize=9)
    return figure


def _time(seconds: float) -> str:
    units = (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    unit, size = next((one for one in units if seconds >= 2 * one[1]), units[-1])
    count = seconds / size
    return f"{count:.0f} {unit}" if count >= 10 else f"{count:.2g} {unit}"


def small_net() -> nn.Sequential:
    """Two inputs, six hidden ReLUs, two outputs; random, but the middle is near the border."""
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double())
        net[2].bias += torch.tensor([0.7, -0.7]) - net(torch.full((1, 2), 0.5).double())[0]
    return net


def ideas(epsilon: float = 0.25) -> Figure:
    """What each method computes of one ball: a disc, disc and box, a polygon, noisy copies."""
    net, x = small_net(), torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(4000, generator=generator, dtype=torch.float64)
    radius = epsilon * torch.rand(4000, 1, generator=generator, dtype=torch.float64).sqrt()
    with torch.no_grad():
        image = net(x + radius * torch.stack([angle.cos(), angle.sin()], 1))
        centre = net(x)[0]
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), width_ratios=(1, 1, 1, 1))
    last = _last_region(net, x, epsilon)
    reach = last.radius.item()
    for axis, title in zip(axes, ("GloRo: disc", "BCP: disc and box", "KW: planes"), strict=False):
        axis.scatter(*image.T.numpy(), s=1, color=REJECTED, rasterized=True)
        axis.plot(*centre.numpy(), "o", color=BLACK, ms=4)
        axis.set(title=title, xlabel="output 1", aspect="equal")
        axis.set(xlim=centre[0] + 1.08 * reach * np.array([-1, 1]))
        axis.set(ylim=centre[1] + 1.08 * reach * np.array([-1, 1]))
        axis.axline((0, 0), slope=1, color=BLACK, ls=":", lw=1)
    axes[0].set_ylabel("output 2")
    middle = centre[0].item(), centre[1].item()
    axes[0].add_patch(Circle(middle, reach, ec=BLUE, fill=False, lw=2))
    low, high = last.low[0], last.high[0]
    box = Rectangle(
        (low[0].item(), low[1].item()), *(high - low).tolist(), ec=ORANGE, fill=False, lw=2
    )
    axes[1].add_patch(box)
    circle = Circle(middle, reach, ec=ORANGE, ls="--", fill=False, lw=1.5)
    axes[1].add_patch(circle)
    axes[2].add_patch(Polygon(_outer(net, x, epsilon), ec=GREEN, fill=False, lw=2))
    _noisy_copies(axes[3], net, x, epsilon)
    return figure


def _last_region(net: nn.Sequential, x: Tensor, epsilon: float) -> bcp.Region:
    """BCP's ball and box around all outputs, which are taken for a layer before the last."""
    longer = nn.Sequential(*net, nn.Linear(2, 2)).double()
    known = bcp.prepare(longer, (2,))
    with torch.no_grad():
        return bcp.region(list(lipschitz.named_layers(longer, (2,)))[:-1], known, x, epsilon)


def _outer(net: nn.Sequential, x: Tensor, epsilon: float, planes: int = 72) -> np.ndarray:
    """Corners of the polygon that KW's bounds of `planes` directions leave."""
    angle = 2 * math.pi * torch.arange(planes, dtype=torch.float64) / planes
    normals = torch.stack([angle.cos(), angle.sin()], 1)
    ends = dual.lower(net, x, epsilon, normals)[0]
    following = torch.roll(normals, -1, 0), torch.roll(ends, -1, 0)
    pairs = torch.stack([normals, following[0]], 1)
    corners: np.ndarray = torch.linalg.solve(pairs, torch.stack([ends, following[1]], 1)).numpy()
    return corners


def _noisy_copies(axis: Axes, net: nn.Sequential, x: Tensor, epsilon: float) -> None:
    """RS looks at the inputs: noisy copies, told apart by the answer, and the ball."""
    generator = torch.Generator().manual_seed(1)
    copies = x + epsilon * torch.randn(400, 2, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        says = net(copies).argmax(1)
        own = net(x).argmax(1)
    for same, colour, marker in ((True, PINK, "o"), (False, BLACK, "x")):
        mine = copies[(says == own) == same].numpy()
        label = f"{'same' if same else 'other'} class: {len(mine)}"
        axis.scatter(mine[:, 0], mine[:, 1], s=12, marker=marker, color=colour, lw=0.8, label=label)
    axis.plot(*x[0].numpy(), "o", color=BLACK, ms=4)
    axis.add_patch(Circle((x[0, 0].item(), x[0, 1].item()), epsilon, ec=BLACK, fill=False, ls=":"))
    axis.set(title="RS: noisy copies", xlabel="input 1", ylabel="input 2", aspect="equal")
    axis.set(xlim=(-0.8, 1.8), ylim=(-1.15, 1.45))  # below the points is room for their names
    axis.legend(fontsize=9, loc="lower center", handletextpad=0.1, borderaxespad=0.2)


def smoothed(alpha: float = 0.001, sigma: float = 0.5) -> Figure:
    """The radius that smoothing certifies over the copies, for several shares that agree."""
    copies = np.unique(np.logspace(1, 6, 121).round().astype(int))
    figure, axis = plt.subplots(figsize=(7, 3.2))
    shares = ((1.0, PINK, "-"), (0.999, BLUE, "--"), (0.99, GREEN, "-."), (0.9, ORANGE, ":"))
    for share, colour, style in shares:
        hits = np.floor(share * copies).astype(int)
        radii = [
            certified_radius(h, n, alpha, sigma)
            for h, n in zip(hits.tolist(), copies.tolist(), strict=True)
        ]
        axis.plot(copies, radii, style, color=colour, label=f"{share:.1%} of the copies agree")
    axis.set(xscale="log", xlim=(10, 1e6), ylim=0)
    axis.set(xlabel="noisy copies", ylabel="certified radius (L2)")
    axis.legend()
    return figure


def growth(curves: Mapping[Row, Curve]) -> Figure:
    """Operations per point over classes, depth and size of the image, on logarithmic axes."""
    varied = list(dict.fromkeys(row[0] for row in curves))
    if not varied:
        return not_run()
    figure, axes = plt.subplots(1, len(varied), figsize=(10, 3.4), sharey=True, squeeze=False)
    for axis, title in zip(axes[0], varied, strict=True):
        for (name, method), (sizes, results) in curves.items():
            if name == title:
                colour, marker = MARKS[method]
                giga = [r.values["operations"] / 1e9 for r in results]
                axis.plot(sizes, giga, "-", marker=marker, color=colour, ms=5, label=method)
        ticks = next(sizes for (name, _), (sizes, _) in curves.items() if name == title)
        axis.set(xscale="log", yscale="log", xlabel=title)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(axis="y", lw=0.4)
    axes[0, 0].set_ylabel("GFLOP per point")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
