"""Run the chapters, and run them again under nbval.

An executed chapter is kept as ``_build/executed/<docname>/<key>.ipynb``, the key being the hash of
``fingerprint.key``: what is there under today's key is not executed again.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_repro.lab import workers
from thesis_repro.publish import fingerprint
from thesis_repro.publish.sources import Run, chapters

CELL_SECONDS = 3600  # no cell of a quick chapter comes near; paper runs are made by the CLI
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
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
    due = [name for name in names if fresh or not paths[name].is_file()]
    for name in names:
        if name not in due:
            say(f"  {_short(name)}: unchanged, not executed again")
    if fresh:
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
    for left in (root / "_build" / "executed").rglob("running-*"):
        shutil.rmtree(left, ignore_errors=True)  # by a build that was killed
    say(f"executing {len(due)} of {len(chapters(root))} chapters on {run.profile}")
    start = time.monotonic()
    with (
        environment(root, store(root), jobs=min(jobs, len(due))),
        ProcessPoolExecutor(
            min(jobs, len(due)),
            mp_context=multiprocessing.get_context("spawn"),
            max_tasks_per_child=1,
        ) as pool,
    ):
        futures: dict[Future[float], str] = {
            pool.submit(_one, root, name, path, run): name for name, path in due.items()
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


def store(root: Path) -> Path:
    """Return where the book's cells are kept: in the build folder, so a clone computes its own."""
    return root / "_build" / "store"


@contextmanager
def environment(root: Path, cells: Path, *, jobs: int) -> Iterator[dict[str, str]]:
    """Set what the kernels inherit: one thread, no progress bars, the store, a quiet kernel.

    Parameters
    ----------
    root : Path
        The project's folder.
    cells : Path
        The store of cells.
    jobs : int
        Chapters that run at a time: each gets its share of the cores.
    """
    ipython = root / "_build" / "ipython"
    config = ipython / "profile_default" / "ipython_kernel_config.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('c.IPKernelApp.log_level = "CRITICAL"  # no word about transports\n')
    values = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(ipython),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "THESIS_REPRO_STORE": str(cells),
        workers.JOBS_VARIABLE: str(max(1, workers.jobs() // jobs)),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield dict(os.environ)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _one(root: Path, docname: str, path: Path, run: Run) -> float:
    """Execute one chapter into ``path``; runs in a process of its own."""
    import jupytext
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from thesis_repro.lab.store import write_atomic

    start = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="running-") as folder:
        source, output = Path(folder) / "source.ipynb", Path(folder) / "output.ipynb"
        # fmt is given: a page that opens with ::: would be taken for pandoc's Markdown
        notebook = jupytext.read(root / f"{docname}.md", fmt="md:myst")
        notebook.metadata.kernelspec = KERNEL
        nbformat.write(notebook, source)
        _check_parameters(set(papermill.inspect_notebook(str(source))), run)
        try:
            notebook = papermill.execute_notebook(
                str(source),
                str(output),
                parameters=run.parameters(),
                kernel_name="python3",
                cwd=str(root),
                progress_bar=False,
                log_output=False,
                start_timeout=60,
                execution_timeout=CELL_SECONDS,
                autosave_cell_every=0,
            )
        except PapermillExecutionError as error:
            trace = ANSI.sub("", "\n".join(error.traceback))
            raise ChapterFailed(
                f"cell {error.exec_count} raised\n\n{error.source}\n\n{trace}"
            ) from None
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
    the same.

    Returns
    -------
    pytest's exit status.
    """
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env"),
        *("--nbval-cell-timeout", str(CELL_SECONDS)),
        *("--nbval-sanitize-with", str(root / "tests" / "nbval_sanitize.cfg")),
        *("-n", str(jobs), "--dist", "loadfile", "-p", "no:cacheprovider", "-m", ""),
        str(root / "_build" / "source" / "book"),
    ]
    with (
        tempfile.TemporaryDirectory(prefix="thesis-repro-") as empty,
        environment(root, Path(empty), jobs=jobs) as env,
    ):
        return subprocess.run(command, cwd=root, env=env, check=False).returncode
