"""The table bias-synthetic: its cell, its conditions, its plan."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import SGDClassifier

from thesis_repro import tables
from thesis_repro.experiments.bias import synthetic
from thesis_repro.experiments.bias.two_classes import sgd
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses import bias


def test_a_synthetic_cell_is_the_mixture_fitted_and_evaluated():
    config = synthetic.SyntheticConfig(30, 300, 0.7, 2, 5, twin=True)
    found = synthetic.synthetic(config).arrays
    mixture = bias.Mixture(30, prior=0.7)
    x, y = mixture.sample(300, np.random.default_rng([5, 1]))
    model = sgd().set_params(random_state=1).fit(x, y)
    expected = mixture.evaluate(model.coef_[0], model.intercept_[0])
    assert (found["bias"][1], found["accuracy"][1]) == expected
    assert found["symmetric"].shape == (2,) and found["weights"].shape == (50,)
    alone = synthetic.synthetic(dataclasses.replace(config, twin=False)).arrays
    np.testing.assert_array_equal(alone["bias"], found["bias"])
    assert "symmetric" not in alone


def test_a_learner_that_has_arrived_sees_the_draws_of_the_other_and_has_sgds_defaults():
    found = synthetic.arrived(synthetic.ArrivedConfig(30, 300, 0.7, 2, 5)).arrays
    mixture = bias.Mixture(30, prior=0.7)
    x, y = mixture.sample(300, np.random.default_rng([5, 1]))
    model = SGDClassifier(loss="log_loss", random_state=1).fit(x, y)
    expected = mixture.evaluate(model.coef_[0], model.intercept_[0])
    assert (found["bias"][1], found["accuracy"][1]) == expected
    small = synthetic.synthetic(synthetic.SyntheticConfig(30, 300, 0.7, 2, 5, twin=False)).arrays
    assert not np.array_equal(small["bias"], found["bias"])


def test_rows_of_the_learner_that_has_arrived_have_bias_and_no_symmetric_twin():
    runs = [Result({}, {"bias": np.array([0.1, 0.2]), "accuracy": np.array([0.9, 0.8])})]
    (found,) = synthetic.assemble(profile("quick"), {(synthetic.ARRIVED, "400"): runs}).values()
    assert found.estimate("bias").value == pytest.approx(15)
    assert "symmetric" not in found.values
    config = synthetic.cell_at(synthetic.ARRIVED, 400, 0).config
    assert (config.weak, config.n, config.prior) == (400, *synthetic.TYPICAL[1:])


def test_the_conditions_can_fail(monkeypatch):
    monkeypatch.setattr(synthetic, "closed_form_gap", lambda: 0.3)
    weak = [str(w) for w in synthetic.WEAK]
    good = pd.DataFrame(
        {
            "sweep": ["weak features"] * len(weak) + ["training points"] * 3,
            "value": [*weak, "100", "200", "300"],
            "absolute": [*np.arange(len(weak)) + 0.5, 3.0, 2.0, 1.0],
            "symmetric": [0.4] * len(weak) + [np.nan] * 3,
        }
    )
    assert all(c.holds for c in synthetic.conditions(good))
    for column, row, value, broken in (
        ("absolute", 0, 99.0, 1),
        ("absolute", len(weak) + 2, 99.0, 2),
        ("symmetric", 3, -1.2, 3),
    ):
        bad = good.copy()
        bad.loc[row, column] = value
        verdicts = [c.holds for c in synthetic.conditions(bad)]
        assert verdicts == [i != broken for i in range(4)]
    few = good[good["value"].isin([*weak[:9], "100", "200", "300"])]
    assert not synthetic.conditions(few)[1].holds  # nine settings are too few
    monkeypatch.setattr(synthetic, "closed_form_gap", lambda: 0.31)
    assert [c.holds for c in synthetic.conditions(good)] == [False, True, True, True]


def test_the_closed_form_is_within_0_3_points_of_its_simulation():
    assert len(synthetic.GRID) >= 20
    assert synthetic.closed_form_gap() <= 0.3


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("bias-synthetic") is synthetic.TABLE
    plan = synthetic.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(synthetic.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)
