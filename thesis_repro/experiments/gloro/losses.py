"""The table gloro-losses: three losses of GloRo training on one net at one radius.

A part of the chapter robustness/gloro.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.nets import (
    DATASETS,
    QUICK,
    TITLES,
    epochs,
    paper_training,
    quick_training,
)
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import certify, models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition, every, of, reaches, said
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.measure import summarise, with_gains
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

TRADES, CROSS, EMMA = "TRADES", "cross-entropy", "EMMA"
LOSSES = {TRADES: "trades", CROSS: "cross-entropy", EMMA: "emma"}
"""Objectives by their titles; all else is the same, the radius in the loss included."""
TAIL = 0.1


@dataclass(frozen=True)
class LossConfig:
    """One trained net, judged on the test images."""

    training: Training


def judge(config: LossConfig) -> Result:
    """Cell: clean accuracy, VRA, K and the lower tail of the radii; arrays hold each point.

    In float64. The tail is the largest radius at which 90% of the points that are classified
    rightly are still certified.
    """
    test = data.held_out(config.training.dataset)
    device = config.training.recipe.device
    net = models.trained(config.training).double()
    y = test.y.to(device)
    certificate = certify(net, test.x.to(device).double())
    right = certificate.labels == y
    verified, radius = right & certificate.certified, certificate.radius.cpu().numpy()
    correct = right.cpu().numpy()
    values = {
        "clean": {"k": int(right.sum()), "n": len(y)},
        "vra": {"k": int(verified.sum()), "n": len(y)},
        "tail": float(np.quantile(radius[correct], TAIL)) if correct.any() else None,
        "k_sub": certificate.bound.k_sub,
        **epochs(config.training),
    }
    arrays = {"radius": radius, "correct": correct, "verified": verified.cpu().numpy()}
    return Result(values, arrays)


def trained(radius: str, title: str, profile: Profile, seed: int) -> Training:
    """The training at a radius by one loss."""
    if profile.name == "quick":
        base = quick_training(radius, seed)
    else:
        base = paper_training(radius, seed, profile.device, long=True)
    return replace(base, recipe=replace(base.recipe, objective=LOSSES[title]))


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-losses`."""
    plan: list[tuple[Row, Cell]] = []
    for radius in QUICK if profile.name == "quick" else DATASETS:
        for title in LOSSES:
            for seed in profile.seeds:
                config = trained(radius, title, profile, seed)
                if not data.available(config.dataset):
                    continue
                cell = Cell(judge, LossConfig(config), models.fingerprints(config))
                plan.append((row(config.dataset, radius, title), cell))
    return plan


def row(dataset: str, radius: str, title: str) -> Row:
    """The key of a row."""
    return TITLES[dataset], radius, title


def curves(profile: str = "quick", seed: int = 0, radius: str = "1.58") -> dict[str, Result]:
    """The cells of one radius by loss, on a CPU, from the store or trained now."""
    plan = cells(profiles.profile(profile, "cpu", seed))
    return {key[2]: compute(cell) for key, cell in plan if key[1] == radius and cell is not None}


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Summarise each row, and compare it point by point with TRADES at its radius."""
    measured = summarise(TABLE.spec, gathered)
    return with_gains(measured, gathered, lambda key: (*key[:2], TRADES), {"gain": "verified"})


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Written down before the first run of the table; that all of an interval counts, later."""
    emma = [of(row, "gain") for _, row in frame[frame["loss"] == EMMA].iterrows()]
    return [
        Condition(
            "on a small net EMMA verifies no fewer points than the TRADES-style loss",
            "at every radius, no part of the interval below 0",
            ", ".join(f"{said(gain)} points" for gain in emma),
            every(reaches(gain, 0.0) for gain in emma) if emma else None,
        )
    ]


TABLE = Table(
    TableSpec(
        name="gloro-losses",
        caption=(
            "The same net, radius and steps by three losses. Tail: the radius within which 90% of "
            "the points that are classified rightly are certified. More VRA: point by point "
            "against TRADES. Certified in float64."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("radius", "radius", kind="key"),
            Column("loss", "loss", kind="key"),
        ),
        columns=(
            Column("clean", "clean", "%", kind="rate", drift=2.0),
            Column("vra", "VRA", "%", kind="rate", drift=3.0),
            Column("gain", "more VRA than TRADES", "points"),
            Column("tail", "tail", format="{:.3f}"),
            Column("k_sub", "K", format="{:.2f}"),
        ),
        rows=tuple(row(DATASETS[r][0], r, title) for r in DATASETS for title in LOSSES),
        claims=published.claims("gloro-losses"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
