"""The table gloro-overtrain: how far beyond the certified radius a net should be trained.

A part of the chapter robustness/gloro. What is chosen is chosen on training images that are held
out; the chosen recipe is then trained on all of them and judged on the test images.

Steps and schedule are searched together with the radius: beyond the radius (`JOINED`) each
training runs once more in batches of half, so with twice the steps in as many epochs, once more
with the other schedule of the radius, and once more with both. Stated before the first of these
was run: at twice the radius, twice the steps verify more points, at every certified radius, by an
interval above zero; since a larger radius needs more steps to be learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from thesis_repro import data, training
from thesis_repro.data import Dataset, Split
from thesis_repro.experiments.nets import (
    DATASETS,
    QUICK,
    TITLES,
    epochs,
    paper_training,
    quick_training,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, models, recipes
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import ABOVE, Condition, every, of, reaches, said
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.measure import summarise, with_gains
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named

MULTIPLES = (1.0, 1.1, 1.5, 2.0, 3.0)
"""Radii of the loss, as multiples of the radius that is certified."""
JOINED = (1.5, 2.0)
"""Multiples that steps and schedule are searched at, too."""
STEPS, SCHEDULE, BOTH = "twice the steps", "other schedule", "both"
CHOSEN = "chosen"
HELD = {"mnist-5k": 1000, "mnist": 5000, "cifar10": 5000}
"""So many training images choose, and are trained on by none that is chosen from."""


@dataclass(frozen=True)
class SweepConfig:
    """A training without the last `held` of the shuffled training images."""

    training: Training
    held: int


def dealt(dataset: Dataset, held: int) -> Dataset:
    """The set whose test part are `held` of its training images, drawn once for all.

    Raises
    ------
    ValueError
        If no image is left to train on, or none is held out.
    """
    n = len(dataset.train)
    if not 0 < held < n:
        raise ValueError(f"{held} images are to be held out of {n}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    x, y = dataset.train.x, dataset.train.y
    kept, out = (Split(x[rows], y[rows]) for rows in order.split((n - held, held)))
    return Dataset(dataset.name, kept, out, dataset.classes)


def sweep(config: SweepConfig) -> Result:
    """Cell: train without the images that are held out, and judge those."""
    found = dealt(data.load(config.training.dataset), config.held)
    recipe = config.training.recipe
    _, *shape = found.train.x.shape
    net = recipes.build(recipe, (shape[0], shape[1], shape[2]), len(found.classes))
    augment = training.AUGMENTATIONS[config.training.augment]
    recipes.fit(net, recipe, found.train, augment=augment, checkpoint=named.checkpoint())
    return _judged(net, found.test, config.training)


@dataclass(frozen=True)
class ChosenConfig:
    """The trainings that are chosen from."""

    trainings: tuple[Training, ...]
    held: int

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.trainings[0].device


def chosen(config: ChosenConfig) -> Result:
    """Cell: the training with the most VRA on the images held out, on all, judged on the test.

    Of equals the one for the smaller radius.
    """
    found = [compute(_sweep(one, config.held)) for one in config.trainings]
    shares = [result.values["vra"]["k"] for result in found]
    best = config.trainings[int(np.argmax(shares))]
    return _judged(models.trained(best), data.held_out(best.dataset), best)


def _judged(net: GloroNet, split: Split, config: Training) -> Result:
    """Clean accuracy and VRA in float64, K, and which points count for VRA."""
    net = net.eval().double()
    y = split.y.to(config.device)
    certificate = certify(net, split.x.to(config.device).double())
    right = certificate.labels == y
    verified = right & certificate.certified
    values = {
        "clean": {"k": int(right.sum()), "n": len(y)},
        "vra": {"k": int(verified.sum()), "n": len(y)},
        "k_sub": certificate.bound.k_sub,
        "train_epsilon": config.recipe.train_epsilon,
        **epochs(config),
    }
    return Result(values, {"verified": verified.cpu().numpy()})


def trainings(radius: str, seed: int, profile: Profile) -> dict[str, Training]:
    """What is searched, by its title; on a CPU at a quarter of the paper's epochs or less."""
    if profile.name == "quick":
        base = quick_training(radius, seed)
    else:
        base = paper_training(radius, seed, profile.device, long=True)
    plain = base.recipe
    steps: dict[str, Any] = {"batch_size": plain.batch_size // 2}
    schedule: dict[str, Any] = {"ramp": "linear" if plain.ramp == "logarithmic" else "logarithmic"}
    ways = {STEPS: steps, SCHEDULE: schedule, BOTH: steps | schedule}

    def trained(multiple: float, **changes: Any) -> Training:
        recipe = replace(plain, train_epsilon=multiple * plain.epsilon, **changes)
        return replace(base, recipe=recipe)

    found = {f"{m:g}": trained(m) for m in MULTIPLES}
    return found | {joined(m, way): trained(m, **ways[way]) for m in JOINED for way in ways}


def joined(multiple: float, way: str) -> str:
    """The title of a multiple that is trained in another way."""
    return f"{multiple:g}, {way}"


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-overtrain`."""
    plan: list[tuple[Row, Cell]] = []
    for radius in QUICK if profile.name == "quick" else DATASETS:
        for seed in profile.seeds:
            compared = trainings(radius, seed, profile)
            name = compared["1"].dataset
            if not data.available(name):
                continue
            plan += [
                (row(name, radius, title), _sweep(one, HELD[name]))
                for title, one in compared.items()
            ]
            every = tuple(compared.values())
            config = ChosenConfig(every, HELD[name])
            known = dict.fromkeys(pair for one in every for pair in models.fingerprints(one))
            plan.append((row(name, radius, CHOSEN), Cell(chosen, config, tuple(known))))
    return plan


def _sweep(config: Training, held: int) -> Cell:
    return Cell(sweep, SweepConfig(config, held), named.fingerprints(config))


def row(dataset: str, radius: str, multiple: str) -> Row:
    """The key of a row."""
    return TITLES[dataset], radius, multiple


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each row, compared point by point with the first of its radius, and with the plain way."""

    def first(key: Row) -> Row | None:
        return None if key[2] == CHOSEN else (*key[:2], f"{MULTIPLES[0]:g}")

    def plain(key: Row) -> Row | None:
        return None if key[2] == CHOSEN else (*key[:2], key[2].partition(",")[0])

    found = with_gains(summarise(TABLE.spec, gathered), gathered, first, {"gain": "verified"})
    return with_gains(found, gathered, plain, {"way": "verified"})


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Written down before the first run of the table."""

    def changed(rows: pd.DataFrame, column: str, fewer: bool = False) -> bool | None:
        """Whether a whole interval lies above zero (below it) in every row; None of no row."""
        least = -ABOVE if fewer else ABOVE
        found = [reaches(of(row, column), least, fewer) for _, row in rows.iterrows()]
        return every(found) if found else None

    def measured(rows: pd.DataFrame, column: str) -> str:
        found = [f"{said(of(row, column))} points at {row['radius']}" for _, row in rows.iterrows()]
        return ", ".join(found) or "not in this run"

    swept = frame[frame["multiple"] == "1.5"]
    far = frame[(frame["multiple"] == "3") & (frame["radius"] == "1.58")]
    more = frame[frame["multiple"] == joined(2.0, STEPS)]
    return [
        Condition(
            "training for 1.5 times the radius verifies more points than training for the radius",
            "at every radius that was run, interval above 0",
            measured(swept, "gain"),
            changed(swept, "gain"),
        ),
        Condition(
            "in few steps three times the radius 1.58 is too far: it verifies fewer points",
            "interval below 0",
            measured(far, "gain"),
            changed(far, "gain", fewer=True),
        ),
        Condition(
            "at twice the radius, twice the steps verify more points",
            "at every radius that was run, interval above 0",
            measured(more, "way"),
            changed(more, "way"),
        ),
    ]


TABLE = Table(
    TableSpec(
        name="gloro-overtrain",
        caption=(
            "The radius in the loss, as a multiple of the radius that is certified. Then with "
            "twice the steps (batches of half, as many epochs), with the other schedule of the "
            "radius (linear for logarithmic, and the reverse), and with both. Each is judged on "
            "training images that are held out (1,000 of MNIST-5k, else 5,000); the chosen one "
            "has the most VRA there, is trained on all, and is judged on the test images. More "
            "than plain: point by point against the same multiple. Certified in float64."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("radius", "radius", kind="key"),
            Column("multiple", "trained for, times", kind="key"),
        ),
        columns=(
            Column("train_epsilon", "radius in the loss", format="{:.3g}", of_training=False),
            Column("clean", "clean", "%", kind="rate", drift=2.0),
            Column("vra", "VRA", "%", kind="rate", drift=3.0),
            Column("gain", "more VRA than at 1", "points"),
            Column("way", "more than plain", "points", later=True),
            Column("k_sub", "K", format="{:.2f}"),
        ),
        rows=tuple(
            row(DATASETS[radius][0], radius, name)
            for radius in DATASETS
            for name in (
                *(f"{m:g}" for m in MULTIPLES),
                *(joined(m, way) for m in JOINED for way in (STEPS, SCHEDULE, BOTH)),
                CHOSEN,
            )
        ),
        claims=published.claims("gloro-overtrain"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
