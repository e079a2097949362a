"""The table gloro-attainable: the VRA that can be attained on digits, and one bound that does.

A part of the chapter robustness/gloro: that a global Lipschitz bound loses nothing, checked.
"""

from dataclasses import dataclass

import pandas as pd
import torch

from thesis_repro import data
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness.attainable import ByDistance, attainable, nearest_other
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Plan, Row, Table, TableSpec

RADII = (0.3, 1.58, 2.5, 3.0)
"""Those of the thesis, and two at which points of other labels come near."""


@dataclass(frozen=True)
class AttainableConfig:
    """A data set, its test part or all of its points, and the radii."""

    dataset: str
    whole: bool
    radii: tuple[float, ...] = RADII
    device: str = "cpu"


def measure(config: AttainableConfig) -> Result:
    """Cell: at each radius what can be attained, and what the classifier by distance certifies."""
    found = data.load(config.dataset)
    parts = (found.train, found.test) if config.whole else (found.test,)
    x = torch.cat([part.x for part in parts]).to(config.device)
    y = torch.cat([part.y for part in parts]).to(config.device)
    near, by_radius = nearest_other(x, y), {}
    for epsilon in config.radii:
        bounds, alone = attainable(x, y, epsilon, near), near > 2 * epsilon
        labels, certified = ByDistance(x[alone], y[alone]).certified(x[alone], epsilon)
        by_radius[f"{epsilon:g}"] = {
            "nearest": float(near.min()),
            "least": 100 * bounds.least / bounds.n,
            "most": 100 * bounds.most / bounds.n,
            "certified": 100 * int((certified & (labels == y[alone])).sum()) / bounds.n,
        }
    return Result({"radii": by_radius})


@dataclass(frozen=True)
class RadiusConfig:
    """One radius of what was measured together."""

    measured: AttainableConfig
    epsilon: float


def at(config: RadiusConfig) -> Result:
    """Cell: one radius."""
    found = compute(Cell(measure, config.measured, _known(config.measured.dataset)))
    return Result(found.values["radii"][f"{config.epsilon:g}"])


def _known(dataset: str) -> tuple[tuple[str, str], ...]:
    return ((dataset, data.fingerprint(dataset)),)


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-attainable`: the committed digits, of a quick run those of the test."""
    whole = profile.name != "quick"
    config = AttainableConfig("mnist-5k", whole, device=profile.device)
    return [
        (row(whole, epsilon), Cell(at, RadiusConfig(config, epsilon), _known("mnist-5k")))
        for epsilon in RADII
    ]


def row(whole: bool, epsilon: float) -> Row:
    """The key of a row."""
    return "MNIST-5k" if whole else "MNIST-5k, test part", f"{epsilon:g}"


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """Every point that can be attained beside all others is certified from the global bound."""
    lost = rows["least"] - rows["certified"]
    return [
        Condition(
            "a classifier with a global bound certifies every point that is far from other labels",
            "none lost at any radius",
            f"{lost.max():.2g} points lost, at {len(rows)} radii",
            bool(len(rows)) and bool((lost.abs() < 1e-9).all()),
        )
    ]


TABLE = Table(
    TableSpec(
        name="gloro-attainable",
        caption=(
            "The VRA that some classifier can attain on digits of MNIST-5k, all 5,000 or the 1,000 "
            "of its test part, from distances between points of different labels: at least the "
            "share of points with none within twice the radius; at most what is left where of each "
            "pair within it at least one point is lost, by a linear program. Certified: of the "
            "same points, from one Lipschitz constant, by the classifier that answers with the "
            "nearest point's label. Shares are exact counts on the given points, and fall as "
            "points are added."
        ),
        chapter="robustness/gloro",
        keys=(Column("dataset", "data set", kind="key"), Column("radius", "radius", kind="key")),
        columns=(
            Column("nearest", "nearest pair", format="{:.2f}", drift=0.001),
            Column("least", "attainable, at least", "%", "{:.2f}", drift=0.01),
            Column("most", "at most", "%", "{:.2f}", drift=0.01),
            Column("certified", "certified", "%", "{:.2f}", drift=0.01),
        ),
        rows=tuple(row(True, epsilon) for epsilon in RADII),
        claims=published.claims("gloro-attainable"),
        conditions=conditions,
    ),
    cells,
)
