"""Chapters at the paper's scale, executed by papermill and again by nbval, end to end.

There is no GPU here, so the device is the CPU: the way from stored cells to a page is the same.
"""

import importlib

import nbformat
import pytest

from thesis_repro.experiments.certifiers import scaling
from thesis_repro.lab import profiles
from thesis_repro.lab.store import Result, Store
from thesis_repro.publish.sources import Run

execute = importlib.import_module("thesis_repro.publish.execute")  # not the function
RUN = Run("paper", 0, "cpu")
CHAPTERS = ("robustness/gloro", "robustness/certifiers", "robustness/relaxed")
CHAPTERS += ("weaknesses/membership",)


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """The project with a build folder and a store of its own."""
    for path in root.iterdir():
        if path.name not in ("_build", ".git", ".venv"):
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "cells"))
    return tmp_path


@pytest.fixture
def stored(project):
    """Cells of `certifiers-scaling` that nobody measured: work grows with the size to the 2.5."""
    store = Store()
    for _, cell in scaling.cells(profiles.profile(RUN.profile, RUN.device)):
        size = cell.config.classes * cell.config.depth * cell.config.pixels
        values = {"operations": 1e3 * size**2.5, "seconds": 1e-3 * size, "mb": 1.0}
        store.put(cell.key, Result(values))
    return {path.name for path in store.root.rglob("*.cell")}


def shown(notebook):
    """All that the outputs of a notebook say."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    texts = [str(part) for o in outputs for part in (*o.get("data", {}).values(), o.get("text"))]
    return "\n".join(texts)


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS)
def test_a_paper_chapter_is_executed_from_stored_cells_and_again(project, stored, page):
    name = f"book/{page}"
    notebook = project / "_build" / "source" / f"{name}.ipynb"
    said = []
    failures = execute._all(project, RUN, {name: notebook}, 1, said.append)
    assert failures == []
    ran = nbformat.read(notebook, as_version=4)
    assert ran.metadata.papermill["parameters"] == RUN.parameters()
    assert execute.validate(project, jobs=1) == 0
    assert {path.name for path in (project / "cells").rglob("*.cell")} == stored
    if page == "robustness/certifiers":
        assert "2.50" in shown(ran)
