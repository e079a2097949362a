import pandas as pd
import pytest

from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.experiments.membership.mnist import PUBLISHED, TABLE, assemble, conditions
from thesis_repro.tables.estimate import intervals
from thesis_repro.weaknesses.membership.guesses import GENERAL, NAIVE, SHADOW


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_assembly_averages_targets(contested):
    (record,) = assemble(None, {(PLAIN, GENERAL): [contested()]}).values()
    assert record.estimate("gap").value == pytest.approx(1.1) and record.estimate(
        "accuracy"
    ).value == pytest.approx(55.0)
    assert record.estimate("precision").value == 60.0 and "3 targets" in intervals(
        record.values.values()
    )


def test_the_naive_attack_is_an_identity_of_the_gap():
    rows = pd.DataFrame({"attack": [NAIVE, SHADOW], "gap": [1.2, 1.2], "accuracy": [50.6, 55.0]})
    assert [c.holds for c in conditions(rows)] == [True]
    assert [c.holds for c in conditions(rows.assign(accuracy=50.8))] == [False]


def test_the_numbers_that_enter_a_cell_are_those_that_are_published():
    quoted = {q.row[1].partition(",")[0]: q.values for q in TABLE.spec.quoted}
    found = {
        attack: (line["accuracy"], line["precision"])
        for attack, line in (
            (NAIVE, quoted["naive"]),
            (SHADOW, quoted["shadow"]),
            (GENERAL, quoted["white-box"]),
        )
    }
    assert found == PUBLISHED
