"""The table gloro-frontier: deterministic certificates on CIFAR-10 after the thesis.

A part of the chapter robustness/gloro: our nets beside published ones, each with its source.
"""

import math

import torch

from thesis_repro import data, nets
from thesis_repro.experiments.gloro import cifar10 as gloro_cifar
from thesis_repro.experiments.gloro.cifar10 import VRA_COLUMNS
from thesis_repro.experiments.gloro.vra import BCP, BOARD, RERUN, VraConfig
from thesis_repro.experiments.nets import paper_training
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.spec import Column, Frame, Plan, Quoted, Row, Table, TableSpec

LAYERS = "logs published with a comparison of 1-Lipschitz layers (CVPR 2024), validation images"
SLL = "authors of SLL, OpenReview"
LIRES = "board of certified robustness, and README of the authors' code"
CHORD = "README of the authors' code (ICLR 2024)"
COHEN = "computed from the logs of Cohen et al. 2019, 500 test images, ResNet-110"
NOTES = "from notes, not re-read"
NONE = "none"


def million(name: str) -> float:
    """Trained numbers of an architecture, in millions; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in nets.build(name).parameters()) / 1e6


def _quoted(
    method: str, extra: str, source: str, *values: float, parameters: float | None = None
) -> Quoted:
    """A row of clean accuracy and VRA at 36, 72 and 108; NaN where nothing is published."""
    found = dict(zip(("clean", *gloro_cifar.RADII), values, strict=False))
    kept = {name: value for name, value in found.items() if value == value}
    return Quoted(
        (method, extra), kept if parameters is None else {"parameters": parameters, **kept}, source
    )


NAN = float("nan")
SIX = million("6c2f")

QUOTED = (
    _quoted("GloRo 6C2F (ICML 2021)", NONE, RERUN, 75.17, 60.00, 42.82, 27.16, parameters=SIX),
    _quoted("BCP 6C2F (NeurIPS 2020)", NONE, BCP, 65.72, 51.30, parameters=SIX),
    _quoted("Cayley (ICLR 2021)", NONE, BOARD, NAN, 59.16),
    _quoted("SOC, HH and CR (ICLR 2022)", NONE, BOARD, NAN, 62.96),
    _quoted("LOT (NeurIPS 2022)", NONE, BOARD, NAN, 64.49),
    _quoted("LOT (NeurIPS 2022)", "generated (EDM)", BOARD, NAN, 69.05),
    _quoted("SLL small (ICLR 2023)", NONE, SLL, NAN, 62.6, parameters=41.0),
    _quoted("SLL X-large (ICLR 2023)", NONE, SLL, NAN, 65.8, parameters=263.0),
    _quoted("SOC, size M", NONE, LAYERS, 76.9, 66.3, 53.4, 40.0),
    _quoted("CPL, size M", NONE, LAYERS, 76.6, 65.1, 51.5, 38.1),
    _quoted("SLL, size M", NONE, LAYERS, 75.3, 62.8, 48.9, 35.8),
    _quoted("Cayley, size M", NONE, LAYERS, 74.4, 61.0, 46.3, 33.0),
    _quoted("AOL, size M", NONE, LAYERS, 73.4, 61.0, 47.1, 34.6),
    _quoted("BCOP, size M", NONE, LAYERS, 74.0, 60.5, 45.7, 32.2),
    _quoted("LOT, size M", NONE, LAYERS, 72.0, 58.7, 43.7, 30.9),
    _quoted(
        "LiResNet L12W512, EMMA (NeurIPS 2023)",
        NONE,
        LIRES,
        NAN,
        66.9,
        parameters=million("liresnet-l12w512"),
    ),
    _quoted("LiResNet, EMMA (NeurIPS 2023)", "generated (DDPM)", LIRES, NAN, 70.1),
    _quoted("LiResNet, CHORD (ICLR 2024)", "generated", CHORD, 87.0, 78.1, 66.6, 53.5),
    _quoted("BRONet-L (ICML 2025)", NONE, NOTES, 81.6, 70.6, 57.2, 42.5),
    _quoted("BRONet-L (ICML 2025)", "generated (EDM)", NOTES, 87.2, 78.3, 67.4, 54.5),
    _quoted("smoothing, noise 0.25 (probabilistic)", NONE, COHEN, 74.8, 66.4, 57.6, 47.6),
)


def sized(config: VraConfig) -> Result:
    """Cell: the measures of `gloro_cifar.at_radii`, with the size of the net."""
    result = compute(gloro_cifar.radii_cell(config))
    return Result({**result.values, "parameters": million(config.training.recipe.net)})


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-frontier`; on a CPU one seed, and the net of gloro-vra trained longest."""
    if profile.name == "quick" or not data.available(gloro_cifar.DATASET):
        return []
    fingerprints = ((gloro_cifar.DATASET, data.fingerprint(gloro_cifar.DATASET)),)
    seeds = profile.seeds if profile.device == "cuda" else profile.seeds[:1]
    plan = []
    for seed in seeds:
        for row, training in (
            (SIX_ROW, paper_training("36/255", seed, profile.device, long=True)),
            (EQUAL_ROW, gloro_cifar.cifar_training(gloro_cifar.BASE, seed, profile.device)),
            (LIRES_ROW, gloro_cifar.liresnet_training(seed, profile.device)),
        ):
            plan.append((row, Cell(sized, gloro_cifar.config_of(training), fingerprints)))
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
        quoted=QUOTED,
    ),
    cells,
)
