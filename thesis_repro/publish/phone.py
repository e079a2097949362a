"""Figures of a page on a phone: panels stacked where a figure was drawn so, else it scrolls.

The pictures and the size of their letters come from the executed chapter, where
`thesis_repro.figures.narrow` left them beside each figure.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_repro.lab.store import write_atomic

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

READABLE = 9
"""CSS pixels: the smallest letters of a figure on a phone."""


def drawn(notebook: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the figures of an executed chapter by the file names that the renderer gives them.

    Returns
    -------
    dict to the width of the picture in pixels and what `narrow.bundle` says of it; empty if there
    is no such notebook.
    """
    import nbformat

    from thesis_repro.figures import narrow

    if not notebook.is_file():
        return {}
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            about, data = output.get("metadata", {}), output.get("data", {})
            if narrow.KEY in about and "image/png" in data:
                png = base64.b64decode(data["image/png"])
                width = int.from_bytes(png[16:20], "big")
                found[f"{hashlib.sha256(png).hexdigest()}.png"] = width, about[narrow.KEY]
    return found


def fit(soup: BeautifulSoup, notebook: Path, images: Path) -> None:
    """Give each figure of a page what a narrow screen needs.

    Parameters
    ----------
    soup : BeautifulSoup
        The page, whose pictures lie in regions that scroll; changed in place.
    notebook : Path
        The executed chapter that the page shows, if it is one.
    images : Path
        The folder of the site's pictures; the stacked ones are written there.
    """
    figures = drawn(notebook)
    for picture in soup.select("article .figure-scroll img"):
        source = str(picture["src"])
        width, said = figures.get(Path(source).name, (0, {}))
        if not said:
            continue
        picture["data-letters"] = str(said["letters"])
        picture["style"] = f"--legible: {round(width * READABLE / said['letters'])}px"
        if "png" in said:
            name = f"{Path(source).stem}-stacked.png"
            write_atomic(images / name, base64.b64decode(said["png"]))
            region = picture.parent
            assert region is not None
            region["class"] = "figure-scroll stacked"
            both = picture.wrap(soup.new_tag("picture"))
            place = str(Path(source).with_name(name))
            narrow = {"media": "screen and (max-width: 600px)", "srcset": place}
            narrow["data-letters"] = str(said["stacked"])
            both.insert(0, soup.new_tag("source", attrs=narrow))
