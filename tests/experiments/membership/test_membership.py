import dataclasses

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.experiments.membership import arena as membership_arena
from thesis_repro.experiments.membership import cells, plans
from thesis_repro.experiments.membership import dp as membership_dp
from thesis_repro.experiments.membership import search as membership_search
from thesis_repro.experiments.membership import sets as membership_sets
from thesis_repro.lab.cells import CellError, Result
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses.membership import victims

SMALL = victims.Victim("mnist-5k", "mlp", 200, 2, 0.1, width=16)


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """Small nets, kept in a store of this module."""
    patch = pytest.MonkeyPatch()
    patch.setenv("THESIS_REPRO_STORE", str(tmp_path_factory.mktemp("store")))
    yield membership_arena.Arena(membership_arena.Contest(SMALL, (0, 1, 2), 4))
    patch.undo()


def test_no_point_that_is_judged_is_in_a_training_set_of_the_adversary(arena):
    everything = set(range(5000))
    part = arena.parts
    for who in (part.universe, part.pool, part.reserve):
        assert set(who) <= everything and len(set(who)) == len(who)
    assert not set(part.universe) & set(part.pool)
    assert not set(part.reserve) & (set(part.universe) | set(part.pool))
    view = arena.view("target", 0)
    assert len(view.references) == 4 and not view.contains.any()
    online = arena.view("target", 0, online=True)
    assert len(online.references) == 6
    np.testing.assert_array_equal(online.contains[4], arena.member["target", 1])
    shadow = arena.view("shadow", 2)
    others = [arena.member["shadow", i] for i in (0, 1, 3)]
    np.testing.assert_array_equal(shadow.contains, others)


def test_a_leak_between_the_splits_is_caught(arena):
    leaky = membership_arena.Arena.__new__(membership_arena.Arena)
    leaky.__dict__ |= arena.__dict__
    pool = arena.parts.pool.copy()
    used = np.flatnonzero(arena.member["shadow", 0])[0]
    pool[used] = arena.parts.universe[5]
    leaky.parts = membership_arena.Parts(arena.parts.universe, pool, arena.parts.reserve)
    with pytest.raises(ValueError, match="splits overlap"):
        leaky.view("target", 0)


def test_thresholds_and_classifiers_do_not_depend_on_the_target_s_members(arena):
    guesses = cells.Guesses(arena)
    view = arena.view("target", 0)
    turned = dataclasses.replace(view, member=~view.member)
    for name in cells.SCORED:
        if name != cells.ONLINE:  # uses models that contain the points, by definition
            np.testing.assert_array_equal(guesses.scores(name, view), guesses.scores(name, turned))


def test_evidence_beyond_out_is_the_difference_to_the_mean_of_out_models(arena):
    view = arena.view("shadow", 0)
    found = membership_arena.evidence(view, membership_arena.SLICES["mlp"], 0.0)
    i = int(np.flatnonzero(~view.contains.all(0))[3])
    out = [
        membership_arena.confidence(r, view.labels)[i]
        for r, inside in zip(view.references, view.contains[:, i], strict=True)
        if not inside
    ]
    expected = membership_arena.confidence(view.seen, view.labels)[i] - np.mean(out)
    assert found["confidence beyond OUT"][i] == pytest.approx(expected)
    assert all(np.isfinite(v).all() for v in found.values())


def test_a_contest_is_deterministic_and_counts_what_it_says(arena):
    first, second = cells.contest(arena.config), cells.contest(arena.config)
    assert first.values == second.values
    for target in first.values["targets"]:
        assert set(target["attacks"]) == set(cells.ATTACKS)
        gap = (target["train"]["k"] - target["test"]["k"]) / 200
        naive = target["attacks"]["naive"]["accuracy"]
        assert naive["k"] / naive["n"] == pytest.approx(0.5 + gap / 2)
        for counted in target["calibrated"].values():
            assert counted["claims"] == counted["precision"]["n"]
    for name, scores in first.arrays.items():
        np.testing.assert_array_equal(scores, second.arrays[name])


def test_too_few_shadows_or_points_are_refused():
    with pytest.raises(ValueError, match="at least 4 shadows, got 3"):
        membership_arena.Arena(membership_arena.Contest(SMALL, (0,), 3))
    with pytest.raises(ValueError, match="leaves nothing of 40 points"):
        membership_arena.parts(40, 10)
    with pytest.raises(CellError, match=r"4n = 8000"):
        plans.compute(victims.cell(dataclasses.replace(SMALL, n=2000)))


def counts(k, n):
    return {"k": k, "n": n}


def answered(accuracy):
    many = {"tpr": counts(30, 1000), "fpr": counts(10, 1000), "measurable": True}
    few = many | {"measurable": False}
    return {
        "accuracy": counts(accuracy, 2000),
        "precision": counts(300, 500),
        "recall": counts(300, 1000),
        "auc": 0.6,
        "1%": many,
        "0.1%": few,
    }


def contested(targets=3, claims=500):
    one = {
        "train": counts(1000, 1000),
        "test": counts(989, 1000),
        "attacks": {name: answered(1100) for name in cells.ATTACKS},
        "calibrated": {
            p: {"precision": counts(300, claims), "recall": counts(300, 1000), "claims": claims}
            for p in ("60", "70", "80", "90")
        },
    }
    return Result({"targets": [one] * targets})


def test_assembly_averages_targets_and_says_what_cannot_be_measured():
    row = (plans.PLAIN, cells.GENERAL)
    (record,) = plans.assemble_attacks(None, {row: [contested()]}).values()
    assert record["gap"] == pytest.approx(1.1) and record["accuracy"] == pytest.approx(55.0)
    assert record["precision"] == 60.0 and "3 targets" in record["interval"]
    (record,) = plans.assemble_low_fpr(None, {row: [contested()]}).values()
    assert record["tpr1"] == 3.0 and record["fpr1"] == 1.0 and "tpr01" not in record
    assert record["note"] == "0.1% not measurable at n = 1,000"
    assert record["tpr1_low"] < 3.0 < record["tpr1_high"]
    wanted = (plans.PLAIN, "60%")
    (record,) = plans.assemble_calibrated(None, {wanted: [contested()]}).values()
    assert record["claims"] == 500 and "note" not in record
    (record,) = plans.assemble_calibrated(None, {wanted: [contested(claims=399)]}).values()
    assert "too few" in record["note"]
    (record,) = plans.assemble_calibrated(None, {wanted: [contested(claims=0)]}).values()
    assert np.isnan(record["precision"])


def test_the_trend_can_fail():
    frame = pd.DataFrame(
        [
            (training, attack, value)
            for training in plans.TRAININGS
            for attack, value in ((cells.NAIVE, 51.0), (cells.SHADOW, 52.0), (cells.GENERAL, 55.0))
        ],
        columns=["training", "attack", "accuracy"],
    )
    assert plans.order_holds(frame)
    frame.loc[5, "accuracy"] = 52.0
    assert not plans.order_holds(frame)


def test_the_gaussian_rows_stay_within_a_point_of_the_optimum():
    config = membership_sets.GaussianConfig(100, 100, 5, 40, 10, 0)
    result = membership_sets.gaussians(config)
    found = {
        name: result.arrays[f"{name}.accuracy"].mean() for name in membership_sets.GAUSSIAN_ATTACKS
    }
    optimum = result.values["optimum"]
    assert found[membership_sets.TRUE_MEANS] == pytest.approx(optimum, abs=0.01)
    assert found["naive"] < found[membership_sets.PROXIES] < optimum
    half = 0.5 + result.arrays["gap"] / 2
    np.testing.assert_allclose(result.arrays["naive.accuracy"], half, atol=1e-12)


TABLES = [
    plans.MEMBERSHIP_MNIST,
    plans.MEMBERSHIP_LOW_FPR,
    plans.MEMBERSHIP_CALIBRATED,
    membership_sets.TABLE,
    membership_dp.TABLE,
]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.spec.name)
def test_plans_name_rows_of_their_specs_and_paper_has_five_targets(table, monkeypatch):
    monkeypatch.setattr(plans.data, "available", lambda name: True)
    monkeypatch.setattr(plans.data, "fingerprint", lambda name: f"hash of {name}")
    assert tables.get(table.spec.name) is table
    quick, paper = (table.cells(profile(name)) for name in ("quick", "paper"))
    for plan in (quick, paper):
        assert all(len(row) == len(table.spec.keys) for row, _ in plan)
    assert list(dict.fromkeys(row for row, _ in paper)) == list(table.spec.rows)
    assert {c.row for c in table.spec.claims} <= set(table.spec.rows)
    assert len(plans.targets(profile("paper"))) >= 5


def test_without_opacus_the_private_rows_are_not_run(monkeypatch):
    monkeypatch.setattr(membership_dp.private, "available", lambda: False)
    plan = dict(membership_dp.dp_cells(profile("quick")))
    assert [row[0] for row, cell in plan.items() if cell is None] == [
        "DP-SGD, ε = 16",
    ]


def test_the_full_corner_of_the_search_is_the_learned_attack_of_the_other_tables(arena):
    found = membership_search.trial(membership_search.Trial(arena.config, "both", 4))
    known = cells.contest(arena.config)
    for ours, theirs in zip(found.values["targets"], known.values["targets"], strict=True):
        general = theirs["attacks"][cells.GENERAL]
        assert ours["learned"] == general["accuracy"]
        assert ours["precision"] == general["precision"]
        assert ours["auc"] == general["auc"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_search_sees_no_more_proxies_than_it_says(arena, count):
    view = arena.view("shadow", 1)
    seen = membership_search.with_proxies(view, count)
    assert len(seen.references) == len(seen.contains) == max(count, 1)
    if not count:
        assert seen.references[0] is view.seen and not seen.contains.any()
    poisoned = [
        r if i < count else {k: v * np.nan for k, v in r.items()}
        for i, r in enumerate(view.references)
    ]
    hidden = membership_search.with_proxies(dataclasses.replace(view, references=poisoned), count)
    for a, b in zip(
        membership_arena.evidence(seen, membership_arena.SLICES["mlp"], 0.0).values(),
        membership_arena.evidence(hidden, membership_arena.SLICES["mlp"], 0.0).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_simple_scores_use_the_difference_to_proxies_where_there_are_any():
    found = {
        "0 margin": np.array([1.0, 3.0]),
        "0 margin beyond OUT": np.array([0.0, 4.0]),
        "2 margin": np.array([2.0, 2.5]),
        "2 margin beyond OUT": np.array([0.0, 10.0]),
    }
    both = ["0", "2"]
    np.testing.assert_allclose(membership_search.simple(found, both, "margin", 1), [0.0, 4.0])
    np.testing.assert_allclose(membership_search.simple(found, both, "margin", 0), [9.0, 13.0])


def test_points_without_a_usual_value_do_not_set_the_scale_of_a_score(arena, monkeypatch):
    """With one proxy half of a shadow's points were trained on by it: whatever stands there."""
    config = membership_search.Trial(arena.config, "both", 1)
    expected = membership_search.trial(config).values
    whole = membership_search.evidence

    def poisoned(view, names, smoothing):
        return {
            name: np.where(view.contains.all(0), 1e6, values)
            for name, values in whole(view, names, smoothing).items()
        }

    monkeypatch.setattr(membership_search, "evidence", poisoned)
    assert membership_search.trial(config).values == expected


def test_the_verdict_of_the_search_follows_its_numbers():
    table = membership_search.TABLE.spec
    rows = [
        {"epochs": "20", "layers": "both", "proxies": "4", "status": "run", "margin": 51.0,
         "residual": 52.0, "learned": 57.4, "sure": 10.0},
        {"epochs": "40", "layers": "first", "proxies": "0", "status": "run", "margin": 50.0,
         "residual": 50.0, "learned": 51.0, "sure": 9.0},
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=table.fields())
    found = membership_search.verdicts(frame)
    assert found["measure"][0] == "accuracy (learned)"
    assert found["best"].tolist() == ["57.4%", "10.0%"]
    assert found["where"][0] == "20 epochs, layers both, proxies 4"
    assert found["verdict"].tolist() == ["not reached", "reached"]
    frame.loc[1, "margin"] = 57.5
    found = membership_search.verdicts(frame)
    assert (found["measure"][0], found["verdict"][0]) == ("accuracy (margin)", "reached")
    with pytest.raises(ValueError, match="no row that was run"):
        membership_search.verdicts(frame.assign(status="not run"))
