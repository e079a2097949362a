"""Run the chapters, and run them again under nbval.

An executed chapter is kept as ``_build/executed/<docname>/<key>.ipynb``, the key being the hash of
``fingerprint.key``: what is there under today's key is not executed again.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_repro.lab.store import default_root
from thesis_repro.publish import fingerprint
from thesis_repro.publish.sources import Run, chapters
from thesis_repro.publish.surroundings import ended, environment, kernels, list_fonts, pool

CELL_SECONDS = 3600  # no cell of a quick chapter comes near; paper runs are made by the CLI
START_SECONDS = 600  # of a kernel, on a machine with other work
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
DRAWS = re.compile(r"^figures\.\w+\(", re.MULTILINE)  # a call whose result is what is shown
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class ChapterFailed(ValueError):
    """A cell raised. The message is that cell's traceback, after the chapter's name."""


@dataclass(frozen=True)
class Executed:
    """An executed chapter: where it came from, where it lies, what it was run with."""

    docname: str
    path: Path
    run: Run
    seconds: float
    date: str
    cells: int


def execute(
    root: Path,
    run: Run,
    *,
    fresh: bool = False,
    jobs: int = 2,
    say: Callable[[str], None] = print,
) -> list[Executed]:
    """Execute the chapters whose kept notebook no longer holds, ``jobs`` at a time.

    Raises
    ------
    ChapterFailed
        The first chapter that failed; the others are finished and kept.
    """
    names = chapters(root)
    paths = {
        name: root / "_build" / "executed" / name / f"{fingerprint.key(root, name, run)}.ipynb"
        for name in names
    }
    again = fresh or run.profile != "quick"  # what the store has of a paper run is in no key
    due = [name for name in names if again or not paths[name].is_file()]
    for name in names:
        if name not in due:
            say(f"  {_short(name)}: unchanged, not executed again")
    if fresh and run.profile == "quick":
        shutil.rmtree(store(root), ignore_errors=True)
    failures = _all(root, run, {name: paths[name] for name in due}, jobs, say)
    if failures:
        raise ChapterFailed("\n\n".join(failures))
    return [_describe(name, paths[name], run) for name in names]


def _all(
    root: Path, run: Run, due: dict[str, Path], jobs: int, say: Callable[[str], None]
) -> list[str]:
    """Execute every chapter of ``due`` in a process of its own; return the failures' messages."""
    failures: list[str] = []
    if not due:
        return failures
    say(f"executing {len(due)} of {len(chapters(root))} chapters on {run.profile}")
    start = time.monotonic()
    size = min(jobs, len(due))
    env = environment(root, store(root, run), jobs=size)
    list_fonts(env)
    with pool(env, size) as processes:
        futures: dict[Future[float], str] = {
            processes.submit(_one, root, name, path, run): name for name, path in due.items()
        }
        while futures:
            done, _ = wait(futures, timeout=15, return_when=FIRST_COMPLETED)
            if not done:
                names = ", ".join(_short(n) for f, n in futures.items() if f.running())
                say(f"  ... {names}: {time.monotonic() - start:.0f} s")
            for future in done:
                name = futures.pop(future)
                try:
                    say(f"  {_short(name)}: executed in {future.result():.1f} s")
                except Exception as error:  # whatever it was, the other chapters are finished
                    say(f"  {_short(name)}: failed")
                    kind = "" if isinstance(error, ChapterFailed) else f"{type(error).__name__}: "
                    failures.append(f"{_short(name)}: {kind}{error}")
    return failures


def store(root: Path, run: Run | None = None) -> Path:
    """Return where the book's cells are kept: in the build folder, so a clone computes its own.

    Those of a paper run took days: the user's store has them, where `thesis-repro run` put them.
    """
    if run is not None and run.profile != "quick":
        return default_root().absolute()
    return root / "_build" / "store"


def _one(root: Path, docname: str, path: Path, run: Run) -> float:
    """Execute one chapter into ``path``; runs in a process of its own."""
    import jupytext
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from thesis_repro.lab.store import sweep, write_atomic

    start = time.monotonic()
    sweep(path)
    # fmt is given: a page that opens with ::: would be taken for pandoc's Markdown
    notebook = jupytext.read(root / f"{docname}.md", fmt="md:myst")
    notebook.metadata.kernelspec = KERNEL
    # the notebook itself and no path: papermill takes braces in a path for parameters
    _check_parameters(set(papermill.inspect_notebook(notebook)), run)
    try:
        notebook = papermill.execute_notebook(
            notebook,
            None,
            parameters=run.parameters(),
            kernel_name="python3",
            kernel_manager_class=kernels(),
            cwd=str(root),
            progress_bar=False,
            log_output=False,
            start_timeout=START_SECONDS,
            execution_timeout=CELL_SECONDS,
            autosave_cell_every=0,
        )
    except PapermillExecutionError as error:
        trace = ANSI.sub("", "\n".join(error.traceback))
        raise ChapterFailed(
            f"cell {error.exec_count} raised\n\n{error.source}\n\n{trace}"
        ) from None
    _check_figures(notebook)
    write_atomic(path, nbformat.writes(_clean(notebook)).encode())
    return time.monotonic() - start


def _check_parameters(found: set[str], run: Run) -> None:
    """Papermill only logs a parameter that a chapter lacks; here it is an error, both ways."""
    needed = set(run.parameters())
    if found != needed:
        raise ChapterFailed(
            f"its parameters cell has {', '.join(sorted(found)) or 'nothing'}; "
            f"it needs {', '.join(sorted(needed))}"
        )


def _check_figures(notebook: Any) -> None:
    """A cell that draws and gives no picture would leave a hole in the page that nobody sees."""
    for cell in notebook.cells:
        if cell.cell_type != "code" or not draws(cell):
            continue
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if not any(kind.startswith("image/") for kind in kinds):
            raise ChapterFailed(
                f"cell {cell.execution_count} draws a figure and gave no picture\n\n{cell.source}"
            )


def draws(cell: Any) -> bool:
    """Whether a code cell is there for a figure: it has a caption for one, or calls one."""
    captioned = "figure" in cell.metadata.get("mystnb", {})
    return captioned or DRAWS.search(cell.source) is not None


def _clean(notebook: Any) -> Any:
    """Drop what names this machine or this second; keep the page's parameters cell single."""
    kept = {k: notebook.metadata.papermill[k] for k in ("duration", "end_time", "parameters")}
    notebook.metadata.papermill = kept
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    return notebook


def _describe(docname: str, path: Path, run: Run) -> Executed:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    ran = notebook.metadata.papermill
    code = sum(
        cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
        for cell in notebook.cells
    )
    return Executed(docname, path, run, float(ran.duration), str(ran.end_time)[:10], code)


def _short(docname: str) -> str:
    return docname.removeprefix("book/")


def validate(root: Path, *, jobs: int = 2) -> int:
    """Execute the staged chapters once more under nbval, in an empty store.

    Every cell is executed; the outputs of the cells tagged ``nbval-check-output`` must come out
    the same. Chapters of a paper run read what the store has, as they did when they were executed.

    Returns
    -------
    pytest's exit status.
    """
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env"),
        *("--nbval-cell-timeout", str(CELL_SECONDS)),
        *("--nbval-kernel-startup-timeout", str(START_SECONDS)),
        *("--nbval-sanitize-with", str(root / "tests" / "nbval_sanitize.cfg")),
        *("-n", str(jobs), "--dist", "loadfile", "-p", "no:cacheprovider", "-m", ""),
        str(root / "_build" / "source" / "book"),
    ]
    with tempfile.TemporaryDirectory(prefix="thesis-repro-") as empty:
        run = _staged(root)
        cells = Path(empty) if run.profile == "quick" else store(root, run)
        env = environment(root, cells, jobs=jobs)
        return ended(command, cwd=root, env=env)


def _staged(root: Path) -> Run:
    """What the staged chapters were executed with."""
    for path in sorted((root / "_build" / "source" / "book").rglob("*.ipynb")):
        ran = json.loads(path.read_bytes())["metadata"].get("papermill")
        if ran is not None:
            return Run(**ran["parameters"])
    return Run()
