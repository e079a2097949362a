"""The table certifiers-scaling: how the cost of one point grows with the size of the net."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.experiments.certifiers.methods import (
    BCP,
    GLORO,
    KW,
    METHODS,
    RS,
    Method,
    measure,
)
from thesis_repro.lab import profiles, timing
from thesis_repro.lab.cells import Cell, Result, compute, lookup
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "quick": {"classes": (10, 100, 200), "depth": (2, 4, 8), "pixels": (8, 12, 16)},
    "paper": {"classes": (10, 100, 200), "depth": (2, 4, 8, 16), "pixels": (8, 16, 24, 32)},
}
BASE = {"classes": 10, "depth": 2, "pixels": 8}
VARIED = {"classes": "classes", "depth": "convolutions", "pixels": "pixels per side"}
SCALED = (
    Method(GLORO, 300, 3, 100),
    Method(BCP, 300, 3, 100),
    Method(KW, 3, 3, 1),
    Method(RS, 3, 3, 100, samples=300, sigma=0.25),
)


@dataclass(frozen=True)
class ScalingConfig:
    """One method on one untrained net: classes, convolutions before the dense layers, pixels."""

    method: Method
    classes: int
    depth: int
    pixels: int
    device: str = "cpu"


def untrained(classes: int, depth: int, pixels: int) -> nn.Sequential:
    """`depth` convolutions of 8 channels (3x3), a dense layer of 64 units, ReLU, random weights."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, pixels, pixels)
    return nets.cnn([(8, 3, 1)] * depth, [64], "relu", shape, classes, generator).eval()


def scaling(config: ScalingConfig) -> Result:
    """Cell: seconds, operations and memory per point of a method on a net of one size."""
    body = untrained(config.classes, config.depth, config.pixels).to(config.device)
    shape = (config.method.points, 3, config.pixels, config.pixels)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(config.device)
    found = measure(config.method, body, 36 / 255, x, clock=timing.clock_of(config.device))
    per_point = {
        "seconds": found.seconds / found.points,
        "operations": found.operations / found.points,
    }
    return Result({**per_point, "mb": found.mb})


def config_at(varied: str, value: int, method: Method, device: str = "cpu") -> ScalingConfig:
    """The base net with one size changed."""
    return ScalingConfig(method, **{**BASE, varied: value}, device=device)


def cells(profile: Profile) -> Plan:
    """The plan of `certifiers-scaling`; the cells of a row are its sizes."""
    return [
        ((VARIED[varied], method.name), Cell(scaling, config))
        for varied, values in SIZES[profile.name].items()
        for method in SCALED
        for value in values
        for config in (config_at(varied, value, method, profile.device),)
    ]


def exponent(sizes: Any, values: Any) -> float:
    """The power p of values ~ sizes**p, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Exponents of each row over its sizes, and what the smallest and the largest net take."""
    names = {title: name for name, title in VARIED.items()}
    measured = {}
    for row, results in gathered.items():
        sizes = SIZES[profile.name][names[row[0]]]
        if len(results) != len(sizes):
            continue
        values: dict[str, Estimate | str] = {
            name: Estimate(exponent(sizes, [r.values[name] for r in results]))
            for name in ("operations", "seconds", "mb")
        }
        values["sizes"] = " ".join(map(str, sizes))
        values["least"] = Estimate(1000 * results[0].values["seconds"])
        values["most"] = Estimate(1000 * results[-1].values["seconds"])
        measured[row] = Measurement(values, seeds=1)
    return measured


Curve = tuple[list[int], list[Result]]


def curves(profile: str = "quick", device: str = "cpu") -> dict[Row, Curve]:
    """Sizes and cells behind each row of `certifiers-scaling`, from the store where there.

    Of a paper run those that the store has.
    """
    found: dict[Row, Curve] = {}
    for row, cell in cells(profiles.profile(profile, device)):
        assert cell is not None
        result = compute(cell) if profile == "quick" else lookup(cell)
        if result is None:
            continue
        name = next(name for name, title in VARIED.items() if title == row[0])
        sizes, results = found.setdefault(row, ([], []))
        sizes.append(getattr(cell.config, name))
        results.append(result)
    return found


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """With the image's side KW's operations grow faster than those of every other method."""
    side = frame[frame["varied"] == VARIED["pixels"]].set_index("method")["operations"]
    if not set(METHODS) <= set(side.index):
        return []
    gap = float(side[KW] - side.drop(KW).max())
    return [
        Condition(
            "with the image's side, KW's operations grow fastest",
            "by more than one power",
            f"by {gap:.2f}",
            gap > 1,
        )
    ]


TABLE = Table(
    TableSpec(
        name="certifiers-scaling",
        caption=(
            "How the cost of one point grows with the net: the power p in cost ~ size^p, fitted "
            "on logarithms, for operations, seconds (on a CPU of its processor, one thread) and "
            "memory; untrained ReLU nets of 3x3 "
            "convolutions with 8 channels and a dense layer of 64 units, around 10 classes, 2 "
            f"convolutions and 8 pixels per side. RS with {SCALED[-1].samples} copies."
        ),
        chapter="robustness/certifiers",
        keys=(Column("varied", "varied", kind="key"), Column("method", "method", kind="key")),
        columns=(
            Column("operations", "operations", "power", "{:.2f}", drift=0.05),
            Column("seconds", "seconds", "power", "{:.2f}"),
            Column("mb", "memory", "power", "{:.2f}", drift=0.1),
            Column("least", "smallest", "ms", "{:,.2f}"),
            Column("most", "largest", "ms", "{:,.2f}"),
            Column("sizes", "sizes", kind="text"),
        ),
        rows=tuple((title, m) for title in VARIED.values() for m in METHODS),
        claims=published.claims("certifiers-scaling"),
        conditions=conditions,
    ),
    cells,
    assemble,
    timed=True,
)
