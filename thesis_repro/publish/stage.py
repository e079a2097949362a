"""Lay out ``_build/source``, the tree that is rendered.

Copies of the text pages, the executed chapters as notebooks, the recorded tables as downloads and
the generated pieces of the status, evidence and cite pages. A chapter's ``.md`` is left out: two
sources of one page would be an error. A file is written only if its content changed, so that a
second rendering reads only what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from thesis_repro import __version__
from thesis_repro.lab.store import write_atomic
from thesis_repro.publish import generated
from thesis_repro.publish.execute import Executed

LEFT_OUT = (".ipynb_checkpoints", "__pycache__", "_generated", "_tables", "_figures")


def stage(root: Path, executed: Iterable[Executed]) -> Path:
    """Bring ``_build/source`` up to date.

    Parameters
    ----------
    root : Path
        The project's folder.
    executed : iterable of Executed
        One for each chapter.

    Returns
    -------
    Path of the staged tree.
    """
    executed = list(executed)
    target = root / "_build" / "source"
    ran = {chapter.docname: chapter.path for chapter in executed}
    wanted: dict[str, bytes] = {
        "_config.yml": _config(root),
        "_toc.yml": (root / "_toc.yml").read_bytes(),
    }
    for path in _texts(root / "book"):
        name = path.relative_to(root).as_posix()
        docname = name.removesuffix(".md")
        if docname in ran:
            wanted[f"{docname}.ipynb"] = ran[docname].read_bytes()
        else:
            wanted[name] = path.read_bytes()
    for path in sorted((root / "results" / "figures").glob("*.*")):
        wanted[f"book/_figures/{path.name}"] = path.read_bytes()
    for name, text in generated.pieces(root, executed).items():
        wanted[name] = text.encode()
    _sync(target, wanted)
    return target


def _config(root: Path) -> bytes:
    """Return the configuration with the version filled in."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    config["parse"]["myst_substitutions"]["release"] = __version__
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True)).encode()


def _texts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".ipynb" and not set(parts) & set(LEFT_OUT):
            yield path


def _sync(target: Path, wanted: dict[str, bytes]) -> None:
    """Write what differs and delete what was staged before and is wanted no more.

    Only names in the list of the last staging are deleted: Sphinx writes pages of its own there.
    """
    listing = target / ".staged"
    before = listing.read_text("utf-8").splitlines() if listing.is_file() else []
    target.mkdir(parents=True, exist_ok=True)
    # first the union: a run that is killed here leaves no file that the next one does not know
    write_atomic(listing, "\n".join(sorted({*before, *wanted})).encode())
    for name in set(before) - set(wanted):
        (target / name).unlink(missing_ok=True)
    for name, content in wanted.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
    write_atomic(listing, "\n".join(sorted(wanted)).encode())
