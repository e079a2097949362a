"""Figures that need data a reader may lack: drawn once, kept with a card under results/figures.

``python -m thesis_repro.figures.recorded NAME`` draws and records one again.
"""

import hashlib
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from thesis_repro import data
from thesis_repro.lab import places, provenance, sealed
from thesis_repro.lab.store import write_atomic

FIGURES = {
    "gloro-dog": ("photos", "squeezenet1_1", "cifar10"),
    "gloro-schedules": ("mnist-5k",),
    "influence-faces": ("lfw",),
    "influence-cars": ("photos", "squeezenet1_1"),
    "relaxed-together": ("cifar100",),
}
"""Name to the data that a figure reads; ``b`` in ``experiments/a/figures.py`` draws ``a-b``."""


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
    out = io.BytesIO()
    draw().savefig(out, format="png", dpi=100, metadata={"Software": None})
    path = (folder or places.results_root() / "figures") / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    card: dict[str, Any] = {
        "script": script(name),
        "data": {source: data.fingerprint(source) for source in sources},
        "terms": {source: data.source(source).licence for source in sources},
        "sha256": hashlib.sha256(out.getvalue()).hexdigest(),
        **provenance.collect("cpu", places.checkout()),
    }
    write_atomic(path, out.getvalue())
    sealed.write(path.with_suffix(".json"), card)
    return path


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FIGURES:
        record(wanted)
