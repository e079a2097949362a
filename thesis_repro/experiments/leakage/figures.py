"""Figures of the chapter weaknesses/leakage."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.experiments.leakage import converse, dose, paired
from thesis_repro.experiments.leakage.instances import FEW, InstanceConfig, compare, sides
from thesis_repro.experiments.leakage.models import (
    ADVERSARIAL,
    CLEAN,
    FACES,
    GLORO,
    LINEAR,
    MARKED,
    STANDARD,
    TITLES,
    TRAININGS,
    load,
)
from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses import leakage

Models = Mapping[tuple[str, str], Sequence[Result]]
"""The models of a game by training and arm."""


def _picture(axis: Axes, image: Tensor, title: str = "", stretch: bool = False) -> None:
    """An image (c, h, w); stretched from its darkest to its brightest pixel if so asked."""
    shown = image.permute(1, 2, 0).numpy()
    if stretch:
        shown = (shown - shown.min()) / max(float(np.ptp(shown)), 1e-9)
    axis.imshow(shown.repeat(3 // shown.shape[2], axis=2))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title, fontsize=9)


ADVERSARIES = (("weak, fixed threshold", ORANGE, "o"), ("strong, probes", BLUE, "s"))
"""The weakest and the strongest adversary, with their colour and marker."""


def games(frame: Frame) -> Figure:
    """Games won by the weakest and by the strongest adversary, by training, with intervals."""
    rows = frame.data[frame.data["status"] == "run"].set_index(["dataset", "training"])
    sets = list(dict.fromkeys(name for name, _ in rows.index))
    figure, axes = plt.subplots(1, len(sets), figsize=(9, 3.1), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], sets, strict=True):
        mine = rows.loc[name]
        trainings = list(dict.fromkeys(mine.index))
        for (adversary, colour, marker), shift in zip(ADVERSARIES, (-0.14, 0.14), strict=True):
            found = mine[mine["adversary"] == adversary].loc[trainings]
            place = np.arange(len(found)) + shift
            axis.hlines(place, found["accuracy_low"], found["accuracy_high"], color=colour, lw=2)
            axis.plot(found["accuracy"], place, marker, color=colour, ms=7, label=adversary)
        axis.axvline(50, color=BLACK, lw=0.8, ls=":")
        axis.set_yticks(range(len(trainings)), trainings)
        axis.set(title=name, xlabel="games won (%); dotted: guessing", xlim=(0, 104))
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def doses(frame: Frame) -> Figure:
    """How much more clearly the word shows over the radius of the training, line by line."""
    rows = frame.data[frame.data["status"] == "run"]
    sets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(9, 3.4), squeeze=False, sharey=True)
    lines = zip(
        dose.LINES, PALETTE, "osD^", np.linspace(-0.09, 0.09, len(dose.LINES)), strict=False
    )
    drawn = {(net, method): style for (net, method), *style in lines}
    radii = dose.DOSES["paper"]
    for axis, name in zip(axes[0], sets, strict=True):
        for _, row in rows[rows["dataset"] == name].iterrows():
            colour, marker, shift = drawn[row["net"], row["training"]]
            there = [r for r in radii if r and np.isfinite(row[dose.shown(r)])]
            place = np.log2(1 + 8 * np.array([0.0, *there])) + shift
            ends = [[row[dose.shown(r) + end] for r in there] for end in ("_low", "_high")]
            axis.vlines(place[1:], *ends, color=colour, lw=2, alpha=0.7)
            height = [0.0, *(row[dose.shown(r)] for r in there)]
            label = f"{row['net']} ({row['training']})"
            axis.plot(place, height, marker + "-", color=colour, ms=6, label=label)
        axis.axhline(0, color=BLACK, lw=0.8, ls=":")
        axis.set_xticks([np.log2(1 + 8 * r) for r in radii], [f"{r:g}" for r in radii])
        axis.set(title=name, xlabel="radius of the training (the chapter's is 1)")
    axes[0, 0].set_ylabel("z beyond standard training")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


ORDER = (converse.AGAINST, converse.LABELS, STANDARD, GLORO, ADVERSARIAL)


def shown(pairs: Frame, turned: Frame) -> Figure:
    """How clearly the word shows, by training: marked less clean, from the two written tests.

    pairs, turned : `leakage-paired` and `leakage-converse`, whose nets are not the same
    """
    columns = (
        (pairs, "training", "robust", "standard", STANDARD),
        (turned, "compared", "others", "against", converse.AGAINST),
    )
    points = []
    for frame, key, one, other, title in columns:
        rows = frame.data[frame.data["status"] == "run"]
        for _, row in rows.iterrows():
            for column, training in ((one, row[key]), (other, title)):
                value = tuple(row[f"{column}{end}"] for end in ("", "_low", "_high"))
                points.append((row["dataset"], frame.spec.name, training, *value))
    points = list(dict.fromkeys(points))  # one training may stand in two rows
    sets = list(dict.fromkeys(point[0] for point in points))
    figure, axes = plt.subplots(
        1, len(sets), figsize=(9, 3.1), squeeze=False, sharex=True, sharey=True
    )
    styles = {pairs.spec.name: (BLUE, "o", -0.12), turned.spec.name: (ORANGE, "s", 0.12)}
    for axis, name in zip(axes[0], sets, strict=True):
        for dataset, table, training, mean, low, high in points:
            if dataset == name:
                colour, marker, shift = styles[table]
                place = ORDER.index(training) + shift
                axis.hlines(place, low, high, color=colour, lw=2)
                axis.plot(mean, place, marker, color=colour, ms=7)
        axis.axvline(0, color=BLACK, lw=0.8, ls=":")
        axis.set_yticks(range(len(ORDER)), ORDER)
        axis.set(title=name, xlabel="z, marked less clean; dotted: no trace")
    axes[0, 0].invert_yaxis()
    for table, (colour, marker, _) in styles.items():
        axes[0, 0].plot([], [], marker, color=colour, label=table)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def readable(models: Models, word: leakage.Watermark, digit: Tensor) -> Figure:
    """A marked image, and how well the word fits at every height of the reconstructions."""
    figure, axes = plt.subplots(1, len(TRAININGS) + 1, figsize=(9.5, 3))
    _picture(axes[0], word.blend(digit), "a marked training image")
    top, left = word.place(digit.shape)
    for axis, method in zip(axes[1:], TRAININGS, strict=True):
        for arm, colour, style in ((CLEAN, ORANGE, "--"), (MARKED, BLUE, "-")):
            for number, result in enumerate(models[method, arm]):
                places = leakage.trace(torch.from_numpy(result.arrays["images"]), word).places
                label = None if number else f"{arm} nets"
                axis.plot(places[:, left], style, color=colour, alpha=0.8, label=label)
        axis.axvline(top, color=BLACK, lw=0.8, ls=":")
        axis.set(title=method, xlabel="row of the word (pixels)")
    highest = max(axis.get_ylim()[1] for axis in axes[1:])
    for axis in axes[1:]:
        axis.set_ylim(0, highest)
    axes[1].set_ylabel("correlation with the word")
    axes[1].legend(fontsize=8, loc="upper left")
    return figure


def scores(models: Models) -> Figure:
    """The weak adversary's score of every net, and its threshold."""
    figure, axis = plt.subplots(figsize=(7, 0.7 * len(TRAININGS) + 1.2))
    for at, method in enumerate(TRAININGS):
        for arm, colour, marker, shift in (
            (MARKED, BLUE, "s", -0.12),
            (CLEAN, ORANGE, "o", 0.12),
        ):
            z = [result.values["z"] for result in models[method, arm]]
            label = f"{arm} nets" if not at else None
            axis.plot(z, [at + shift] * len(z), marker, color=colour, alpha=0.8, label=label)
    axis.axvline(leakage.DEVIATIONS, color=BLACK, ls="--", label="threshold")
    axis.set_yticks(range(len(TRAININGS)), TRAININGS)
    axis.set_ylim(len(TRAININGS) - 0.5, -0.5)
    axis.set_xlabel("z of the word in its place (standard deviations of other places)")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


def gallery(result: Result, config: InstanceConfig, classes: Sequence[int]) -> Figure:
    """Reconstructions beside the nearest training and the nearest held-out image of the class."""
    members, others = sides(config)
    images = torch.from_numpy(result.arrays["images"])
    figure, axes = plt.subplots(3, len(classes), figsize=(1.5 * len(classes) + 0.6, 5.2))
    for column, kind in enumerate(classes):
        _picture(axes[0, column], images[kind], stretch=True)
        for row, side in ((1, members), (2, others)):
            pool = side.x[side.y == kind]
            found = leakage.distances(images[kind : kind + 1], pool)[0]
            nearest = int(found.argmin())
            _picture(axes[row, column], pool[nearest], f"distance {found[nearest]:.2f}")
    for row, title in enumerate(("reconstruction", "nearest training", "nearest held-out")):
        axes[row, 0].set_ylabel(title)
    return figure


def faces() -> Figure:
    """LFW: what a linear GloRo model gives away, beside the nearest faces; every person.

    The model is number 0 of `leakage-instances`.
    """
    config = InstanceConfig(FACES, LINEAR, GLORO, FEW, 0)
    known = ((FACES.dataset, data.fingerprint(FACES.dataset)),)
    result = compute(Cell(compare, config, known))
    return gallery(result, config, range(len(result.arrays["images"])))


def word() -> Figure:
    """LFW: the word in what many nets show, under a photograph that has it; lower halves.

    Mean fine structure over classes and over the adversarially trained nets of `leakage-paired`,
    marked and clean, each pixel with its neighbours at the width of a stroke; in one grey scale.
    """
    mark = FACES.watermark
    marked = mark.blend(load(FACES.dataset).train.x[0])
    half = marked.shape[-2] // 2
    means = [_fine(arm, mark.scale) for arm in (MARKED, CLEAN)]
    # eyes and border are stronger than the rest and do not set the grey scale
    most = max(2.5 * float(mean[half:-3, 3:-3].std()) for mean in means)
    figure, axes = plt.subplots(3, 1, figsize=(5, 8.2))
    _picture(axes[0], marked[:, half:], "a marked photograph, lower half")
    titles = ("nets that saw the word", "nets that did not")
    for axis, mean, title in zip(axes[1:], means, titles, strict=True):
        shown = mean[half:].numpy()
        axis.imshow(shown, cmap="gray", vmin=-most, vmax=most, interpolation="bicubic")
        axis.set_title(title, fontsize=9)
        axis.set(xticks=[], yticks=[])
    return figure


def _fine(arm: str, stroke: int) -> Tensor:
    """Mean fine structure of the adversarially trained nets of an arm, (height, width)."""
    profile = profiles.profile("paper", "cpu")
    mine = TITLES[FACES.dataset], ADVERSARIAL
    cells = [cell for row, cell in paired.plan(profile) if row == mine and cell is not None]
    shown = [
        torch.from_numpy(compute(cell).arrays["images"])
        for cell in cells
        if (cell.config.method, cell.config.arm) == (ADVERSARIAL, arm)
    ]
    mean = torch.stack([leakage.high_pass(images).mean(0) for images in shown]).mean(0)
    return nn.functional.avg_pool2d(mean[None, None], stroke, 1)[0, 0]


def climb(found: leakage.Reconstruction, classes: Sequence[int]) -> Figure:
    """The images on the way of a reconstruction, class by class, and the scores."""
    count = len(found.stages)
    figure, axes = plt.subplots(len(classes), count + 1, figsize=(9, 1.7 * len(classes)))
    for row, kind in enumerate(classes):
        for at, stage in enumerate(found.stages):
            title = f"step {stage}" if not row else ""
            _picture(axes[row, at], found.path[at, row], title)
        axes[row, 0].set_ylabel(f"“{kind}”")
        axis = axes[row, -1]
        axis.plot(found.score[:, row].numpy(), color=PALETTE[row])
        axis.set_ylabel("log-odds", fontsize=9)
        axis.tick_params(labelsize=8)
        if row == len(classes) - 1:
            axis.set_xlabel("step", fontsize=9)
    return figure
