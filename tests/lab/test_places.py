"""Places: what a variable names, what an empty one means, where things go without a checkout."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_repro import data
from thesis_repro.lab import places, provenance
from thesis_repro.lab.store import default_root
from thesis_repro.robustness import models


def first_of_data() -> Path:
    return data.roots()[0]


PLACES = [
    (places.DATA, first_of_data, ""),
    (places.STORE, default_root, ""),
    (places.RESULTS, places.results_root, ""),
    (places.RESULTS, models.root, "models"),
]


@pytest.mark.parametrize(("variable", "place", "inside"), PLACES)
def test_a_variable_moves_its_place_and_an_empty_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    place: Callable[[], Path],
    inside: str,
) -> None:
    monkeypatch.delenv(variable, raising=False)
    usual = place()
    assert usual.is_absolute()
    monkeypatch.setenv(variable, "")
    assert place() == usual
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/here")
    assert place() == tmp_path / "here" / inside
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert place() == tmp_path / "there" / inside
    monkeypatch.setenv(variable, "~nobody-of-this-name/here")
    with pytest.raises(ValueError, match=f"{variable}='~nobody.*nobody has this home folder"):
        place()


def test_results_lie_in_the_checkout(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.delenv(places.RESULTS, raising=False)
    assert places.checkout() == root
    assert places.results_root() == root / "results"


def test_without_a_checkout_nothing_goes_beside_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed, work = tmp_path / "site-packages", tmp_path / "work"
    installed.mkdir()
    work.mkdir()
    # some packages leave theirs there
    (installed / "pyproject.toml").touch()
    monkeypatch.setattr(places, "_ABOVE", installed)
    monkeypatch.delenv(places.RESULTS, raising=False)
    monkeypatch.chdir(work)
    assert places.checkout() is None
    assert places.results_root() == work / "results"
    with pytest.raises(ValueError, match=rf"no committed models in {work}.*{places.RESULTS}"):
        models.names()
    (work / "results" / "models").mkdir(parents=True)
    assert models.names() == ()


def test_without_a_checkout_no_commit_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # git would answer here
    about = provenance.collect("cpu", None)
    assert (about["commit"], about["clean"]) == (None, None)


def test_the_users_cache_is_asked_for_only_when_it_is_needed(root: Path) -> None:
    pattern = re.compile(r"^.*\b(?:import|from) platformdirs\b.*$", re.M)
    lines = {
        path.name: pattern.findall(path.read_text())
        for path in (root / "thesis_repro").rglob("*.py")
    }
    found = {name: said for name, said in lines.items() if said}
    assert found == {"places.py": ["        from platformdirs import user_cache_path"]}
