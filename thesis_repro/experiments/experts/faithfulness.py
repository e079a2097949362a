"""Table of the chapter explanations/experts on faithfulness, and on what certified nets look at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.nets import (
    CIFAR_PAIR,
    PAPER_PAIR,
    QUICK_PAIR,
    TITLES,
    cifar_nets,
    digit_nets,
    epochs,
)
from thesis_repro.explanations import faithfulness, imagenet, receptive
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Frame, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.tables.statistics import mean_over

IMAGES, PHOTOS = 100, 20
LAYERS = {"2c2f": "3", "6c2f": "11"}
"""The last convolution's activations."""
IMAGENET = {
    "squeezenet1_1": "SqueezeNet 1.1",
    "efficientnet-lite0": "EfficientNet-lite0",
    "vgg16": "VGG16",
}
INK = 0.5
MEASURES = ("deletion", "insertion", "on_object", "strongest")


@dataclass(frozen=True)
class FaithfulConfig:
    """Deletion and insertion by one method on one net; a name is one of imagenet.NETS."""

    method: str
    net: Training | str
    images: int
    steps: int
    seed: int = 0
    device: str = "cpu"


def faithful(config: FaithfulConfig) -> Result:
    """Cell: areas and shares of the worth, image by image; values are their means."""
    values: dict[str, Any] = {}
    region: Tensor | None = None
    if isinstance(config.net, str):
        found = imagenet.NETS[config.net]()
        net, layer = found.net, found.layer
        x = found.inputs(data.photos().x[: config.images])
    else:
        net, layer = models.trained(config.net).body, LAYERS[config.net.recipe.net]
        values = epochs(config.net)
        x = data.held_out(config.net.dataset).x[: config.images]
        region = ink(x) if x.shape[1] == 1 else middle(x)
    net, x = net.to(config.device), x.to(config.device)
    generator = torch.Generator().manual_seed(config.seed)
    worth = faithfulness.attribution(config.method, net, x, layer, generator=generator)
    deletion, insertion = faithfulness.curves(net, x, worth, config.steps, batch_size=64)
    each = {
        "deletion": faithfulness.area(deletion),
        "insertion": faithfulness.area(insertion),
        "strongest": 100 * strongest(worth),
    }
    if region is not None:
        each["on_object"] = 100 * receptive.share_on(worth[:, None], region.to(config.device))
    values |= {name: float(one.double().mean()) for name, one in each.items()}
    arrays = {f"each_{name}": one.cpu().numpy() for name, one in each.items()}
    arrays |= {"curve_deletion": deletion.mean(0).cpu().numpy()}
    arrays |= {"curve_insertion": insertion.mean(0).cpu().numpy()}
    return Result(values, arrays)


def ink(x: Tensor) -> Tensor:
    """Where a digit (n, 1, h, w) has ink, (n, h, w) bool."""
    return x[:, 0] > INK


def middle(x: Tensor) -> Tensor:
    """The middle quarter of each picture (n, channels, h, w), (n, h, w) bool."""
    n, _, height, width = x.shape
    region = torch.zeros(n, height, width, dtype=torch.bool)
    region[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return region


def strongest(worth: Tensor) -> Tensor:
    """Share of the worth (n, h, w) that the strongest tenth of the pixels holds, (n,)."""
    flat = worth.flatten(1)
    count = max(1, round(0.1 * flat.shape[1]))
    return flat.topk(count, 1).values.sum(1) / flat.sum(1).clamp(min=1e-12)


def faithfulness_cells(profile: Profile) -> Plan:
    """The plan of `experts-faithfulness`."""
    plan: list[tuple[Row, Cell | None]] = []
    for title, net in (*digit_nets(profile), *cifar_nets(profile)):
        name, seed = net.dataset, net.recipe.seed
        steps = 32 if name == "cifar10" else 28
        for method in faithfulness.METHODS:
            config = FaithfulConfig(method, net, IMAGES, steps, seed, profile.device)
            cell = Cell(faithful, config, models.fingerprints(net))
            plan.append(((TITLES[name], title, method), cell))
    if profile.name != "quick" and data.available("photos"):
        for name, title in IMAGENET.items():
            weights = imagenet.fingerprint(name)
            if weights is None:
                continue
            pairs = (("photos", data.fingerprint("photos")), (name, weights))
            for method in faithfulness.METHODS:
                config = FaithfulConfig(method, name, PHOTOS, 28, 0, profile.device)
                plan.append((("photographs", title, method), Cell(faithful, config, pairs)))
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Means over seeds; where there is one seed, intervals are over its images."""
    measured = summarise(TABLE.spec, gathered)
    for row, found in measured.items():
        if len(gathered[row]) > 1:
            continue
        (result,) = gathered[row]
        values = dict(found.values)
        for name in MEASURES:
            if f"each_{name}" in result.arrays:
                over = mean_over(result.arrays[f"each_{name}"].tolist(), "images")
                values[name] = replace(over, value=found.estimate(name).value)
        measured[row] = replace(found, values=values)
    return measured


TABLE = Table(
    TableSpec(
        name="experts-faithfulness",
        caption=(
            "Area under the probability of the net's own answer while pixels are deleted (small "
            "is faithful) or inserted (large is faithful) in the order of each explanation; the "
            "share of the explanation that lies on the object (a digit's ink; for CIFAR-10 the "
            "middle quarter of the picture stands in for it), and in the strongest tenth of the "
            "pixels. The random order shows what the area alone gives."
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
            Column("on_object", "on the object", "%", drift=5.0),
            Column("strongest", "in the strongest tenth", "%", drift=5.0),
        ),
        rows=tuple(
            (dataset, title, method)
            for dataset, titles in (
                ("MNIST", PAPER_PAIR),
                ("CIFAR-10", CIFAR_PAIR),
                ("photographs", IMAGENET.values()),
            )
            for title in titles
            for method in faithfulness.METHODS
        ),
    ),
    faithfulness_cells,
    assemble,
)


def best(frame: Frame) -> pd.DataFrame:
    """For each net, the explanation with the smallest deletion and the largest insertion area."""
    measured = frame.data[frame.data["status"] == "run"]
    groups = measured.groupby(["dataset", "net"], sort=False)
    rows = [
        (
            *key,
            group.set_index("method")["deletion"].idxmin(),
            group.set_index("method")["insertion"].idxmax(),
        )
        for key, group in groups
    ]
    return pd.DataFrame(rows, columns=["data set", "net", "best deletion", "best insertion"])


def concentration(frame: Frame) -> pd.DataFrame:
    """Standard against certified net: share on the object, and in the strongest tenth.

    "more" or "less" where the 95% intervals of the two nets are apart, else "open".
    """
    measured = frame.data[frame.data["status"] == "run"].set_index(["dataset", "net", "method"])
    rows = []
    for dataset, titles in (
        ("MNIST-5k", QUICK_PAIR),
        ("MNIST", PAPER_PAIR),
        ("CIFAR-10", CIFAR_PAIR),
    ):
        for name, title in (("on_object", "on the object"), ("strongest", "strongest tenth")):
            for method in faithfulness.METHODS[:-1]:
                keys = [(dataset, net, method) for net in titles]
                if not set(keys) <= set(measured.index):
                    continue
                plain, certified = (measured.loc[key] for key in keys)
                shares = plain[name], certified[name]
                rows.append((dataset, title, method, *shares, _apart(plain, certified, name)))
    columns = ["data set", "share", "explanation", "standard %", "certified %", "certified is"]
    return pd.DataFrame(rows, columns=columns)


def _apart(plain: pd.Series, certified: pd.Series, name: str) -> str:
    if certified[f"{name}_low"] > plain[f"{name}_high"]:
        return "more"
    return "less" if certified[f"{name}_high"] < plain[f"{name}_low"] else "open"


def deletion_curves(seed: int) -> dict[str, Result]:
    """Deletion and insertion curves of the quick standard net by method, from the cells."""
    plan = faithfulness_cells(profiles.profile("quick", "cpu", seed))
    return {row[2]: compute(cell) for row, cell in plan if cell and row[1] == QUICK_PAIR[0]}
