"""Tables of the chapter explanations/experts: compression to a few units, and faithfulness."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from thesis_repro import data
from thesis_repro.explanations import faithfulness, receptive, subjects
from thesis_repro.explanations.experts import RANKINGS, halves, keep
from thesis_repro.explanations.subjects import DIGITS
from thesis_repro.lab.engine import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import recipes
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.gloro import quick_training
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Claim, Column, Frame, Plan, Row, Table, TableSpec

TITLES = {"mnist-5k": "MNIST-5k", "mnist": "MNIST", "cifar10": "CIFAR-10"}
ALL = "mean of all"
PAPER_EPOCHS = 3
LAYER = "6"
"""The hidden dense layer's activations, after ReLU."""
BUDGET = 0.05
NEAR = 0.05
"""A detector keeps the whole net's recall if it is at most so much lower."""


WHOLE = "all units"


@dataclass(frozen=True)
class CompressionConfig:
    """The detector of one digit (-1: the mean over all) with the units that a ranking keeps."""

    dataset: str
    digit: int
    ranking: str
    layer: str = LAYER
    budget: float = BUDGET
    seed: int = 0
    device: str = "cpu"


def compress(config: CompressionConfig) -> Result:
    """Cell: recall, precision and balanced accuracy on the images that chose nothing."""
    epochs = DIGITS.epochs if config.dataset == "mnist-5k" else PAPER_EPOCHS
    net = subjects.trained(
        replace(
            DIGITS, dataset=config.dataset, epochs=epochs, seed=config.seed, device=config.device
        )
    )
    test = data.load(config.dataset).test
    sides = halves(net, config.layer, test.x.to(config.device), test.y.to(config.device))
    digits = range(10) if config.digit < 0 else [config.digit]
    whole = [sides.judging.detect(c) for c in digits]
    units = sides.judging.units
    values: dict[str, Any] = {"kept": units}
    found = whole
    if config.ranking != WHOLE:
        budget = max(1, int(config.budget * units))
        values["kept"] = budget
        found = []
        for c in digits:
            generator = torch.Generator().manual_seed(1000 * config.seed + c)
            choice, detector = sides.compressed(c, config.ranking, budget, generator)
            found.append(detector)
            if config.digit >= 0:
                values["alpha"] = choice.alpha
        if config.digit < 0:
            near = [d.recall >= w.recall - NEAR for d, w in zip(found, whole, strict=True)]
            values["near"] = sum(near)
    hits, calls = sum(d.found for d in found), sum(d.found + d.alarms for d in found)
    values["recall"] = {"k": hits, "n": sum(d.positives for d in found)}
    values["precision"] = {"k": hits, "n": calls} if calls else None
    values["balanced"] = 100 * math.fsum(d.balanced for d in found) / len(found)
    return Result(values)


def compression_row(dataset: str, digit: int, ranking: str) -> Row:
    """The key of a row."""
    return TITLES[dataset], f"“{digit}”" if digit >= 0 else ALL, ranking


def compression_rows(dataset: str) -> list[tuple[Row, int, str]]:
    """All rankings for the mean over digits; the whole net and its experts for each digit."""
    pairs = [(-1, ranking) for ranking in (WHOLE, *RANKINGS)]
    pairs += [(digit, ranking) for digit in range(10) for ranking in (WHOLE, "influence")]
    return [(compression_row(dataset, *pair), *pair) for pair in pairs]


def compression_cells(profile: Profile) -> Plan:
    """The plan of `experts-compression`."""
    name = "mnist-5k" if profile.name == "quick" else "mnist"
    if not data.available(name):
        return []
    hashes = ((name, data.fingerprint(name)),)
    return [
        (key, Cell(compress, CompressionConfig(name, digit, ranking, seed=seed,
                                               device=profile.device), hashes))
        for key, digit, ranking in compression_rows(name)
        for seed in profile.seeds
    ]  # fmt: skip


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["digit"] == ALL].set_index("ranking")


def near_enough(frame: pd.DataFrame) -> bool:
    """Influence keeps the whole net's recall to 5 points, and detects better than the others."""
    mean = _means(frame)
    others = [ranking for ranking in RANKINGS if ranking != "influence"]
    return bool(
        mean.recall["influence"] >= mean.recall[WHOLE] - 100 * NEAR
        and (mean.balanced["influence"] > mean.balanced[others]).all()
    )


def must_show(frame: Frame) -> pd.DataFrame:
    """What experts have to show: statement, measured, needed, and whether it holds."""
    mean = _means(frame.data)
    found = [("digits whose recall stays within 5 points", mean.near["influence"], 8)]
    for other in ("random", "activation"):
        for measure, what in (("recall", "recall"), ("balanced", "balanced accuracy")):
            gap = mean[measure]["influence"] - mean[measure][other]
            found.append((f"{what}: points above {other}", round(gap, 1), 15))
    table = pd.DataFrame(found, columns=["statement", "measured", "needed"])
    table["holds"] = (table.measured >= table.needed).map({True: "yes", False: "no"})
    return table


def plainly(records: dict[Row, dict[str, Any]]) -> dict[Row, dict[str, Any]]:
    """Say once that exact intervals are over images, whose number differs from row to row."""
    for record in records.values():
        if "Clopper-Pearson" in record["interval"]:
            record["interval"] = "Clopper-Pearson over the images that a rate counts"
    return records


def curves(
    seed: int = 0, layer: str = LAYER, budgets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
) -> tuple[tuple[int, ...], dict[str, np.ndarray], float]:
    """Budgets, mean balanced accuracy of the digits by ranking, and that of the whole net."""
    test = data.load("mnist-5k").test
    sides = halves(subjects.trained(replace(DIGITS, seed=seed)), layer, test.x, test.y)
    found: dict[str, np.ndarray] = {}
    for ranking in RANKINGS:
        values = np.zeros((10, len(budgets)))
        for c in range(10):
            scores = sides.choosing.ranking(ranking, c, torch.Generator().manual_seed(c))
            for at, budget in enumerate(budgets):
                choice = sides.choosing.choose(c, scores, budget, max(1, budget // 8))
                values[c, at] = sides.judging.detect(c, keep(scores, choice)).balanced
        found[ranking] = values.mean(0)
    whole = np.mean([sides.judging.detect(c).balanced for c in range(10)])
    return budgets, found, float(whole)


TABLE_I = "Leino et al. 2018, table I; its values could not be read"

EXPERTS_COMPRESSION: Table = Table(
    TableSpec(
        name="experts-compression",
        caption=(
            "A digit CNN as a detector of one class: with all units of its hidden layer, and with "
            "at most 5% of them, chosen on one half of the test images by four rankings and "
            "judged on the other half. Balanced accuracy is the mean of recall and of the share "
            "of other digits left alone; to call everything, or nothing, gives 50. Near: classes "
            "whose recall is at most 5 points below that of the whole net."
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
            Column("precision", "precision", "%", kind="rate", drift=12.0),
            Column("balanced", "balanced accuracy", "%", drift=8.0),
            Column("near", "near", "of 10", "{:.1f}", drift=2.0),
        ),
        rows=tuple(key for key, _, _ in compression_rows("mnist")),
        claims=(Claim(compression_row("mnist", -1, "influence"), "recall", None, TABLE_I),),
        trend=near_enough,
        trend_says=(
            "with influence, recall stays within 5 points of the whole net's and balanced "
            "accuracy is above that of the other rankings"
        ),
    ),
    compression_cells,
    lambda _, gathered: plainly(summarise(EXPERTS_COMPRESSION.spec, gathered)),
)


@dataclass(frozen=True)
class FaithfulConfig:
    """Deletion and insertion by one method on one net; `training` is None for SqueezeNet."""

    method: str
    training: Training | None
    images: int
    steps: int
    slice: str
    seed: int = 0
    device: str = "cpu"


def faithful(config: FaithfulConfig) -> Result:
    """Cell: mean areas, and the share of the worth that lies on the object's ink."""
    if config.training is None:
        net: nn.Module = subjects.squeezenet()
        x = subjects.normalised(data.photos().x[: config.images])
    else:
        net = recipes.trained(config.training)[0].body
        x = data.load(config.training.dataset).test.x[: config.images]
    net, x = net.to(config.device), x.to(config.device)
    generator = torch.Generator().manual_seed(config.seed)
    worth = faithfulness.attribution(config.method, net, x, config.slice, generator=generator)
    deletion, insertion = faithfulness.curves(net, x, worth, config.steps, batch_size=64)
    values: dict[str, Any] = {
        "deletion": float(faithfulness.area(deletion).mean()),
        "insertion": float(faithfulness.area(insertion).mean()),
    }
    if config.training is not None:
        values["on_ink"] = 100 * float(receptive.share_on(worth[:, None], x[:, 0] > 0.5).mean())
    arrays = {"deletion": deletion.mean(0).cpu().numpy()}
    arrays["insertion"] = insertion.mean(0).cpu().numpy()
    return Result(values, arrays)


IMAGES = 100
STANDARD, ROBUST = "2C2F, standard", "2C2F, GloRo at 1.58"


def pair(seed: int) -> dict[str, Training]:
    """The same architecture, trained in the standard way and certifiably."""
    found = quick_training("1.58", seed)
    robust = replace(found.recipe, epochs=15)
    plain = replace(robust, method="standard", epochs=10)
    return {STANDARD: replace(found, recipe=plain), ROBUST: replace(found, recipe=robust)}


def faithfulness_cells(profile: Profile) -> Plan:
    """The plan of `experts-faithfulness`."""
    digits = (("mnist-5k", data.fingerprint("mnist-5k")),)
    plan: list[tuple[Row, Cell | None]] = []
    for seed in profile.seeds:
        for name, training in pair(seed).items():
            for method in faithfulness.METHODS:
                config = FaithfulConfig(method, training, IMAGES, 28, "3", seed)
                plan.append((("MNIST-5k", name, method), Cell(faithful, config, digits)))
    if profile.name != "quick" and all(map(data.available, ("photos", "squeezenet1_1"))):
        hashes = tuple((n, data.fingerprint(n)) for n in ("photos", "squeezenet1_1"))
        for method in faithfulness.METHODS:
            config = FaithfulConfig(method, None, 20, 28, "features.9", 0, profile.device)
            plan.append((("photographs", SQUEEZENET, method), Cell(faithful, config, hashes)))
    return plan


SQUEEZENET = "SqueezeNet 1.1"


EXPERTS_FAITHFULNESS = Table(
    TableSpec(
        name="experts-faithfulness",
        caption=(
            "Area under the probability of the net's own answer while pixels are deleted (small "
            "is faithful) or inserted (large is faithful) in the order of each explanation, and "
            "the share of the explanation that lies on the digit's ink."
        ),
        chapter="explanations/experts",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("net", "net", kind="key"),
            Column("method", "explanation", kind="key"),
        ),
        columns=(
            Column("deletion", "deletion area", format="{:.3f}", drift=0.05),
            Column("insertion", "insertion area", format="{:.3f}", drift=0.05),
            Column("on_ink", "on the ink", "%", drift=5.0),
        ),
        rows=(
            *(
                ("MNIST-5k", net, method)
                for net in (STANDARD, ROBUST)
                for method in faithfulness.METHODS
            ),
            *(
                ("CIFAR-10", f"6C2F, {training}", method)
                for training in ("standard", "GloRo at 36/255")
                for method in faithfulness.METHODS
            ),
            *(("photographs", SQUEEZENET, method) for method in faithfulness.METHODS),
        ),
    ),
    faithfulness_cells,
)


def findings(frame: Frame) -> list[str]:
    """What the faithfulness table says about explanations and about certified training."""
    data_ = frame.data[frame.data["dataset"] == "MNIST-5k"].set_index(["net", "method"])
    lines = []
    for net in (STANDARD, ROBUST):
        rows = data_.loc[net]
        lines.append(
            f"{net}:\n    deletion is smallest for {rows['deletion'].idxmin()},\n"
            f"    insertion is largest for {rows['insertion'].idxmax()}"
        )
    for method in faithfulness.METHODS[:-1]:
        before, after = (data_.loc[(net, method), "on_ink"] for net in (STANDARD, ROBUST))
        trend = "more" if after > before else "less"
        lines.append(
            f"{method}:\n    {before:.1f}% on the ink for the standard net,\n"
            f"    {after:.1f}% for the certified one: {trend} concentrated"
        )
    return lines


def deletion_curves(seed: int = 0) -> dict[str, Result]:
    """Deletion and insertion curves of the standard net by method, from the table's cells."""
    training = pair(seed)[STANDARD]
    digits = (("mnist-5k", data.fingerprint("mnist-5k")),)
    return {
        method: compute(
            Cell(faithful, FaithfulConfig(method, training, IMAGES, 28, "3", seed), digits)
        )
        for method in faithfulness.METHODS
    }
