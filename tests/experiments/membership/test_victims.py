from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments.membership import contests, victims
from thesis_repro.experiments.membership.victims import (
    CHOSEN,
    JUDGED,
    SEARCHED,
    TABLE,
    USUAL,
    Choice,
    pick,
)
from thesis_repro.lab.cells import compute
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.weaknesses.membership.contest import Contest
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, OFFLINE
from thesis_repro.weaknesses.membership.optimizers import ADAM, RMSPROP, optimized


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_the_usual_victim_is_among_those_that_are_searched():
    for name in ("quick", "paper"):
        found = victims.candidates(profile(name))
        assert contests.victim(contests.PLAIN, profile(name)) in found
        assert len(set(map(victims.title, found))) == len(found) == 12
        rates = {(type(v).__name__, v.lr) for v in found}
        assert len(rates) == 2 and ("Optimized", 1e-3) in rates
        assert {(v.smoothing, v.batch_size) for v in found} == {(0.0, 64)}


@pytest.mark.parametrize(
    ("gaps", "found", "chosen"),
    [
        ([1.0, 1.3, 1.31], [20.0, 21.0, 50.0], 1),  # the most found, if the gap is small
        ([1.0, 1.2], [21.0, 20.0], 0),  # not the smallest gap
        ([1.2, 1.1, 0.9], [20.0, 22.0, 22.0], 1),  # of equals the first
        ([4.0, 3.0, 9.0], [20.0, 10.0, 50.0], 1),  # no small gap: the smallest
        ([4.0, 3.0, 3.0], [20.0, 10.0, 50.0], 1),
        ([-0.1, 1.0], [20.0, 19.0], 0),
    ],
)
def test_the_rule(gaps, found, chosen):
    assert pick(gaps, found) == chosen


def test_a_choice_that_cannot_be_made_is_refused():
    for gaps, found in (([], []), ([1.0], [1.0, 2.0]), ([1.0], [float("nan")])):
        with pytest.raises(ValueError, match="needs a gap and a TPR of each victim"):
            pick(gaps, found)
    with pytest.raises(ValueError, match="at least one victim, got none"):
        Choice((), (200,))
    with pytest.raises(ValueError, match="101 was developed on"):
        Choice((contests.DIGITS,), (200, 101))


@pytest.fixture
def pair(observations):
    """A victim whose nets are there, and the same by Adam."""
    small = observations.config.victim
    return small, optimized(small, ADAM, 1e-3)


@pytest.mark.parametrize("wanted", [0, 1])
def test_what_is_chosen_on_some_targets_is_judged_on_others(pair, monkeypatch, wanted):
    seen = []

    def rule(gaps, found):
        seen.append((gaps, found))
        return wanted

    monkeypatch.setattr(victims, "pick", rule)
    choice = Choice(pair, (200, 201), development=(0, 1, 2))
    result = victims.judged(choice)
    searched = [compute(victims.searched(one, (0, 1, 2))) for one in pair]
    for number, one in enumerate(searched):
        row = victims.assemble(None, {(SEARCHED, "a"): [one]})[SEARCHED, "a"]
        assert seen[0][0][number] == pytest.approx(row.estimate("gap").value)
        assert seen[0][1][number] == pytest.approx(row.estimate("ours").value)
    assert result.values["victim"] == victims.title(pair[wanted])
    assert {n for n in result.arrays if n.startswith("member.")} == {"member.200", "member.201"}
    expected = contests.contest(Contest(pair[wanted], (200, 201), 4))
    np.testing.assert_array_equal(
        result.arrays[f"{GENERAL}.200"], expected.arrays[f"{GENERAL}.200"]
    )
    assert result.values["targets"] == expected.values["targets"]


def test_the_usual_victim_is_judged_on_as_many_points_and_the_same_members(pair, monkeypatch):
    monkeypatch.setattr(victims, "pick", lambda gaps, found: 1)
    choice = Choice(pair, (200, 201), development=(0, 1, 2))
    chosen = victims.judged(choice)
    usual = victims.judged(replace(choice, usual=replace(pair[0], n=1000, epochs=1)))
    assert usual.values["victim"] == "SGD, 1 epochs, 200 points"
    for index in (200, 201):
        np.testing.assert_array_equal(
            chosen.arrays[f"member.{index}"], usual.arrays[f"member.{index}"]
        )


@pytest.fixture
def made(contested):
    """A result by the shift of its members, the targets' right answers, and its victim."""

    def result(shift, test=989, victim="a"):
        rng = np.random.default_rng(7)
        member = np.arange(2000) < 1000
        arrays = {"known.member": member} | {f"member.{i}": member for i in range(3)}
        for attack in (GENERAL, LOSS, OFFLINE):
            arrays[f"known.{attack}"] = rng.standard_normal(2000) + shift * member
            for i in range(3):
                arrays[f"{attack}.{i}"] = rng.standard_normal(2000) + shift * member
        found = contested()
        targets = [t | {"test": {"k": test, "n": 1000}} for t in found.values["targets"]]
        return replace(found, values={"targets": targets, "victim": victim}, arrays=arrays)

    return result


def judged(searched, chosen, usual=None):
    rows = {(SEARCHED, "a"): [searched], (JUDGED, CHOSEN): [chosen]}
    if usual is not None:
        rows[JUDGED, USUAL] = [usual]
    frame = tabulate(TABLE.spec, victims.assemble(None, rows))
    return frame.set_index(["targets", "trained"]), victims.conditions(frame)


def test_more_members_at_a_small_gap_is_what_was_stated(made):
    frame, found = judged(made(0.3), made(1.0, 990, "b"), made(0.3))
    assert [c.holds for c in found] == [True, True]
    line, base = frame.loc[(JUDGED, CHOSEN)], frame.loc[(JUDGED, USUAL)]
    assert line["lead"] == pytest.approx(line["ours"] - base["ours"])
    assert line["lead_low"] < line["lead"] < line["lead_high"]
    assert (line["victim"], line["gap"]) == ("b", pytest.approx(1.0))
    assert 15 < line["fpr"] < 24 and line["ours"] > line["lead"] > 0
    claimed = {c.column for c in TABLE.spec.claims if c.side == "holds"}
    assert claimed == {c.says for c in found}


def test_no_more_members_or_a_wider_gap_is_told(made):
    _, found = judged(made(0.3), made(0.3, 980, "b"), made(0.3))
    assert [c.holds for c in found] == [False, False]
    frame, found = judged(made(0.3, 950), made(0.3, 950), made(0.3, 950))
    assert [c.holds for c in found] == [None, False]  # no gap was small; the usual one was chosen
    assert frame.loc[(JUDGED, CHOSEN)]["lead"] == 0
    assert len(judged(made(0.3), made(0.3))[1]) == 1
    assert victims.conditions(pd.DataFrame(columns=TABLE.spec.fields())) == []


def test_other_members_are_not_compared(made):
    other = made(1.0, victim="b")
    turned = {n: ~v if n.startswith("member.") else v for n, v in other.arrays.items()}
    with pytest.raises(ValueError, match="the same targets and members"):
        judged(made(0.3), replace(other, arrays=turned), made(0.3))


def test_a_victim_is_named_by_all_that_is_searched():
    one = optimized(contests.LENET, RMSPROP, 1e-3)
    assert victims.title(one) == "RMSprop, 20 epochs, 15,000 points"
