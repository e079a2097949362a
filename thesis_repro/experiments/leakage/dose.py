"""The table leakage-dose: whether more robustness makes the word plainer, as it was written down.

What follows was committed before any of the nets that it is about was trained.

Nets of one architecture and number have the same images, first weights and order of batches,
whatever their training and its radius; a marked net and its clean twin too, so that the word is
all that sets them apart. With z the weak adversary's score in a net's reconstruction from grey,
and r the radius of the training in units of the chapter's (r = 0: standard training), the score of
a dose is D(r) = [z(r, marked) - z(r, clean)] - [z(0, marked) - z(0, clean)].

The information organization hypothesis predicts that D grows with r. For each number an ordinary
least squares line, with its own intercept, is laid through D(r), r = 0 among them, over
log2(1 + 8 r). That the mean slope is above zero is tested one-sided by permutation of signs over
numbers, since the doses of one number share their nets of r = 0. The p-values of all lines, of
each architecture and training on each data set, are adjusted by Holm's method; the prediction holds
where they are below `LEVEL` and the slope is above zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from thesis_repro import data, nets
from thesis_repro.experiments.leakage.models import (
    ADVERSARIAL,
    DATASET,
    DIGITS,
    GLORO,
    PAPER_SETS,
    STANDARD,
    TITLES,
    TRAINING,
    Setup,
    accuracy,
    build,
    draw,
    grey,
    load,
    setups,
    train,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Family, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses import leakage

LEVEL = 0.05
MINMAX, POOLED, RESIDUAL = "MinMax", "ReLU, pooling", "residual"
LINES = ((MINMAX, GLORO), (MINMAX, ADVERSARIAL), (POOLED, ADVERSARIAL), (RESIDUAL, ADVERSARIAL))
"""Architectures with the robust training of each."""

DOSES = {"paper": (0.0, 0.125, 0.25, 0.5, 1.0, 2.0), "quick": (0.0, 0.5, 2.0)}
"""Radii in units of the chapter's; none is standard training."""
PER_SEED = {"paper": 4, "quick": 3}
"""Numbers for each seed: 12 with the three seeds of a paper run."""
QUICK = replace(DIGITS, images=500, epochs=8, batch_size=50)
SEED = 1000
"""Seed of number 0: no other net of the chapter has it."""


@dataclass(frozen=True)
class DoseConfig:
    """One net: architecture, training and its radius in units of the setup's, marked or clean."""

    setup: Setup
    net: str
    method: str
    dose: float
    marked: bool
    number: int
    device: str = "cpu"


def body(config: DoseConfig, in_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The net before training; an ordinary one starts as torch's layers do.

    The residual net has one block of two convolutions (He et al. 2016, without normalisation).
    """
    seed = SEED + config.number
    if config.net == MINMAX:
        return build(config.setup.net, in_shape, classes, seed)
    channels, height, width = in_shape
    generator, units = torch.Generator().manual_seed(seed), 8 if channels == 1 else 16
    if config.net == POOLED:
        stack, shape = [(units, 3, 2), (2 * units, 3, 1)], (channels, height, width)
        return nets.cnn(stack, [100], "relu", shape, classes, generator, pool=2, start=nets.uniform)
    layers = nn.Sequential(
        nn.Conv2d(channels, 2 * units, 3, 2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nets.Residual(
            nn.Conv2d(2 * units, 2 * units, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * units, 2 * units, 3, padding=1),
        ),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * units * (height // 4) * (width // 4), classes),
    )
    nets.uniform(layers.modules(), generator)
    return layers


def dosed(config: DoseConfig) -> Result:
    """Cell: a net trained at its radius, marked or clean, and the weak adversary's score of it."""
    setup, seed = config.setup, SEED + config.number
    loaded = load(setup.dataset)
    split, _ = draw(loaded.train, setup.images, seed)
    if config.marked:
        split, _ = leakage.mark(split, setup.watermark, setup.share, seed)
    net = body(config, tuple(split.x.shape[1:]), len(loaded.classes))
    radius = replace(setup, epsilon=setup.epsilon * (config.dose or 1.0))
    train(net, radius, config.method, split, seed, config.device, named.checkpoint())
    values = {
        "z": leakage.trace(grey(setup, net, split), setup.watermark).z,
        "accuracy": accuracy(net, loaded.test, config.device),
        "dose": config.dose,
        "marked": config.marked,
        "number": config.number,
    }
    return Result(values, {})


def plan(profile: Profile) -> Plan:
    """The plan of `leakage-dose`: a row has all doses of an architecture and training."""
    each = PER_SEED[profile.name]
    numbers = [each * seed + i for seed in profile.seeds for i in range(each)]
    planned: list[tuple[Row, Cell | None]] = []
    for setup in (QUICK,) if profile.name == "quick" else setups(profile):
        here = data.available(setup.dataset)
        known = ((setup.dataset, data.fingerprint(setup.dataset)),) if here else ()
        for net, method in LINES:
            row = (TITLES[setup.dataset], net, method)
            trained = [(method if dose else STANDARD, dose) for dose in DOSES[profile.name]]
            configs = [
                DoseConfig(setup, net, *training, marked, number, profile.device)
                for number in numbers
                for training in trained
                for marked in (True, False)
            ]
            planned += [(row, Cell(dosed, c, known)) for c in configs] if here else [(row, None)]
    return planned


def scores(results: Sequence[Result]) -> pd.DataFrame:
    """D(r), the score of each dose: numbers as rows, doses as columns; at r = 0 it is 0.

    Raises
    ------
    ValueError
        If a dose lacks its clean twin, or the other way round, or a number lacks a dose.
    """
    lines = [(*(r.values[name] for name in ("number", "dose", "marked", "z")),) for r in results]
    z = pd.DataFrame(lines, columns=["number", "dose", "marked", "z"])
    twins = z.pivot(index=["number", "dose"], columns="marked", values="z").reindex(
        columns=[True, False]
    )
    for (number, dose), pair in twins[twins.isna().any(axis=1)].iterrows():
        there, lacking = ("clean", "marked") if pd.isna(pair[True]) else ("marked", "clean")
        raise ValueError(
            f"number {number} at dose {dose:g} has its {there} net and no {lacking} twin"
        )
    found = (twins[True] - twins[False]).unstack("dose")
    if 0.0 not in found or found.isna().to_numpy().any():
        raise ValueError(f"every number needs the doses 0 and {_named(found.columns)}, with twins")
    return found.sub(found[0.0], axis=0)


def _named(doses: Sequence[float]) -> str:
    return ", ".join(f"{dose:g}" for dose in doses if dose)


def slopes(found: pd.DataFrame) -> NDArray[np.float64]:
    """For each number the least squares slope of its scores on log2(1 + 8 r), with an intercept."""
    x = np.log2(1 + 8 * found.columns.to_numpy(float))
    slope: NDArray[np.float64] = np.polynomial.polynomial.polyfit(x, found.to_numpy().T, 1)[1]
    return slope


def shown(dose: float) -> str:
    """The column of a dose."""
    return f"r{dose:g}".replace(".", "_")


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """The scores of the doses, the slope over them, and its p-value with Holm's adjustment."""
    doses, seeds = DOSES[profile.name], len(profile.seeds)
    numbers = PER_SEED[profile.name] * seeds
    found: dict[Row, dict[str, Estimate | str]] = {}
    raw: list[float] = []
    for row, results in gathered.items():
        if len(results) != 2 * len(doses) * numbers:
            continue  # a run that was stopped
        table = scores(results)
        slope = slopes(table)
        mean, p = statistics.paired(slope.tolist(), [0.0] * len(slope), "numbers")
        raw.append(p)
        found[row] = {
            **{shown(r): statistics.mean_over(table[r].tolist(), "numbers") for r in doses if r},
            "slope": mean,
            "p": Estimate(p),
            "numbers": Estimate(numbers),
        }
    # a test that has not run counts in its family all the same
    family = len(LINES) * (1 if profile.name == "quick" else len(setups(profile)))
    adjusted = statistics.holm(raw + [1.0] * (family - len(raw)))
    for values, p in zip(found.values(), adjusted, strict=False):
        values["holm"] = Estimate(p)
    note = ""
    if profile.name == "quick":
        note = f"underpowered: {numbers} numbers, doses {_named(doses)} alone, a short training"
    return {row: Measurement(values, seeds, note) for row, values in found.items()}


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """The prediction for each architecture and training on each data set, as written down."""
    return [
        Condition(
            f"{row.dataset}, {row.net}, {row.training}: the word shows more, the larger the radius",
            f"slope above 0, p < {LEVEL:g} after Holm",
            f"{row.slope:+.2f}, p = {row.holm:.3g}".replace("-", "−"),
            bool(row.slope > 0 and row.holm < LEVEL),
        )
        for row in frame.itertuples()
    ]


TABLE = Table(
    TableSpec(
        name="leakage-dose",
        caption=(
            "Dose and response: the weak adversary's score over the radius of the training, as it "
            "was written down beforehand. Columns of r, in units of the chapter's radius: how much "
            "more clearly the word shows than after standard training, marked net less clean twin "
            "of the same number. Slope: over log2(1 + 8 r), mean of the numbers' least squares "
            "lines. p: one-sided, permutation of signs; Holm: over all lines."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, Column("net", "net", kind="key"), TRAINING),
        columns=(
            *(
                Column(shown(dose), f"r = {dose:g}", format="{:z.2f}", drift=3.0)
                for dose in DOSES["paper"]
                if dose
            ),
            Column("slope", "slope", format="{:z.2f}", drift=1.0),
            Column("p", "p", format="{:.4f}", drift=1.0),
            Column("holm", "p, Holm", format="{:.4f}", drift=1.0),
            Column("numbers", "numbers", format="{:.0f}"),
        ),
        rows=tuple((title, *line) for title in PAPER_SETS for line in LINES),
        family=Family(),
        claims=published.claims("leakage-dose"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
