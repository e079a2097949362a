"""The executed chapters: what is on their pages came from cells that ran, and is checked.

That a second execution gives the same outputs is nbval's part: ``thesis-repro book check``.
"""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from thesis_repro import publish

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = publish.chapters(ROOT)

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def staged(site: Path) -> Path:
    return site.parent / "source"


def _notebook(staged: Path, docname: str) -> Any:
    return nbformat.read(staged / f"{docname}.ipynb", as_version=4)


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def test_there_are_chapters() -> None:
    assert CHAPTERS


@pytest.mark.parametrize("docname", CHAPTERS)
def test_every_cell_ran_and_none_complained(staged: Path, docname: str) -> None:
    code = [cell for cell in _notebook(staged, docname).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error"] == []
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []


@pytest.mark.parametrize("docname", CHAPTERS)
def test_outputs_are_checked_by_tag(staged: Path, docname: str) -> None:
    checked = [c for c in _notebook(staged, docname).cells if "nbval-check-output" in _tags(c)]
    assert checked
    assert all(cell.outputs for cell in checked), "a checked cell without output checks nothing"


@pytest.mark.parametrize("docname", CHAPTERS)
def test_the_last_cell_compares_with_the_committed_run(staged: Path, docname: str) -> None:
    code = [cell for cell in _notebook(staged, docname).cells if cell.cell_type == "code"]
    assert "assert_reproduces(" in code[-1].source


@pytest.mark.parametrize("docname", CHAPTERS)
def test_the_parameters_are_those_of_the_build(staged: Path, docname: str) -> None:
    notebook = _notebook(staged, docname)
    assert set(notebook.metadata.papermill.parameters) == {"profile", "seed", "device"}
    (shown,) = [cell for cell in notebook.cells if "parameters" in _tags(cell)]
    assert 'profile = "quick"' in shown.source
    (injected,) = [cell for cell in notebook.cells if "injected-parameters" in _tags(cell)]
    assert "remove-cell" in _tags(injected)


@pytest.mark.parametrize("docname", CHAPTERS)
def test_no_page_names_the_machine_that_made_it(staged: Path, docname: str) -> None:
    text = (staged / f"{docname}.ipynb").read_text("utf-8")
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
