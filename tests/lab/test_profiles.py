"""Profiles and provenance: what a run is called, and what it says of itself."""

import subprocess
from pathlib import Path

import pytest
import torch

from thesis_repro.lab import provenance
from thesis_repro.lab.profiles import profile


def test_profiles_have_their_seeds_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile("quick").seeds == (0,)
    assert profile("quick").run == "quick"
    assert profile("paper").seeds == (0, 1, 2)
    assert profile("paper").run == "paper-cpu"
    assert profile("paper", seeds=4).seeds == (4,)
    assert profile("paper", seeds=(1, 5)).seeds == (1, 5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profile("paper", "cuda").run == "paper-cuda"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fast",), "no profile is called 'fast'; there are quick, paper"),
        (("quick", "tpu"), "no device is called 'tpu'; there are cpu, cuda"),
        (("quick", "cuda"), "torch finds no GPU; use --device cpu"),
        (("quick", "cpu", ()), r"different integers >= 0, got \(\)"),
        (("quick", "cpu", (1, 1)), r"different integers >= 0, got \(1, 1\)"),
        (("quick", "cpu", -1), r"different integers >= 0, got \(-1,\)"),
    ],
)
def test_bad_profiles_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=says) as caught:
        profile(*arguments)
    assert "\n" not in str(caught.value)


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_provenance_names_the_commit_and_whether_code_was_changed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name in ("code.py", "results/x.csv"):
        (tmp_path / name).write_text("1")
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    about = provenance.collect("cpu", tmp_path)
    assert set(about) == set(provenance.FIELDS)
    assert len(about["commit"]) == 40
    assert about["clean"] is True
    (tmp_path / "results/x.csv").write_text("2")  # a result recorded anew is no change of code
    assert provenance.collect("cpu", tmp_path)["clean"] is True
    (tmp_path / "code.py").write_text("2")
    assert provenance.collect("cpu", tmp_path)["clean"] is False


def test_provenance_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    about = provenance.collect("cpu", tmp_path)
    assert about["commit"] is None
    assert about["clean"] is None
    assert about["packages"]["torch"]
    assert about["device"]
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.collect("cpu", tmp_path)["packages"] == {"no-such-package": None}
