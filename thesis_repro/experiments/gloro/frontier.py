"""The table gloro-frontier: deterministic certificates on CIFAR-10 after the thesis.

A part of the chapter robustness/gloro: our nets beside published ones, each with its source.
"""

import math
from dataclasses import replace

import torch

from thesis_repro import data, nets
from thesis_repro.experiments.gloro import cifar10 as gloro_cifar
from thesis_repro.experiments.gloro.cifar10 import VRA_COLUMNS
from thesis_repro.experiments.gloro.vra import VraConfig
from thesis_repro.experiments.nets import paper_training
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.tables import published
from thesis_repro.tables.claims import Quoted
from thesis_repro.tables.spec import Column, Frame, Plan, Row, Table, TableSpec

NONE = "none"


def million(name: str) -> float:
    """Trained numbers of an architecture, in millions; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in nets.build(name).parameters()) / 1e6


def quoted() -> tuple[Quoted, ...]:
    """Published nets; with the size of those whose architecture is in this package."""
    sizes = {
        "GloRo 6C2F (ICML 2021)": million("6c2f"),
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


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-frontier`; on a CPU one seed, and the net of gloro-vra trained longest."""
    if profile.name == "quick" or not data.available(gloro_cifar.DATASET):
        return []
    seeds = profile.seeds if profile.device == "cuda" else profile.seeds[:1]
    plan = []
    for seed in seeds:
        for row, training in (
            (SIX_ROW, paper_training("36/255", seed, profile.device, long=True)),
            (EQUAL_ROW, gloro_cifar.cifar_training(gloro_cifar.BASE, seed, profile.device)),
            (LIRES_ROW, gloro_cifar.liresnet_training(seed, profile.device)),
        ):
            config = gloro_cifar.config_of(training)
            plan.append((row, Cell(sized, config, models.fingerprints(training))))
    return plan


SIX_ROW: Row = ("GloRo 6C2F, TRADES", NONE)
EQUAL_ROW: Row = ("GloRo 6C2F, for as many epochs as LiResNet", NONE)
LIRES_ROW: Row = ("LiResNet of 6 blocks, EMMA", NONE)


def ahead(frame: Frame) -> str:
    """How far LiResNet is ahead of 6C2F in VRA at 36/255 after as many epochs, in a sentence."""
    six, deep = frame.lookup(EQUAL_ROW), frame.lookup(LIRES_ROW)
    gain = math.nan if six is None or deep is None else deep["vra36"] - six["vra36"]
    if math.isnan(gain):
        return "6C2F and LiResNet, after as many epochs: not run"
    return (
        f"after as many epochs LiResNet certifies {abs(gain):.1f} points "
        f"{'more' if gain > 0 else 'fewer'} than 6C2F at 36/255"
    )


TABLE = Table(
    TableSpec(
        name="gloro-frontier",
        caption=(
            "Certified accuracy on CIFAR-10 in the L2 norm, in percent: nets trained here, and "
            "published ones. Parameters in millions: counted where the architecture is in this "
            "package, as published for SLL. Our certificates hold as computed in float64; most "
            "published ones leave rounding aside."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("method", "method", kind="key"),
            Column("extra", "extra data", kind="key"),
        ),
        columns=(Column("parameters", "parameters", "million", "{:.1f}"), *VRA_COLUMNS),
        rows=(SIX_ROW, EQUAL_ROW, LIRES_ROW),
        claims=published.claims("gloro-frontier"),
        quoted=quoted(),
    ),
    cells,
)
