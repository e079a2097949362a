"""Tables of the chapter robustness/certifiers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.certifiers.cells import (
    ALPHA,
    BCP,
    GLORO,
    KW,
    METHODS,
    RS,
    SAMPLES,
    CostConfig,
    Method,
    ScalingConfig,
    cost,
    scaling,
)
from thesis_repro.experiments.nets import TITLES, paper_training, quick_training
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Claim, Column, Gathered, Plan, Quoted, Row, Table, TableSpec

SIGMA = {"mnist-5k": 0.25, "cifar10": 0.12}
"""Noise of the smoothed nets; 0.12 is the least that the paper uses on CIFAR-10."""
LEAST = {BCP: 5.0, KW: 100.0, RS: 1000.0}
"""How many times slower than GloRo each rival has to be, for the thesis's order to hold."""
QUICK_METHODS = (
    Method(GLORO, 0, 7, 1000),
    Method(BCP, 1000, 5, 100),
    Method(KW, 8, 4, 2),
    Method(RS, 24, 4, 200, samples=1000),
)
PAPER_METHODS = {
    "cpu": (
        Method(GLORO, 0, 3, 1000),
        Method(BCP, 1000, 5, 100),
        Method(KW, 4, 4, 1),
        Method(RS, 40, 4, 200, samples=1000),
    ),
    "cuda": (
        Method(GLORO, 0, 7, 1000),
        Method(BCP, 10_000, 5, 250),
        Method(KW, 500, 5, 4),
        Method(RS, 500, 5, 2000, samples=100_000),
    ),
}
COHEN_EPOCHS = 90
ROBUST, NOISY = "GloRo {} (ReLU)", "noise-trained {} (ReLU)"


def subject(profile: Profile) -> Training:
    """The GloRo net with ReLU that all four methods certify: the dual bound knows no MinMax."""
    if profile.name == "quick":
        found = quick_training("0.3", profile.seeds[0])
    else:
        found = paper_training("36/255", profile.seeds[0], profile.device)
    return replace(found, recipe=replace(found.recipe, activation="relu"))


def with_noise(robust: Training, sigma: float, quick: bool) -> Training:
    """The same net trained on noisy images by cross-entropy, as RS asks for; 90 epochs on a GPU."""
    recipe = robust.recipe
    epochs = 6 if quick else COHEN_EPOCHS if recipe.device == "cuda" else recipe.epochs
    changed = replace(
        recipe,
        method="standard",
        noise=sigma,
        epochs=epochs,
        epochs_paper=0 if quick else COHEN_EPOCHS,
        decay="cosine",
        warmup=0.1,
        lr=1e-3,
    )
    return replace(robust, recipe=changed)


def cost_cells(profile: Profile) -> Plan:
    """The plan of `certifiers-cost`: four methods on the GloRo net, and RS on a noisy one."""
    robust = subject(profile)
    if not data.available(robust.dataset):
        return []
    quick = profile.name == "quick"
    sigma = SIGMA[robust.dataset]
    chosen = QUICK_METHODS if quick else PAPER_METHODS[profile.device]
    methods = [replace(m, sigma=sigma) if m.name == RS else m for m in chosen]
    prints = ((robust.dataset, data.fingerprint(robust.dataset)),)
    title, net = TITLES[robust.dataset], robust.recipe.net.upper()
    noisy = CostConfig(with_noise(robust, sigma, quick), methods[-1])
    plan: list[tuple[Row, Cell | None]] = [
        ((title, ROBUST.format(net), m.name), Cell(cost, CostConfig(robust, m), prints))
        for m in methods
    ]
    return [*plan, ((title, NOISY.format(net), RS), Cell(cost, noisy, prints))]


def assemble_cost(profile: Profile, gathered: Gathered) -> Mapping[Row, Mapping[str, Any]]:
    """Each row's cell, with its time over that of GloRo on the same net."""
    records = summarise(CERTIFIERS_COST.spec, gathered)
    for record in records.values():
        first = next((r for row, r in records.items() if row[2] == GLORO), None)
        if first is not None:
            record["ratio"] = record["seconds"] / first["seconds"]
    return records


def in_order(frame: pd.DataFrame) -> bool:
    """GloRo is the fastest, and each rival on its net at least so many times slower."""
    same = frame[frame["net"].str.startswith("GloRo")].set_index("method")["ratio"]
    return bool(set(METHODS) <= set(same.index)) and all(
        same[name] >= least for name, least in LEAST.items()
    )


SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "quick": {"classes": (10, 100, 200), "depth": (2, 4, 8), "pixels": (8, 12, 16)},
    "paper": {"classes": (10, 100, 200), "depth": (2, 4, 8, 16), "pixels": (8, 16, 24, 32)},
}
BASE = {"classes": 10, "depth": 2, "pixels": 8}
VARIED = {"classes": "classes", "depth": "convolutions", "pixels": "pixels per side"}
SCALED_METHODS = (
    Method(GLORO, 300, 3, 100),
    Method(BCP, 300, 3, 100),
    Method(KW, 3, 3, 1),
    Method(RS, 3, 3, 100, samples=300, sigma=0.25),
)


def scaling_config(varied: str, value: int, method: Method, device: str = "cpu") -> ScalingConfig:
    """The base net with one size changed."""
    return ScalingConfig(method, **{**BASE, varied: value}, device=device)


def scaling_cells(profile: Profile) -> Plan:
    """The plan of `certifiers-scaling`; the cells of a row are its sizes."""
    return [
        ((VARIED[varied], method.name), Cell(scaling, config))
        for varied, values in SIZES[profile.name].items()
        for method in SCALED_METHODS
        for value in values
        for config in (scaling_config(varied, value, method, profile.device),)
    ]


def exponent(sizes: Any, values: Any) -> float:
    """The power p of values ~ sizes**p, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def assemble_scaling(profile: Profile, gathered: Gathered) -> Mapping[Row, Mapping[str, Any]]:
    """Exponents of each row over its sizes, and what the smallest and the largest net take."""
    names = {title: name for name, title in VARIED.items()}
    records: dict[Row, dict[str, Any]] = {}
    for row, results in gathered.items():
        sizes = SIZES[profile.name][names[row[0]]]
        if len(results) == len(sizes):
            found = {
                name: [r.values[name] for r in results] for name in ("operations", "seconds", "mb")
            }
            records[row] = {
                **{name: exponent(sizes, values) for name, values in found.items()},
                "sizes": " ".join(map(str, sizes)),
                "least": 1000 * found["seconds"][0],
                "most": 1000 * found["seconds"][-1],
                "seeds": 1,
            }
    return records


Curve = tuple[list[int], list[Result]]


def curves(profile: str = "quick", device: str = "cpu") -> dict[Row, Curve]:
    """Sizes and cells behind each row of `certifiers-scaling`, from the store where there."""
    found: dict[Row, Curve] = {}
    for row, cell in scaling_cells(profiles.profile(profile, device)):
        assert cell is not None
        name = next(name for name, title in VARIED.items() if title == row[0])
        sizes, results = found.setdefault(row, ([], []))
        sizes.append(getattr(cell.config, name))
        results.append(compute(cell))
    return found


SLIDES = "thesis slides, summary of results for GloRo nets"
THESIS = {
    GLORO: (0.4, 1.0, 1.8),
    BCP: (5.8, 15.0, 19.1),
    KW: (2500.0, 6000.0, 1400.0),
    RS: (36_800.0, 90_000.0, 19.8),
}
"""Seconds, ratio and MB per instance that the thesis publishes."""
PUBLISHED = TITLES["cifar10"], "ResNet-110, by its authors"
COHEN = "logs of the authors of Cohen et al. 2019: 500 points, sigma 0.12"
RERUN = "computed from per-point radii published with Mangal et al. 2022; MinMax"


def _paper_row(method: str) -> Row:
    return TITLES["cifar10"], ROBUST.format("6C2F"), method


CERTIFIERS_COST = Table(
    TableSpec(
        name="certifiers-cost",
        caption=(
            "Four certifiers on one net with ReLU (radius 0.3 on digits, 36/255 on CIFAR-10): "
            "when their certificates hold; seconds for the whole test set, median over calls, and "
            "the distance of the quartiles; the ratio to GloRo; memory per instance besides the "
            "weights, at the batch used; verified or certified accuracy; seconds spent once "
            "per net; and the floor, the seconds that a matrix product of as many operations takes "
            f"on this device. RS: {SAMPLES:,} noisy copies per point, alpha {ALPHA}. "
            "The noise-trained net is the one that RS is made for."
        ),
        chapter="robustness/certifiers",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("net", "net", kind="key"),
            Column("method", "method", kind="key"),
        ),
        columns=(
            Column("seconds", "time", "s", "{:,.2f}"),
            Column("spread", "quartiles apart", "%", "{:.0f}"),
            Column("ratio", "ratio", format="{:,.1f}"),
            Column("mb", "memory", "MB", "{:,.2f}"),
            Column("vra", "VRA", "%", kind="rate", drift=4.0),
            Column("gflop", "per instance", "GFLOP", "{:,.4f}", drift=0.5),
            Column("floor", "floor", "s", "{:,.2f}"),
            Column("one_off", "once", "s", "{:.2f}"),
            Column("guarantee", "holds", kind="text"),
        ),
        rows=(*map(_paper_row, METHODS), (TITLES["cifar10"], NOISY.format("6C2F"), RS)),
        claims=tuple(
            Claim(_paper_row(m), "ratio", THESIS[m][1], SLIDES, "at least", THESIS[m][1] - low)
            for m, low in LEAST.items()
        ),
        quoted=(
            *(
                Quoted(
                    (TITLES["cifar10"], "6C2F, the thesis's", m),
                    {"seconds": seconds, "ratio": ratio, "mb": mb},
                    SLIDES,
                )
                for m, (seconds, ratio, mb) in THESIS.items()
            ),
            Quoted((TITLES["cifar10"], "6C2F, the authors'", GLORO), {"vra": 60.0}, RERUN),
            Quoted((*PUBLISHED, RS), {"vra": 69.6}, COHEN),
        ),
        trend=in_order,
        trend_says=(
            "GloRo is the fastest; BCP takes at least 5 times as long, KW 100 times, RS 1,000 times"
        ),
    ),
    cost_cells,
    assemble_cost,
    timed=True,
)


def dearest(frame: pd.DataFrame) -> bool:
    """With the image's side KW's operations grow faster than those of every other method."""
    side = frame[frame["varied"] == VARIED["pixels"]].set_index("method")["operations"]
    return bool(set(METHODS) <= set(side.index) and (side[KW] > side.drop(KW) + 1).all())


CERTIFIERS_SCALING = Table(
    TableSpec(
        name="certifiers-scaling",
        caption=(
            "How the cost of one point grows with the net: the power p in cost ~ size^p, fitted "
            "on logarithms, for operations, seconds and memory; untrained ReLU nets of 3x3 "
            "convolutions with 8 channels and a dense layer of 64 units, around 10 classes, 2 "
            f"convolutions and 8 pixels per side. RS with {SCALED_METHODS[-1].samples} copies."
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
        trend=dearest,
        trend_says="with the image's side, KW's operations grow fastest by more than one power",
    ),
    scaling_cells,
    assemble_scaling,
    timed=True,
)
