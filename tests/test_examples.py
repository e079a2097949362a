"""The programs of the page "Use it on your own net" run, are short, and stand on the page."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

from thesis_repro.lab import places, sealed
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import models

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path))
    assert capsys.readouterr().out, "it shows something"
    assert len(path.read_text("utf-8").splitlines()) <= 40


def test_each_example_stands_on_the_page(root: Path) -> None:
    page = (root / "book" / "reference" / "own-net.md").read_text("utf-8")
    shown = re.findall(r"^```\{literalinclude\} \.\./\.\./examples/(\w+)\.py$", page, re.M)
    assert sorted(shown) == [path.stem for path in EXAMPLES]
    assert len(shown) == 10


def test_a_cell_of_the_table_of_one_s_own_has_another_key_where_the_net_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "store"))
    program = runpy.run_path(str(ROOT / "examples" / "own_table.py"))

    def data() -> tuple[tuple[str, str], ...]:
        return program["plan"](profile("quick"))[0][1].data

    before, folder = data(), tmp_path / "models"
    shutil.copytree(models.root(), folder)
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    assert data() == before
    weights = folder / "mnist-2c2f-gloro.safetensors"
    about = sealed.read(weights.with_suffix(".json"))
    sealed.write_pair(weights, weights.read_bytes() + b" ", about)
    assert data() != before
