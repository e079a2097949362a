"""Table of the chapter explanations/experts on deeper slices: where influence is no weight row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from thesis_repro import data, nets, training
from thesis_repro.experiments.experts import planted
from thesis_repro.explanations.experts import halves, keep
from thesis_repro.explanations.rankings import METHODS, auroc
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition, between, every, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement, difference
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.tables.statistics import holm, mean_over
from thesis_repro.training import named
from thesis_repro.training.named import History

INFLUENCE, ACTIVATION, WEIGHTS, RANDOM, WHOLE = (
    "influence", "activation", "weights", "random", "all units",
)  # fmt: skip
RANKED = (WHOLE, *METHODS, RANDOM)
CONVOLUTION, DENSE, BOTH = "second convolution", "first of two dense layers", "both slices"
SLICES = {CONVOLUTION: ("3", 8), DENSE: ("6", 12)}
"""The layer, and the largest number of units kept: a quarter of 32 maps, a tenth of 128 units."""
STEP = 2
"""Numbers of units that are tried are multiples of it."""
TITLES = {"mnist-5k": "MNIST-5k", "mnist": "MNIST"}
IMAGES = 1000
"""Test images: half of them choose, half judge."""
EPOCHS = {"mnist-5k": 5, "mnist": 1}
NETS = 20
"""Nets with planted features, for each seed."""


@dataclass(frozen=True)
class TwoDense:
    """A digit net of two convolutions and two hidden dense layers."""

    dataset: str
    epochs: int
    seed: int = 0
    device: str = "cpu"

    def build(self) -> nn.Sequential:
        """The untrained net: ReLU, orthogonal start."""
        generator = torch.Generator().manual_seed(self.seed)
        net = nets.cnn([(16, 4, 2), (32, 4, 2)], [128, 64], "relu", (1, 28, 28), 10, generator)
        return net.to(self.device)

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train by cross-entropy with Adam."""
        net, how = self.build(), training.TrainConfig(self.epochs, 128, self.seed)
        digits = data.load(self.dataset).train
        about = (training.classification, digits, how, training.cosine(2e-3))
        return net, training.fit(net, *about, checkpoint=checkpoint)


@dataclass(frozen=True)
class SliceConfig:
    """All rankings of one slice of one net, on so many test images."""

    net: TwoDense
    layer: str
    budget: int
    images: int


def compressed(config: SliceConfig) -> Result:
    """Cell: AUROC, balanced accuracy and units kept of each class's detector, by ranking.

    Units are ranked and counted on every second image, and judged on the others.
    """
    net = named.trained(config.net)
    test = data.held_out(config.net.dataset)
    device = config.net.device
    sides = halves(
        net, config.layer, test.x[: config.images].to(device), test.y[: config.images].to(device)
    )
    found: dict[str, list[float]] = {}
    for c in range(10):
        draws = torch.Generator().manual_seed(1000 * config.net.seed + c)
        for name in RANKED:
            kept = None
            if name != WHOLE:
                scores = (
                    torch.rand(sides.choosing.units, generator=draws)
                    if name == RANDOM
                    else METHODS[name](sides.choosing, c)
                )
                choice = sides.choosing.choose(c, scores, config.budget, STEP)
                kept = keep(scores, choice)
            values = (
                100 * auroc(sides.judging, c, kept),
                100 * sides.judging.detect(c, kept).balanced,
                sides.judging.units if kept is None else int(kept.sum()),
            )
            for measure, value in zip(("auroc", "balanced", "kept"), values, strict=True):
                found.setdefault(f"{name}.{measure}", []).append(value)
    return Result({}, {name: np.array(one) for name, one in found.items()})


def cells(profile: Profile) -> Plan:
    """The plan of `experts-slices`; all rankings of a slice share their cells."""
    name = "mnist-5k" if profile.name == "quick" else "mnist"
    plan: list[tuple[Row, Cell | None]] = []
    for where in (*SLICES, BOTH) if data.available(name) else ():
        for ranking in RANKED:
            row = (f"{TITLES[name]}, {where}", ranking)
            for layer, budget in SLICES.values() if where == BOTH else (SLICES[where],):
                for seed in profile.seeds:
                    net = TwoDense(name, EPOCHS[name], seed, profile.device)
                    config = SliceConfig(net, layer, budget, IMAGES)
                    plan.append((row, Cell(compressed, config, named.fingerprints(net))))
    for question in (planted.QUANTITY, planted.DISTRIBUTION):
        for ranking in planted.ASKED:
            plan += [
                ((question, ranking), Cell(planted.planted, planted.PlantedConfig(NETS, seed)))
                for seed in profile.seeds
            ]
    return plan


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Means over classes, each of them averaged over seeds first; who wins, class by class."""
    seeds = len(profile.seeds)
    return {
        row: _known(row, results)
        if row[0] in (planted.QUANTITY, planted.DISTRIBUTION)
        else _measured(row[1], results, len(results) // seeds)
        for row, results in gathered.items()
    }


def _known(row: Row, results: Sequence[Result]) -> Measurement:
    shares = np.concatenate([100 * r.arrays[" / ".join(row)] for r in results])
    return Measurement({"right": _within(mean_over(shares.tolist(), "nets"))}, len(results))


def _within(found: Estimate) -> Estimate:
    """Student's t knows no 100%."""
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 100.0), found.how)


def _measured(ranking: str, results: Sequence[Result], slices: int) -> Measurement:
    def classes(name: str, measure: str) -> NDArray[np.float64]:
        """One value for each class of each slice, the mean over seeds."""
        values = np.stack([r.arrays[f"{name}.{measure}"] for r in results])
        return np.asarray(values.reshape(slices, -1, values.shape[1]).mean(1).ravel())

    over = "classes" if slices == 1 else "classes-times-slices"
    values: dict[str, Estimate | str] = {
        measure: _within(mean_over(classes(ranking, measure).tolist(), over))
        for measure in ("auroc", "balanced")
    }
    values["kept"] = Estimate(float(classes(ranking, "kept").mean()))
    if ranking not in (INFLUENCE, WHOLE):
        ours, theirs = classes(INFLUENCE, "balanced"), classes(ranking, "balanced")
        wins, losses, p = sign_test(ours, theirs)
        values["won"] = f"{wins} of {wins + losses}"
        values["p"] = Estimate(p)
    return Measurement(values, len(results) // slices)


def sign_test(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[int, int, float]:
    """Pairs won, pairs lost, and the exact two-sided p-value of the sign test; ties count for none.

    Parameters
    ----------
    ours, theirs : (pairs,)
    """
    from scipy.stats import binomtest

    wins, losses = int((ours > theirs).sum()), int((ours < theirs).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return wins, losses, p


AHEAD, RIGHT, APART, LEVEL = 10.0, 90.0, 25.0, 0.05
"""Needed: points above activation; percent of right units; points below it, asked otherwise."""


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Influence against activations and weights at deeper slices; and the planted features."""
    found = []
    rows = frame[frame["slice"].str.endswith(BOTH)].set_index("ranking")
    if {INFLUENCE, ACTIVATION, WEIGHTS} <= set(rows.index):
        gap = between(rows.loc[INFLUENCE], rows.loc[ACTIVATION], "balanced")
        found.append(
            Condition(
                "deeper slices, balanced accuracy: influence above activation",
                f"{AHEAD:g} points, with the interval",
                said(gap),
                reaches(gap, AHEAD),
            )
        )
        others = [ACTIVATION, WEIGHTS]
        adjusted = holm(rows.loc[others, "p"].tolist())
        for other, p in zip(others, adjusted, strict=True):
            won = str(rows.loc[other, "won"])
            wins, decided = (int(part) for part in won.split(" of "))
            found.append(
                Condition(
                    f"deeper slices: influence wins against {other}",
                    f"most classes-times-slices, exact sign test p ≤ {LEVEL:g} after Holm",
                    f"{won}, p = {p:.2g}",
                    2 * wins > decided and p <= LEVEL,
                )
            )
    for question, what in ((planted.QUANTITY, "quantity"), (planted.DISTRIBUTION, "distribution")):
        right = frame[frame["slice"] == question].set_index("ranking")
        if right.empty:
            continue
        asked, otherwise = (of(right.loc[name], "right") for name in planted.ASKED[:2])
        found.append(
            Condition(
                f"planted features: the {what} of interest decides which units are found",
                f"at least {RIGHT:g}% right, and {APART:g} points fewer with another {what}",
                f"{asked.value:.0f}% and {otherwise.value:.0f}%",
                every((reaches(asked, RIGHT), reaches(difference(asked, otherwise), APART))),
            )
        )
    return found


TABLE: Table = Table(
    TableSpec(
        name="experts-slices",
        caption=(
            "A digit net as a detector of each class with a few units of a deeper slice, where "
            "influence is no row of weights. Units are ranked, and their number chosen, on one "
            "half of the images, and the other half judges: area under the ROC curve of the log "
            "odds of the class, and balanced accuracy. Won: classes in which influence has the "
            "higher balanced accuracy, of those that differ, with the exact sign test, each row's "
            "by itself. Planted: small nets whose right units are known; share of them among as "
            "many of the highest scores, asked rightly, and with another quantity or distribution "
            "of interest."
        ),
        chapter="explanations/experts",
        keys=(
            Column("slice", "slice", kind="key"),
            Column("ranking", "units kept by", kind="key"),
        ),
        columns=(
            Column("kept", "kept", format="{:.1f}"),
            Column("auroc", "AUROC", "%", drift=8.0),
            Column("balanced", "balanced accuracy", "%", drift=8.0),
            Column("won", "influence won", kind="text"),
            Column("p", "p", format="{:.2g}"),
            Column("right", "right units", "%", drift=10.0),
        ),
        rows=tuple(
            (where, ranking)
            for where, rankings in (
                *((f"MNIST, {where}", RANKED) for where in (*SLICES, BOTH)),
                (planted.QUANTITY, planted.ASKED),
                (planted.DISTRIBUTION, planted.ASKED),
            )
            for ranking in rankings
        ),
        claims=published.claims("experts-slices"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
