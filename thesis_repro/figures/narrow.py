"""A figure for a phone: as narrow as its text, its panels one under the other, letters as large.

An extension of IPython, which the book loads into its kernels: each figure of a cell gets a second
picture beside the first. A page shows it on narrow screens (`publish/phone.py`).
"""

import base64
import io
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text

__all__ = ["KEY", "PHONE", "bundle", "load_ipython_extension", "panels", "stacked"]

KEY = "thesis-repro-narrow"
"""What the metadata of an output has it under."""
PHONE = 342
"""CSS pixels: the width of the text on a phone of 390, and of a picture there, drawn in points."""
DPI = 144
NAMELESS = {"Software": None}
LOWEST = 0.75
"""A panel loses no more of its height than this leaves."""
NARROWEST, SIDE = 90, 24
"""Points: the least width of a panel of a grid; what the names of its rows take at the left."""


def panels(figure: Figure) -> list[Axes]:
    """Return the panels of a figure whose panels fill a grid, row by row, or one alone; else none.

    A colour bar is no panel.
    """
    axes = [axis for axis in figure.axes if not hasattr(axis, "_colorbar")]
    specs = [axis.get_subplotspec() for axis in axes]
    grids = {spec.get_gridspec() for spec in specs if spec is not None}
    if None in specs or len(grids) != 1:
        return []
    grid = grids.pop()
    filled = [(spec.num1, spec.num2) for spec in specs if spec is not None]
    whole = filled == [(at, at) for at in range(grid.nrows * grid.ncols)]
    return axes if grid.nrows == 1 or whole else []


def _places(figure: Figure, axes: list[Axes], rows: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Rows and columns of a narrow grid, and where in it each panel stands.

    A grid of several rows is cut into blocks of whole columns, one block below the other, so that
    what stood below each other still does.
    """
    across = len(axes) // rows
    if rows == 1:
        columns = min(3, 1 if across < 4 else math.ceil(across / 2))
        return math.ceil(across / columns), columns, [divmod(at, columns) for at in range(across)]
    figure.draw_without_rendering()
    said = [text for axis in axes for text in (axis.title, axis.xaxis.label) if text.get_text()]
    widest = max((text.get_window_extent().width * 72 / figure.dpi for text in said), default=0.0)
    columns = max(1, min(across, int((PHONE - SIDE) // max(NARROWEST, widest + 6))))
    blocks = math.ceil(across / columns)
    columns = math.ceil(across / blocks)
    at = [divmod(place, across) for place in range(len(axes))]
    return (
        rows * blocks,
        columns,
        [(column // columns * rows + row, column % columns) for row, column in at],
    )


@contextmanager
def stacked(figure: Figure) -> Iterator[None]:
    """Set the panels of a figure one under the other; four or more in two or three columns.

    One alone keeps its height. Of a grid, the columns that a phone is too narrow for stand below.
    The first panel's key goes above the panels where it would lie on something drawn.

    Parameters
    ----------
    figure : Figure
        With panels that fill a grid. It is left as it was.
    """
    axes = panels(figure)
    wide, high = figure.get_size_inches()
    spec = axes[0].get_subplotspec()
    assert spec is not None
    deep = spec.get_gridspec().nrows
    across = len(axes) // deep
    rows, columns, places = _places(figure, axes, deep)
    width = PHONE / 72
    shrunk = min(1.0, max(LOWEST, (width / columns) / (wide / across)))
    before = [(axis.get_subplotspec(), axis.get_ylabel()) for axis in axes]
    inner = [axis.yaxis.get_tick_params().get("labelleft", True) for axis in axes]
    grid = GridSpec(rows, columns, figure=figure)
    legends = [legend for legend in figure.legends if len(legend.get_texts()) > 2]
    folded = [(legend, _folded(figure, legend)) for legend in legends]
    try:
        figure.set_size_inches(width, high if len(axes) == 1 else high / deep * shrunk * rows)
        for at, (axis, (row, column)) in enumerate(zip(axes, places, strict=True)):
            axis.set_subplotspec(grid[row, column])
            first = axes[at // across * across]
            if column == 0 and not inner[at]:  # what a shared axis left to its neighbour
                axis.tick_params(labelleft=True)
            if column == 0 and (deep > 1 or not inner[at]) and not axis.get_ylabel():
                axis.set_ylabel(first.get_ylabel(), fontsize=first.yaxis.label.get_fontsize())
        key = axes[0].get_legend()
        if key is not None and not figure.legends and _lies_on_something(figure, key):
            folded.append((key, _folded(figure, key)))
            more = folded[-1][1].get_window_extent().height / figure.dpi
            figure.set_size_inches(width, figure.get_figheight() + more)
        yield
    finally:
        figure.set_size_inches(wide, high)
        for legend, other in folded:
            other.remove()
            legend.set_visible(True)
        for axis, (spec, label), shown in zip(axes, before, inner, strict=True):
            if spec is not None:
                axis.set_subplotspec(spec)
            axis.set_ylabel(label)
            axis.tick_params(labelleft=shown)


def _lies_on_something(figure: Figure, legend: Legend) -> bool:
    """Whether a legend covers more than a plain background, as the figure stands."""
    figure.draw_without_rendering()
    box, size = legend.get_window_extent(), figure.bbox
    out = io.BytesIO()
    legend.set_visible(False)
    try:
        figure.savefig(out, format="rgba", dpi=figure.dpi)
    finally:
        legend.set_visible(True)
    pixels = np.frombuffer(out.getvalue(), np.uint8).reshape(int(size.height), int(size.width), 4)
    below, above = round(size.height - box.y0), round(size.height - box.y1)
    covered = pixels[max(0, above) : below, max(0, round(box.x0)) : round(box.x1)]
    return bool((covered != covered[:1, :1]).any())


def _folded(figure: Figure, legend: Legend) -> Legend:
    """A legend in two columns, or one, above the panels, in place of the one that there was."""
    legend.set_visible(False)
    names = [text.get_text() for text in legend.get_texts()]
    pairs = zip(names, legend.legend_handles, strict=True)
    whole = _bars(figure)
    handles: list[Any] = [whole.get(name, handle) for name, handle in pairs]
    kept: dict[str, Any] = {"title": legend.get_title().get_text() or None, "prop": legend.prop}
    for columns in (2, 1):
        kept |= {"loc": "outside upper center", "ncols": columns}
        other: Legend = figure.legend(handles, names, **kept)
        figure.draw_without_rendering()
        if columns == 1 or other.get_window_extent().width * 72 / figure.dpi <= PHONE:
            break
        other.remove()
    return other


def _bars(figure: Figure) -> dict[str, ErrorbarContainer]:
    """Marks with error bars, by their names: of these, a legend remembers the bar alone."""
    return {
        name: handle
        for axis in figure.axes
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        if isinstance(handle, ErrorbarContainer)
    }


def _crowded(figure: Figure) -> bool:
    """Whether names at a horizontal scale, or texts in a panel, lie on each other, once saved."""
    scale = DPI / figure.dpi
    for axis in panels(figure):
        left, right = axis.bbox.x0 * scale, axis.bbox.x1 * scale
        for texts in (axis.xaxis.get_ticklabels(which="both"), axis.texts):
            boxes = [
                Text.get_window_extent(text, dpi=DPI)  # of an annotation, without its arrow
                for text in texts
                if text.get_visible() and text.get_text() and not text.get_rotation()
            ]
            # a tick beyond the ends of a scale is not drawn
            boxes = [b for b in boxes if b.x1 > left and b.x0 < right]
            if any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2)):
                return True
    return False


def bundle(figure: Figure) -> dict[str, Any]:
    """Return what a cell's output says of a figure for a narrow screen, under `KEY`.

    Returns
    -------
    dict with "letters", the height of the smallest letters in pixels of the figure's own picture;
    if panels fill the figure, and stacked no names of a scale nor texts in a panel lie on each
    other, also "png", a picture of them stacked, in base 64, and "stacked", the height of its
    smallest letters.
    """
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    points = min((float(text.get_fontsize()) for text in shown), default=9.0)
    said: dict[str, Any] = {"letters": round(points / 72 * figure.dpi, 1)}
    if panels(figure):
        out = io.BytesIO()
        with stacked(figure):
            kept: dict[str, Any] = {
                "bbox_inches": "tight",
                "pad_inches": 0.03,
                "metadata": NAMELESS,
            }
            figure.savefig(out, dpi=DPI, **kept)
            crowded = _crowded(figure)
        if not crowded:
            said["png"] = base64.b64encode(out.getvalue()).decode()
            said["stacked"] = round(points / 72 * DPI, 1)
    return {KEY: said}


def load_ipython_extension(shell: Any) -> None:
    """Let a kernel give each figure its second picture."""
    bundles = shell.display_formatter.mimebundle_formatter
    bundles.for_type_by_name("matplotlib.figure", "Figure", lambda figure: ({}, bundle(figure)))
