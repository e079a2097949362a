"""The table lipschitz-checker: its plan, and a trend that one contradiction ends."""

import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.lipschitz import checker
from thesis_repro.lab.profiles import profile


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("lipschitz-checker") is checker.TABLE
    plan = checker.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(checker.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_conditions_can_fail():
    good = pd.DataFrame({"contradicted": [0], "confirmed": [99.5], "claimed": [9]})

    def found(**change):
        return [c.holds for c in checker.conditions(good.assign(**change))]

    assert found() == [True, True]
    assert found(contradicted=[1]) == [False, True]
    assert found(confirmed=[99.4]) == [True, False]
