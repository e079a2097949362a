"""Render the staged tree with jupyter-book, every warning an error.

Sphinx works in ``_build/render``; the finished site goes to ``_build/html`` in one move, so what
lies there is always whole.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from thesis_repro.lab.store import write_atomic
from thesis_repro.publish.execute import Executed, store
from thesis_repro.publish.polish import polish
from thesis_repro.publish.sources import pages
from thesis_repro.publish.surroundings import environment


class RenderFailed(ValueError):
    """The sources have an error or a warning. The message holds the renderer's words."""


def made_from(root: Path, executed: Iterable[Executed]) -> str:
    """Return a hash of all that the pages are made from.

    The executed chapters, the texts, the recorded results, the configuration, the package (its
    docstrings are pages) and the versions of the tools.
    """
    paths = [root / "_config.yml", root / "_toc.yml", *(chapter.path for chapter in executed)]
    for folder, pattern in (("book", "*"), ("results", "*"), ("thesis_repro", "*.py")):
        paths += [path for path in (root / folder).rglob(pattern) if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name in ("sphinx", "jupyter-book", "myst-nb", "sphinx-book-theme"):
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()[:16]


def render(root: Path, key: str, *, say: Callable[[str], None] = print) -> Path:
    """Render ``_build/source`` into ``_build/html``.

    Parameters
    ----------
    root : Path
        The project's folder.
    key : str
        The fingerprint of the sources; the site carries it in ``build.json``.
    say : callable
        Takes one line of progress.

    Returns
    -------
    Path of the page to open.

    Raises
    ------
    RenderFailed
        Nothing in ``_build/html`` was touched.
    """
    html = root / "_build" / "html"
    work = root / "_build" / "render"
    # always from nothing: a kept cache hides warnings already given, and old source pages
    shutil.rmtree(work, ignore_errors=True)
    say("rendering")
    start = time.monotonic()
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(root / "_build" / "source"), "--path-output", str(work), "-W", "--keep-going"]
    env = environment(root, store(root), jobs=1)
    done = subprocess.run(
        command,
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    log = root / "_build" / "render.log"
    write_atomic(log, done.stdout.encode())
    if done.returncode:
        raise RenderFailed("\n".join(_faults(done.stdout)) + f"\n(the whole log: {log})")
    polish(work / "_build" / "html", pages(root))
    _put(work / "_build" / "html", html, key)
    shutil.rmtree(work)
    say(f"  pages: rendered in {time.monotonic() - start:.1f} s")
    return html / "index.html"


def built(html: Path) -> str | None:
    """Return the fingerprint that a rendered site was made from, or None."""
    try:
        return str(json.loads((html / "build.json").read_text("utf-8"))["sources"])
    except (OSError, ValueError, KeyError):
        return None


def _put(new: Path, html: Path, key: str) -> None:
    old = html.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    write_atomic(new / "build.json", json.dumps({"sources": key}).encode())
    if html.exists():
        html.rename(old)
    new.rename(html)
    shutil.rmtree(old, ignore_errors=True)


def _faults(log: str) -> list[str]:
    """Pick the lines of a log that say what is wrong, each once."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in log.splitlines()]
    picked = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Exception", line)]
    return list(dict.fromkeys(picked or lines[-20:]))
