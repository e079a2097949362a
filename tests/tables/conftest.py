"""A package of small tables, a store and a results folder of its own."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from thesis_repro.lab import places
from thesis_repro.lab.places import STORE
from thesis_repro.tables import find

sys.path.insert(0, str(Path(__file__).resolve().parent))
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the sample tables are there; store and results are empty folders."""
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    monkeypatch.setenv(places.RESULTS, str(tmp_path / "results"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(find, "EXPERIMENTS", "sample_experiments")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of recorded tables."""
    return tmp_path / "results"
