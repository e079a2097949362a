"""Lay out ``_build/source``, the tree that is rendered.

Copies of the text pages, the executed chapters as notebooks, the recorded tables as downloads and
the generated pieces of the status, evidence and cite pages. A chapter's ``.md`` is left out: two
sources of one page would be an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from thesis_repro import __version__
from thesis_repro.publish import export, front, generated
from thesis_repro.publish.execute import Executed

LEFT_OUT = (".ipynb_checkpoints", "__pycache__", "_generated", "_tables", "_figures", "_take")


def stage(root: Path, executed: Iterable[Executed]) -> Path:
    """Lay out ``_build/source`` anew.

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
    for path in sorted((root / "examples").glob("*.py")):
        wanted[f"examples/{path.name}"] = path.read_bytes()
    for path in sorted((root / "results" / "figures").glob("*.*")):
        wanted[f"book/_figures/{path.name}"] = path.read_bytes()
    macros = _read(root)["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    wanted[f"{export.FOLDER}/{export.NOTEBOOKS}"] = export.notebooks(executed, macros)
    wanted[f"{export.FOLDER}/{export.SOURCE}"] = export.source(root)
    for chapter, (content, _) in front.pictures(executed).items():
        wanted[front.place(chapter)] = content
    for name, text in generated.pieces(root, executed).items():
        wanted[name] = text.encode()
    _put(target, wanted)
    return target


def _config(root: Path) -> bytes:
    """Return the configuration with the version filled in, and buttons where there is an address.

    One address, that of the repository, makes the buttons that lead there and that run a chapter.
    """
    config = _read(root)
    config["parse"]["myst_substitutions"]["release"] = __version__
    if config["repository"]["url"]:
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
        config["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True)).encode()


def _read(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    return found


def _texts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".ipynb" and not set(parts) & set(LEFT_OUT):
            yield path


def _put(target: Path, wanted: dict[str, bytes]) -> None:
    """Write the tree beside its place and move it there whole."""
    new, old = target.with_name("source.new"), target.with_name("source.old")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        for name, content in wanted.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
    except OSError:  # a full disk: give back what was taken
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
