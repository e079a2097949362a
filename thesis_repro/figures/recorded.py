"""Figures that need data a reader may lack: drawn once, kept with a card under results/figures.

``python -m thesis_repro.figures.recorded NAME`` draws and records one again.
"""

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from thesis_repro import data
from thesis_repro.explanations import imagenet
from thesis_repro.lab import places, provenance, sealed

FIGURES = {
    "gloro-dog": ("photos", "squeezenet1_1", "cifar10"),
    "gloro-schedules": ("mnist-5k",),
    "gloro-tails": ("mnist",),
    "influence-faces": ("lfw",),
    "influence-cars": ("photos", "squeezenet1_1"),
    "influence-pair": ("photos", "efficientnet-lite0"),
    "relaxed-together": ("cifar100",),
    "relaxed-tiles": ("eurosat",),
    "leakage-faces": ("lfw",),
    "leakage-word": ("lfw",),
}
"""Name to the data that a figure reads; ``b`` in ``experiments/a/figures.py`` draws ``a-b``."""
COLOURS = 256
"""Of a recorded picture: photographs take less than half of the bytes."""


def script(name: str) -> str:
    """Where a figure is drawn, as "module:function"."""
    chapter, _, what = name.partition("-")
    return f"thesis_repro.experiments.{chapter}.figures:{what}"


def record(name: str, folder: Path | None = None) -> Path:
    """Draw a figure and write results/figures/<name>.png with its sealed card.

    Raises
    ------
    ValueError
        On an unknown name; the message lists the names.
    DataMissing
        If the data is not here.
    """
    if name not in FIGURES:
        raise ValueError(f"no recorded figure is called {name!r}; there are {', '.join(FIGURES)}")
    sources = FIGURES[name]
    module, _, function = script(name).partition(":")
    draw: Callable[[], Figure] = getattr(importlib.import_module(module), function)
    drawn, out = io.BytesIO(), io.BytesIO()
    draw().savefig(drawn, format="png", dpi=100, metadata={"Software": None})
    picture = Image.open(drawn).convert("RGB")
    # the second pass spreads what the palette lacks over neighbours
    palette = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    picture.quantize(palette=palette).save(out, "png", optimize=True)
    path = (folder or places.results_root() / "figures") / f"{name}.png"
    card: dict[str, Any] = {
        "script": script(name),
        "data": {source: _known(source)[0] for source in sources},
        "terms": {source: _known(source)[1] for source in sources},
        **provenance.collect("cpu", places.checkout()),
    }
    sealed.write_pair(path, out.getvalue(), card)
    return path


def _known(name: str) -> tuple[str | None, str]:
    """SHA-256 and licence of a data set, or of weights that come as a package."""
    if name in imagenet.TERMS:
        return imagenet.fingerprint(name), imagenet.TERMS[name]
    return data.fingerprint(name), data.source(name).licence


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FIGURES:
        record(wanted)
