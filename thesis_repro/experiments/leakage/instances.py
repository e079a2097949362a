"""The table leakage-instances: do reconstructions show training images rather than others?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.data import Split
from thesis_repro.experiments.leakage.models import (
    COUNT,
    DATASET,
    DIGITS,
    FACES,
    GLORO,
    LINEAR,
    TITLES,
    TRAINING,
    TRAININGS,
    Setup,
    accuracy,
    build,
    grey,
    load,
    setups,
    train,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses import leakage

FEW, MANY = 5, 100
DRAWS = {"quick": 1, "paper": 4}
"""Models for each seed of a row of `leakage-instances`."""


@dataclass(frozen=True)
class InstanceConfig:
    """A model trained on few images of each class, without a watermark."""

    setup: Setup
    net: str
    method: str
    per_class: int
    number: int
    device: str = "cpu"


def sides(config: InstanceConfig) -> tuple[Split, Split]:
    """The training images of a model, and as many held-out ones of each class, (n each)."""
    train = load(config.setup.dataset).train
    rng = np.random.default_rng([config.number, config.per_class])
    order = torch.from_numpy(rng.permutation(len(train)))
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for kind in train.y.unique():
        mine = order[train.y[order] == kind]
        if len(mine) < 2 * config.per_class:
            raise ValueError(
                f"{config.setup.dataset}: class {int(kind)} has {len(mine)} images, "
                f"{config.per_class} to train on and as many held out are needed"
            )
        halves[0].append(mine[: config.per_class])
        halves[1].append(mine[config.per_class : 2 * config.per_class])
    members, others = (torch.cat(half) for half in halves)
    return Split(train.x[members], train.y[members]), Split(train.x[others], train.y[others])


def compare(config: InstanceConfig) -> Result:
    """Cell: reconstruct every class; distances from training and held-out images of that class."""
    setup, device = config.setup, config.device
    loaded = load(setup.dataset)
    members, others = sides(config)
    shape, seed = tuple(members.x.shape[1:]), config.number
    body = build(config.net, shape, len(loaded.classes), seed)
    train(body, setup, config.method, members, seed, device, named.checkpoint())
    images = grey(setup, body, members)
    near, far = (
        [row[side.y == kind] for kind, row in enumerate(leakage.distances(images, side.x))]
        for side in (members, others)
    )
    found = leakage.nearest(near, far, seed=seed)
    values = {"accuracy": accuracy(body, loaded.test, device)}
    arrays = {"member": found.member, "other": found.other, "null": found.null}
    return Result(values, {**arrays, "images": images.numpy()})


def plan(profile: Profile) -> Plan:
    """The plan of `leakage-instances`: linear and small nets, few and many images per class."""
    planned: list[tuple[Row, Cell | None]] = []
    for setup in setups(profile):
        title, here = TITLES[setup.dataset], data.available(setup.dataset)
        many = 25 if setup is FACES else MANY  # the rarest person has few photographs
        for net in (LINEAR, setup.net):
            for method in TRAININGS:
                for per_class in (FEW, many):
                    row = (title, net, method, str(per_class))
                    for seed in profile.seeds:
                        each = DRAWS[profile.name]
                        numbers = range(each * seed, each * (seed + 1))
                        planned += [
                            (row, _instance(setup, net, method, per_class, number, profile.device))
                            if here
                            else (row, None)
                            for number in numbers
                        ]
    return planned


def _instance(
    setup: Setup, net: str, method: str, per_class: int, number: int, device: str = "cpu"
) -> Cell:
    hashes = ((setup.dataset, data.fingerprint(setup.dataset)),)
    return Cell(compare, InstanceConfig(setup, net, method, per_class, number, device), hashes)


def found_nearest(results: Sequence[Result]) -> leakage.Nearest:
    """The comparison of several models as one."""
    return leakage.pooled(
        [
            leakage.Nearest(r.arrays["member"], r.arrays["other"], 0.0, 0.0, r.arrays["null"])
            for r in results
        ]
    )


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Ratio of the mean nearest distances and its permutation test, over all models of a row."""
    return {row: _over(results, len(profile.seeds)) for row, results in gathered.items()}


def _over(results: Sequence[Result], seeds: int) -> Measurement:
    found = found_nearest(results)
    values = {
        "member": float(found.member.mean()),
        "other": float(found.other.mean()),
        "ratio": found.ratio,
        "p": found.p,
        "accuracy": float(np.mean([r.values["accuracy"] for r in results])),
        "models": float(len(results)),
    }
    estimates = {name: Estimate(value) for name, value in values.items()}
    return Measurement({**estimates, "identified": _identified(found)}, seeds)


def _identified(found: leakage.Nearest) -> Estimate:
    """The identification rate; a tie counts one half, and lies inside the exact interval."""
    hits = leakage.identified(found)
    n, sure, tied = len(hits), int((hits == 1).sum()), int((hits == 0.5).sum())
    how = f"Clopper-Pearson over {n} reconstructions"
    least, most = (statistics.exact_rate(k, n, how) for k in (sure, sure + tied))
    return Estimate(100 * float(hits.mean()), least.low, most.high, how)


def by_size(seed: int) -> pd.DataFrame:
    """A linear GloRo model of digits, trained on more and more images per class."""
    found = {
        n: found_nearest([compute(_instance(DIGITS, LINEAR, GLORO, n, seed))])
        for n in (2, 5, 20, 100)
    }
    return pd.DataFrame(
        [(n, f.member.mean(), f.other.mean(), f.ratio, f.p) for n, f in found.items()],
        columns=["images per class", "nearest training", "nearest held-out", "ratio", "p"],
    ).round(3)


def example(net: str, method: str, per_class: int, seed: int) -> tuple[Result, InstanceConfig]:
    """One model of `leakage-instances` on digits, and its configuration."""
    cell = _instance(DIGITS, net, method, per_class, seed)
    return compute(cell), cell.config


def example_net(config: InstanceConfig) -> nn.Sequential:
    """The net of such a model, trained once more: it gives the same net."""
    members, _ = sides(config)
    shape, classes = tuple(members.x.shape[1:]), int(members.y.max()) + 1
    body = build(config.net, shape, classes, config.number)
    return train(body, config.setup, config.method, members, config.number, config.device)


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """On every data set, training images are nearer to reconstructions than held-out ones."""
    adjusted = frame.assign(holm=statistics.holm(list(frame["p"])))
    found = []
    for (title, net), rows in adjusted.groupby(["dataset", "net"], sort=False):
        ratio, p = float(rows["ratio"].max()), float(rows["holm"].max())
        found.append(
            Condition(
                f"{title}, {net}: reconstructions are nearer to training than to held-out images",
                f"every ratio below 1, p < 0.05 by Holm over {len(frame)} tests",
                f"at most {ratio:.2f}, p ≤ {p:.2g}",
                ratio < 1 and p < 0.05,
            )
        )
    return found


TABLE = Table(
    TableSpec(
        name="leakage-instances",
        caption=(
            "Distance of a class's reconstruction from the nearest training image of the class, "
            "and from the nearest of as many held-out ones; all brought to mean 0 and norm 1. "
            "Ratio: the first over the second; p: share of random memberships that do as well. "
            "Identified: share of reconstructions whose nearest image of all these is a training "
            "image; 50% by chance."
        ),
        chapter="weaknesses/leakage",
        keys=(
            DATASET,
            Column("net", "net", kind="key"),
            TRAINING,
            Column("per_class", "images per class", kind="key"),
        ),
        columns=(
            Column("member", "nearest training", format="{:.3f}", drift=0.05),
            Column("other", "nearest held-out", format="{:.3f}", drift=0.05),
            Column("ratio", "ratio", format="{:.3f}", drift=0.05),
            Column("p", "p", format="{:.3f}"),
            Column("accuracy", "accuracy", "%", drift=3.0),
            COUNT,
            Column("identified", "identified", "%", drift=11.0, later=True),
        ),
        claims=published.claims("leakage-instances"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
