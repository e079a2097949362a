"""The table bias-deep: remedies on one hidden layer of a convolutional net."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from thesis_repro import data, nets, training
from thesis_repro.data import Split
from thesis_repro.experiments.bias.remedies import PRIOR
from thesis_repro.experiments.bias.removal import HALF, beyond, halves, has_bias, pool
from thesis_repro.experiments.bias.synthetic import SIGNED
from thesis_repro.experiments.bias.two_classes import (
    CIFAR,
    EXPERTS,
    FULL,
    LFW,
    PARITY,
    PICTURES,
    SHIFT,
    add_run,
    fingerprints,
    imbalanced,
    pictures,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.claims import Measured
from thesis_repro.tables.conditions import Condition, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Derived, Frame, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.tables.verdict import measured
from thesis_repro.weaknesses import bias


@dataclass(frozen=True)
class DeepConfig:
    """Nets on one pair of classes, and the remedies on hidden layers.

    layers : (title, dotted name) of each layer
    first : number of the first net; each number has its own split and start
    """

    dataset: str
    prior: float
    net: str
    layers: tuple[tuple[str, str], ...]
    epochs: int
    runs: int
    seed: int
    first: int = 0
    lr: float = 1e-3
    device: str = "cpu"


def deep(config: DeepConfig) -> Result:
    """Cell: bias, accuracy and units kept of each remedy on each layer, on new nets."""
    found: dict[str, list[float]] = {}
    pool = pictures(config.dataset, "train" if config.dataset == CIFAR else "both")
    for run in range(config.first, config.first + config.runs):
        fit, val, test = parts(config, pool, run)
        model = train(config, fit, run)
        for layer in config.layers:
            _remedy_layer(found, model, layer, fit, val, test)
    return Result(
        {"test_points": len(test)}, {name: np.array(values) for name, values in found.items()}
    )


def parts(config: DeepConfig, pool: Split, run: int) -> tuple[Split, Split, Split]:
    """Training, validation and test part of one run; CIFAR-10 keeps its own test set.

    `pool` holds all pictures, or CIFAR-10's training pictures.
    """
    rng = np.random.default_rng([config.seed, run])
    if config.dataset == CIFAR:
        fit, val = _cut(pool, 0.2, rng)
        return fit, val, pictures(config.dataset, "test")
    if config.prior:
        index = imbalanced(pool.y.numpy(), config.prior, rng)
        pool = Split(pool.x[index], pool.y[index])
    whole, test = _cut(pool, 0.5, rng)
    fit, val = _cut(whole, 0.4, rng)
    return fit, val, test


def _remedy_layer(
    found: dict[str, list[float]],
    model: nn.Module,
    layer: tuple[str, str],
    fit: Split,
    val: Split,
    test: Split,
) -> None:
    """Choose masks from training influence and validation points; score them on test points."""
    title, name = layer
    influence = bias.unit_influence(model, fit.x, name)
    chosen_on, judged_on = (bias.HiddenLayer(model, name, part.x) for part in (val, test))
    y, truth = val.y.numpy(), test.y.numpy()
    alpha, beta = chosen_on.experts(influence, y)
    masks = {
        FULL: None,
        PARITY: bias.parity_mask(influence),
        EXPERTS: bias.expert_mask(influence, alpha, beta),
        SHIFT: None,
    }
    for remedy, mask in masks.items():
        scores = judged_on.scores(mask)
        if remedy == SHIFT:
            scores = scores + bias.balancing_shift(chosen_on.scores(), y)
        said = (scores > 0).astype(int)
        scored = bias.measure(truth, said), float((said == truth).mean())
        kept = chosen_on.units if mask is None else float(mask.sum())
        add_run(found, f"{title}.{remedy}", scored, kept)


def train(config: DeepConfig, fit: Split, run: int) -> nn.Sequential:
    """A ReLU net of two classes, trained by cross-entropy on the configuration's device."""
    seed = 1000 * config.seed + run
    channels, height, width = fit.x.shape[1:]
    model = nets.build(
        config.net,
        "relu",
        in_shape=(channels, height, width),
        classes=2,
        generator=torch.Generator().manual_seed(seed),
    ).to(config.device)
    schedule = training.cosine(config.lr, warmup=0.1)
    how = training.TrainConfig(config.epochs, 64, seed)
    training.fit(model, training.classification, fit, how, schedule)
    return model.eval()


def _cut(split: Split, share: float, rng: np.random.Generator) -> tuple[Split, Split]:
    """Two parts, the second with `share` of each class."""
    from sklearn.model_selection import train_test_split

    first, second = train_test_split(
        np.arange(len(split)),
        test_size=share,
        stratify=split.y,
        random_state=int(rng.integers(2**31)),
    )
    return Split(split.x[first], split.y[first]), Split(split.x[second], split.y[second])


REMEDIES = (FULL, PARITY, EXPERTS, SHIFT)
LAYERS_2C2F = (("second convolution", "3"), ("dense layer", "6"))
EPOCHS = (10, 20)
"""Digits: a net that was stopped early, and one that was not."""
PHOTO_EPOCHS = 15
DIGIT_RUNS = 6
FACE_RUNS, FACE_FIRST = 10, 100
"""Nets on faces for each seed. Their numbers are new: earlier nets suggested what is claimed."""


def digits_net(epochs: int, runs: int, seed: int = 0) -> DeepConfig:
    """The nets on two digits."""
    return DeepConfig("MNIST-5k 4/9", PRIOR, "2c2f", LAYERS_2C2F, epochs, runs, seed)


def cells(profile: Profile) -> Plan:
    """The plan of `bias-deep`: digits in both profiles, photographs where they are in paper."""
    wanted = [digits_net(epochs, DIGIT_RUNS) for epochs in EPOCHS]
    if profile.name != "quick":
        wanted += [
            DeepConfig(CIFAR, 0.0, "2c2f", LAYERS_2C2F, PHOTO_EPOCHS, 1, 0),
            DeepConfig(LFW, 0.0, "2c2f", LAYERS_2C2F, PHOTO_EPOCHS, FACE_RUNS, 0, FACE_FIRST),
        ]
    plan: list[tuple[Row, Cell | None]] = []
    for config in wanted:
        here = config.dataset not in PICTURES or data.available(PICTURES[config.dataset])
        configs = [replace(config, seed=seed, device=profile.device) for seed in profile.seeds]
        per_seed = [Cell(deep, c, fingerprints(c.dataset)) if here else None for c in configs]
        for title, _ in config.layers:
            for remedy in REMEDIES:
                row = (trained_net(config.dataset, config.epochs), title, remedy)
                plan += [(row, cell) for cell in per_seed]
    return plan


def trained_net(dataset: str, epochs: int) -> str:
    """The key of a net: what it was trained on, and for how long."""
    return f"{dataset}, {epochs} epochs"


def assemble(_: Profile, gathered: Gathered) -> dict[Row, Measurement]:
    """Pool the nets of all seeds."""
    return {
        row: pool(results, f"{row[1]}.{row[2]}", f"{row[1]}.{FULL}")
        for row, results in gathered.items()
    }


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Experts on hidden layers, one condition for each trained net.

    Not measurable where the nets have no bias beyond chance.
    """
    found = []
    for net, rows in frame.groupby("net", sort=False):
        layers = [part for _, part in rows.groupby("layer", sort=False)]
        there = has_bias(layers[0])
        experts, full = (rows[rows["remedy"] == remedy] for remedy in (EXPERTS, FULL))
        text = f"{said(Estimate(float(full['bias'].iloc[0])))} points"
        if there:
            best = of(experts.loc[experts["removed"].idxmax()], "removed")
            text = f"{said(best, 0)}% of {text} removed"
        found.append(
            Condition(
                f"experts of a hidden layer halve the bias, {net}",
                "on one layer at least, with the interval, accuracy at most 0.5 lower; a bias "
                "beyond chance",
                text,
                _any(map(_halved, layers)) if there else None,
                measurable=there,
            )
        )
    return found


def _halved(layer: pd.DataFrame) -> bool | None:
    """Whether experts halve a bias, with the interval of what they remove, at hardly any cost."""
    experts = layer[layer["remedy"] == EXPERTS].iloc[0]
    enough = reaches(of(experts, "removed"), 100 * (1 - HALF))
    return enough if enough is not True or halves(layer, EXPERTS) else False


def _any(parts: Iterable[bool | None]) -> bool | None:
    found = set(parts)
    return True if True in found else None if None in found else False


NETS = (
    *(trained_net("MNIST-5k 4/9", epochs) for epochs in EPOCHS),
    *(trained_net(name, PHOTO_EPOCHS) for name in (CIFAR, LFW)),
)


def removed_of_the_mean(frame: Frame, row: Row) -> Measured | None:
    """Share of the mean signed bias that a remedy took away, in percent, with its interval.

    Not measurable where the interval of the bias before meets what chance shows.
    """
    before, after = (measured(frame, one, "bias") for one in ((*row[:-1], FULL), row))
    floor = frame.value((*row[:-1], FULL), "chance")
    if before is None or after is None or floor is None:
        return None
    if not beyond(before.low, before.high, floor):
        value = 100 * (1 - abs(after.value) / abs(before.value)) if before.value else math.nan
        return Measured(value, seeds=before.seeds, measurable=False)
    return measured(frame, row, "removed")


TABLE = Table(
    TableSpec(
        name="bias-deep",
        caption=(
            "Remedies on one hidden layer of a convolutional net, units ranked by internal "
            f"influence over the training set. Digits: class 1 has a share of {PRIOR:.0%}; "
            "photographs keep their own shares. Chosen on validation images, measured on test "
            "images. By chance: mean absolute bias of an unbiased net with as many errors. "
            "Removed: share of the mean bias over nets, where that lies beyond chance."
        ),
        chapter="weaknesses/bias",
        keys=(
            Column("net", "trained on", kind="key"),
            Column("layer", "layer", kind="key"),
            Column("remedy", "remedy", kind="key"),
        ),
        columns=(
            Column("bias", "bias", "points", SIGNED, drift=4.0),
            Column("chance", "by chance", "points"),
            Column("removed", "removed", "%", "{:z.0f}"),
            Column("accuracy", "accuracy", "%", drift=4.0),
            Column("kept", "units kept", format="{:.0f}"),
        ),
        rows=tuple(
            (net, layer, remedy) for net in NETS for layer, _ in LAYERS_2C2F for remedy in REMEDIES
        ),
        claims=published.claims("bias-deep"),
        quoted=published.quoted("bias-deep"),
        derived=(
            Derived(Column("of_mean", "removed of the mean", "%", "{:.0f}"), removed_of_the_mean),
        ),
        conditions=conditions,
    ),
    cells,
    assemble,
)
