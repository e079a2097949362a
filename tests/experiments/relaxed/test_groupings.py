import itertools

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.experiments.relaxed import groupings
from thesis_repro.experiments.relaxed.settings import SETTINGS
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile


def test_the_quick_table_has_the_most_frequent_sets_of_each_objective(short):
    grouped = tables.live("relaxed-groupings").data
    assert set(grouped["objective"]) == {"GloRo", "relaxed"}
    for _, part in grouped.groupby("objective"):
        shown = part[part["rank"] != "all"]["points"]
        assert shown.is_monotonic_decreasing
        assert shown.sum() <= part[part["rank"] == "all"]["points"].iloc[0]


def cell(order, strictest, y):
    arrays = {"order": order, "strictest": strictest, "y": y}
    return Result({}, {name: np.array(value, np.int16) for name, value in arrays.items()})


def test_sets_are_counted_by_their_labels_whatever_the_order():
    first = cell([[1, 0, 2], [0, 1, 3], [2, 3, 1], [3, 2, 0]], [2, 2, 1, 3], [0, 3, 2, 1])
    second = cell([[0, 1, 2]], [0], [0])
    sets, right = groupings.masks([first, second], 4)
    assert groupings.counted(sets) == [((0, 1), 2), ((0, 2, 3), 1)]
    assert right.tolist() == [True, False, False]
    pairs = groupings.cooccurrence([first, second], 4)
    assert pairs[0, 1] == pairs[1, 0] == 2
    assert pairs[2, 3] == pairs[0, 3] == pairs[0, 2] == 1
    assert pairs.diagonal().sum() == 0 and pairs.sum() == 10


def test_chance_is_the_mean_over_all_permutations():
    rng = np.random.default_rng(0)
    groups = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
    sets = np.array([[1, 1, 0, 0, 0]] * 3 + [[0, 0, 1, 1, 1]] + [[1, 0, 0, 1, 0]], bool)
    every = []
    for order in itertools.permutations(range(5)):  # a plain loop over the definition
        hits = [
            any({order[i] for i in np.flatnonzero(s)} <= set(np.flatnonzero(g)) for g in groups)
            for s in sets
        ]
        every.append(np.mean(hits))
    mean, p = groupings.chance(sets, groups, 4000, rng)
    assert mean == pytest.approx(np.mean(every), abs=0.02)
    assert p == pytest.approx(np.mean(np.array(every) >= 0.8 - 1e-9), abs=0.02)
    assert groupings.inside(sets, groups).mean() == 0.8


def test_the_shares_of_a_row_are_of_its_own_sets_and_in_percent():
    setting = SETTINGS["mnist-5k"]
    pairs, labels = [(4, 9)] * 3 + [(3, 5), (0, 1)], [4, 4, 3, 3, 5]
    row = (setting.title, "RT3", "relaxed")
    result = cell([[*pair, 7] for pair in pairs], [2] * len(pairs), labels)
    found = groupings.assemble(profile("quick"), {row: [result]})
    most, whole = found[*row, "1"], found[*row, "all"]
    assert most.values["set"] == "4, 9"

    def percent(hits):
        return pytest.approx(100 * np.mean(list(hits)))

    holds = [label in pair for pair, label in zip(pairs, labels, strict=True)]
    assert most.estimate("label").value == percent(holds[:3])
    assert whole.estimate("label").value == percent(holds)

    def together(pair):
        return any(set(pair) <= set(group) for group in setting.sets)

    assert whole.estimate("inside").value == percent(map(together, pairs))
    # under a permutation each of the pairs is any pair of labels, as often as another
    exact = np.mean([together(pair) for pair in itertools.combinations(range(10), 2)])
    assert whole.estimate("chance").value == pytest.approx(100 * exact, abs=3)
    assert 0 < whole.estimate("p").value < 1 and exact > 0.05


def test_sets_without_any_relation_have_no_small_p():
    rng = np.random.default_rng(1)
    groups = np.zeros((4, 12), bool)
    groups[np.arange(12) // 3, np.arange(12)] = True
    sets = np.zeros((60, 12), bool)
    for row in sets:
        row[rng.choice(12, 2, replace=False)] = True
    assert groupings.chance(sets, groups, 500, rng)[1] > 0.05


def test_the_conditions_tell_trained_nets_from_others_and_are_corrected_for_their_number():
    def found(points, *p):
        lines = [("EuroSAT", "relaxed", "slides 1", "a, b", points, np.nan)]
        lines += [("EuroSAT", "GloRo", "slides 1", "a, b", 9.0 - points, np.nan)]
        whose = ("relaxed", "GloRo")
        lines += [("EuroSAT", o, "all", "all", 9.0, one) for o, one in zip(whose, p, strict=False)]
        names = ["dataset", "objective", "rank", "set", "points", "p"]
        rows = pd.DataFrame(lines, columns=names).assign(inside=90.0, chance=20.0)
        return {c.says: c.holds for c in groupings.conditions(rows)}

    trained, asked = (f"EuroSAT{net}: the set a, b is guaranteed" for net in ("", ", GloRo net"))
    assert found(1.0, 0.03) == {
        trained: True,
        asked: True,
        "EuroSAT: guaranteed sets lie inside groups of ours": True,
    }
    assert list(found(0.0, 0.03, 0.03).values()) == [False, True, False, False]  # 0.06 by Holm
    assert list(found(9.0, 0.02, 0.03).values()) == [True, False, True, True]
