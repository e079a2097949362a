import pandas as pd
import pytest

from thesis_repro.experiments.membership.contests import PLAIN, TRAININGS
from thesis_repro.experiments.membership.mnist import TABLE, assemble, order_holds
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


def test_the_trend_can_fail():
    frame = pd.DataFrame(
        [
            (training, attack, value)
            for training in TRAININGS
            for attack, value in ((NAIVE, 51.0), (SHADOW, 52.0), (GENERAL, 55.0))
        ],
        columns=["training", "attack", "accuracy"],
    )
    assert order_holds(frame)
    frame.loc[5, "accuracy"] = 52.0
    assert not order_holds(frame)
