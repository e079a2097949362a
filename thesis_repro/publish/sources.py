"""What the book is made of: the table of contents, its pages, and which of them are chapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Run:
    """The three parameters that every chapter has."""

    profile: str = "quick"
    seed: int = 0
    device: str = "cpu"

    def parameters(self) -> dict[str, str | int]:
        """Return the values that papermill puts into a chapter."""
        return asdict(self)


def find_root(start: Path | None = None) -> Path:
    """Return the folder that holds the book's sources.

    Looks upwards from ``start`` (the working directory), then where the package lies.

    Raises
    ------
    ValueError
        Neither is inside a checkout: a package installed without the book.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, *Path(__file__).resolve().parents):
        if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise ValueError(f"no _toc.yml and book/ in {start} or above it: run this inside a checkout")


def pages(root: Path) -> list[str]:
    """Return the docnames that ``_toc.yml`` lists, in reading order.

    Raises
    ------
    ValueError
        A listed page has no source.
    """
    names = list(_entries(yaml.safe_load((root / "_toc.yml").read_text("utf-8"))))
    for name in names:
        if not (root / f"{name}.md").is_file():
            raise ValueError(f"_toc.yml lists {name}, but there is no {name}.md")
    return names


def _entries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key in ("root", "file"):
            if key in node:
                yield node[key]
        for key in ("parts", "chapters", "sections"):
            yield from _entries(node.get(key, []))
    elif isinstance(node, list):
        for item in node:
            yield from _entries(item)


def header(text: str) -> dict[str, Any]:
    """Return the front matter of a page, or an empty dict."""
    if not text.startswith("---\n"):
        return {}
    front, found, _ = text[4:].partition("\n---\n")
    return (yaml.safe_load(front) or {}) if found else {}


def is_chapter(text: str) -> bool:
    """Whether a page has code that is executed: its front matter names a kernel."""
    return "kernelspec" in header(text)


def chapters(root: Path) -> list[str]:
    """Return the docnames of the pages that are executed, in reading order."""
    return [name for name in pages(root) if is_chapter((root / f"{name}.md").read_text("utf-8"))]


def title(text: str) -> str:
    """Return a page's first heading."""
    for line in text.splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return ""
