"""The figures of the chapter experts draw what they are given."""

import matplotlib

matplotlib.use("Agg")

import numpy as np

from thesis_repro.experiments.experts import figures
from thesis_repro.lab.cells import Result


def test_compression_curves() -> None:
    drawn = figures.compression((1, 2), {"influence": np.array([0.6, 0.9])}, 0.95)
    assert drawn.axes[0].lines[0].get_ydata().tolist() == [60, 90]


def test_deletion_curves() -> None:
    curve = np.array([0.9, 0.1])
    result = Result({}, {"curve_deletion": curve, "curve_insertion": curve[::-1]})
    left, right = figures.deletion({"saliency": result, "random": result}).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.9, 0.1]] * 2
    assert right.lines[1].get_ydata().tolist() == [0.1, 0.9]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["saliency", "random"]
