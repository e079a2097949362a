import pytest

from thesis_repro.experiments.leakage.models import CLEAN, GLORO, INVISIBLE, MARKED, STANDARD
from thesis_repro.experiments.leakage.watermark import TABLE, arms, assemble
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.estimate import Estimate, intervals


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
