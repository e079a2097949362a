"""The table gloro-frontier: deterministic certificates on CIFAR-10 after the thesis.

A part of the chapter robustness/gloro: our nets beside published ones, each with its source.

Stated before the run: of nets that took as much time to train, LiResNet certifies at least
`AHEAD` points more at 36/255 than 6C2F.
"""

import math
import re
from dataclasses import replace

import pandas as pd
import torch

from thesis_repro import data, nets
from thesis_repro.experiments.gloro import cifar10 as gloro_cifar
from thesis_repro.experiments.gloro.cifar10 import (
    BASE,
    LIRESNET,
    VRA_COLUMNS,
    liresnet_training,
)
from thesis_repro.experiments.gloro.vra import VraConfig
from thesis_repro.experiments.nets import paper_training
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.claims import Quoted
from thesis_repro.tables.conditions import Condition, between, reaches, said
from thesis_repro.tables.spec import Column, Frame, Plan, Row, Table, TableSpec

NONE = "none"
THESIS_ROW = "GloRo 6C2F (ICML 2021)"


def million(name: str) -> float:
    """Trained numbers of an architecture, in millions; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in nets.build(name).parameters()) / 1e6


def quoted() -> tuple[Quoted, ...]:
    """Published nets; with the size of those whose architecture is in this package."""
    sizes = {
        THESIS_ROW: million("6c2f"),
        "GloRo 6C2F, trained again (TMLR 2022)": million("6c2f"),
        "BCP 6C2F (NeurIPS 2020)": million("6c2f"),
        "LiResNet L12W512, EMMA (NeurIPS 2023)": million("liresnet-l12w512"),
    }
    return tuple(
        replace(q, values={"parameters": sizes[q.row[0]], **q.values}) if q.row[0] in sizes else q
        for q in published.quoted("gloro-frontier")
    )


def sized(config: VraConfig) -> Result:
    """Cell: the measures of `gloro_cifar.at_radii`, with the size of the net."""
    result = compute(gloro_cifar.radii_cell(config))
    return Result({**result.values, "parameters": million(config.training.recipe.net)})


NORMS, LAYERS, LOCAL, NOISE = "norms of layers", "1-Lipschitz layers", "local bounds", "smoothing"
FAMILIES = {
    "GloRo": NORMS,
    "LiResNet": NORMS,
    "AOL": LAYERS,
    "BCOP": LAYERS,
    "BRONet-L": LAYERS,
    "CPL": LAYERS,
    "Cayley": LAYERS,
    "LOT": LAYERS,
    "LipNeXt": LAYERS,
    "SLL": LAYERS,
    "SOC": LAYERS,
    "BCP": LOCAL,
    "smoothing": NOISE,
}
"""What a method certifies by, after the first word of its name."""


def family(method: str) -> str:
    """What a method of the table certifies by.

    Raises
    ------
    ValueError
        On a method that no family is known of.
    """
    first = method.replace(",", " ").split()[0]
    if first not in FAMILIES:
        raise ValueError(f"{method!r}: no family is known of {first!r}, only of {list(FAMILIES)}")
    return FAMILIES[first]


def year(row: Quoted) -> int:
    """The year of a published row: the one in its name, else the one in its source.

    Raises
    ------
    ValueError
        If neither has one.
    """
    for text in (row.row[0], row.source):
        if found := re.findall(r"\b20\d\d\b", text):
            return int(found[-1])
    raise ValueError(f"{row.row[0]!r} has no year, nor has its source {row.source!r}")


def trainings(seed: int, device: str) -> dict[Row, Training]:
    """What is trained for the table: 6C2F as long as can be, LiResNet, and 6C2F for its budgets.

    A quarter of the epochs on a CPU, all on a GPU.
    """
    lires = liresnet_training(seed, device)
    alike = replace(BASE, epochs=LIRESNET.epochs)
    longer = replace(
        alike,
        epochs=math.ceil(EPOCH_COSTS[device] * alike.epochs),
        epochs_paper=math.ceil(EPOCH_COSTS[device] * alike.epochs_paper),
    )
    return {
        SIX_ROW: paper_training("36/255", seed, device, long=True),
        EQUAL_ROW: gloro_cifar.cifar_training(alike, seed, device),
        TIME_ROW: gloro_cifar.cifar_training(longer, seed, device),
        LIRES_ROW: lires,
    }


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-frontier`; on a CPU one seed, and the net of gloro-vra trained longest."""
    if profile.name == "quick" or not data.available(gloro_cifar.DATASET):
        return []
    seeds = profile.seeds if profile.device == "cuda" else profile.seeds[:1]
    return [
        (row, Cell(sized, gloro_cifar.config_of(training), models.fingerprints(training)))
        for seed in seeds
        for row, training in trainings(seed, profile.device).items()
    ]


SIX_ROW: Row = ("GloRo 6C2F, TRADES", NONE)
EQUAL_ROW: Row = ("GloRo 6C2F, for as many epochs as LiResNet", NONE)
TIME_ROW: Row = ("GloRo 6C2F, for as much time as LiResNet", NONE)
LIRES_ROW: Row = ("LiResNet of 6 blocks, EMMA", NONE)

EPOCH_COSTS = {"cpu": 1.5, "cuda": 4.1}
"""An epoch of LiResNet in epochs of 6C2F: at most so many, as measured on each (a CPU that has
units for bfloat16, an H100; there the net is twice as wide)."""
AHEAD = 3.0


def ahead(frame: Frame) -> str:
    """How far LiResNet is ahead of 6C2F in VRA at 36/255, for each budget, in sentences."""
    return "; ".join(
        _ahead(frame, row, budget)
        for row, budget in ((EQUAL_ROW, "as many epochs"), (TIME_ROW, "as much time"))
    )


def _ahead(frame: Frame, row: Row, budget: str) -> str:
    six, deep = frame.lookup(row), frame.lookup(LIRES_ROW)
    gain = math.nan if six is None or deep is None else deep["vra36"] - six["vra36"]
    if math.isnan(gain):
        return f"6C2F and LiResNet, after {budget}: not run"
    return (
        f"after {budget} LiResNet certifies {abs(gain):.1f} points "
        f"{'more' if gain > 0 else 'fewer'} than 6C2F at 36/255"
    )


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """What was stated before the run; nothing until both nets were trained."""
    by = frame[frame["status"] == "run"].set_index(["method", "extra"])
    if not {TIME_ROW, LIRES_ROW} <= set(by.index):
        return []
    gain = between(by.loc[LIRES_ROW], by.loc[TIME_ROW], "vra36")
    return [
        Condition(
            f"{LIRES_ROW[0]}: ahead of 6C2F after as much time, at 36/255",
            f"at least {AHEAD:g} points, with the interval",
            said(gain),
            reaches(gain, AHEAD),
        )
    ]


TABLE = Table(
    TableSpec(
        name="gloro-frontier",
        caption=(
            "Certified accuracy on CIFAR-10 in the L2 norm, in percent: nets trained here, and "
            "published ones. Parameters in millions: counted where the architecture is in this "
            "package, quoted for SLL and LipNeXt. Our certificates hold as computed in float64; "
            "most published ones leave rounding aside."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("method", "method", kind="key"),
            Column("extra", "extra data", kind="key"),
        ),
        columns=(Column("parameters", "parameters", "million", "{:.1f}"), *VRA_COLUMNS),
        rows=(SIX_ROW, EQUAL_ROW, TIME_ROW, LIRES_ROW),
        claims=published.claims("gloro-frontier"),
        quoted=quoted(),
        conditions=conditions,
    ),
    cells,
)
