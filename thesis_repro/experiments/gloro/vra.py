"""The table gloro-vra of the chapter robustness/gloro, and the cell that measures a net."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from thesis_repro import data, nets
from thesis_repro.experiments.nets import (
    DATASETS,
    QUICK,
    TITLES,
    epochs,
    paper_training,
    quick_training,
)
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute, lookup
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import attacks, certify, models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Row, Table, TableSpec


@dataclass(frozen=True)
class VraConfig:
    """One trained net, certified and attacked on the test set.

    `pgd_points`: the first so many test points are attacked for the PGD accuracy (0: all).
    `broken_points`: so many certified points of the smallest margins are attacked (0: all).
    `double`: the trained weights are evaluated in float64, which leaves rounding little to take.
    """

    training: Training
    pgd_points: int
    pgd_steps: int
    pgd_restarts: int
    broken_points: int
    broken_steps: int
    broken_restarts: int
    double: bool = False


def evaluate(config: VraConfig) -> Result:
    """Cell: clean accuracy, accuracy under PGD, VRA, rejection rate, broken certificates."""
    recipe = config.training.recipe
    net = models.trained(config.training)
    test = data.held_out(config.training.dataset)
    x, y = test.x.to(recipe.device), test.y.to(recipe.device)
    if config.double:
        net, x = net.double(), x.double()
    certificate = certify(net, x)
    correct = certificate.labels == y
    points = config.pgd_points or len(y)
    generator = torch.Generator(x.device).manual_seed(recipe.seed)
    found = attacks.pgd_l2(
        net.body,
        x[:points],
        y[:points],
        recipe.epsilon,
        config.pgd_steps,
        config.pgd_restarts,
        generator,
    )
    stands = nets.labels(net.body, found) == y[:points]
    broken = attacks.break_certificates(
        net,
        x,
        steps=config.broken_steps,
        restarts=config.broken_restarts,
        generator=generator,
        smallest=config.broken_points or None,
    )
    n = len(y)
    values = {
        "clean": {"k": int(correct.sum()), "n": n},
        "pgd": {"k": int(stands.sum()), "n": points},
        "vra": {"k": int((correct & certificate.certified).sum()), "n": n},
        "rejected": {"k": int((~certificate.certified).sum()), "n": n},
        "broken": broken["broken"],
        "attacked": broken["attacked"],
        "k_sub": certificate.bound.k_sub,
        **epochs(config.training),
    }
    arrays = {"radius": certificate.radius.cpu().numpy(), "correct": correct.cpu().numpy()}
    return Result(values, arrays)


SEEDS_CPU = {"0.3": 3, "1.58": 1, "36/255": 1}
"""Seeds that a CPU run affords: the larger nets take hours."""

DOUBLE = ("1.58", "36/255")
"""Radii whose larger nets have a row in float64 too: worst-case rounding costs them points."""

PGD_POINTS_CPU = {"0.3": 0, "1.58": 2000, "36/255": 1000}
"""So many of the first test points are attacked for the PGD accuracy on a CPU (0: all)."""

IN_DOUBLE = ", float64"


def row(dataset: str, radius: str, method: str) -> Row:
    """The key of a row."""
    return TITLES[dataset], radius, method


def cells(profile: Profile) -> list[tuple[Row, Cell]]:
    """The plan of `gloro-vra`."""
    plan = []
    if profile.name == "quick":
        for radius, recipe in QUICK.items():
            for seed in profile.seeds:
                config = VraConfig(quick_training(radius, seed), 200, 20, 1, 200, 20, 1)
                plan.append((row("mnist-5k", radius, f"GloRo {recipe.net.upper()}"), config))
    else:
        for radius, (dataset, _) in DATASETS.items():
            if not data.available(dataset):
                continue
            affordable = len(profile.seeds) if profile.device == "cuda" else SEEDS_CPU[radius]
            for seed in profile.seeds[:affordable]:
                found = paper_training(radius, seed, profile.device, long=True)
                points = 0 if profile.device == "cuda" else PGD_POINTS_CPU[radius]
                config = VraConfig(found, points, 50, 1, 200, 100, 10)
                method = f"GloRo {found.recipe.net.upper()}"
                plan.append((row(dataset, radius, method), config))
                if radius in DOUBLE:
                    name = row(dataset, radius, f"{method}{IN_DOUBLE}")
                    plan.append((name, replace(config, double=True)))
    return [(key, _cell(config)) for key, config in plan]


def _cell(config: VraConfig) -> Cell:
    return Cell(evaluate, config, models.fingerprints(config.training))


def curves(profile: str = "quick", seed: int = 0, device: str = "cpu") -> dict[str, Result]:
    """The cells of `gloro-vra` by title: arrays `radius` and `correct` hold each test point.

    Of a paper run those that the store has.
    """
    plan = cells(profiles.profile(profile, device, seed))
    found = {}
    for (dataset, radius, method), cell in plan:
        result = compute(cell) if profile == "quick" else lookup(cell)
        if result is not None:
            way = IN_DOUBLE if method.endswith(IN_DOUBLE) else ""
            found[f"{dataset}, trained for radius {radius}{way}"] = result
    return found


def vra(result: Result, epsilons: np.ndarray) -> np.ndarray:
    """VRA in percent at each of the radii, from a cell's arrays."""
    radius = np.where(result.arrays["correct"], result.arrays["radius"], -np.inf)
    return np.asarray(100 * (radius[:, None] > epsilons[None]).mean(0))


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """What the theorem says of every certificate: no certified point falls to an attack."""
    ordered = (frame["vra"] <= frame["pgd"] + 1e-9) & (frame["pgd"] <= frame["clean"] + 1e-9)
    broken, attacked = frame["broken"].sum(), frame["attacked"].sum()
    return [
        Condition(
            "no certified point falls to an attack, and VRA ≤ PGD ≤ clean in every row",
            "0 broken, every row; no theorem where PGD is of fewer points",
            f"{broken:.0f} of {attacked:,.0f} broken, {ordered.sum()} of {len(frame)} rows",
            bool(broken == 0 and ordered.all()),
        )
    ]


TABLE = Table(
    TableSpec(
        name="gloro-vra",
        caption=(
            "Clean accuracy, accuracy under PGD, verified-robust accuracy (VRA) and rejection "
            "rate of GloRo nets, in percent of test points; radius is L2 in pixels of [0, 1]. "
            "PGD: of the first test points, as many as the fold says, or of all. "
            "Certificates hold as computed, in float32 or, where the row says so, in float64."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("radius", "radius", kind="key"),
            Column("method", "method", kind="key"),
        ),
        columns=(
            Column("clean", "clean", "%", kind="rate", drift=1.5),
            Column("pgd", "PGD", "%", kind="rate", drift=3.0),
            Column("vra", "VRA", "%", kind="rate", drift=3.0),
            Column("rejected", "rejected", "%", kind="rate", drift=3.0),
            Column("attacked", "attacked", format="{:,.0f}"),
            Column("broken", "broken", format="{:.0f}", drift=0.0),
        ),
        rows=(
            row("mnist", "0.3", "GloRo 2C2F"),
            row("mnist", "1.58", "GloRo 4C3F"),
            row("mnist", "1.58", f"GloRo 4C3F{IN_DOUBLE}"),
            row("cifar10", "36/255", "GloRo 6C2F"),
            row("cifar10", "36/255", f"GloRo 6C2F{IN_DOUBLE}"),
            row("tiny-imagenet", "36/255", "GloRo 8C2F"),
        ),
        claims=published.claims("gloro-vra"),
        quoted=published.quoted("gloro-vra"),
        conditions=conditions,
    ),
    cells,
)
