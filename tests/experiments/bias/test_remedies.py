"""The table bias-remedies: its cell, its conditions, its plan."""

import numpy as np
import pytest

from thesis_repro import tables
from thesis_repro.experiments.bias import remedies
from thesis_repro.experiments.bias.two_classes import features, sgd
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.estimate import intervals
from thesis_repro.weaknesses import bias


def test_remedies_start_from_one_model_and_never_see_the_test_half():
    config = remedies.RemedyConfig("breast cancer", 0.75, 2, 0)
    found = remedies.remedies(config).arrays
    assert {name.partition(".")[0] for name in found} == set(remedies.REMEDIES)
    assert (found["none.kept"] == 30).all() and (found["parity.kept"] < 30).all()
    for name, values in remedies.remedies(config).arrays.items():
        np.testing.assert_array_equal(values, found[name])

    # the same numbers with the test half's labels turned: only what is measured changes
    x, y = features("breast cancer")
    rng = np.random.default_rng([0, 0])
    fit, labels, score = remedies._real(config, x, y, rng)
    model = bias.Experts(sgd(), random_state=0).fit(fit, labels)
    assert score(model.coef_[0], model.intercept_[0]) == (
        found["experts.bias"][0],
        found["experts.accuracy"][0],
    )


def test_removed_is_the_share_of_absolute_bias_and_ends_at_the_paper_s_claim():
    config = remedies.RemedyConfig("wine 0/1", 0.75, 3, 0)
    result = remedies.remedies(config)
    gathered = {("wine 0/1", remedy): [result] for remedy in remedies.REMEDIES}
    records = remedies.assemble(None, gathered)
    before = records["wine 0/1", "none"].estimate("absolute").value
    after = records["wine 0/1", "experts"]
    assert after.estimate("removed").value == pytest.approx(
        100 * (1 - after.estimate("absolute").value / before)
    )
    assert "removed" not in records["wine 0/1", "none"].values
    assert "Student t over 3 runs" in intervals(after.values.values())


def test_the_conditions_can_fail(remedies_frame):
    assert all(c.holds for c in remedies.conditions(remedies_frame(2.0)))
    verdicts = [c.holds for c in remedies.conditions(remedies_frame(2.1))]
    assert verdicts == [True, True, False, False]
    verdicts = [c.holds for c in remedies.conditions(remedies_frame(1.0, 89.4))]
    assert verdicts == [True, True, False, False]
    mixed = remedies_frame(1.0)
    mixed.loc[mixed["dataset"].isin(["a", "b"]) & (mixed["remedy"] == "experts"), "absolute"] = 3
    verdicts = [c.holds for c in remedies.conditions(mixed)]
    assert verdicts == [True, True, True, False]  # one set of three is no majority


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("bias-remedies") is remedies.TABLE
    plan = remedies.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(remedies.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)
