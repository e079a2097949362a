"""The table bias-remedies: its cell, its conditions, its plan."""

from dataclasses import replace

import numpy as np
import pytest

from thesis_repro import tables
from thesis_repro.experiments.bias import remedies, two_classes
from thesis_repro.experiments.bias.two_classes import features
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import published
from thesis_repro.weaknesses import bias

BREAST = remedies.RemedyConfig("breast cancer", "SGD", 0.75, 0, 2, 0)


def test_remedies_start_from_one_model_and_never_see_the_test_half():
    result = remedies.remedies(BREAST)
    found = result.arrays
    assert {name.partition(".")[0] for name in found} == set(remedies.REMEDIES)
    assert (found["none.kept"] == 30).all() and (found["parity.kept"] < 30).all()
    for name, values in remedies.remedies(BREAST).arrays.items():
        np.testing.assert_array_equal(values, found[name])

    # the same numbers with the test half's labels turned: only what is measured changes
    x, y = features("breast cancer")
    rng = np.random.default_rng([0, 0])
    fit, labels, score, n = remedies._real(BREAST, x, y, rng)
    assert result.values == {"test_points": n}
    model = bias.Experts(two_classes.learner("SGD"), random_state=0).fit(fit, labels)
    assert score(model.coef_[0], model.intercept_[0]) == (
        found["experts.bias"][0],
        found["experts.accuracy"][0],
    )


def test_so_many_points_are_given_and_all_others_judge():
    config = replace(BREAST, dataset="digits 3/8", points=50)
    x, y = features("digits 3/8")
    rng = np.random.default_rng([0, 0])
    fit, labels, _, n = remedies._real(config, x, y, rng)
    whole = len(two_classes.imbalanced(y, 0.75, np.random.default_rng(0)))
    assert len(fit) == len(labels) == 50 and n == whole - 50
    assert labels.mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("learner", remedies.LEARNERS)
def test_the_learners_have_arrived_where_an_early_one_has_not(learner):
    """On wine a constant small step answers "1" always: that is no bias of features."""
    config = replace(BREAST, dataset="wine 0/1", runs=4, learner=learner)
    arrived = remedies.remedies(config).arrays["none.accuracy"].mean()
    early = remedies.remedies(replace(config, learner=two_classes.EARLY)).arrays
    assert (early["none.bias"] == 0.25).all() and early["none.accuracy"].mean() == 0.75
    assert arrived > 0.85


def test_a_learner_that_is_to_converge_has_no_gradient_left_and_says_so_if_it_has(monkeypatch):
    from sklearn.exceptions import ConvergenceWarning

    x, y = features("breast cancer")
    x = x / x.std(0)
    model = two_classes.learner(two_classes.CONVERGED).fit(x, y)
    wrong = model.predict_proba(x)[:, 1] - y
    gradient = np.append(wrong @ x + model.coef_[0] / model.C, wrong.sum())
    assert np.abs(gradient).max() / len(y) < 1e-4
    short = two_classes.learner(two_classes.CONVERGED).set_params(max_iter=3)
    monkeypatch.setattr(remedies, "learner", lambda name: short)
    with pytest.raises(ConvergenceWarning):
        remedies.remedies(replace(BREAST, learner=two_classes.CONVERGED))
    with pytest.raises(ValueError, match="no learner is called 'SVM'; there are SGD, converged"):
        two_classes.learner("SVM")


def verdicts(frame):
    return [c.holds for c in remedies.conditions(frame) if c.holds is not None]


SIX = ("synthetic", *"abcdef")
"""Six of six show a majority, five of five do not: exact intervals from 54% and from 48%."""


def test_the_conditions_can_fail(remedies_frame):
    assert verdicts(remedies_frame(-2.0, sets=SIX)) == [True] * 4
    assert verdicts(remedies_frame(2.1, sets=SIX)) == [True, False, True, False]
    assert verdicts(remedies_frame(1.0, 89.4, sets=SIX)) == [True, False, True, False]
    mixed = remedies_frame(1.0, sets=SIX)
    mixed.loc[mixed["dataset"].isin(["a", "b"]) & (mixed["remedy"] == "experts"), "bias"] = 3
    assert verdicts(mixed) == [True, True, True]  # four sets of six may be chance
    assert verdicts(remedies_frame(1.0, sets=SIX[:-1])) == [True, True]  # and five of five


def test_generated_sets_are_counted(remedies_frame):
    assert verdicts(remedies_frame(1.0, sets=("synthetic",))) == [True, True]
    assert verdicts(remedies_frame(3.0, sets=("synthetic",))) == [True, False]


def test_sets_without_a_bias_beyond_chance_do_not_count(remedies_frame):
    frame = remedies_frame(1.0, sets=(*SIX, "g"))
    frame.loc[(frame["dataset"] == "g") & (frame["remedy"] == "experts"), "bias"] = 3
    assert verdicts(frame) == [True] * 3
    frame.loc[(frame["dataset"] == "g") & (frame["remedy"] == "none"), "chance"] = 3.7
    assert verdicts(frame) == [True] * 4
    assert "6 of 6 sets" in {c.measured for c in remedies.conditions(frame)}
    frame["chance"] = 9.0
    found = remedies.conditions(frame)  # nothing to judge, and nothing judged
    assert [(c.holds, c.measured) for c in found] == [(None, "0 of 0 sets")] * 10
    # of a learner that ran, nothing can be removed; one that did not run was not asked
    words = {c.says.rpartition(", ")[2]: c.verdict for c in found if "real sets" in c.says}
    assert words == {"SGD": "not measurable", "to convergence": "not judged"}


def test_each_learner_is_judged_alone_and_every_claim_names_a_condition(remedies_frame):
    frame = remedies_frame(1.0, sets=SIX, learners=remedies.LEARNERS)
    frame.loc[(frame["learner"] == "converged") & (frame["remedy"] == "experts"), "bias"] = 3
    assert verdicts(frame) == [True, True, True, False] * 2
    claimed = {c.column for c in published.claims("bias-remedies") if c.side == "holds"}
    assert claimed == {c.says for c in remedies.conditions(frame)}


def test_all_remedies_stand_side_by_side_at_equal_accuracy(remedies_frame):
    found = remedies.side_by_side(remedies_frame(3.0)).set_index("remedy")
    assert found["halved"].to_dict() == {"parity": 3, "experts": 0, "L1": 3, "threshold": 0}
    assert (found["sets with bias"] == 3).all()  # the synthetic one is none of them
    assert found.loc["threshold", "accuracy"] == "−1.0"  # no bias left, but a point was paid
    assert found.loc["experts", "interval"] == "[0, 71]"


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("bias-remedies") is remedies.TABLE
    plan = remedies.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(remedies.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_paper_plan_fills_its_rows_in_order(monkeypatch):
    monkeypatch.setattr(remedies.data, "available", lambda name: True)
    monkeypatch.setattr(remedies, "fingerprints", lambda name: ())
    planned = list(dict.fromkeys(row for row, _ in remedies.cells(profile("paper"))))
    assert planned == list(remedies.TABLE.spec.rows)
    assert {row for row, _ in remedies.cells(profile("quick"))} <= set(planned)
