"""Figures of a page on a phone: drawn narrow where a figure could be, whole where its letters are
large enough then, else it scrolls. A recorded picture is shown whole, and leads to its full size.

The pictures and the size of their letters come from the executed chapters, where
`thesis_repro.figures.narrow` left them beside each figure; the front page shows some of these too.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_repro.lab.store import write_atomic

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

READABLE = 9
"""CSS pixels: the smallest letters of a figure on a phone."""
LEAST = 8
"""The smallest letters of a stacked picture, which does not scroll."""


def drawn(html: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the figures of a site's executed chapters, by the SHA-256 of each picture.

    Returns
    -------
    dict to the width of the picture in pixels and what `narrow.bundle` says of it.
    """
    import nbformat

    from thesis_repro.figures import narrow

    found = {}
    for notebook in sorted((html / "_sources").rglob("*.ipynb")):
        for cell in nbformat.read(notebook, as_version=4).cells:
            for output in cell.get("outputs", []):
                about, data = output.get("metadata", {}), output.get("data", {})
                if narrow.KEY in about and "image/png" in data:
                    png = base64.b64decode(data["image/png"])
                    width = int.from_bytes(png[16:20], "big")
                    found[hashlib.sha256(png).hexdigest()] = width, about[narrow.KEY]
    return found


def fit(soup: BeautifulSoup, page: Path, figures: dict[str, tuple[int, dict[str, Any]]]) -> None:
    """Give each figure of a page what a narrow screen needs.

    Parameters
    ----------
    soup : BeautifulSoup
        The page, whose pictures lie in regions that scroll; changed in place.
    page : Path
        Where it lies. The stacked pictures are written beside those that it shows.
    figures : dict
        As `drawn` returns them.
    """
    from thesis_repro.figures import narrow

    for picture in soup.select("article .figure-scroll img"):
        source = str(picture["src"])
        place = page.parent / source
        key = hashlib.sha256(place.read_bytes()).hexdigest() if place.is_file() else ""
        if key not in figures:
            if source.endswith(".png"):
                _whole(soup, picture)
            continue
        width, said = figures[key]
        picture["data-letters"] = str(said["letters"])
        whole = said["letters"] * narrow.PHONE >= LEAST * width
        least = "100%" if whole else f"{round(width * READABLE / said['letters'])}px"
        picture["style"] = f"--legible: {least}"
        if "png" in said and _legible(said):
            name = f"{Path(source).stem}-stacked.png"
            write_atomic(place.with_name(name), base64.b64decode(said["png"]))
            region = picture.parent
            assert region is not None
            region["class"] = "figure-scroll stacked"
            both = picture.wrap(soup.new_tag("picture"))
            other = {"media": "screen and (max-width: 600px)"}
            other["srcset"] = str(Path(source).with_name(name))
            other["data-letters"] = str(said["stacked"])
            both.insert(0, soup.new_tag("source", attrs=other))


def _whole(soup: BeautifulSoup, picture: Tag) -> None:
    """Let a picture without a narrow one be seen whole, and lead to itself in full size."""
    region = picture.find_parent(class_="figure-scroll")
    assert region is not None
    region["class"] = "figure-scroll whole"
    if picture.find_parent("a") is None:
        link = soup.new_tag("a", attrs={"href": str(picture["src"])})
        picture.wrap(link)


def _legible(said: dict[str, Any]) -> bool:
    """Whether the letters of a stacked picture are large enough where it is shown."""
    from thesis_repro.figures import narrow

    width = int.from_bytes(base64.b64decode(said["png"])[16:20], "big")
    return bool(said["stacked"] * narrow.PHONE >= LEAST * width)
