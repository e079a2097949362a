"""The table lipschitz-tightness: proven bounds, and the steepest slopes found below them."""

import time
from dataclasses import dataclass

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.nets import (
    BOUNDED_EPOCHS,
    CIFAR_PAIR,
    GLORO_2C2F,
    GLORO_6C2F,
    PLAIN_EPOCHS,
    STANDARD_2C2F,
    TITLES,
    bounded_nets,
    cifar_nets,
    epochs,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import certifying, models
from thesis_repro.robustness.lanczos import converged
from thesis_repro.robustness.recipes import Training
from thesis_repro.robustness.tightness import steepest
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec

STANDARD_6C2F = "standard 6C2F"


@dataclass(frozen=True)
class TightnessConfig:
    """The bound of a net against the steepest pairs that an optimiser finds from test points."""

    net: Training
    points: int
    steps: int
    seconds: float
    lr: float = 1e-3


def tightness(config: TightnessConfig) -> Result:
    """Cell: bounds by method, and the slopes that were found."""
    net = models.trained(config.net).cpu()
    x = data.held_out(config.net.dataset).x[: config.points]
    began = time.process_time()
    fast = certifying.bound(net.body, net.input_shape, "fast")
    between = time.process_time()
    bound = certifying.bound(net.body, net.input_shape, "auto", config.seconds)
    ended = time.process_time()
    below = converged(net)
    slopes = steepest(net, x, steps=config.steps, lr=config.lr, k_ij=bound.k_ij)
    values = {
        "bound": bound.k_ij.max().item(),
        "found": slopes.steepest,
        "share": 100 * slopes.share,
        "slack": 100 * (bound.k_sub / below - 1),
        "fast_slack": 100 * (fast.k_sub / below - 1),
        "seconds": ended - between,
        "fast_seconds": between - began,
        **epochs(config.net),
        "note": f"{config.points} pairs, {config.steps:,} steps",
    }
    return Result(values)


def cells(profile: Profile) -> Plan:
    """The plan of `lipschitz-tightness`."""
    seconds = 0.5 if profile.name == "quick" else 60.0
    plan = []
    wanted = bounded_nets(profile)
    wanted += [(STANDARD_6C2F, net) for name, net in cifar_nets(profile) if name == CIFAR_PAIR[0]]
    for name, net in wanted:
        config = TightnessConfig(net, *_climb(profile, net), seconds)
        row = (TITLES[net.dataset], name)
        plan.append((row, Cell(tightness, config, models.fingerprints(net))))
    return plan


def _climb(profile: Profile, net: Training) -> tuple[int, int]:
    """Pairs of points and steps of the optimiser: as many as a core climbs in a minute or two.

    The bounds are timed on a core, and the climb is one there, wherever the nets were trained.
    A step of one pair takes a core 2 ms on 2C2F and 30 ms on 6C2F.
    """
    if profile.name == "quick":
        return 20, 150
    return (10, 300) if net.recipe.net == "6c2f" else (50, 500)


PAIRS = {"digits": (GLORO_2C2F, STANDARD_2C2F), "CIFAR-10": (GLORO_6C2F, STANDARD_6C2F)}
"""A GloRo net and a standard one of the same layers, by what they were trained on."""


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Nothing steeper than the bound was found; training brings the bound closer to it.

    And a standard net has slopes that a GloRo net provably has not.
    """
    by = frame.set_index("net")
    share = by["share"]
    most = float(share.max())
    found = [
        Condition(
            "no slope is steeper than its proven bound", "≤ 100%", f"{most:.1f}%", most <= 100
        )
    ]
    for where, pair in PAIRS.items():
        if set(pair) <= set(share.index):
            robust, plain = (float(share[net]) for net in pair)
            found.append(
                Condition(
                    f"the bound of the GloRo net is tighter than that of the standard net, {where}",
                    "a larger share of it is reached",
                    f"{robust:.1f}% against {plain:.1f}%",
                    robust > plain,
                )
            )
            slope, bound = float(by.loc[pair[1], "found"]), float(by.loc[pair[0], "bound"])
            found.append(
                Condition(
                    f"the standard net has steeper slopes than the GloRo net can have, {where}",
                    "the steepest found above the other's bound",
                    f"{slope:.1f} against {bound:.1f}",
                    slope > bound,
                )
            )
    return found


MNIST, CIFAR = TITLES["mnist"], TITLES["cifar10"]

TABLE = Table(
    TableSpec(
        name="lipschitz-tightness",
        caption=(
            "The largest margin constant that is proven, the steepest slope between two points "
            "that an optimiser found (pairs and steps are in the notes), and the share of K_ij "
            "that it reached; then by how much two proven bounds of K exceed the product of the "
            "layers' norms by Lanczos iteration, and the processor time of each on one core. "
            "Auto: with up to 60 reckoned seconds a layer (a quick run: half a second); by default "
            "`certify` takes half a second, and has more slack. Standard nets of this table were "
            f"trained for {BOUNDED_EPOCHS['paper']} epochs on digits ({BOUNDED_EPOCHS['quick']} in "
            f"a quick run) and {PLAIN_EPOCHS['cpu']['36/255']} on CIFAR-10 "
            f"({PLAIN_EPOCHS['cuda']['36/255']} on a GPU)."
        ),
        chapter="robustness/lipschitz",
        keys=(Column("dataset", "data set", kind="key"), Column("net", "net", kind="key")),
        columns=(
            Column("bound", "largest K_ij", format="{:,.1f}"),
            Column("found", "steepest found", format="{:,.1f}"),
            Column("share", "share reached", "%", drift=8.0),
            Column("slack", "slack of K, auto", "%", format="{:.4f}", drift=0.1),
            Column("fast_slack", "slack of K, fast", "%", format="{:.2f}", drift=1.0),
            Column("seconds", "time, auto", "s", format="{:.1f}"),
            Column("fast_seconds", "time, fast", "s", format="{:.1f}"),
        ),
        rows=(
            *((MNIST, net) for net in PAIRS["digits"]),
            *((CIFAR, net) for net in PAIRS["CIFAR-10"]),
        ),
        version=2,
        claims=published.claims("lipschitz-tightness"),
        conditions=conditions,
    ),
    cells,
    timed=True,
)
