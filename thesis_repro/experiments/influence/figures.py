"""Figures of the chapter explanations/influence."""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.experiments.influence import faces as asking
from thesis_repro.explanations import imagenet, influence, receptive, subjects
from thesis_repro.explanations.influence import internal_influence, line, point
from thesis_repro.figures import BLUE, ORANGE
from thesis_repro.training import named

SIGNED = "PuOr_r"
"""Orange adds to the quantity, purple takes from it; white is zero."""


def _picture(axis: Axes, image: Tensor, title: str = "", **options: object) -> None:
    shown = image.permute(1, 2, 0).clamp(0, 1) if image.ndim == 3 else image
    axis.imshow(shown.squeeze().numpy(), **options)  # type: ignore[arg-type]
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)
    axis.spines[:].set_visible(False)


def _signed(axis: Axes, chi: Tensor, title: str) -> None:
    top = float(chi.abs().flatten().quantile(0.995)) or 1.0
    _picture(axis, chi, title, cmap=SIGNED, vmin=-top, vmax=top)


def slices(net: nn.Module, x: Tensor, c: int) -> Figure:
    """One digit, three slices: pixels, channels of a convolution, units of the hidden layer."""
    q = influence.class_score(c)
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), width_ratios=(1, 1, 1.5, 1.5))
    _picture(axes[0], x[0], "the image", cmap="gray")
    _signed(axes[1], internal_influence(net, x, "", q, point())[0, 0], "slice: pixels")
    for axis, name, title in ((axes[2], "3", "channels"), (axes[3], "6", "hidden units")):
        chi = influence.per_unit(internal_influence(net, x, name, q, point()), "mean")[0]
        values = chi.sort(descending=True).values.numpy()
        colours = np.where(values > 0, ORANGE, "#5E3C99")
        axis.bar(range(len(values)), values, color=colours, width=1.0)
        axis.axhline(0, color="black", lw=0.8)
        axis.set(xlabel=f"{title}, ranked")
        axis.set_title(f"slice: {title}", fontsize=10)
    axes[2].set_ylabel("influence\n(logit per unit)", fontsize=9)
    return figure


def quantities(net: nn.Module, x: Tensor, pairs: Sequence[tuple[int, int]]) -> Figure:
    """For each digit a: why a; why b; why a and not b, on the line from black."""
    figure, axes = plt.subplots(len(pairs), 4, figsize=(8.4, 2.2 * len(pairs)), squeeze=False)
    for line_of_axes, image, (a, b) in zip(axes, x, pairs, strict=True):
        _picture(line_of_axes[0], image, f"a “{a}”", cmap="gray")
        for axis, q, title in (
            (line_of_axes[1], influence.class_score(a), f"why “{a}”?"),
            (line_of_axes[2], influence.class_score(b), f"why “{b}”?"),
            (line_of_axes[3], influence.comparative(a, b), f"why “{a}” and not “{b}”?"),
        ):
            chi = internal_influence(net, image[None], "", q, line(), multiply=True)
            _signed(axis, chi[0, 0], title)
    return figure


def distributions(net: nn.Module, x: Tensor, c: int, same_class: Tensor) -> Figure:
    """One digit, four distributions of interest, ever wider."""
    generator = torch.Generator().manual_seed(0)
    chosen: tuple[tuple[str, influence.Distribution], ...] = (
        ("the point", point()),
        ("noise around it", influence.gaussian(0.2, 50, generator)),
        ("the line from black", line()),
        ("its whole class", influence.empirical(same_class)),
    )
    figure, axes = plt.subplots(1, 5, figsize=(9, 2.3))
    _picture(axes[0], x[0], "the image", cmap="gray")
    for axis, (title, d) in zip(axes[1:], chosen, strict=True):
        chi = internal_influence(net, x, "", influence.class_score(c), d)
        _signed(axis, chi[0, 0], title)
    return figure


def backgrounds(nets: dict[str, nn.Module], x: Tensor, plain: Tensor) -> Figure:
    """What pink paper adds to the score of class 3, where, and in total."""
    three = subjects.PINK_CLASS
    others = [c for c in range(5) if c != three]
    return _gains(nets, x, plain, influence.comparative(three, others), [str(i) for i in range(5)])


def _gains(
    nets: dict[str, nn.Module],
    x: Tensor,
    plain: Tensor,
    quantity: influence.Quantity,
    names: Sequence[str],
) -> Figure:
    """Images, and per net the influence on the line from the plain image, on one scale."""
    gains = {
        title: internal_influence(net, x, "", quantity, line(plain), multiply=True).sum(1)
        for title, net in nets.items()
    }
    top = float(torch.cat(list(gains.values())).abs().flatten().quantile(0.995))
    figure, axes = plt.subplots(
        len(nets) + 1, len(x), figsize=(1.6 * len(x) + 1.0, 1.9 * (len(nets) + 1)), squeeze=False
    )
    for axis, image in zip(axes[0], x, strict=True):
        _picture(axis, image)
    axes[0, 0].set_ylabel("image")
    for row, (title, net) in zip(axes[1:], nets.items(), strict=True):
        with torch.no_grad():
            answers = net(x).argmax(1).tolist()
        for axis, chi, answer in zip(row, gains[title], answers, strict=True):
            says = f"says {names[answer]}, {float(chi.sum()):+.1f}"
            _picture(axis, chi, says, cmap=SIGNED, vmin=-top, vmax=top)
        row[0].set_ylabel(f"trained {title}")
    return figure


def pink_gains(gains: dict[str, Tensor], called: dict[str, float]) -> Figure:
    """What pink paper adds to the score of class 3, image by image, for each net."""
    figure, axis = plt.subplots(figsize=(7, 2.2))
    for at, gain in enumerate(gains.values()):
        spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(gain))
        colour, mark = ((ORANGE, "o"), (BLUE, "s"))[at % 2]
        axis.plot(gain.numpy(), at + spread, mark, color=colour, ms=3, alpha=0.5)
        axis.plot([gain.median()] * 2, [at - 0.35, at + 0.35], color="black", lw=2)
    axis.axvline(0, color="0.6", lw=0.8)
    says = [f"trained {name}\n({100 * called[name]:.0f}% called “3”)" for name in gains]
    axis.set_yticks(range(len(gains)), says)
    axis.set(xlabel="influence of the pink paper on class 3 against the others (logit)")
    axis.set_ylim(len(gains) - 0.5, -0.5)
    return figure


def faces() -> Figure:
    """LFW: the pink wall, seen by a net that trained with it and by one that did not."""
    names, (x, plain) = asking.people(), asking.asked()
    nets: dict[str, nn.Module] = {
        f"{'with' if pink else 'without'} pink": named.trained(replace(subjects.FACES, pink=pink))
        for pink in (True, False)
    }
    man = names.index(asking.MAN)
    q = influence.comparative(man, [c for c in range(len(names)) if c != man])
    return _gains(nets, x, plain, q, names)


SPORTS_CAR, CONVERTIBLE = 817, 511


def cars(layer: str = "features.9", count: int = 3, k: int = 3) -> Figure:
    """Photographs of sports cars: why a sports car, and why that and not a convertible."""
    photos = data.photos("stanford_cars")
    found = imagenet.squeezenet()
    chosen = [i for i, kind in enumerate(photos.kinds) if kind == "sports_car"][:count]
    figure, axes = plt.subplots(3, count, figsize=(2.4 * count + 0.6, 7.4))
    for column, image in enumerate(photos.x[chosen]):
        _picture(axes[0, column], image)
        _asked(axes[1:, column], found, layer, image, (SPORTS_CAR, CONVERTIBLE), k)
    for axis, title in zip(
        axes[:, 0], ("photograph", "why a sports car?", "and not a convertible?"), strict=True
    ):
        axis.set_ylabel(title)
    return figure


def pair(k: int = 3) -> Figure:
    """Sports cars and convertibles: why this class, and why it and not the other.

    The first photograph of each class in two groups; a net got those of the second one right.
    """
    found = imagenet.efficientnet_lite0()
    kinds = (("sports_car", SPORTS_CAR, CONVERTIBLE), ("convertible", CONVERTIBLE, SPORTS_CAR))
    figure, axes = plt.subplots(3, 4, figsize=(8, 6.6))
    for at, group in enumerate(("imagenet", "stanford_cars")):
        photos = data.photos(group)
        for column, (kind, mine, other) in enumerate(kinds, 2 * at):
            image = photos.x[photos.kinds.index(kind)]
            with torch.no_grad():
                share = found.net(found.inputs(image[None]))[0].softmax(0)[mine]
            _picture(axes[0, column], image, f"{kind.replace('_', ' ')}: {share:.0%}")
            _asked(axes[1:, column], found, found.layer, image, (mine, other), k)
    for axis, title in zip(
        axes[:, 0], ("photograph", "why this class?", "and not the other?"), strict=True
    ):
        axis.set_ylabel(title)
    return figure


def _asked(
    axes: Sequence[Axes],
    found: imagenet.Pretrained,
    layer: str,
    image: Tensor,
    classes: tuple[int, int],
    k: int,
) -> None:
    """A photograph (3, h, w), in colour where the k channels look that matter most to a question.

    classes : the first is asked for, then the first against the second
    """
    x = found.inputs(image[None])
    for axis, q in zip(
        axes, (influence.class_score(classes[0]), influence.comparative(*classes)), strict=True
    ):
        units = receptive.top_units(found.net, x, layer, q, k, multiply=True)
        seen = receptive.mask(receptive.receptive(found.net, x, layer, units), 6.0, 0.9)
        channels = ", ".join(str(u) for u in units.tolist())
        pale = 0.6 + 0.4 * image.mean(0, keepdim=True)
        _picture(axis, pale + seen * (image - pale), f"channels {channels}")
