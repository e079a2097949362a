"""A run that is killed at any moment goes on where it stopped, and ends with the same bytes."""

import multiprocessing
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import sample_table
import torch

from thesis_repro import data, tables, training
from thesis_repro.lab import places
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.places import STORE
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import certify, recipes
from thesis_repro.tables.spec import Column, Table, TableSpec

NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample")
FORK = multiprocessing.get_context("fork")  # torch is imported already


def start(folder: Path, name: str) -> multiprocessing.Process:
    """Record a table in a child process, with a store and results in this folder."""

    def work() -> None:
        os.environ[STORE] = str(folder / "store")
        os.environ[places.RESULTS] = str(folder / "results")
        tables.record(name, profile("paper" if name == NAME else "quick"), progress=False)

    child = FORK.Process(target=work)
    child.start()
    return child


def recorded(folder: Path) -> dict[str, bytes]:
    """The CSV files under results/."""
    return {path.name: path.read_bytes() for path in (folder / "results").rglob("*.csv")}


def kill_and_go_on(tmp_path: Path, kills: int, name: str = NAME) -> None:
    """Run once whole; then kill -9 so many runs at random moments and let each go on."""
    tables.live(NAME, "paper")  # imports all that the children need
    began = time.monotonic()
    whole = start(tmp_path / "whole", name)
    whole.join()
    took = time.monotonic() - began
    assert whole.exitcode == 0
    expected = recorded(tmp_path / "whole")
    assert expected
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts <= 3 * kills, "the kills come too late"
        folder = tmp_path / str(attempts)
        child = start(folder, name)
        child.join(random.uniform(0.02, 0.95) * took)
        child.kill()
        child.join()
        killed += child.exitcode == -9  # else it had ended before
        again = start(folder, name)
        again.join()
        assert again.exitcode == 0
        assert recorded(folder) == expected
        left = [p.name for p in folder.rglob("*") if p.is_file() and p.suffix not in KEPT]
        # but for the locks, and the mark of the store's layout
        assert [name for name in left if len(name) != 64 and name != "layout"] == []


KEPT = {".cell", ".csv", ".json", ".jsonl"}


def test_three_kills_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_table, "PAUSE", 0.02)
    kill_and_go_on(tmp_path, 3)


@pytest.mark.slow
def test_ten_kills_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_table, "PAUSE", 0.02)
    kill_and_go_on(tmp_path, 10)


@dataclass(frozen=True)
class Config:
    epsilon: float
    device: str = "cpu"


def certified(config: Config) -> Result:
    """Cell: a short training on the embedded digits, and its VRA."""
    recipe = recipes.Recipe(
        net="2c2f",
        epsilon=config.epsilon,
        train_epsilon=config.epsilon,
        epochs=3,
        epochs_paper=0,
        batch_size=256,
        power_steps=1,
    )
    net, _ = recipes.trained(recipes.Training("mnist-5k", recipe))
    test = data.load("mnist-5k").test
    certificate = certify(net, test.x[:200])
    good = (certificate.labels == test.y[:200]) & certificate.certified
    # the bound shows a change in the last digit of any weight
    return Result(
        {"vra": {"k": int(good.sum()), "n": 200}, "bound": float(certificate.bound.k_sub)}
    )


TRAINED = Table(
    TableSpec(
        name="sample-trained",
        caption="Trained for a moment.",
        chapter="robustness/gloro",
        keys=(Column("epsilon", "radius", kind="key"),),
        columns=(Column("vra", "VRA", "%", kind="rate"), Column("bound", "bound")),
    ),
    lambda profile: [((str(e),), Cell(certified, Config(e))) for e in (0.1, 0.3)],
)


@pytest.mark.slow
def test_ten_kills_of_real_trainings_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SimpleNamespace(TABLE=TRAINED)
    monkeypatch.setitem(sys.modules, "sample_experiments.sample.trained", here)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    assert torch.get_num_threads() == 1
    kill_and_go_on(tmp_path, 10, "sample-trained")
