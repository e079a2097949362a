import dataclasses

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.experiments.bias import cells, conditions, plans
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses import bias


def test_a_synthetic_cell_is_the_mixture_fitted_and_evaluated():
    config = cells.SyntheticConfig(30, 300, 0.7, 2, 5, twin=True)
    found = cells.synthetic(config).arrays
    mixture = bias.Mixture(30, prior=0.7)
    x, y = mixture.sample(300, np.random.default_rng([5, 1]))
    model = cells.sgd().set_params(random_state=1).fit(x, y)
    expected = mixture.evaluate(model.coef_[0], model.intercept_[0])
    assert (found["bias"][1], found["accuracy"][1]) == expected
    assert found["symmetric"].shape == (2,) and found["weights"].shape == (50,)
    alone = cells.synthetic(dataclasses.replace(config, twin=False)).arrays
    np.testing.assert_array_equal(alone["bias"], found["bias"])
    assert "symmetric" not in alone


def test_remedies_start_from_one_model_and_never_see_the_test_half():
    config = cells.RemedyConfig("breast cancer", 0.75, 2, 0)
    found = cells.remedies(config).arrays
    assert {name.partition(".")[0] for name in found} == set(plans.REMEDIES)
    assert (found["none.kept"] == 30).all() and (found["parity.kept"] < 30).all()
    for name, values in cells.remedies(config).arrays.items():
        np.testing.assert_array_equal(values, found[name])

    # the same numbers with the test half's labels turned: only what is measured changes
    x, y = cells.two_classes("breast cancer")
    rng = np.random.default_rng([0, 0])
    fit, labels, score = cells._real(config, x, y, rng)
    model = bias.Experts(cells.sgd(), random_state=0).fit(fit, labels)
    assert score(model.coef_[0], model.intercept_[0]) == (
        found["experts.bias"][0],
        found["experts.accuracy"][0],
    )


def test_an_imbalanced_subsample_has_its_prior_and_is_as_large_as_can_be():
    y = np.repeat([0, 1], [100, 60])
    index = cells.imbalanced(y, 0.75, np.random.default_rng(0))
    assert len(set(index)) == len(index) == 80 and y[index].mean() == 0.75
    index = cells.imbalanced(y, 0.25, np.random.default_rng(0))
    assert (y[index] == 0).sum() == 100 and y[index].mean() == pytest.approx(0.25, abs=0.01)
    with pytest.raises(ValueError, match="both classes"):
        cells.imbalanced(np.ones(5, int), 0.75, np.random.default_rng(0))


@pytest.mark.parametrize("name", cells.REAL)
def test_every_real_set_has_two_classes(name):
    x, y = cells.two_classes(name)
    assert x.shape[0] == len(y) and x.dtype == np.float64 and set(y) == {0, 1}
    if name in cells.MNIST:
        assert x.min() >= 0 and x.max() == 1
        assert set(np.bincount(y)) == {500 if "–" not in name else 2500}


def test_a_deep_cell_is_deterministic_and_masks_differ():
    config = cells.DeepConfig("MNIST-5k 4/9", 0.75, "2c2f", (("dense layer", "6"),), 1, 1, 0)
    first, second = cells.deep(config).arrays, cells.deep(config).arrays
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert first["dense layer.none.kept"] == 100 > first["dense layer.experts.kept"]


def frame_of(**columns):
    return pd.DataFrame(columns)


def test_the_conditions_of_the_synthetic_table_can_fail():
    weak = [str(w) for w in plans.WEAK]
    good = frame_of(
        sweep=["weak features"] * len(weak) + ["training points"] * 3,
        value=[*weak, "100", "200", "300"],
        absolute=[*np.arange(len(weak)) + 0.5, 3.0, 2.0, 1.0],
        symmetric=[0.4] * len(weak) + [np.nan] * 3,
    )
    assert all(c.holds for c in conditions.synthetic_conditions(good))
    for column, row, value, broken in (
        ("absolute", 0, 99.0, 1),
        ("absolute", len(weak) + 2, 99.0, 2),
        ("symmetric", 3, -1.2, 3),
    ):
        bad = good.copy()
        bad.loc[row, column] = value
        verdicts = [c.holds for c in conditions.synthetic_conditions(bad)]
        assert verdicts == [i != broken for i in range(4)]
    few = good[good["value"].isin([*weak[:9], "100", "200", "300"])]
    assert not conditions.synthetic_conditions(few)[1].holds  # nine settings are too few


def remedies_frame(experts, accuracy=90.0, sets=("synthetic", "a", "b", "c")):
    rows = [
        (name, remedy, absolute, right)
        for name in sets
        for remedy, absolute, right in (
            ("none", 4.0, 90.0),
            ("parity", 1.0, 89.6),
            ("experts", experts, accuracy),
        )
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "remedy", "absolute", "accuracy"])
    frame["removed"] = 100 * (1 - frame["absolute"] / 4)
    return frame


def test_the_conditions_of_the_remedies_can_fail():
    assert all(c.holds for c in conditions.remedy_conditions(remedies_frame(2.0)))
    verdicts = [c.holds for c in conditions.remedy_conditions(remedies_frame(2.1))]
    assert verdicts == [True, True, False, False]
    verdicts = [c.holds for c in conditions.remedy_conditions(remedies_frame(1.0, 89.4))]
    assert verdicts == [True, True, False, False]
    mixed = remedies_frame(1.0)
    mixed.loc[mixed["dataset"].isin(["a", "b"]) & (mixed["remedy"] == "experts"), "absolute"] = 3
    verdicts = [c.holds for c in conditions.remedy_conditions(mixed)]
    assert verdicts == [True, True, True, False]  # one set of three is no majority


def test_the_conditions_of_the_deep_table_can_fail():
    frame = remedies_frame(1.0, sets=("x",)).rename(columns={"dataset": "net"})
    frame["layer"] = "dense"
    assert [c.holds for c in conditions.deep_conditions(frame)] == [True]
    frame.loc[frame["remedy"] == "experts", "absolute"] = 3.0
    assert [c.holds for c in conditions.deep_conditions(frame)] == [False]


def test_the_closed_form_is_within_0_3_points_of_its_simulation():
    assert len(conditions.GRID) >= 20
    assert conditions.closed_form_gap() <= 0.3


def test_removed_is_the_share_of_absolute_bias_and_ends_at_the_paper_s_claim():
    config = cells.RemedyConfig("wine 0/1", 0.75, 3, 0)
    result = cells.remedies(config)
    gathered = {("wine 0/1", remedy): [result] for remedy in plans.REMEDIES}
    records = plans.assemble_remedies(gathered)
    before = records["wine 0/1", "none"]["absolute"]
    after = records["wine 0/1", "experts"]
    assert after["removed"] == pytest.approx(100 * (1 - after["absolute"] / before))
    assert "removed" not in records["wine 0/1", "none"]
    assert "Student t over 3 runs" in after["interval"]


@pytest.mark.parametrize("table", [plans.BIAS_SYNTHETIC, plans.BIAS_REMEDIES, plans.BIAS_DEEP])
def test_the_quick_plans_need_no_data_and_name_their_rows(table):
    assert tables.get(table.spec.name) is table
    plan = table.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(table.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_claim_of_the_deep_table_is_a_row_of_the_paper_plan():
    assert plans.DEEP_CLAIMED in {row for row, _ in plans.deep_cells(profile("paper"))}
    (claim,) = plans.BIAS_DEEP.spec.claims
    assert claim.value == 95.0


def test_the_paper_plan_of_the_deep_table_fills_its_rows_in_order():
    planned = list(dict.fromkeys(row for row, _ in plans.deep_cells(profile("paper"))))
    assert planned == list(plans.BIAS_DEEP.spec.rows)
