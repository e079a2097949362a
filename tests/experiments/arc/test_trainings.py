"""The table arc-trainings: who trains on what, paired differences, and signs that can be wrong."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_repro import data, tables
from thesis_repro.experiments.arc import figures, trainings, universe
from thesis_repro.experiments.arc.soundness import AUC, BIAS, CLEAN, ERROR, MEASURES, VRA
from thesis_repro.experiments.arc.trainings import DIRECTIONS, HIGHER, LOWER, QUICK, SAME
from thesis_repro.experiments.arc.universe import (
    FEW,
    GLORO,
    MANY,
    PRIVATE,
    STANDARD,
    TRAININGS,
    members,
    parts,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("arc-trainings") is trainings.TABLE
    plan = trainings.cells(profile("quick"))
    assert {row for row, _ in plan} == set(trainings.TABLE.spec.rows)
    assert len({cell.key for _, cell in plan if cell}) == 4 * len(TRAININGS)


def test_a_paper_run_has_thirty_nets_or_more_and_five_of_each_training(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: name)
    plan = trainings.cells(profile("paper"))
    nets = {cell.config.net for _, cell in plan if isinstance(cell, Cell)}
    assert len(nets) >= 30
    for name in TRAININGS:
        assert len({net.number for net in nets if net.training == name}) >= 5


def test_one_seed_has_references_for_every_point_too():
    assert trainings.numbers(profile("paper", seeds=1)) == (4, 5, 6, 7)
    assert trainings.numbers(profile("paper")) == tuple(range(6))
    assert trainings.numbers(profile("quick")) == tuple(range(4))


def test_nets_of_a_number_share_their_members_and_pairs_are_opposite():
    own = members(QUICK)
    for name in TRAININGS:
        assert (members(replace(QUICK, training=name, marked=True)) == own).all()
    assert (members(replace(QUICK, number=1)) == ~own).all()
    third = members(replace(QUICK, number=2))
    assert 0.4 < (third == own).mean() < 0.6
    inside = np.stack([members(replace(QUICK, number=i)) for i in range(6)])
    assert (inside.sum(0) == 3).all() and (inside.sum(1) == len(own) // 2).all()


def test_one_digit_is_there_three_times_as_often_as_another_and_no_test_point_is_trained_on():
    inside, test = parts(QUICK.dataset, QUICK.n)
    many, few = (int((inside.y == digit).sum()) for digit in (MANY, FEW))
    assert 2.3 < many / few < 3.9
    seen = {image.numpy().tobytes() for image in inside.x}
    assert not any(image.numpy().tobytes() in seen for image in test.x)


def gathered(**shift: float) -> dict[tuple[str, str], list[Result]]:
    """Two trainings, six nets each; GloRo's measures are standard's, shifted, with noise."""
    rng = np.random.default_rng(0)
    found = {}
    for measure in MEASURES:
        base = rng.normal(50, 5, 6)
        moved = base + shift.get(measure, 0.0) + rng.normal(0, 0.1, 6)
        for name, values in ((STANDARD, base), (GLORO, moved)):
            results = [Result({measure: v, "number": i}) for i, v in enumerate(values)]
            found[name, measure] = results[::-1] if name == GLORO else results
    return found


def test_differences_are_paired_by_number_and_adjusted_for_their_number():
    found = trainings.assemble(profile("quick"), gathered(**{VRA: 3.0, AUC: -1.0}))
    for measure, wanted in ((VRA, HIGHER), (AUC, LOWER), (CLEAN, SAME)):
        assert found[GLORO, measure].values["sign"] == wanted
    assert found[GLORO, VRA].estimate("difference").value == pytest.approx(3, abs=0.2)
    assert found[GLORO, CLEAN].estimate("p").value > 0.3
    assert found[GLORO, VRA].values["expected"] == HIGHER
    assert "difference" not in found[STANDARD, VRA].values


def test_nets_without_a_partner_are_left_out_of_the_difference():
    results = gathered(**{VRA: 3.0})
    results[STANDARD, VRA] = results[STANDARD, VRA][:3]
    found = trainings.assemble(profile("quick"), results)
    assert found[GLORO, VRA].estimate("difference").value == pytest.approx(3, abs=0.3)
    results[STANDARD, VRA] = results[STANDARD, VRA][:1]
    assert "p" not in trainings.assemble(profile("quick"), results)[GLORO, VRA].values


@pytest.mark.parametrize(
    ("gaps", "low", "high"), [((0, 0, 0), 1, 1), ((2, 2, 2), 0, 0), ((1, -1, 1, -1), 0.9, 1)]
)
def test_a_p_value_of_differences_that_do_not_vary_is_defined(gaps, low, high):
    assert low <= trainings.p_value(np.array(gaps, float)) <= high


def frame(sign: str) -> pd.DataFrame:
    rows = [(name, measure) for name in TRAININGS for measure in MEASURES]
    found = pd.DataFrame(rows, columns=["training", "measure"])
    difference, p = {HIGHER: (1.0, 0.0001), LOWER: (-1.0, 0.01), SAME: (1.0, 0.06)}[sign]
    return found.assign(difference=difference, p=p, status="run")


def test_the_directions_can_fail():
    for wanted in (HIGHER, LOWER, SAME):
        holds = [c.holds for c in trainings.conditions(frame(wanted))]
        assert holds == [expected == wanted for expected in DIRECTIONS.values()]
    first = trainings.conditions(frame(HIGHER))[0]
    tests = len(TRAININGS) * len(MEASURES)
    assert f"by Holm over {tests} tests" in first.needed and first.measured == "+1.00, p < 0.001"
    untold = frame(HIGHER)
    untold.loc[untold["training"] == PRIVATE, ["difference", "p"]] = math.nan
    assert len(trainings.conditions(untold)) == len(DIRECTIONS) - 3
    only = frame(HIGHER)[lambda rows: rows["training"] != PRIVATE]
    assert len(trainings.conditions(only)) == len(DIRECTIONS) - 3


def test_the_picture_has_a_row_for_each_training_and_blue_means_sounder():
    assert set(figures.BETTER) == set(MEASURES)
    spec = trainings.TABLE.spec
    found = tabulate(
        spec, trainings.assemble(profile("quick"), gathered(**{VRA: 3.0, BIAS: 3.0, ERROR: -3.0}))
    )
    figure = figures.signs(Frame(spec, "quick", found))
    (axis,) = figure.axes
    effects = axis.images[0].get_array()
    assert effects.shape == (1, len(MEASURES))
    sounder = {m: effects[0, j] > 4 for j, m in enumerate(MEASURES)}
    assert sounder[VRA] and sounder[ERROR]
    assert effects[0, MEASURES.index(BIAS)] == 0  # of either sign, it is sound at zero
    heads = {m: label.get_text() for m, label in zip(MEASURES, axis.get_xticklabels(), strict=True)}
    assert heads[VRA].endswith("↑") and heads[ERROR].endswith("↓")
    assert not set("↑↓") & set(heads[BIAS])
    assert universe.TRAININGS[0] not in [label.get_text() for label in axis.get_yticklabels()]
