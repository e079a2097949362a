import numpy as np
import pytest

from thesis_repro.experiments.leakage.models import (
    CLEAN,
    GLORO,
    INVISIBLE,
    MARKED,
    STANDARD,
    TRAININGS,
)
from thesis_repro.experiments.leakage.watermark import SEEN, TABLE, arms, assemble, conditions
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.estimate import Estimate, intervals
from thesis_repro.tables.measure import tabulate


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_the_word_that_nobody_sees_is_asked_of_gloro_nets_alone():
    assert arms(GLORO) == (MARKED, CLEAN, INVISIBLE)
    assert arms(STANDARD) == (MARKED, CLEAN)


def test_models_are_averaged_and_the_least_independent_one_is_shown():
    found = [
        Result({"true": true, "others": 0.1, "z": 10 * true, "accuracy": 90.0, "independent": p})
        for true, p in ((0.2, 1.0), (0.3, 0.7), (0.4, 0.9))
    ]
    row = ("X", GLORO, MARKED)
    record = assemble(profile("quick"), {row: found})[row]
    assert record.estimate("true").value == pytest.approx(0.3) and record.estimate(
        "z"
    ).value == pytest.approx(3.0)
    assert record.values["independent"] == Estimate(0.7)
    assert (
        record.estimate("models").value == 3
        and intervals(record.values.values()) == "Student t over models"
    )
    assert record.estimate("true").low < 0.3 < record.estimate("true").high


def of(z):
    about = {"true": 0.2, "others": 0.1, "accuracy": 90.0, "independent": 1.0}
    return [Result({"z": value, **about}) for value in z]


def rows(robust, count):
    """Nets of one number share what makes a word easy to see; robust ones show it more."""
    easy = np.random.default_rng(0).normal(0, 3, count)
    found = {}
    for method in TRAININGS:
        extra = 0.0 if method == STANDARD else robust
        jitter = np.random.default_rng(len(method)).normal(0, 0.2, count)
        found["X", method, MARKED] = of((easy + extra + jitter).tolist())
        found["X", method, CLEAN] = of([0.0] * count)
    return found


def test_robust_and_standard_nets_of_one_number_are_paired():
    measured = assemble(profile("quick"), rows(1.0, 9))
    more = measured["X", GLORO, MARKED].estimate("more")
    assert 0.7 < more.low < more.value < more.high < 1.4
    assert more.how == "bootstrap over 9 pairs of nets"
    assert measured["X", GLORO, MARKED].estimate("p").value == pytest.approx(1 / 2**9)
    assert "more" not in measured["X", STANDARD, MARKED].values
    (found,) = conditions(tabulate(TABLE.spec, measured))
    assert found.holds and found.needed.endswith("p < 0.05 by Holm over 2")
    (found,) = conditions(tabulate(TABLE.spec, assemble(profile("quick"), rows(0.0, 9))))
    assert found.holds is False


def test_nets_in_which_the_difference_was_seen_do_not_test_it():
    assert SEEN == 21
    (found,) = conditions(tabulate(TABLE.spec, assemble(profile("paper"), rows(9.0, 21))))
    assert (found.holds, found.verdict) == (None, "not judged")
    (found,) = conditions(tabulate(TABLE.spec, assemble(profile("paper"), rows(9.0, 42))))
    assert found.holds
    unequal = rows(9.0, 42) | {("X", STANDARD, MARKED): of([0.0] * 30)}
    (found,) = conditions(tabulate(TABLE.spec, assemble(profile("paper"), unequal)))
    assert found.holds is None
