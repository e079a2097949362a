"""The figures of the chapter gloro draw what they are given."""

import dataclasses
from collections import Counter

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.gloro import figures, frontier
from thesis_repro.experiments.gloro.frontier import TABLE
from thesis_repro.lab.cells import Result
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


def test_the_tail_of_a_loss_counts_the_points_that_are_right():
    radii = np.array([0.1, 0.5, 0.3, 0.2, 0.4])
    right = np.array([True, True, True, False, True])
    results = {"one loss": Result({}, {"radius": radii, "correct": right})}
    (axis,) = figures.tails(results).axes
    line = axis.lines[0]
    assert line.get_xdata().tolist() == [0.1, 0.3, 0.4, 0.5]
    assert line.get_ydata().tolist() == [25, 50, 75, 100]
    assert [text.get_text() for text in axis.get_legend().texts] == ["one loss"]


def test_each_row_of_the_frontier_with_a_value_is_drawn_once_at_its_year():
    frame = measure(TABLE, profile("quick"))
    (axis,) = figures.frontier(frame).axes
    quoted = [q for q in TABLE.spec.quoted if "vra36" in q.values]
    drawn = [(int(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axis.lines]
    assert sorted(drawn) == sorted((frontier.year(q), q.values["vra36"]) for q in quoted)
    shapes = Counter(line.get_marker() for line in axis.lines)
    filled = sum(line.get_markerfacecolor() != "none" for line in axis.lines)
    assert filled == sum(q.row[1].startswith("generated") for q in quoted) > 2
    assert len(shapes) == len({frontier.family(q.row[0]) for q in quoted}) > 2
    assert "s" not in shapes  # no net of ours was trained in a quick run
    named = {text.get_text() for text in axis.texts}
    assert "GloRo 6C2F (the thesis)" in named and len(named) == len(axis.texts) <= 8


def test_the_nets_of_this_book_are_squares_at_the_year_of_their_record():
    frame = measure(TABLE, profile("quick"))
    line = pd.DataFrame(
        [[*frontier.SIX_ROW, 59.0, "run"]], columns=["method", "extra", "vra36", "status"]
    )
    ours = dataclasses.replace(frame, data=line, provenance={"date": "2027-01-02"})
    (axis,) = figures.frontier(ours).axes
    (square,) = [line for line in axis.lines if line.get_marker() == "s"]
    assert (square.get_xdata()[0], square.get_ydata()[0]) == (2027, 59.0)


def test_vra_over_the_radius_has_a_line_for_the_recipe_and_one_for_twice_the_steps():
    frame = tables.recorded("gloro-overtrain", "quick")
    figure = figures.beyond(frame)
    rows = frame.data[frame.data["status"] == "run"].set_index(["radius", "multiple"])
    assert len(figure.axes) == rows.index.get_level_values("radius").nunique()
    for axis, radius in zip(figure.axes, ("0.3", "1.58"), strict=True):
        plain, more = (list(line.get_ydata()) for line in axis.lines)
        assert plain == [rows.loc[(radius, m), "vra"] for m in ("1", "1.1", "1.5", "2", "3")]
        assert more == [rows.loc[(radius, f"{m}, twice the steps"), "vra"] for m in ("1.5", "2")]
        assert radius in axis.get_title()
