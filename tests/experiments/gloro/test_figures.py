"""The figures of the chapter gloro draw what they are given."""

import itertools

import matplotlib

matplotlib.use("Agg")

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from thesis_repro.experiments.gloro import figures
from thesis_repro.experiments.gloro.frontier import TABLE
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import measure


def test_the_schedules_are_drawn_epoch_by_epoch():
    history = [{"epoch": e, "loss": 3 - e, "k": 2.0 * e, "vra": 10.0 * e} for e in (1.0, 2.0)]
    figure = figures.schedules({"slow": history, "fast": history[:1]})
    for axis, key in zip(figure.axes, ("loss", "k", "vra"), strict=True):
        slow, fast = axis.lines
        assert list(slow.get_ydata()) == [record[key] for record in history]
        assert len(fast.get_xdata()) == 1
    assert [text.get_text() for text in figure.legends[0].texts] == ["slow", "fast"]


def test_each_row_of_the_frontier_with_a_value_is_drawn_once():
    frame = measure(TABLE, profile("quick"))
    left, right = figures.frontier(frame).axes
    quoted = [q for q in TABLE.spec.quoted if "vra36" in q.values]
    assert len(left.lines) == sum("parameters" in q.values for q in quoted) > 3
    drawn = [float(line.get_ydata()[0]) for axis in (left, right) for line in axis.lines]
    assert sorted(drawn) == sorted(q.values["vra36"] for q in quoted)
    assert len(right.texts) == len(right.lines)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0.1, 5))
def test_labels_keep_their_distance_and_stay_near(values, gap):
    values = sorted(values)
    places = figures.spread(values, gap)
    assert (np.diff(places) >= gap - 1e-9).all()
    if all(b - a >= gap for a, b in itertools.pairwise(values)):
        np.testing.assert_allclose(places, values, atol=1e-9)
    assert abs(np.mean(places) - np.mean(values)) < 1e-6 * (1 + np.mean(values))
