"""The pipeline: when a chapter is executed again, what is staged, which faults a site can have."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from thesis_repro import publish
from thesis_repro.figures.moving import Moving
from thesis_repro.publish import fingerprint, generated, site, sources
from thesis_repro.publish.execute import KERNEL, ChapterFailed, _check_parameters
from thesis_repro.publish.render import _faults
from thesis_repro.publish.sources import Run
from thesis_repro.publish.sphinx_rules import _plain
from thesis_repro.publish.stage import _put
from thesis_repro.robustness import models
from thesis_repro.tables import headlines

ROOT = Path(__file__).resolve().parent.parent
SMOOTHING = "from thesis_repro.robustness.certifiers import smoothing"

PAGE = (
    '```{code-cell} ipython3\n:tags: [x]\nfrom thesis_repro.tables import show\nshow("a-b")\n```\n'
)


# what a page is


def test_pages_and_chapters_come_from_the_table_of_contents(small_book: Path) -> None:
    assert publish.pages(small_book) == ["book/index", "book/one"]
    assert publish.chapters(small_book) == ["book/one"]


def test_a_listed_page_without_a_source_is_named(small_book: Path) -> None:
    (small_book / "book" / "one.md").unlink()
    with pytest.raises(ValueError, match=r"lists book/one, but there is no book/one\.md"):
        publish.pages(small_book)


def test_nested_sections_are_found(tmp_path: Path) -> None:
    (tmp_path / "_toc.yml").write_text(
        "root: a\nparts:\n- chapters:\n  - file: b\n    sections:\n    - file: c\n- chapters: []\n"
    )
    for name in "abc":
        (tmp_path / f"{name}.md").write_text("")
    assert publish.pages(tmp_path) == ["a", "b", "c"]


def test_a_kernel_makes_a_chapter() -> None:
    assert sources.is_chapter("---\nkernelspec:\n  name: python3\n---\n# T\n")
    assert not sources.is_chapter("---\ntitle: x\n---\n")
    assert not sources.is_chapter("text about kernelspec:\n")
    assert sources.title("(x)=\n# The title\n") == "The title"


def test_the_root_is_found_from_below_and_its_absence_is_said(
    small_book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish.find_root(small_book / "book" / "_static") == small_book
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "a" / "b.py"))
    with pytest.raises(ValueError, match=r"inside a checkout"):
        publish.find_root(tmp_path)


# when a chapter is executed again


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with four tables, and a page that shows one of them."""
    files = {
        "thesis_repro/__init__.py": "",
        "thesis_repro/tables/__init__.py": (
            "import importlib\n\nfrom .draw import show\n\n\n"
            "def get(name):\n    return importlib.import_module(name)\n"
        ),
        "thesis_repro/tables/draw.py": '"""Words."""\n\n\ndef show(x):\n    return x\n',
        "thesis_repro/experiments/__init__.py": "",
        "thesis_repro/experiments/a/__init__.py": "",
        "thesis_repro/experiments/a/b.py": (
            "def f():\n    from thesis_repro import nets\n    return nets.N\n\n\nTABLE = f\n\n\n"
            "def g():\n    return 1\n"
        ),
        "thesis_repro/experiments/c/d.py": "TABLE = 1\n",
        "thesis_repro/experiments/e/one.py": "TABLE = 1\n",
        "thesis_repro/experiments/e/two_b.py": "TABLE = 2\n",
        "thesis_repro/experiments/e/shared.py": "OTHER = 3\n",
        "thesis_repro/nets.py": "N = 1\nM = 2\n",
        "thesis_repro/other.py": "O = 1\n",
        "results/a-b/quick.csv": "1\n",
        "results/c-d/quick.csv": "1\n",
        "results/published.csv": "table,value\na-b,1\nc-d,1\n",
        "results/superseded.csv": "key\n",
        "results/models/net-a.json": "1\n",
        "results/models/page-net.json": "1\n",
        "book/page.md": PAGE,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_imports_and_named_tables_are_reached(package: Path) -> None:
    assert list(fingerprint.reached(package, PAGE).code) == [
        "page",
        "thesis_repro.experiments.a.b",
        "thesis_repro.nets",
        "thesis_repro.tables",
        "thesis_repro.tables.draw",
    ]


def test_tables_whose_names_are_put_together_are_reached(package: Path) -> None:
    page = "```{code-cell}\nfor name in ('one', 'two-b'):\n    print(f'e-{name}')\n```\n"
    assert list(fingerprint.reached(package, page).statements) == [
        "thesis_repro.experiments.e.one",
        "thesis_repro.experiments.e.two_b",
    ]


@pytest.mark.parametrize(
    ("name", "text", "again"),
    [
        ("book/page.md", PAGE + "\nA word.\n", True),
        ("thesis_repro/nets.py", "N = 2\nM = 2\n", True),
        ("thesis_repro/experiments/a/b.py", "TABLE = 1\n", True),
        ("results/a-b/quick.csv", "2\n", True),
        ("thesis_repro/nets.py", "N = 1  # a comment\nM = 2\n", False),
        ("thesis_repro/nets.py", "N = 1\nM = 3\n", False),
        ("thesis_repro/tables/draw.py", '"""Other."""\n\n\ndef show(x):\n    return x\n', False),
        ("thesis_repro/experiments/c/d.py", "TABLE = 2\n", False),
        ("thesis_repro/other.py", "O = 2\n", False),
        ("results/c-d/quick.csv", "2\n", False),
        ("results/published.csv", "table,value\na-b,2\nc-d,1\n", True),
        ("results/published.csv", "table,value\na-b,1\nc-d,2\n", False),
        ("results/superseded.csv", "key\na\n", False),
        ("results/models/net-a.json", "2\n", False),
        ("results/models/page-net.json", "2\n", True),  # of the chapter's stem
    ],
)
def test_what_makes_a_chapter_due(package: Path, name: str, text: str, again: bool) -> None:
    before = fingerprint.key(package, "book/page", Run())
    (package / name).write_text(text)
    assert (fingerprint.key(package, "book/page", Run()) != before) is again


def test_each_parameter_makes_a_chapter_due(package: Path) -> None:
    runs = [Run(), Run(seed=1), Run(device="cuda"), Run(profile="paper")]
    assert len({fingerprint.key(package, "book/page", run) for run in runs}) == len(runs)


def test_code_is_read_without_cell_options_and_magics() -> None:
    text = (
        "```{code-cell} ipython3\n---\ntags: [a]\n---\nx = 1\n%matplotlib inline\n```\n"
        "```python\nignored\n```\n```{code-cell}\n:tags: [b]\n\ny = 2\n```\n"
    )
    assert fingerprint.code_of(text).split("\n") == ["x = 1", "pass", "", "", "y = 2", ""]


@pytest.mark.parametrize("found", [set(), {"profile", "seed"}, {"profile", "seed", "device", "n"}])
def test_a_chapter_has_exactly_the_three_parameters(found: set[str]) -> None:
    with pytest.raises(ChapterFailed, match="it needs device, profile, seed"):
        _check_parameters(found, Run())


# staging


def test_the_staged_tree_is_laid_anew(tmp_path: Path) -> None:
    target = tmp_path / "source"
    (tmp_path / "source.new").mkdir()
    (tmp_path / "source.new" / "left").write_text("by a build that was killed")
    _put(target, {"a": b"1", "b/c": b"2"})
    _put(target, {"a": b"1", "b/d": b"3"})
    assert {p.name: p.read_bytes() for p in target.rglob("*") if p.is_file()} == {
        "a": b"1",
        "d": b"3",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_the_log_of_a_renderer_is_cut_to_what_is_wrong() -> None:
    log = "reading\n\x1b[31ma.md:1: WARNING: x\x1b[0m\na.md:1: WARNING: x\nwriting\n"
    assert _faults(log) == ["a.md:1: WARNING: x"]


@pytest.mark.parametrize(
    ("line", "escaped"),
    [
        ("x : (n, *shape) float", r"x : (n, \*shape) float"),
        ("*one* word, ``(n, *shape)`` and ``|x|``", None),
        ("at most |x|_2 for int | None", r"at most \|x\|_2 for int | None"),
        (r"already \|x\|", None),
    ],
)
def test_docstrings_may_hold_stars_and_bars(line: str, escaped: str | None) -> None:
    lines = [line]
    _plain(None, "function", "f", None, None, lines)
    assert lines == [line if escaped is None else escaped]


# reading the site

GOOD = '<article><p>fine</p><img src="a.png" alt="a net"></article>'


def _page(folder: Path, body: str) -> list[str]:
    (folder / "index.html").write_text(f"<html><body>{body}</body></html>")
    (folder / "other.html").write_text('<article id="there"></article>')
    (folder / "a.png").write_bytes(b"")
    return site.faults(folder)


def test_a_sound_page_has_no_fault(tmp_path: Path) -> None:
    math = '<span class="math">\\(\\frac{1}{2}\\)</span><code>\\frac</code>'
    links = '<a href="other.html#there">x</a><a href="https://example.org/">far</a>'
    assert _page(tmp_path, f"<article>{math}{links}</article>{GOOD}") == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "broken link gone.html"),
        ('<a href="other.html#not">x</a>', "no such anchor other.html#not"),
        ('<a href="#not">x</a>', "no such anchor #not"),
        ('<script src="https://example.org/x.js"></script>', "asks another host"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "asks another host"),
        ('<img src="https://example.org/x.png" alt="x">', "asks another host"),
        ('<img src="a.png">', "picture without alternative text"),
        ('<img src="a.png" alt="_images/0f3a.png">', "picture without alternative text"),
        (r"<p>the norm \(x\) is</p>", "raw LaTeX"),
        (r"<p>$$x$$</p>", "raw LaTeX"),
        ("<p>Version {{ release }}</p>", "an unfilled substitution"),
        ("<pre class='cell_output'>Traceback (most recent call last)</pre>", "a traceback"),
        ("<pre class='cell_output'> 40%|####  | 4/10 [00:01, 3.1it/s]</pre>", "a progress bar"),
        ("<pre class='cell_output'>TqdmWarning: IProgress not found</pre>", "a warning"),
        ("<pre class='cell_output'>in /home/me/.venv/lib</pre>", "a path of one machine"),
    ],
)
def test_each_fault_of_a_page_is_found(tmp_path: Path, body: str, fault: str) -> None:
    found = _page(tmp_path, f"<article>{body}</article>")
    assert [f for f in found if f.startswith("index.html: ") and fault in f], found


def test_a_style_from_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/f.woff') }")
    assert any("x.css: asks another host" in fault for fault in _page(tmp_path, GOOD))


def test_no_site_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run make book"):
        site.faults(tmp_path)


# the whole way, on a book of one chapter


@pytest.mark.book
def test_build_reuse_drift_and_failure(small_book: Path) -> None:
    said: list[str] = []
    chapter, html = small_book / "book" / "one.md", small_book / "_build" / "html"

    def build(**options: int) -> None:
        said.clear()
        publish.build(root=small_book, say=said.append, **options)

    build()
    assert "42" in (html / "book" / "one.html").read_text()
    assert site.faults(html) == []
    (kept,) = (small_book / "_build" / "executed").rglob("*.ipynb")
    assert str(small_book) not in kept.read_text()

    build()
    assert said == [
        "  one: unchanged, not executed again",
        "  pages: unchanged, not rendered again",
    ]

    # nbval agrees with what ran, and sees one planted digit
    assert publish.validate(small_book, jobs=1) == 0
    staged = small_book / "_build" / "source" / "book" / "one.ipynb"
    true = staged.read_text()
    staged.write_text(true.replace('"42\\n"', '"43\\n"'))
    assert staged.read_text() != true
    assert publish.validate(small_book, jobs=1) == 1
    staged.write_text(true)

    # a cell that raises: its traceback, and the pages stay as they were
    text = chapter.read_text()
    chapter.write_text(text.replace("print(6 * 7 + seed)", "print(6 / seed)"))
    with pytest.raises(ChapterFailed, match=r"(?s)one: cell 3 raised.*ZeroDivisionError"):
        build()
    assert "42" in (html / "book" / "one.html").read_text()

    # a warning of the renderer, twice: the second time it must not pass for a cached page
    chapter.write_text(text + "\n{doc}`nowhere`\n")
    for _ in range(2):
        with pytest.raises(publish.RenderFailed, match="unknown document: 'nowhere'"):
            build()
    assert "42" in (html / "book" / "one.html").read_text()

    # mended; other parameters show on the page
    chapter.write_text(text)
    publish.build(Run(seed=1), small_book, say=said.append)
    assert "43" in (html / "book" / "one.html").read_text()
    assert "injected" not in (html / "book" / "one.html").read_text()


SCRATCH = re.compile(r"^### From scratch.*?^```{code-cell} ipython3\n(.*?)^```$", re.M | re.S)


def scratch(docname: str) -> str:
    """The cell of a chapter that writes its method out."""
    found = SCRATCH.search((ROOT / f"{docname}.md").read_text("utf-8"))
    assert found, f"{docname}.md needs a section `### From scratch` with a code cell"
    return found[1]


# the arc chains what the chapters before it wrote out
@pytest.mark.parametrize("chapter", [name for name in headlines.lines() if name != "arc/arc"])
def test_what_moves_and_what_is_from_scratch_is_compared_on_a_second_run(chapter: str) -> None:
    text = (ROOT / "book" / f"{chapter}.md").read_text("utf-8")
    assert "nbval-check-output" in scratch(f"book/{chapter}") and "assert " in text
    cells = re.findall(r"^```{code-cell} ipython3\n(.*?)^```$", text, re.M | re.S)
    moving = [cell for cell in cells if re.search(r"^moving\.of_", cell, re.M)]
    assert all("nbval-check-output" in cell for cell in moving)


@pytest.mark.parametrize("docname", publish.chapters(ROOT))
def test_no_chapter_shows_its_parameters(docname: str) -> None:
    text = (ROOT / f"{docname}.md").read_text("utf-8")
    assert re.findall(r"^:tags: \[(parameters.*)\]$", text, re.M) == ["parameters, remove-cell"]


@pytest.mark.book
def test_nbval_sees_a_drift_in_a_moving_figure_and_in_a_cell_from_scratch(
    small_book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    figure = "from thesis_repro.figures.moving import Moving\nMoving('plane', 'x', [1, 2, 3])"
    data = Moving("plane", "x", [1, 2, 3])._repr_mimebundle_()
    drawn = nbformat.v4.new_output("execute_result", data, execution_count=1)
    cell = re.sub(r"^:tags.*\n", "", scratch("book/robustness/certifiers"), flags=re.M)
    cell = f"import torch\nfrom scipy.stats import beta, norm\nseed = 0\n{SMOOTHING}\n{cell}"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(cell, {})
    printed = nbformat.v4.new_output("stream", text=said.getvalue())
    kept = {"figure": (figure, drawn), "scratch": (cell, printed)}
    kept["figure-drift"] = (figure.replace("3]", "4]"), drawn)
    kept["scratch-drift"] = (cell.replace("- hits + 1", "- hits + 2"), printed)
    folder = small_book / "_build" / "source" / "book"
    folder.mkdir(parents=True)
    for name, (source, output) in kept.items():
        tags = {"tags": ["nbval-check-output"]}
        code = nbformat.v4.new_code_cell(source, metadata=tags, outputs=[output], execution_count=1)
        notebook = nbformat.v4.new_notebook(cells=[code], metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, folder / f"{name}.ipynb")
    assert publish.validate(small_book, jobs=1) == 1
    fell = set(re.findall(r"^FAILED .*/([\w-]+)\.ipynb", capfd.readouterr().out, re.M))
    assert fell == {"figure-drift", "scratch-drift"}


def _until(happened: Callable[[], object], build: subprocess.Popen[bytes]) -> None:
    for _ in range(4_000):  # some 200 seconds, on a busy machine
        if happened():
            return
        assert build.poll() is None, "the build ended before it was killed"
        time.sleep(0.05)
    raise AssertionError("it did not come that far")


@pytest.mark.book
def test_a_build_killed_while_executing_or_rendering_is_taken_up(small_book: Path) -> None:
    chapter, executed = small_book / "book" / "one.md", small_book / "_build" / "executed"
    code = (
        'import pathlib, time\npathlib.Path("began").touch()\n'
        'while not pathlib.Path("go").exists(): time.sleep(0.1)\nprint(42)'
    )
    chapter.write_text(chapter.read_text().replace("print(6 * 7 + seed)", code))
    command = [sys.executable, "-m", "thesis_repro.cli", "book", "build"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=small_book, start_new_session=True)

    def kill(build: subprocess.Popen[bytes]) -> None:
        os.killpg(build.pid, signal.SIGKILL)
        assert build.wait() == -signal.SIGKILL

    build = start()
    _until((small_book / "began").exists, build)
    second = start()  # waits for the first, and is killed too
    time.sleep(1)
    assert second.poll() is None
    kill(second)
    kill(build)
    assert not list(executed.rglob("*.ipynb"))

    (small_book / "go").touch()
    build = start()
    _until((small_book / "_build" / "render").exists, build)
    kill(build)
    (kept,) = executed.rglob("*.ipynb")
    assert not (small_book / "_build" / "html").exists()

    first, second = start(), start()  # at once: one renders, the other finds it done
    assert (first.wait(), second.wait()) == (0, 0)
    assert "42" in (small_book / "_build" / "html" / "book" / "one.html").read_text()
    assert list(executed.rglob("*.ipynb")) == [kept]
    left = {path.name for path in (small_book / "_build").iterdir()}
    assert left == {"executed", "html", "lock", "render.log", "settings", "source"}


FIGURE = """
```{code-cell} ipython3
:mystnb:
:  image:
:    alt: "A line that rises."
:  figure:
:    name: fig-one-line
:    caption: "A line."

import matplotlib.pyplot as plt
plt.subplots(1, 2)
plt.plot([0, 1]);
```
"""


@pytest.mark.book
def test_a_page_without_a_figure_of_its_source_is_a_fault(small_book: Path) -> None:
    chapter = small_book / "book" / "one.md"
    text = chapter.read_text()
    chapter.write_text(text + FIGURE)
    page = publish.build(root=small_book, say=lambda line: None).parent / "book" / "one.html"
    assert site.faults(small_book / "_build" / "html") == []
    whole = page.read_text()
    (stacked,) = re.findall(r'<source[^>]*srcset="([^"]*)"', whole)
    assert (page.parent / stacked).is_file(), "a phone gets its two panels one under the other"
    page.write_text(re.sub(r"<figure.*?</figure>", "", whole, flags=re.DOTALL))
    assert page.read_text() != whole
    assert "book/one.html: the figure fig-one-line of its source is not on the page" in (
        site.faults(small_book / "_build" / "html")
    )
    chapter.write_text(text + FIGURE.replace("plt.plot([0, 1]);", "plt.plot([0, 1]); plt.close()"))
    with pytest.raises(ChapterFailed, match=r"one: cell 4 draws a figure and gave no picture"):
        publish.build(root=small_book, say=lambda line: None)


@pytest.mark.parametrize("suffix", ["md", "ipynb"])
@pytest.mark.parametrize("body", ['<figure id="fig-a"></figure>', '<img src="a.png" alt="x">', ""])
def test_a_figure_of_the_source_has_to_be_on_the_page(
    tmp_path: Path, suffix: str, body: str
) -> None:
    directive = ":::{figure} a.png\n:alt: x\n:name: fig-a\nWords.\n:::\n"
    cells = [nbformat.v4.new_markdown_cell(directive), nbformat.v4.new_code_cell("x")]
    cells[1].metadata["mystnb"] = {"figure": {"name": "fig-B b"}}
    notebook = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    (tmp_path / "_sources").mkdir()
    (tmp_path / "_sources" / f"index.{suffix}").write_text(
        directive if suffix == "md" else notebook
    )
    fault = "index.html: the figure {} of its source is not on the page"
    expected = [fault.format("fig-a")] + [fault.format("fig-B b")] * (suffix == "ipynb")
    assert [f for f in _page(tmp_path, body) if "of its source" in f] == expected
    shown = "".join(
        f'<figure id="{name}"><img src="a.png" alt="x"></figure>' for name in ("fig-a", "fig-b-b")
    )
    assert _page(tmp_path, shown) == []


def test_the_table_of_models_says_what_their_cards_say(monkeypatch: pytest.MonkeyPatch) -> None:
    card = {
        "data": "mnist",
        "recipe": {"epochs": 60, "epochs_paper": 1_500},
        "scores": {"clean": 0.99, "vra": 0.951},
        "gate": {"broken": 3, "attacked": 9_000, "steps": 100, "restarts": 10},
        "boundary": {"broken": 0, "tried": 7_000},
        "sha256": "0123456789abcdef",
        "date": "2026-11-25",
        "commit": "fedcba9876543210",
    }
    monkeypatch.setattr(models, "names", lambda: ("small-net",))
    monkeypatch.setattr(models, "card", lambda name: card)
    text = generated.committed()
    for piece in (
        "`small-net`",
        "60 of 1,500",
        "95.10",
        "3 of 9,000",
        "0 of 7,000",
        "`0123456789ab`",
        "2026-11-25, fedcba9",
    ):
        assert piece in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    at = lines[0].index("epochs"), lines[0].index("clean (%)"), lines[0].index("VRA (%)")
    assert [lines[2][k] for k in at] == ["60 of 1,500", "99.00", "95.10"]
    assert "| — |" in text  # a card from before scores in float64 were taken
    card["scores_float64"] = {"clean": 0.99, "vra": 0.9612}
    assert "96.12" in generated.committed() and "| — |" not in generated.committed()
    monkeypatch.setattr(models, "names", tuple)
    assert generated.committed() == ""


def test_each_part_of_the_experiments_has_its_page_and_each_module_its_place(root: Path) -> None:
    texts = generated.experiments()
    for part, text in texts.items():
        page = (root / "book" / "reference" / "experiments" / f"{part}.md").read_text("utf-8")
        assert f"_generated/experiments-{part}.md" in page and "automodule" in text, part
    named = re.findall(r"automodule:: thesis_repro\.experiments\.([\w.]+)", "".join(texts.values()))
    folder = root / "thesis_repro" / "experiments"
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    there = {".".join(path.parts).removesuffix(".__init__") for path in paths} - {"__init__"}
    assert sorted(named) == sorted(there)
