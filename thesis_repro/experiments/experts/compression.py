"""Table of the chapter explanations/experts on compression: a class by a few units."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from thesis_repro import data
from thesis_repro.experiments.nets import CIFAR_PAIR, cifar_nets, epochs
from thesis_repro.explanations.experts import NEAR, RANKINGS, Detector, halves, keep
from thesis_repro.explanations.subjects import DIGITS, Subject
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition, between, listed, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Frame, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named

TITLES = {"mnist-5k": "MNIST-5k", "mnist": "MNIST"}
DIGIT_SETS = tuple(TITLES.values())
ALL = "mean of all"
PAPER_EPOCHS = 3
DENSE = {"digits": "6", "6c2f": "14"}
"""The hidden dense layer's activations, by net."""
BUDGET = 0.05
MOST = {"balanced": 100.0, "near": 10.0}
"""The largest that a mean can be: percent, and classes."""
WHOLE = "all units"


@dataclass(frozen=True)
class CompressionConfig:
    """The detectors of all classes with the units that a ranking keeps."""

    net: Subject | Training
    ranking: str
    layer: str = DENSE["digits"]
    budget: float = BUDGET
    seed: int = 0
    device: str = "cpu"


def compress(config: CompressionConfig) -> Result:
    """Cell: recall, precision and balanced accuracy on the images that chose nothing.

    `classes` holds the same for each class; values of its own are over all classes.
    """
    note: dict[str, Any] = {}
    if isinstance(config.net, Subject):
        net: nn.Module = named.trained(config.net)
    else:
        net, note = models.trained(config.net).body.to(config.device), epochs(config.net)
    test = data.load(config.net.dataset).test
    sides = halves(net, config.layer, test.x.to(config.device), test.y.to(config.device))
    budget = max(1, int(config.budget * sides.judging.units))
    found: list[Detector] = []
    near: list[bool] = []
    classes: list[dict[str, Any]] = []
    for c in range(len(test.y.unique())):
        whole = detector = sides.judging.detect(c)
        kept: dict[str, float] = {"kept": sides.judging.units}
        if config.ranking != WHOLE:
            generator = torch.Generator().manual_seed(1000 * config.seed + c)
            choice, detector = sides.compressed(c, config.ranking, budget, generator)
            kept = {"kept": choice.units, "alpha": choice.alpha}
            near.append(detector.recall >= whole.recall - NEAR)
        found.append(detector)
        classes.append(kept | detection([detector]))
    values = note | detection(found) | {"classes": classes}
    values["kept"] = math.fsum(one["kept"] for one in classes) / len(classes)
    if near:
        values["near"] = sum(near)
    return Result(values)


def detection(found: list[Detector]) -> dict[str, Any]:
    """Recall and precision as counts over some detectors, and their mean balanced accuracy."""
    hits, calls = sum(d.found for d in found), sum(d.found + d.alarms for d in found)
    return {
        "recall": {"k": hits, "n": sum(d.positives for d in found)},
        "precision": {"k": hits, "n": calls} if calls else None,
        "balanced": 100 * math.fsum(d.balanced for d in found) / len(found),
    }


def compression_row(dataset: str, digit: int, ranking: str) -> Row:
    """The key of a row; digit -1 is the mean over all classes."""
    return TITLES.get(dataset, dataset), f"“{digit}”" if digit >= 0 else ALL, ranking


def compression_rows(dataset: str) -> list[tuple[Row, str]]:
    """All rankings for the mean over classes; whole net and experts for each digit of digits."""
    pairs = [(-1, ranking) for ranking in (WHOLE, *RANKINGS)]
    if dataset in TITLES:
        pairs += [(digit, ranking) for digit in range(10) for ranking in (WHOLE, "influence")]
    return [(compression_row(dataset, *pair), pair[1]) for pair in pairs]


def compression_cells(profile: Profile) -> Plan:
    """The plan of `experts-compression`; the rows of one ranking share their cell."""
    quick = profile.name == "quick"
    name = "mnist-5k" if quick else "mnist"
    plan: list[tuple[Row, Cell | None]] = []
    if data.available(name):
        many = DIGITS.epochs if quick else PAPER_EPOCHS
        for key, ranking in compression_rows(name):
            for seed in profile.seeds:
                net = replace(DIGITS, dataset=name, epochs=many, seed=seed, device=profile.device)
                config = CompressionConfig(net, ranking, seed=seed, device=profile.device)
                plan.append((key, _cell(config)))
    for title, found in cifar_nets(profile):
        layer, seed = DENSE[found.recipe.net], found.recipe.seed
        for key, ranking in compression_rows(f"CIFAR-10, {title}"):
            config = CompressionConfig(found, ranking, layer, seed=seed, device=profile.device)
            plan.append((key, _cell(config)))
    return plan


def _cell(config: CompressionConfig) -> Cell:
    net = config.net
    files = named.fingerprints(net) if isinstance(net, Subject) else models.fingerprints(net)
    return Cell(compress, config, files)


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each row's part of its cells, over seeds.

    Exact intervals are over images, whose number differs from row to row: said once, plainly.
    """
    parts: dict[Row, list[Result]] = {}
    for row, results in gathered.items():
        at = None if row[1] == ALL else int(row[1].strip("“”"))
        parts[row] = [r if at is None else Result(r.values["classes"][at]) for r in results]
    return {
        row: replace(found, values=dict(_shown(found.values, parts[row])))
        for row, found in summarise(TABLE.spec, parts).items()
    }


def _shown(
    values: Mapping[str, Estimate | str], parts: Sequence[Result]
) -> Iterator[tuple[str, Estimate | str]]:
    for name, one in values.items():
        if isinstance(one, str):  # the number of units that are kept
            yield name, f"{math.fsum(r.values[name] for r in parts) / len(parts):.3g}"
            continue
        if "Clopper-Pearson" in one.how:
            one = replace(one, how="Clopper-Pearson over the images that a rate counts")
        if name in MOST:  # Student's t knows no end
            one = replace(one, low=np.maximum(one.low, 0.0), high=np.minimum(one.high, MOST[name]))
        yield name, one


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the mean over all digits, by ranking."""
    rows = frame[(frame["digit"] == ALL) & frame["dataset"].isin(DIGIT_SETS)]
    return rows[rows["status"] == "run"].set_index("ranking")


def must_show(frame: Frame) -> pd.DataFrame:
    """What experts of digits have to show: statement, measured, needed, and whether it holds."""
    ran = frame.data[frame.data["status"] == "run"]
    table = listed(conditions(ran), ("statement", "needed", "measured", "holds"))
    return table[["statement", "measured", "needed", "holds"]]


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Influence keeps the whole net's recall, and detects better than the other rankings."""
    mean = _means(frame)
    if not {"influence", WHOLE} <= set(mean.index):
        return []
    ours = mean.loc["influence"]
    lost, near = between(mean.loc[WHOLE], ours, "recall"), of(ours, "near")
    found = [
        Condition(
            "influence keeps the whole net's recall, mean of all digits",
            f"at most {100 * NEAR:g} points below, with the interval",
            f"{said(lost)} points below",
            reaches(lost, 100 * NEAR, at_most=True),
        ),
        Condition(
            "digits whose recall stays within 5 points",
            "8, with the interval",
            said(near),
            reaches(near, 8),
        ),
    ]
    for other in ("random", "activation", "gradient at the input"):
        for measure, what in (("recall", "recall"), ("balanced", "balanced accuracy")):
            if other.startswith("gradient") and measure == "recall":
                continue  # nothing is claimed of it
            needed = 0.0 if other.startswith("gradient") else 15.0
            gap = between(ours, mean.loc[other], measure)
            found.append(
                Condition(
                    f"{what}: points above {other}",
                    f"{needed:g}, with the interval",
                    said(gap),
                    reaches(gap, needed),
                )
            )
    return found


def curves(
    seed: int = 0,
    layer: str = DENSE["digits"],
    budgets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128),
) -> tuple[tuple[int, ...], dict[str, np.ndarray], float]:
    """Budgets, mean balanced accuracy of the digits by ranking, and that of the whole net."""
    test = data.load("mnist-5k").test
    sides = halves(named.trained(replace(DIGITS, seed=seed)), layer, test.x, test.y)
    found: dict[str, np.ndarray] = {}
    for ranking in RANKINGS:
        values = np.zeros((10, len(budgets)))
        for c in range(10):
            scores = sides.choosing.ranking(ranking, c, torch.Generator().manual_seed(c))
            for at, budget in enumerate(budgets):
                choice = sides.choosing.choose(c, scores, budget, max(1, budget // 4))
                values[c, at] = sides.judging.detect(c, keep(scores, choice)).balanced
        found[ranking] = values.mean(0)
    whole = np.mean([sides.judging.detect(c).balanced for c in range(10)])
    return budgets, found, float(whole)


TABLE: Table = Table(
    TableSpec(
        name="experts-compression",
        caption=(
            "A net as a detector of one class: with all units of its hidden dense layer, and with "
            f"at most {100 * BUDGET:g}% of them. Four rankings choose the units on one half of the "
            "test images, and the other half judges. Balanced accuracy is the mean of recall and "
            "of the share of other images left alone; to call everything, or nothing, gives 50. "
            "Near: classes "
            "whose recall is at most 5 points below that of the whole net. Mean of all: recall and "
            "precision count the images of all classes together, balanced accuracy is a mean."
        ),
        chapter="explanations/experts",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("digit", "class", kind="key"),
            Column("ranking", "units kept by", kind="key"),
        ),
        columns=(
            Column("kept", "kept", kind="text"),
            Column("alpha", "of these positive", format="{:.0f}"),
            Column("recall", "recall", "%", kind="rate", drift=8.0),
            # another processor may swap a unit of an expert, and 30 of a digit's points are few
            Column("precision", "precision", "%", kind="rate", drift=20.0),
            Column("balanced", "balanced accuracy", "%", drift=8.0),
            Column("near", "near", "of 10", "{:.1f}", drift=2.0),
        ),
        rows=tuple(
            key
            for name in ("mnist", *(f"CIFAR-10, {title}" for title in CIFAR_PAIR))
            for key, _ in compression_rows(name)
        ),
        claims=published.claims("experts-compression"),
        conditions=conditions,
    ),
    compression_cells,
    assemble,
)
