"""The table certifiers-capacity: what is still verified as a trained net grows, at which price."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from thesis_repro import data, nets
from thesis_repro.data import Split
from thesis_repro.experiments import nets as recipes_at_hand
from thesis_repro.experiments.certifiers.methods import BCP, GLORO, KW, Method, certifier
from thesis_repro.lab import timing
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, recipes
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, between, every, of, reaches, said
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "quick": {"depth": (2, 4), "classes": (2, 5, 10)},
    "paper": {"depth": (2, 4, 8, 12), "classes": (2, 5, 10)},
}
BASE = {"depth": 2, "classes": 10}
VARIED = {"depth": "convolutions", "classes": "classes"}
NAMES = {GLORO: "gloro", BCP: "bcp", KW: "kw"}
"""The deterministic methods, by the name of their column."""
DATASETS = {"quick": "mnist-5k", "paper": "mnist"}
EPOCHS = {"quick": 8, "paper": 20}
POINTS = {"quick": 100, "paper": 200}
SHAPE = (1, 28, 28)
AHEAD, TIMES, LOST = 5.0, 2.0, 5.0
"""What has to hold, fixed before the recorded runs: the most points of VRA that a rival is ahead;
the least by which its operations exceed those of GloRo; the most that GloRo loses with depth."""


@dataclass(frozen=True)
class CapacityConfig:
    """A GloRo net with ReLU on the first so many digits, certified by each method."""

    dataset: str
    recipe: Recipe
    depth: int
    classes: int
    points: int


def body_of(depth: int, classes: int, seed: int) -> nn.Sequential:
    """Convolutions of 4 and 8 channels (4x4, stride 2), then of 8 (3x3); 64 units; ReLU."""
    layers = [(4, 4, 2), (8, 4, 2), *[(8, 3, 1)] * (depth - 2)]
    generator = torch.Generator().manual_seed(seed)
    return nets.cnn(layers, [64], "relu", SHAPE, classes, generator)


def capacity(config: CapacityConfig) -> Result:
    """Cell: clean accuracy, VRA by each method, and operations per point."""
    recipe = config.recipe
    found = data.load(config.dataset)
    train, test = (_first(part, config.classes) for part in (found.train, found.test))
    body = body_of(config.depth, config.classes, recipe.seed)
    net = GloroNet(body, recipe.epsilon, SHAPE, recipe.power_steps).to(recipe.device)
    recipes.fit(net, recipe, train)
    net = net.eval().cpu().double()
    chosen = torch.arange(config.points) * len(test) // config.points
    x, y = test.x[chosen].double(), test.y[chosen]
    right = nets.labels(net.body, x) == y
    verified = {
        GLORO: certify(net, x).certified,
        BCP: bcp.certify(net.body, x, recipe.epsilon),
        KW: dual.certify(net.body, x, recipe.epsilon),
    }
    values: dict[str, object] = {"clean": _rate(right)}
    values |= {NAMES[name]: _rate(right & known) for name, known in verified.items()}
    spent = {name: operations(name, net.body, recipe.epsilon, x) for name in NAMES}
    values |= {f"{NAMES[name]}_cost": spent[name] / spent[GLORO] for name in (BCP, KW)}
    arrays = {NAMES[name]: (right & known).numpy() for name, known in verified.items()}
    return Result(values, arrays)


def operations(name: str, body: nn.Sequential, epsilon: float, x: Tensor) -> float:
    """Operations per point, KW to the letter, GloRo and BCP on a hundred points at a time."""
    points = 1 if name == KW else min(100, len(x))
    method = Method(name, points, 1, points)
    certified, _ = certifier(method, body, epsilon, SHAPE)
    with torch.no_grad():
        return timing.operations(lambda: certified(x[:points])) / points


def _rate(hits: Tensor) -> dict[str, int]:
    return {"k": int(hits.sum()), "n": len(hits)}


def _first(part: Split, classes: int) -> Split:
    """The points of the first so many classes."""
    chosen = part.y < classes
    return Split(part.x[chosen], part.y[chosen])


def cells(profile: Profile) -> Plan:
    """The plan of `certifiers-capacity`: a net for each size, one seed each on a CPU."""
    name = DATASETS[profile.name]
    if not data.available(name):
        return []
    seeds = profile.seeds[:1] if profile.device == "cpu" else profile.seeds
    fingerprints = ((name, data.fingerprint(name)),)
    return [
        (
            (VARIED[varied], str(size)),
            Cell(capacity, config_at(varied, size, profile, seed), fingerprints),
        )
        for varied, sizes in SIZES[profile.name].items()
        for size in sizes
        for seed in seeds
    ]


def config_at(varied: str, size: int, profile: Profile, seed: int) -> CapacityConfig:
    """The base net with one size changed; its recipe is that of the quick nets on digits."""
    recipe = replace(
        recipes_at_hand.QUICK["0.3"],
        net="as the table says",
        activation="relu",
        epochs=EPOCHS[profile.name],
        seed=seed,
        device=profile.device,
    )
    return CapacityConfig(
        DATASETS[profile.name], recipe, **{**BASE, varied: size}, points=POINTS[profile.name]
    )


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Summarise each row, and compare the rivals with GloRo on it, point by point."""
    measured = summarise(TABLE.spec, gathered)
    for row, found in measured.items():
        seeds = gathered[row]
        base = [result.arrays["gloro"] for result in seeds]
        gains = {
            f"{rival}_more": statistics.more_points([one.arrays[rival] for one in seeds], base)
            for rival in (NAMES[BCP], NAMES[KW])
        }
        measured[row] = replace(found, values={**found.values, **gains})
    return measured


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """No rival verifies much more at any size, each costs more, and depth takes little away."""
    rivals = [NAMES[name] for name in (BCP, KW)]
    leads = [of(row, f"{name}_more") for name in rivals for _, row in frame.iterrows()]
    times = float(frame[[f"{name}_cost" for name in rivals]].min(axis=None))
    ahead = every(reaches(lead, AHEAD, at_most=True) for lead in leads)
    found = [
        Condition(
            "at no size does a rival verify more for its price",
            f"at most {AHEAD:g} points more, at {TIMES:g} times the operations or more",
            f"{said(max(leads, key=lambda lead: lead.high))} points more at most, "
            f"{times:.1f} times at least",
            every([ahead, times >= TIMES]),
        )
    ]
    deep = frame[frame["varied"] == VARIED["depth"]]
    if len(deep) > 1:
        lost = {name: between(deep.iloc[0], deep.iloc[-1], name) for name in ("gloro", "kw")}
        found.append(
            Condition(
                "GloRo keeps its VRA with depth",
                f"loses at most {LOST:g} points from the shallowest to the deepest net",
                f"loses {said(lost['gloro'])}, KW {said(lost['kw'])}",
                reaches(lost["gloro"], LOST, at_most=True),
            )
        )
    return found


TABLE = Table(
    TableSpec(
        name="certifiers-capacity",
        caption=(
            "GloRo nets with ReLU on digits, radius 0.3, as they grow: VRA by each deterministic "
            "method on the same points and weights, in float64; how much more the rivals verify, "
            "point by point; and operations per point over those of GloRo. Around 2 convolutions "
            "and 10 classes; the first so many digits."
        ),
        chapter="robustness/certifiers",
        keys=(Column("varied", "varied", kind="key"), Column("size", "size", kind="key")),
        columns=(
            Column("clean", "clean", "%", kind="rate", drift=2.0),
            Column("gloro", "VRA, GloRo", "%", kind="rate", drift=3.0),
            Column("bcp", "VRA, BCP", "%", kind="rate", drift=3.0),
            Column("kw", "VRA, KW", "%", kind="rate", drift=3.0),
            Column("bcp_more", "BCP above GloRo", "points", later=True),
            Column("kw_more", "KW above GloRo", "points", later=True),
            Column("bcp_cost", "work, BCP", "times GloRo", "{:,.1f}", drift=0.5),
            Column("kw_cost", "work, KW", "times GloRo", "{:,.0f}", drift=50.0),
        ),
        rows=tuple(
            (VARIED[varied], str(size))
            for varied, sizes in SIZES["paper"].items()
            for size in sizes
        ),
        claims=published.claims("certifiers-capacity"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
