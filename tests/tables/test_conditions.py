"""What has to hold, as one numbered table for a chapter."""

from typing import Any

import pandas as pd
import pytest

from thesis_repro.tables import conditions
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Frame, TableSpec


def check(rows: pd.DataFrame) -> list[Condition]:
    """One condition for each row."""
    return [Condition(f"row {x}", "above 0", f"{x}", bool(x > 0)) for x in rows["x"]]


def frame(name: str, values: list[float], conditions: Any = check) -> Frame:
    """A frame of these values and of a row that was not run."""
    keys, columns = (Column("row", "row", kind="key"),), (Column("x", "x"),)
    spec = TableSpec(name, "", keys, columns, "part/sample", conditions=conditions)
    rows = pd.DataFrame({"x": [*values, -9.0], "status": ["run"] * len(values) + ["not run"]})
    return Frame(spec, "quick", rows)


def test_the_conditions_of_several_tables_are_one_numbered_table() -> None:
    text = conditions.show(frame("sample-one", [1.0]), frame("sample-two", [2.0, -3.0])).data
    assert text.splitlines() == [
        "::::{table} What is claimed in words, as conditions of ours, and whether they hold: "
        "run quick. needed: above 0.",
        ":name: tab-sample-conditions-quick",
        "",
        "| what has to hold | verdict | measured |",
        "| :--- | :--- | :--- |",
        "| row 1.0 | holds | 1.0 |",
        "| row 2.0 | holds | 2.0 |",
        "| row -3.0 | does not hold | -3.0 |",
        "",
        "::::",
    ]


def test_a_table_without_conditions_is_named() -> None:
    with pytest.raises(ValueError, match="^sample-one has no conditions$"):
        conditions.show(frame("sample-one", [1.0], conditions=None))
