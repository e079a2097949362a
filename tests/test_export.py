"""What a reader takes away: notebooks without MyST, and the source."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from thesis_repro import publish
from thesis_repro.figures import narrow
from thesis_repro.publish import export
from thesis_repro.publish.execute import Executed
from thesis_repro.publish.sources import Run
from thesis_repro.publish.stage import _config

ROOT = Path(__file__).resolve().parent.parent
MYST = re.compile(r"\{[\w:]+\}`|^:{3}|^`{3}\{|^\([\w-]+\)=$", re.MULTILINE)
MACROS = {"norm": ["\\lVert #1 \\rVert", 1], "R": "\\mathbb{R}"}


@pytest.mark.parametrize("docname", publish.chapters(ROOT))
def test_no_myst_is_left_in_the_words_of_a_chapter(docname: str) -> None:
    notebook = jupytext.read(ROOT / f"{docname}.md", fmt="md:myst")
    found = export.exported(notebook, docname, MACROS)
    words = [cell.source for cell in found.cells if cell.cell_type == "markdown"]
    assert "pip install" in words[0] and "\\newcommand{\\norm}[1]" in words[0]
    assert [text for text in words if MYST.search(text)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{term}`Lipschitz constant`", "Lipschitz constant"),
        ("{term}`logits <logit>`", "logits"),
        ("{cite:p}`a2020,b2021`", "[a2020, b2021]"),
        ("{eq}`eq-margin`", "(margin)"),
        ("```{math}\n:label: eq-a\nx = 1\n```\n", "$$\nx = 1\n$$\n"),
        (":::{prf:theorem} Name\n:label: t\nIt holds.\n:::\n", "**Theorem (Name).** It holds.\n"),
        (":::{exercise}\n:label: e\nDo it.\n:::\n", "**Exercise.** Do it.\n"),
        ("::::{a} B\n:::{tip} C\nx\n:::\n::::\n", "**A (B).**\n\n**Tip (C).** x\n"),
        (":::{exercise-start}\n:label: e\n:::\n", "**Exercise**\n"),
        ("(a-b)=\n# T\n", "# T\n"),
        ("`{a}` and $x$ stay", "`{a}` and $x$ stay"),
    ],
)
def test_myst_becomes_words(text: str, words: str) -> None:
    assert export.plain(text) == words


def executed(folder: Path) -> Executed:
    data = {"text/markdown": ":::", "text/html": "<table>"}
    table = nbformat.v4.new_output("display_data", data, metadata={narrow.KEY: {"letters": 12.5}})
    injected = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["injected-parameters"]})
    cells = [injected, nbformat.v4.new_code_cell("show()", outputs=[table])]
    path = folder / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return Executed("book/part/a", path, Run(), 1.0, "2026-01-01", 1)


def test_the_zip_has_each_chapter_with_its_tables_as_html(tmp_path: Path) -> None:
    ran = executed(tmp_path)
    content = export.notebooks([ran], MACROS)
    assert content == export.notebooks([ran], MACROS), "the same bytes for the same chapters"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["part/a.ipynb"]
        notebook = nbformat.reads(archive.read("part/a.ipynb"), as_version=4)
    nbformat.validate(notebook)
    (code,) = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert list(code.outputs[0].data) == ["text/html"]
    assert not code.outputs[0].metadata, "the second picture is for pages"


def test_the_source_archive_has_what_git_has_and_no_build(tmp_path: Path) -> None:
    for name in ("Makefile", "book/a.md", "_build/html/x.html", ".venv/bin/python"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with tarfile.open(fileobj=io.BytesIO(export.source(tmp_path))) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert names == ["Makefile", "book/a.md"]


def test_one_address_makes_the_buttons(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert config["repository"]["url"] == ""
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    without = yaml.safe_load(_config(tmp_path))
    assert not without["html"]["use_repository_button"]
    config["repository"]["url"] = "https://example.org/book"
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    with_address = yaml.safe_load(_config(tmp_path))
    assert with_address["html"]["use_repository_button"]
    assert with_address["launch_buttons"]["binderhub_url"] == "https://mybinder.org"
