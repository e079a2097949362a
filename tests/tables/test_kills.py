"""A run that is killed at any moment goes on where it stopped, and ends with the same bytes."""

import itertools
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import sample_table
import torch

from thesis_repro import data, tables, training
from thesis_repro.lab import places, provenance, timebox, transfer
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.places import STORE
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.robustness import certify, models, recipes
from thesis_repro.tables.running import record_all
from thesis_repro.tables.spec import Column, Table, TableSpec

NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample", "no_git")
FORK = multiprocessing.get_context("fork")  # torch is imported already


@pytest.fixture
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is not asked for: it takes longer than the cells."""
    monkeypatch.setattr(provenance, "_git", lambda *_: None)


def start(
    folder: Path, name: str, minutes: float | None = None, bring: Path | None = None
) -> multiprocessing.Process:
    """Record a table in a child process, with a store and results in this folder; the exit code is
    that of the command. `bring`: an exported store to import first."""

    def work() -> None:
        os.environ[STORE] = str(folder / "store")
        os.environ[places.RESULTS] = str(folder / "results")
        chosen = profile("paper" if name == NAME else "quick")
        if bring is not None:
            transfer.take(Store(), bring)
        try:
            list(record_all([name], chosen, minutes, progress=False))
        except timebox.Unfinished:
            sys.exit(timebox.EXIT)

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


def stop_and_go_on(tmp_path: Path, stops: int, name: str = NAME) -> None:
    """Run once whole; then send SIGTERM to so many runs at random moments and let each go on, the
    even ones with an exported store that was imported into an empty one."""
    tables.live(NAME, "paper")
    began = time.monotonic()
    whole = start(tmp_path / "whole", name)
    whole.join()
    took = time.monotonic() - began
    assert whole.exitcode == 0
    expected = recorded(tmp_path / "whole")
    stopped = attempts = 0
    while stopped < stops:
        attempts += 1
        assert attempts <= 4 * stops, "the signals come too late"
        folder = tmp_path / str(attempts)
        child = start(folder, name)
        child.join(random.uniform(0.1, 0.95) * took)
        child.terminate()
        child.join()
        if child.exitcode == 0 or child.exitcode == -15:  # it had ended, or not begun
            continue
        assert child.exitcode == timebox.EXIT
        stopped += 1
        bring = None
        if stopped % 2 == 0 and any((folder / "store").glob("*/*.cell")):
            bring = tmp_path / f"{attempts}.tar"
            transfer.export(Store(folder / "store"), bring)
            folder = tmp_path / f"elsewhere-{attempts}"
        again = start(folder, name, bring=bring)
        again.join()
        assert again.exitcode == 0
        assert recorded(folder) == expected


def test_three_requests_to_stop_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_table, "PAUSE", 0.01)
    stop_and_go_on(tmp_path, 3)


@pytest.mark.slow
def test_ten_requests_to_stop_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_table, "PAUSE", 0.02)
    stop_and_go_on(tmp_path, 10)


def test_limits_of_time_one_after_another_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path
) -> None:
    """Each run finishes a cell or two, and records the rows that are done."""
    chosen = profile("paper")
    tables.record(NAME, chosen, progress=False)
    expected = recorded(tmp_path)
    shutil.rmtree(results)
    shutil.rmtree(tmp_path / "store")
    monkeypatch.setattr(sample_table, "PAUSE", 0.05)
    partial = []
    for _ in range(30):
        try:
            frames = list(record_all([NAME], chosen, 0.5 / 60, progress=False))
        except timebox.Unfinished as stop:
            partial.append((str(stop), recorded(tmp_path)))
        else:
            break
    assert len(frames) == 1
    assert recorded(tmp_path) == expected
    assert all("of 6 cells are finished and kept" in said for said, _ in partial)
    ran = [found["paper-cpu.csv"].count(b",run,") for _, found in partial if found]
    assert ran and set(ran) == {1}  # one of two rows was done, and recorded, before the end


def test_a_stopped_quick_run_leaves_its_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.record(NAME, profile("quick"), progress=False)
    before = recorded(tmp_path)
    shutil.rmtree(tmp_path / "store")
    monkeypatch.setattr(timebox, "wanted", lambda: True)
    with pytest.raises(timebox.Unfinished, match="0 of 1 cells|0 of 2 cells"):
        list(record_all([NAME], profile("quick"), progress=False))
    assert recorded(tmp_path) == before


def test_a_stopped_fresh_run_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.record(NAME, profile("paper"), progress=False)
    before = recorded(tmp_path)
    asked = itertools.count()
    monkeypatch.setattr(timebox, "wanted", lambda: next(asked) > 24)
    with pytest.raises(timebox.Unfinished):
        list(record_all([NAME], profile("paper"), fresh=True, progress=False))
    assert 0 < len(list((tmp_path / "store").glob("*/*.cell"))) < 12
    assert recorded(tmp_path) == before


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
    net = models.trained(recipes.Training("mnist-5k", recipe))
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
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    assert torch.get_num_threads() == 1
    kill_and_go_on(tmp_path, 10, "sample-trained")
