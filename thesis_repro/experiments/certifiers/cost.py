"""The table certifiers-cost: four certifiers on one net, their time, memory and certificates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from thesis_repro import data
from thesis_repro.experiments.certifiers.methods import (
    ALPHA,
    BCP,
    GLORO,
    KW,
    METHODS,
    N0,
    RS,
    SAMPLES,
    Method,
    certificates,
    fastest,
    measure,
)
from thesis_repro.experiments.nets import TITLES, epochs, paper_training, quick_training
from thesis_repro.lab import timing
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.claims import Measured
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Derived, Frame, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.tables.statistics import ratio_of_medians

GUARANTEES = {
    GLORO: "always, rounding included",
    BCP: "always, up to rounding",
    KW: "always, up to rounding",
    RS: "with probability 1 − α per point",
}
SIGMA = {"mnist-5k": 0.25, "cifar10": 0.12}
"""Noise of the smoothed nets; 0.12 is the least that the paper uses on CIFAR-10."""
QUICK_METHODS = (
    Method(GLORO, 0, 15, 0, split=False),
    Method(BCP, 1000, 7, 0, split=False),
    Method(KW, 14, 7, 0),
    Method(RS, 21, 7, 0, samples=1000),
)
PAPER_METHODS = {
    "cpu": (
        Method(GLORO, 0, 7, 0, split=False),
        Method(BCP, 1000, 7, 0, split=False),
        Method(KW, 14, 7, 0),
        Method(RS, 42, 7, 0, samples=1000),
    ),
    "cuda": (
        Method(GLORO, 0, 15, 0, split=False),
        Method(BCP, 10_000, 7, 0, split=False),
        Method(KW, 105, 7, 0),
        Method(RS, 105, 7, 0, samples=100_000),
    ),
}
BATCHES = (25, 100, 250, 1000)
SIZES = {
    "cpu": {GLORO: BATCHES, BCP: BATCHES, KW: (1, 2), RS: (100, 250, 1000)},
    "cuda": {GLORO: (*BATCHES, 5000), BCP: (*BATCHES, 5000), KW: (1, 5, 15), RS: (1000, 4000)},
}
"""Batch sizes that are tried, of which the fastest counts: points; of RS copies of one point. A
call of KW has no more points, each of which takes hundreds of megabytes."""
COHEN_EPOCHS = 90
ROBUST, NOISY = "GloRo {} (ReLU)", "noise-trained {} (ReLU)"


@dataclass(frozen=True)
class CostConfig:
    """One method on one net, at the fastest of these batch sizes."""

    training: Training
    method: Method
    sizes: tuple[int, ...]


def cost(config: CostConfig) -> Result:
    """Cell: seconds for the test set, memory per instance, and what was certified."""
    recipe, method = config.training.recipe, config.method
    body = models.trained(config.training).body
    test = data.held_out(config.training.dataset)
    total = len(test.y)
    chosen = torch.arange(total)
    if method.points:
        chosen = torch.arange(method.points) * total // method.points
    x, y = test.x[chosen].to(recipe.device), test.y[chosen].to(recipe.device)
    method = fastest(method, config.sizes, body, recipe.epsilon, x)
    measured = measure(method, body, recipe.epsilon, x, max(config.sizes))
    scale: float = total / measured.points
    note = ""
    if len(y) < total:
        note = f"measured on {len(y):,} points, scaled to {total:,}"
    if method.name == RS:
        scale *= (N0 + SAMPLES) / (N0 + method.samples)
        note += f", and from {method.samples:,} copies of each to {SAMPLES:,}"
    values = {
        "calls": [scale * seconds for seconds in measured.calls],
        "batch": method.batch_size,
        "seconds": scale * measured.seconds,
        "spread": measured.spread,
        "floor": scale * measured.operations / timing.matrix_rate(recipe.device),
        "gflop": scale * measured.operations / total / 1e9,
        "mb": measured.mb,
        "one_off": measured.one_off,
        "guarantee": GUARANTEES[method.name],
        "note": note,
        **epochs(config.training),
    }
    if len(y) >= ENOUGH_POINTS:
        labels, certified = certificates(method, body, recipe.epsilon, x)
        values["vra"] = {"k": int((certified & (labels == y)).sum()), "n": len(y)}
    return Result(values)


ENOUGH_POINTS = 100


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


def cells(profile: Profile) -> Plan:
    """The plan of `certifiers-cost`: four methods on the GloRo net, and RS on a noisy one."""
    robust = subject(profile)
    if not data.available(robust.dataset):
        return []
    quick = profile.name == "quick"
    sigma = SIGMA[robust.dataset]
    chosen = QUICK_METHODS if quick else PAPER_METHODS[profile.device]
    methods = [replace(m, sigma=sigma) if m.name == RS else m for m in chosen]
    title, net = TITLES[robust.dataset], robust.recipe.net.upper()
    sizes = SIZES[profile.device]
    wanted = [
        ((title, ROBUST.format(net), m.name), CostConfig(robust, m, sizes[m.name])) for m in methods
    ]
    smoothed = next(m for m in methods if m.name == RS)
    noisy = CostConfig(with_noise(robust, sigma, quick), smoothed, sizes[RS])
    return [
        (row, Cell(cost, config, models.fingerprints(config.training)))
        for row, config in [*wanted, ((title, NOISY.format(net), RS), noisy)]
    ]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each row's cell, with its time over that of GloRo on the same net."""
    measured = summarise(TABLE.spec, gathered)
    first = next((row for row in measured if row[2] == GLORO), None)
    if first is None:
        return measured
    calls = {row: results[0].values["calls"] for row, results in gathered.items()}
    return {
        row: replace(found, values={**found.values, "ratio": _over(calls[row], calls[first])})
        for row, found in measured.items()
    }


def _over(ours: Sequence[float], gloro: Sequence[float]) -> Estimate:
    found = ratio_of_medians(ours, gloro)
    return Estimate(1.0) if ours is gloro else replace(found, how=f"ratios: {found.how}")


def over_gloro(frame: Frame, row: Row) -> Measured | None:
    """Memory per instance over that of GloRo on the same net."""
    ours, first = frame.value(row, "mb"), frame.value((*row[:-1], GLORO), "mb")
    return None if ours is None or not first else Measured(ours / first)


def _paper_row(method: str) -> Row:
    return TITLES["cifar10"], ROBUST.format("6C2F"), method


RATIO_OF_MEMORY = Column("mb_ratio", "memory, ratio", format="{:,.1f}", of_training=False)

TABLE: Table = Table(
    TableSpec(
        name="certifiers-cost",
        caption=(
            "Four certifiers on one net with ReLU (radius 0.3 on digits, 36/255 on CIFAR-10): "
            "when their certificates hold; seconds for the whole test set, median over calls at "
            "the fastest batch size, in float32, and the distance of the quartiles; the ratio to "
            "GloRo; memory per instance besides the weights, at that batch; verified or certified "
            "accuracy, of the same weights in float64 for all; seconds spent once "
            "per net; operations, at the largest batch size; and the floor, the seconds that a "
            "matrix product of as many operations takes "
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
            Column("ratio", "ratio", format="{:,.1f}", of_training=False),
            Column("mb", "memory", "MB", "{:,.2f}"),
            Column("vra", "VRA", "%", kind="rate", drift=4.0),
            Column("gflop", "per instance", "GFLOP", "{:,.4f}", drift=0.5),
            Column("floor", "floor", "s", "{:,.2f}"),
            Column("one_off", "once", "s", "{:.2f}"),
            Column("batch", "batch", format="{:,.0f}", later=True),
            Column("guarantee", "holds", kind="text"),
        ),
        rows=(*map(_paper_row, METHODS), (TITLES["cifar10"], NOISY.format("6C2F"), RS)),
        claims=published.claims("certifiers-cost"),
        quoted=published.quoted("certifiers-cost"),
        derived=(Derived(RATIO_OF_MEMORY, over_gloro),),
    ),
    cells,
    assemble,
    timed=True,
)
