"""The table bias-deep: its cell, its conditions, its plans."""

import numpy as np

from thesis_repro import tables
from thesis_repro.experiments.bias import deep
from thesis_repro.lab.profiles import profile


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
    assert deep.CLAIMED in {row for row, _ in deep.cells(profile("paper"))}
    (claim,) = deep.TABLE.spec.claims
    assert claim.value == 95.0


def test_the_paper_plan_fills_its_rows_in_order():
    planned = list(dict.fromkeys(row for row, _ in deep.cells(profile("paper"))))
    assert planned == list(deep.TABLE.spec.rows)
