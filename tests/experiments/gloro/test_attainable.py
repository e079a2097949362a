import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.gloro import attainable
from thesis_repro.lab.profiles import profile


def test_plans_name_their_rows_and_share_one_measurement() -> None:
    assert tables.get("gloro-attainable") is attainable.TABLE
    quick, paper = (attainable.cells(profile(name)) for name in ("quick", "paper"))
    assert tuple(row for row, _ in paper) == attainable.TABLE.spec.rows
    for plan in (quick, paper):
        assert len({cell.config.measured for _, cell in plan}) == 1


def test_one_lost_point_fails_the_theorem() -> None:
    rows = pd.DataFrame({"least": [100.0, 98.4], "certified": [100.0, 98.4]})
    assert attainable.conditions(rows)[0].holds
    assert not attainable.conditions(rows.assign(certified=[100.0, 98.3]))[0].holds
    assert not attainable.conditions(rows[:0])[0].holds
