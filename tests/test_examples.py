"""The programs of the page "Use it on your own net" run, are short, and stand on the page."""

import re
import runpy
from pathlib import Path

import pytest

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
