"""From sources to pages: execute the chapters, stage the sources, render them, check the site.

``build`` does the first three and leaves ``_build/html``; ``check`` executes every chapter a
second time under nbval and reads the rendered site. Everything is written beside its final place
and moved there when it is whole, so a build that was killed is taken up or started clean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from thesis_repro.lab.locks import exclusive
from thesis_repro.publish import site
from thesis_repro.publish.execute import ChapterFailed, Executed, execute, store, validate
from thesis_repro.publish.render import RenderFailed, built, made_from, render
from thesis_repro.publish.sources import Run, chapters, find_root, pages
from thesis_repro.publish.stage import stage
from thesis_repro.publish.surroundings import environment, pool

__all__ = [
    "ChapterFailed",
    "Executed",
    "RenderFailed",
    "Run",
    "build",
    "chapters",
    "check",
    "execute",
    "find_root",
    "pages",
    "render",
    "stage",
    "validate",
]

Say = Callable[[str], None]


@contextmanager
def _one_at_a_time(root: Path, say: Say) -> Iterator[None]:
    """Hold the build folder's lock."""
    waiting = partial(say, "another build is running; waiting for it")
    with exclusive(root / "_build" / "lock", waiting=waiting, say=say):
        yield


def build(
    run: Run | None = None,
    root: Path | None = None,
    *,
    fresh: bool = False,
    jobs: int = 2,
    say: Say = print,
) -> Path:
    """Execute what changed, stage, render.

    Parameters
    ----------
    run : Run, optional
        Profile, seed and device of every chapter. The default is the quick profile.
    root : Path, optional
        The project's folder. The default is found from the working directory.
    fresh : bool
        Execute every chapter, changed or not, with an emptied store of cells.
    jobs : int
        Chapters executed at a time.
    say : callable
        Takes one line of progress.

    Returns
    -------
    Path of the page to open.

    Raises
    ------
    ChapterFailed
        A cell raised; nothing is rendered.
    RenderFailed
        The sources have an error or a warning; the pages rendered before stay as they were.
    """
    root = root or find_root()
    with _one_at_a_time(root, say):
        executed = execute(root, run or Run(), fresh=fresh, jobs=jobs, say=say)
        key, html = made_from(root, executed), root / "_build" / "html"
        if built(html) == key and (root / "_build" / "source").is_dir():
            say("  pages: unchanged, not rendered again")
            return html / "index.html"
        with pool(environment(root, store(root), jobs=1), 1) as process:
            process.submit(stage, root, executed).result()
        return render(root, key, say=say)


def check(root: Path | None = None, *, jobs: int = 2, say: Say = print) -> int:
    """Execute the staged chapters again under nbval and read the rendered pages.

    Returns
    -------
    Exit status: 0 when every checked output came out the same and the site has no fault.
    """
    root = root or find_root()
    with _one_at_a_time(root, say):
        faults = site.faults(root / "_build" / "html")
        for fault in faults:
            say(fault)
        status = validate(root, jobs=jobs)
    return status or int(bool(faults))
