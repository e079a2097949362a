"""A table for tests: every kind of column, claims, quoted rows, a nested and resumable training."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from thesis_repro.lab.cells import Cell, Result, compute, current_workdir
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.store import write_atomic
from thesis_repro.tables.claims import IN_WORDS, Claim, Quoted
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec

STEPS = 4
PAUSE = 0.002


@dataclass(frozen=True)
class Config:
    method: str
    seed: int
    paper: bool = False
    device: str = "cpu"


def train(config: Config) -> Result:
    """Cell: a random walk of some steps, with a checkpoint after each."""
    checkpoint = current_workdir() / "walk"
    walk = _read(checkpoint)
    while len(walk) < STEPS:
        generator = np.random.default_rng((config.seed, len(walk), len(config.method)))
        walk = np.append(walk, generator.normal())
        time.sleep(PAUSE)
        write_atomic(checkpoint, walk.tobytes())
    return Result({}, {"walk": walk})


def _read(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes()) if path.exists() else np.empty(0)


def evaluate(config: Config) -> Result:
    """Cell: made-up scores of a walk."""
    walk = compute(Cell(train, config)).arrays["walk"]
    time.sleep(PAUSE)
    values = {
        "accuracy": {"k": 900 + int(10 * np.abs(walk).sum()) % 50, "n": 1000},
        "seconds": float(np.exp(walk.mean())),
        "remark": f"{config.method}_1 & co",
        "epochs_run": 8,
        "epochs_paper": 500 if config.paper and config.method == "ours" else 0,
    }
    if config.method == "plain":
        del values["seconds"]
    return Result(values)


def cells(profile: Profile) -> Plan:
    plan: list[tuple[tuple[str, ...], Cell | None]] = []
    for method in ("ours", "plain"):
        for seed in profile.seeds:
            config = Config(method, seed, profile.name == "paper")
            plan.append((("digits", method), Cell(evaluate, config, (("digits", "0f" * 32),))))
    plan.append((("faces", "ours"), None))
    return plan


def conditions(rows: pd.DataFrame) -> list[Condition]:
    least = float(rows["accuracy"].min())
    return [Condition("all above 90%", "90%", f"{least:.1f}%", least > 90)]


RATES = Table(
    TableSpec(
        name="sample-rates",
        caption="Accuracy & cost of 2 methods, 100% made up; a_b is {not} TeX.",
        chapter="robustness/gloro",
        keys=(Column("data", "data set", kind="key"), Column("method", "method", kind="key")),
        columns=(
            Column("accuracy", "accuracy", "%", kind="rate", drift=1.0),
            Column("seconds", "cost", "s", format="{:.2f}"),
            Column("remark", "remark", kind="text"),
        ),
        rows=(("digits", "ours"), ("digits", "plain"), ("faces", "ours")),
        claims=(
            Claim(("digits", "ours"), "accuracy", 90.0, "page 1", tolerance=1.0),
            Claim(("digits", "plain"), "accuracy", 99.0, "page 2", "equal", 0.5),
            Claim(("digits", "ours"), "seconds", None, "page 3", "at most"),
            Claim(("faces", "ours"), "accuracy", 80.0, "page 4", how_read="code"),
            Claim((), "all above 90%", None, "page 5", "holds", kind=IN_WORDS),
            Claim((), "faces above 90%", None, "page 6", "holds", kind=IN_WORDS),
        ),
        quoted=(Quoted(("digits", "rival"), {"accuracy": 88.5}, "page 5"),),
        conditions=conditions,
    ),
    cells,
)

EMPTY = Table(
    TableSpec(
        name="sample-empty",
        caption="A table without claims.",
        chapter="robustness/gloro",
        keys=(Column("data", "data set", kind="key"),),
        columns=(Column("x", "x"),),
    ),
    lambda profile: [],
)
