from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments.membership import audit, audit_cells, contests
from thesis_repro.experiments.membership.audit import CANARIES, MANY, QUANTILE, TABLE
from thesis_repro.experiments.membership.audit_cells import LIRA_MANY, RMIA_MANY
from thesis_repro.experiments.membership.contests import PLAIN, contest_cell
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.weaknesses.membership.audited import Audited, audited
from thesis_repro.weaknesses.membership.guesses import GENERAL, OFFLINE, RMIA


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_attacks_share_nets_and_stand_beside_those_of_other_tables():
    quick = profile("quick")
    plan = dict(audit.plan(quick))
    assert plan[PLAIN, GENERAL] == contest_cell(PLAIN, quick)
    assert plan[PLAIN, LIRA_MANY].config.shadows == MANY
    assert plan[PLAIN, LIRA_MANY].config.victim == plan[PLAIN, GENERAL].config.victim
    assert plan["GloRo", GENERAL].config.victim.radius == audit.RADIUS
    assert plan["DP-SGD, ε = 4", CANARIES].config.epsilon == 4


def test_without_opacus_the_private_rows_are_not_run(monkeypatch):
    monkeypatch.setattr(audit.dp.private, "available", lambda: False)
    absent = {row[0] for row, cell in audit.plan(profile("quick")) if cell is None}
    assert absent == set(audit.PRIVATE)


def test_as_many_references_as_a_contest_has_give_its_scores(observations):
    """The same four shadows: what the contest says, from logits alone."""
    config = observations.config
    known = contests.contest(config).arrays
    found = audit_cells.referred(config).arrays
    for index in config.targets:
        np.testing.assert_array_equal(found[f"member.{index}"], known[f"member.{index}"])
        for ours, theirs in ((LIRA_MANY, OFFLINE), (RMIA_MANY, RMIA)):
            ours, theirs = found[f"{ours}.{index}"], known[f"{theirs}.{index}"]
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-3)


def test_a_reference_that_saw_a_point_that_is_judged_is_refused(observations, monkeypatch):
    whole = audit_cells.parts

    def leaky(total, n):
        found = whole(total, n)
        return replace(found, pool=found.universe)

    monkeypatch.setattr(audit_cells, "parts", leaky)
    with pytest.raises(ValueError, match="splits overlap"):
        audit_cells.referred(observations.config)


def test_quantile_regression_learns_from_points_that_nobody_trained_on(observations, monkeypatch):
    seen = []

    class Fake:
        def fit(self, x, y):
            seen.append(x)
            return self

        def score_samples(self, x, y):
            return y

    monkeypatch.setattr(audit_cells, "QuantileAttack", Fake)
    config = observations.config
    found = audit_cells.regressed(config).arrays
    assert {f"{QUANTILE}.{i}" for i in config.targets} < set(found)
    x = audit_cells.victims.points(config.victim.dataset).x.flatten(1).double().numpy()
    reserve = observations.parts.reserve
    np.testing.assert_array_equal(seen[0][:, :-10], x[reserve])


def test_canaries_are_guessed_on_one_net(observations):
    planted = audited(observations.config.victim, canaries=50)
    assert isinstance(planted, Audited)
    found = audit_cells.canaried(planted).values
    assert found["canaries"] == 50 and found["guesses"] == 24 and 0 <= found["right"] <= 24
    assert found["test"]["n"] == len(planted.unseen())


def result(right, guesses=100, canaries=200):
    test = {"k": 90, "n": 100}
    values = {"right": right, "guesses": guesses, "canaries": canaries, "test": test}
    return Result(values)


def judged(right, accuracy, half=0.0, small=50.0):
    found = {("DP-SGD, ε = 1", CANARIES): [result(right)], (PLAIN, CANARIES): [result(100)]}
    frame = tabulate(TABLE.spec, audit.assemble(None, found))
    ran = frame[frame["status"] == "run"].reset_index(drop=True)
    budgets = {"DP-SGD, ε = 1": small, "DP-SGD, ε = 16": accuracy}
    lines = [(name, GENERAL, value) for name, value in {PLAIN: 60.0, **budgets}.items()]
    extra = pd.DataFrame(lines, columns=["training", "attack", "accuracy"])
    ends = {"accuracy_low": extra["accuracy"] - half, "accuracy_high": extra["accuracy"] + half}
    return ran, audit.conditions(pd.concat([ran, extra.assign(**ends)], ignore_index=True))


def test_what_canaries_show_stands_beside_what_is_proven_and_could_be_shown():
    frame, found = judged(55, 59.0)
    by = frame.set_index("training")
    private, plain = by.loc["DP-SGD, ε = 1"], by.loc[PLAIN]
    assert private["epsilon"] < private["proven"] == 1 < private["most"]
    assert plain["epsilon"] == plain["most"] > private["epsilon"] and np.isnan(plain["proven"])
    assert private["note"] == "55 of 100 guesses right, 200 canaries"
    assert [c.holds for c in found] == [True, True, True, True]
    assert {c.column for c in TABLE.spec.claims} == {c.says for c in found}


def test_more_than_is_proven_and_less_than_is_claimed_are_told():
    _, found = judged(97, 57.9)
    assert [c.holds for c in found] == [True, True, False, False]
    kept = [judged(97, accuracy, half=1.0)[1][2].holds for accuracy in (56.0, 57.9, 58.5, 60.0)]
    assert kept == [False, None, None, True]  # by the whole interval, not by its middle
    assert audit.conditions(pd.DataFrame({"training": [], "attack": [], "proven": []})) == []


def test_a_small_budget_hides_members_where_little_can_be_left():
    cases = [(50.0, 1.0), (50.9, 1.0), (51.1, 1.0), (52.0, 2.5), (50.0, 5.5), (58.0, 1.0)]
    hidden = [judged(55, 59.0, half, small)[1][1].holds for small, half in cases]
    assert hidden == [True, True, False, True, None, False]
    less = [judged(55, 59.0, half, small)[1][0].holds for small, half in [*cases, (62.0, 1.0)]]
    assert less == [*[True] * len(cases), False]


def test_rates_are_shown_where_they_can_be_measured():
    member = np.arange(4000) < 2000
    scores = np.linspace(1, 0, 4000)
    values, lacking = audit.low(np.stack([scores] * 3), np.stack([member] * 3))
    assert lacking == ["0.1%"] and set(values) == {"tpr1"}
    assert values["tpr1"].value == 100
