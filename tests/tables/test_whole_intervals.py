"""No claim in words holds by an interval that reaches to the other side of what is needed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.tables import conditions, records
from thesis_repro.tables.claims import THEOREM
from thesis_repro.tables.estimate import Estimate
from thesis_repro.tables.find import get
from thesis_repro.tables.spec import NOT_RUN

EXACT: Mapping[str, str] = {
    "influence-axioms": "a counter-example is one net",
    "lipschitz-tightness": "bounds, and slopes that were found",
    "lipschitz-soundness": "the same points with another bound: counted",
    "lipschitz-checker": "a second program on the same certificates: counted",
    "certifiers-scaling": "operations: counted",
    "bias-synthetic": "ranks of means",
    "relaxed-groupings": "one point that has the set shows that it occurs",
    "arc-paths": "paths, proved or not",
    "arc-calibration": "written down before the run, without an interval",
    "gloro-losses": "written down before the run: looks for an absence",
    "membership-audit": "an empirical ε is the lower end of an interval itself",
}
"""Tables with claims in words that no sampling decides, and why."""
P_VALUES = ("p", "p_named", "holm")


def by_anything(rows: pd.DataFrame) -> pd.DataFrame:
    """The same values, each with an interval from nothing to everything, and no p-value below 1."""
    wide = rows.copy()
    for column in wide:
        for end, value in (("_low", -1e9), ("_high", 1e9)):
            if str(column).endswith(end):
                wide[column] = np.where(wide[column].notna(), value, wide[column])
        if column in P_VALUES:
            wide[column] = np.where(wide[column].notna(), 1.0, wide[column])
    return wide


def measured_in_words() -> list[str]:
    """Tables with conditions and a run of the paper's size."""
    specs = [get(name).spec for name in tables.names()]
    return [
        spec.name
        for spec in specs
        if spec.conditions is not None and records.paper(spec) is not None
    ]


def held_by_anything(name: str) -> list[str]:
    """The claims in words of a table that hold whatever the intervals are."""
    spec = get(name).spec
    frame = records.paper(spec)
    assert frame is not None and spec.conditions is not None
    ran = frame.data[frame.data["status"] != NOT_RUN]
    theorems = {claim.column for claim in spec.claims if claim.kind == THEOREM}
    return [
        one.says
        for one in spec.conditions(by_anything(ran))
        if one.holds and one.says not in theorems
    ]


@pytest.mark.parametrize("name", sorted({*measured_in_words()} - set(EXACT)))
def test_what_holds_holds_by_its_whole_interval(name: str) -> None:
    assert held_by_anything(name) == []


def test_exceptions_are_tables_with_conditions() -> None:
    assert all(get(name).spec.conditions is not None for name in EXACT)


@pytest.mark.parametrize(("value", "holds"), [(5.0, True), (2.0, None), (-2.0, False)])
def test_an_interval_across_what_is_needed_leaves_it_open(value: float, holds: bool | None) -> None:
    found = Estimate(value, value - 1.5, value + 1.5)
    assert conditions.reaches(found, 1.0) is holds
    assert conditions.reaches(Estimate(-value, -value - 1.5, -value + 1.5), -1.0, True) is holds


def test_rows_without_an_interval_are_compared_by_their_values() -> None:
    rows = [pd.Series({"x": x, "x_low": np.nan, "x_high": np.nan}) for x in (3.0, 1.0)]
    gap = conditions.between(*rows, "x")
    assert (gap.value, gap.low, gap.high) == (2.0, 2.0, 2.0)
    ends = [pd.Series({"x": x, "x_low": x - 3, "x_high": x + 3}) for x in (3.0, 1.0)]
    gap = conditions.between(*ends, "x")
    assert conditions.said(gap) == "2.0 [−2.2, 6.2]" and conditions.reaches(gap, 0.0) is None
