"""The cells that these tests run live in a module of their own, which workers import too."""

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from thesis_repro.lab.places import STORE
from thesis_repro.lab.store import Store

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

Fork = Callable[[Callable[[], object]], multiprocessing.Process]
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, which is the default one too."""
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    return Store()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file in which sample cells leave a line when they compute."""
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture
def fork() -> Fork:
    """Start a function in a child process; it ends with the test at the latest."""
    context = multiprocessing.get_context("fork")  # torch is imported already
    children: list[multiprocessing.Process] = []

    def start(work: Callable[[], object]) -> multiprocessing.Process:
        child = context.Process(target=work)
        child.start()
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.join()
