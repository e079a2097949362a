"""The table bias-deep: its cell, its conditions, its plans."""

import math

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.experiments.bias import deep
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.spec import Frame


def test_a_deep_cell_is_deterministic_and_masks_differ():
    config = deep.DeepConfig("MNIST-5k 4/9", 0.75, "2c2f", (("dense layer", "6"),), 1, 1, 0)
    first, second = deep.deep(config).arrays, deep.deep(config).arrays
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert first["dense layer.none.kept"] == 100 > first["dense layer.experts.kept"]


def test_the_conditions_can_fail(remedies_frame):
    frame = remedies_frame(1.0, sets=("x",)).rename(columns={"dataset": "net"})
    frame["layer"] = "dense"
    assert [c.holds for c in deep.conditions(frame)] == [True]
    frame.loc[frame["remedy"] == "experts", "absolute"] = 3.0
    assert [c.holds for c in deep.conditions(frame)] == [False]


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("bias-deep") is deep.TABLE
    plan = deep.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(deep.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_claim_is_a_row_of_the_paper_plan():
    (claim,) = [c for c in deep.TABLE.spec.claims if c.row]
    assert claim.row in {row for row, _ in deep.cells(profile("paper"))}
    assert claim.value == 95.0


def removed(before, after, accuracy=95.0):
    """What a remedy took away of a bias, for one layer on faces."""
    row = (f"{deep.LFW}, 15 epochs", "dense layer")
    lines = [
        {
            "net": row[0],
            "layer": row[1],
            "remedy": remedy,
            "bias": b,
            "bias_low": low,
            "bias_high": high,
            "accuracy": accuracy,
            "seeds": 3,
        }
        for remedy, (b, low, high) in (("none", before), ("experts", after))
    ]
    data = pd.DataFrame(lines)
    return deep.removed_of_the_mean(Frame(deep.TABLE.spec, "paper-cpu", data), (*row, "experts"))


def test_the_share_removed_is_of_the_mean_bias_and_not_measurable_below_chance():
    found = removed((4.0, 3.0, 5.0), (-0.4, -0.9, 0.1))
    assert found.measurable and found.value == pytest.approx(90)
    assert (found.low, found.high) == pytest.approx((70, 100))
    assert removed((-4.0, -5.0, -3.0), (0.4, 0.2, 0.6)).value == pytest.approx(90)
    assert deep.chance(0.05, 383) == pytest.approx(0.0091, abs=1e-4)
    assert not removed((1.5, 0.9, 2.1), (0.1, 0.0, 0.2)).measurable  # 0.91 points by chance
    across = removed((1.0, -0.5, 2.5), (0.1, 0.0, 0.2))
    assert not across.measurable and math.isnan(across.low)


def test_chance_is_what_an_unbiased_rule_shows():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 0, 1], (20_000, 383), p=[0.05, 0.9, 0.05])
    assert np.abs(signs.mean(1)).mean() == pytest.approx(deep.chance(0.1, 383), rel=0.02)


def test_the_test_points_are_those_of_the_recorded_runs():
    frame = tables.recorded("bias-deep", "paper-cpu")
    for name, n in deep.TEST_POINTS.items():
        runs = 12 if name == deep.LFW else 6
        bias = frame.value((f"{name}, 15 epochs", "dense layer", "none"), "bias")
        counts = bias / 100 * n * runs
        assert counts == pytest.approx(round(counts), abs=1e-6)


def test_the_paper_plan_fills_its_rows_in_order():
    planned = list(dict.fromkeys(row for row, _ in deep.cells(profile("paper"))))
    assert planned == list(deep.TABLE.spec.rows)
