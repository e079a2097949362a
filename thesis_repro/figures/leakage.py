"""Figures of the chapter weaknesses/leakage."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from thesis_repro.figures import BLACK, BLUE, ORANGE, PALETTE
from thesis_repro.lab.engine import Result
from thesis_repro.tables.leakage_cells import CLEAN, MARKED, TRAININGS, InstanceConfig, sides
from thesis_repro.weaknesses import leakage

Models = Mapping[tuple[str, str], Sequence[Result]]
"""The models of a game by training and arm."""


def _picture(axis: Axes, image: Tensor, title: str = "", stretch: bool = False) -> None:
    """An image (c, h, w); stretched from its darkest to its brightest pixel if so asked."""
    shown = image.permute(1, 2, 0).numpy()
    if stretch:
        shown = (shown - shown.min()) / max(float(np.ptp(shown)), 1e-9)
    kind = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[2] == 1 else {}
    axis.imshow(shown[..., 0] if shown.shape[2] == 1 else shown, **kind)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title, fontsize=9)


def readable(models: Models, word: leakage.Watermark) -> Figure:
    """Mean size of the fine structure in the reconstructions of one net, by training and arm."""
    figure, axes = plt.subplots(2, len(TRAININGS) + 1, figsize=(9, 4.6))
    for row, arm in zip(axes, (MARKED, CLEAN), strict=True):
        for axis, method in zip(row[1:], TRAININGS, strict=True):
            result = models[method, arm][0]
            images = torch.from_numpy(result.arrays["images"])
            fine = leakage.high_pass(images).abs().mean(0)[None]
            _picture(axis, fine, f"{method}, z = {result.values['z']:.1f}", stretch=True)
        row[1].set_ylabel(f"trained on {'80% marked' if arm == MARKED else 'clean'} images")
    shape = models[TRAININGS[0], MARKED][0].arrays["images"].shape
    _picture(axes[0, 0], word.mask(shape)[None], "the word")
    axes[1, 0].axis("off")
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
    axis.legend(fontsize=9)
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
