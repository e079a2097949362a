"""The table gloro-cifar10: one net trained in several ways, certified at three radii.

A part of the chapter robustness/gloro; `frontier` sets the same nets beside published ones.
"""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.gloro import vra as gloro
from thesis_repro.experiments.gloro.vra import VraConfig
from thesis_repro.experiments.nets import PAPER, at_scale
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Recipe, Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import (
    ABOVE,
    Condition,
    between,
    beyond,
    every,
    of,
    reaches,
    said,
)
from thesis_repro.tables.estimate import difference
from thesis_repro.tables.spec import Column, Plan, Row, Table, TableSpec

DATASET, AUGMENT = "cifar10", "crop-flip"
RADII = {"vra36": 36 / 255, "vra72": 72 / 255, "vra108": 108 / 255}
"""The radii of the columns."""

BASE = replace(PAPER["36/255"], epochs=8)
ONCE, TWICE = "1.1 × 36/255", "2 × 36/255"

WAYS: dict[Row, Recipe] = {
    ("GloRo, TRADES", ONCE): BASE,
    ("GloRo, TRADES", TWICE): replace(BASE, train_epsilon=72 / 255),
    ("GloRo, cross-entropy", ONCE): replace(BASE, objective="cross-entropy"),
    ("GloRo, cross-entropy", TWICE): replace(
        BASE, objective="cross-entropy", train_epsilon=72 / 255
    ),
    ("standard", "none"): replace(BASE, method="standard"),
    ("adversarial (PGD)", "36/255"): replace(
        BASE, method="adversarial", train_epsilon=36 / 255, ramp="constant"
    ),
}
"""The trainings of 6C2F with MinMax, by method and by the radius of the loss."""

RELU_GLORO = replace(PAPER["36/255"], activation="relu")
NOISE = replace(RELU_GLORO, method="standard", noise=0.25)
"""For other chapters: 6C2F with ReLU, as GloRo net and trained on noisy images."""

LIRESNET = Recipe(
    net="liresnet-l6w64",
    epsilon=36 / 255,
    train_epsilon=1.5 * 36 / 255,
    epochs=200,
    epochs_paper=800,
    batch_size=256,
    objective="emma",
    ramp_start=0.1 / 1.5,
    optimizer="nadam",
    decay="cosine",
    warmup=20 / 800,
    clip=3.0,
    power_steps=2,
    fused=True,
)
"""After Hu et al. 2023 and the authors' code, without generated data; a quarter of the epochs."""


def cifar_training(recipe: Recipe, seed: int, device: str) -> Training:
    """A training on CIFAR-10 at the scale of the device."""
    return Training(DATASET, at_scale(recipe, seed, device), AUGMENT)


def liresnet_training(seed: int, device: str) -> Training:
    """LiResNet of 6 blocks: width 64 on a CPU; width 128 and ten power iterations on a GPU."""
    wide = device == "cuda"
    recipe = replace(LIRESNET, net="liresnet-l6w128", power_steps=10) if wide else LIRESNET
    return cifar_training(recipe, seed, device)


def config_of(training: Training) -> VraConfig:
    """How a net is certified and attacked: in float64, since published values know no rounding;
    on a GPU as in that row of gloro-vra, so that the two share their cells.

    On a CPU, where every step in float64 counts, the smallest margins are attacked more briefly.
    """
    if training.device == "cuda":
        return VraConfig(training, 0, 50, 1, 200, 100, 10, double=True)
    return VraConfig(training, gloro.PGD_POINTS_CPU["36/255"], 50, 1, 200, 50, 1, double=True)


def at_radii(config: VraConfig) -> Result:
    """Cell: the measures of `gloro.evaluate`, with the VRA at each radius of `RADII`."""
    result = compute(_cell(gloro.evaluate, config))
    radius, correct = result.arrays["radius"], result.arrays["correct"].astype(bool)
    found = {
        name: {"k": int((correct & (radius > epsilon)).sum()), "n": len(radius)}
        for name, epsilon in RADII.items()
    }
    return Result({**result.values, **found})


def _cell(function: Callable[[VraConfig], Result], config: VraConfig) -> Cell:
    return Cell(function, config, models.fingerprints(config.training))


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-cifar10`; on a CPU one seed."""
    if profile.name == "quick" or not data.available(DATASET):
        return []
    seeds = profile.seeds if profile.device == "cuda" else profile.seeds[:1]
    return [
        (row, radii_cell(config_of(cifar_training(recipe, seed, profile.device))))
        for row, recipe in WAYS.items()
        for seed in seeds
    ]


def radii_cell(config: VraConfig) -> Cell:
    """The cell that certifies one training at every radius."""
    return _cell(at_radii, config)


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """A larger training radius costs clean accuracy and wins VRA at 108/255; no proof is broken;
    without the extra class nothing is certified."""
    by = frame.set_index(["method", "trained"])
    found = []
    for method in ("GloRo, TRADES", "GloRo, cross-entropy"):
        if {(method, ONCE), (method, TWICE)} <= set(by.index):
            once, twice = by.loc[(method, ONCE)], by.loc[(method, TWICE)]
            costs, wins = between(once, twice, "clean"), between(twice, once, "vra108")
            found.append(
                Condition(
                    f"{method}: twice the radius costs clean accuracy, wins VRA at 108/255",
                    "both above 0 points, with the interval",
                    f"costs {said(costs)}, wins {said(wins)}",
                    every(reaches(gap, ABOVE) for gap in (costs, wins)),
                )
            )
    without = frame[frame["trained"].isin(["none", "36/255"])]
    if len(without):
        found.append(
            Condition(
                "standard and adversarial training certify nothing",
                "VRA below 1%",
                f"at most {without['vra36'].max():.1f}%",
                every(reaches(of(row, "vra36"), 1, at_most=True) for _, row in without.iterrows()),
            )
        )
    broken = frame["broken"].sum()
    found.append(Condition(UNBROKEN, "0", f"{broken:.0f}", bool(broken == 0)))
    return [*found, *under_attack(frame)]


def under_attack(frame: pd.DataFrame) -> list[Condition]:
    """A change that no eye sees overturns answers of the standard net, and fewer of robust ones."""
    by = frame.set_index("method")
    if "standard" not in by.index:
        return []
    standard, robust = by.loc["standard"], by.drop(index="standard")
    found = [
        Condition(
            "an attack at 36/255 overturns answers of the standard net",
            "accuracy under attack below clean accuracy, intervals apart",
            f"{standard['clean']:.1f}% to {standard['pgd']:.1f}%",
            beyond(of(standard, "clean"), of(standard, "pgd")),
        )
    ]
    if len(robust):
        lost, *others = (
            difference(of(row, "clean"), of(row, "pgd"))
            for row in (standard, *(row for _, row in robust.iterrows()))
        )
        most = max(others, key=lambda one: one.value)
        found.append(
            Condition(
                "robust training loses fewer answers to the attack than standard training",
                "fewer points in each row, intervals apart",
                f"at most {said(most)} points, the standard net {said(lost)}",
                every(beyond(lost, one) for one in others),
            )
        )
    return found


UNBROKEN = "no certified point falls to an attack"

VRA_COLUMNS = (
    Column("clean", "clean", "%", kind="rate"),
    Column("vra36", "VRA at 36/255", "%", kind="rate"),
    Column("vra72", "at 72/255", "%", kind="rate"),
    Column("vra108", "at 108/255", "%", kind="rate"),
)

TABLE = Table(
    TableSpec(
        name="gloro-cifar10",
        caption=(
            "6C2F with MinMax on CIFAR-10, trained in several ways: clean accuracy, accuracy under "
            "PGD at 36/255, and VRA at three radii, in percent of test points; *trained for* is "
            "the radius of the loss at the end of training. Certified and attacked in float64."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("method", "training", kind="key"),
            Column("trained", "trained for", kind="key"),
        ),
        columns=(
            VRA_COLUMNS[0],
            Column("pgd", "PGD", "%", kind="rate"),
            *VRA_COLUMNS[1:],
            Column("k_sub", "K", format="{:.3g}"),
            Column("broken", "broken", format="{:.0f}"),
        ),
        rows=tuple(WAYS),
        claims=published.claims("gloro-cifar10"),
        quoted=published.quoted("gloro-cifar10"),
        conditions=conditions,
    ),
    cells,
)
