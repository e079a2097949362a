"""Train a net on a data set of one's own, or go on with a net that is there: weights and a card."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.data import Dataset
from thesis_repro.data.images import check_images, labels
from thesis_repro.lab import places, provenance
from thesis_repro.robustness import certificate, models, recipes, stated, structure
from thesis_repro.robustness.certifying import certify
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.training.named import History

__all__ = ["check_fits", "train"]


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    start: GloroNet | Path | str | None = None,
    augment: str = "none",
    on_epoch: Callable[[nn.Module, dict[str, float]], None] | None = None,
) -> GloroNet:
    """Train by a recipe; writes the weights to `out` and a sealed card beside it.

    A checkpoint lies beside `out` while it goes on, so that a training which was stopped takes up
    where it was when it is called again with the same recipe and data.

    Parameters
    ----------
    recipe : net, radius, epochs and the rest
    dataset : trained on its training part; the card has scores on its test part
    out : path of a safetensors file; with its card, `robustness.load` takes it
    start : GloroNet, or the file of one that states its layers, optional
        Go on from this net instead of a new one: `GloroNet(adopt(module, shape), epsilon, shape)`
        makes one of any module that can be adopted. It is trained in place.
    augment : "none" or "crop-flip"
    on_epoch : called as on_epoch(net, record) after each epoch

    Returns
    -------
    GloroNet
        In eval mode, on the recipe's device.

    Raises
    ------
    ValueError
        On a path without .safetensors, an unknown augmentation or device, images or labels that
        are none in either part, or a net that does not fit the data; as `training.fit`.
    OSError
        Before the first epoch, if nothing can be written beside `out`.

    Examples
    --------
    >>> import tempfile, torch
    >>> x = torch.arange(20 * 64).view(20, 1, 8, 8) / 1280
    >>> few = data.from_arrays(x, torch.arange(20) % 2)
    >>> recipe = Recipe("2c2f", 0.1, 0.1, epochs=1, epochs_paper=1, batch_size=8)
    >>> net = train(recipe, few, Path(tempfile.mkdtemp()) / "own.safetensors")
    >>> net.classes
    2
    """
    _check(recipe, dataset)
    path, augmentation = certificate.weights_path(out), _augmentation(augment)
    net, recipe = _begin(recipe, dataset, start)
    checkpoint = path.with_suffix(".checkpoint.safetensors")
    _can_be_written(path)
    history = recipes.fit(
        net, recipe, dataset.train, augment=augmentation, checkpoint=checkpoint, on_epoch=on_epoch
    )
    net.eval()
    models.write(path, net, recipe, _card(net, recipe, dataset, augment, history))
    checkpoint.unlink(missing_ok=True)
    return net


def _check(recipe: Any, dataset: Any) -> None:
    if not isinstance(recipe, Recipe) or not isinstance(dataset, Dataset):
        raise ValueError(
            f"a training needs a Recipe and a Dataset, as data.from_arrays or data.load gives it; "
            f"got {type(recipe).__name__} and {type(dataset).__name__}"
        )
    for part in (dataset.train, dataset.test):
        check_images(part.x, dataset.train.x.shape[1:])
        labels("labels", part.y, part.x, len(dataset.classes))
    if recipe.device.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {recipe.device!r}; choose cpu or cuda")


def _can_be_written(path: Path) -> None:
    """A training takes hours: what would fail at its end is found at its start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"the weights need to go to a file, and {path} is a folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"nothing can be written in {path.parent}: name another folder")


def _augmentation(name: str) -> training.Augment | None:
    if name not in training.AUGMENTATIONS:
        known = ", ".join(training.AUGMENTATIONS)
        raise ValueError(f"unknown augmentation {name!r}; choose one of {known}")
    return training.AUGMENTATIONS[name]


def _begin(
    recipe: Recipe, dataset: Dataset, start: GloroNet | Path | str | None
) -> tuple[GloroNet, Recipe]:
    """A new net, or the one that is there, if it fits the data; and the recipe that names it."""
    channels, height, width = dataset.train.x.shape[1:]
    shape, classes = (channels, height, width), len(dataset.classes)
    if start is None:
        return recipes.build(recipe, shape, classes), recipe
    if not isinstance(start, GloroNet | Path | str):
        raise ValueError(
            f"start needs to be a GloroNet or a file, got {type(start).__name__}: "
            f"GloroNet(adopt(module, {shape}), {recipe.epsilon}, {shape}) makes one of a module"
        )
    net = start if isinstance(start, GloroNet) else stated.load(start, recipe.epsilon)
    if (kind := structure.precision(net.body)) != torch.float32:
        raise ValueError(
            f"training needs weights in float32, got {kind}: net.float() makes them so"
        )
    check_fits(net, dataset)
    return net.to(recipe.device), replace(recipe, net=models.STATED)


def check_fits(net: GloroNet, dataset: Dataset) -> None:
    """Refuse a net and a data set that differ in the shape of an image or the number of classes.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> x = torch.arange(20 * 64).view(20, 1, 8, 8) / 1280
    >>> few = data.from_arrays(x, torch.arange(20) % 2)
    >>> body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> check_fits(GloroNet(body, 0.1, (1, 8, 8)), few)
    """
    shape, classes = tuple(dataset.train.x.shape[1:]), len(dataset.classes)
    if (net.input_shape, net.classes) != (shape, classes):
        raise ValueError(
            f"the net takes images of shape {net.input_shape} in {net.classes} classes, the "
            f"data has {shape} in {classes}"
        )


def _card(
    net: GloroNet, recipe: Recipe, dataset: Dataset, augment: str, history: History
) -> dict[str, object]:
    found = certify(net, dataset.test.x)
    right = (found.labels.cpu() == dataset.test.y).double()
    return {
        "data": dataset.name,
        "data_sha256": data.fingerprint(dataset),
        "class_names": list(dataset.classes),
        "augment": augment,
        "scores": {
            "points": len(right),
            "clean": right.mean().item(),
            "vra": (right * found.certified.cpu()).mean().item(),
            "k_sub": found.bound.k_sub,
        },
        "history": [{key: epoch[key] for key in ("epoch", "loss")} for epoch in history],
        **provenance.collect(recipe.device, places.checkout()),
    }
