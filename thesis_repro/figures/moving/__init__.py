"""Figures that a reader can move: data in the page and a few kilobytes of script, no library.

A script draws SVG from the data that its cell computed. It works from a file, by keyboard, and
says in words what it shows. Where scripts are off, and on paper, the figure beside it stands.
"""

import html
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

__all__ = ["KINDS", "LIMIT", "Moving"]

LIMIT = 200_000
"""Bytes of one figure in the page, data and script."""
KINDS = ("plane", "digit", "maps", "threshold", "smoothing", "weak", "word")


@dataclass(frozen=True)
class Moving:
    """What a cell shows.

    Parameters
    ----------
    kind : one of `KINDS`, the name of its script
    title : what the reader can do
    data : what the script draws, as JSON; None where it was not computed
    """

    kind: str
    title: str
    data: Any

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no moving figure is called {self.kind!r}: {', '.join(KINDS)}")
        size = len(self.html().encode())
        if size > LIMIT:
            raise ValueError(f"the figure {self.kind!r} has {size:,} bytes, allowed are {LIMIT:,}")

    def html(self) -> str:
        """The figure for a page: a fallback, the data, the script."""
        # "</" would end the element that holds the data
        data = json.dumps(self.data, separators=(",", ":")).replace("</", "<\\/")
        name = f"moving-{self.kind}"
        script = f'const NAME = "{name}";\n{_script("common")}{_script(self.kind)}'
        return (
            f'<div class="moving" id="{name}" role="group" aria-label="{html.escape(self.title)}">'
            f'<p class="moving-title">Hands on: {html.escape(self.title)}</p>'
            '<div class="moving-body">This figure moves where scripts run. '
            "The figure beside it stands for it.</div>"
            f'<script type="application/json" class="moving-data">{data}</script>'
            f'<script>(function () {{\n"use strict";\n{script}}})();</script>'
            "</div>"
        )

    def __repr__(self) -> str:
        return f"Moving({self.kind!r}: {self.title})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": repr(self)}


def _script(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.js").read_text("utf-8")
