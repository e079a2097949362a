"""p-values of rows that are tested together are adjusted together, whichever run computed them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from thesis_repro import tables
from thesis_repro.tables import earlier_rows as kept
from thesis_repro.tables.find import get, names
from thesis_repro.tables.spec import NOT_RUN, Frame

FAMILIES = [name for name in names() if get(name).spec.family is not None]


def alone(frame: Frame, *rows: tuple[str, ...]) -> Frame:
    """The frame of a run that computed these rows alone, and adjusted their p-values alone."""
    lines = []
    for row, line in zip(frame.spec.rows, frame.data.to_dict("records"), strict=True):
        if row not in rows:
            measured = frame.spec.fields()[len(row) : -4]
            line |= dict.fromkeys(measured, np.nan) | {"status": NOT_RUN}
        lines.append(line)
    data = pd.DataFrame(lines, columns=frame.data.columns)
    return dataclasses.replace(frame, data=kept.adjusted(frame.spec, data))


def test_tables_whose_rows_are_tested_together_say_so() -> None:
    assert set(FAMILIES) == {"leakage-converse", "leakage-dose", "leakage-paired"}
    for name in names():
        fields = get(name).spec.fields()
        assert ("holm" in fields) == (name in FAMILIES), name


@pytest.mark.parametrize("name", FAMILIES)
def test_recorded_p_values_are_adjusted_over_all_rows_of_their_family(name: str) -> None:
    frame = tables.recorded(name, "paper-cpu")
    pd.testing.assert_frame_equal(kept.adjusted(frame.spec, frame.data), frame.data)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_computed_one_by_one_are_adjusted_as_if_computed_at_once(name: str) -> None:
    whole = tables.recorded(name, "paper-cpu")
    first, *others = kept.ran(whole)
    frame = alone(whole, first)
    for row in others:
        frame = kept.with_kept(alone(whole, row), frame)
    assert kept.ran(frame) == kept.ran(whole)
    pd.testing.assert_frame_equal(frame.data, whole.data)


def test_adjusted_p_values_are_those_of_another_library() -> None:
    spec = get("leakage-converse").spec
    rows = [(f"set {i}", others) for i in range(4) for others in ("standard", "wrong labels alone")]
    data = pd.DataFrame(rows, columns=["dataset", "compared"])
    data["p"] = [0.012, 0.3, 0.04, np.nan, np.nan, 0.011, 0.031, 0.6]
    data["holm"] = np.nan
    found = kept.adjusted(spec, data)
    for _, family in found.groupby("compared"):
        adjusted = multipletests(family["p"].fillna(1.0), method="holm")[1]
        ran = family["p"].notna()
        np.testing.assert_allclose(family["holm"][ran], adjusted[ran])
        assert family["holm"][~ran].isna().all()
    assert data["holm"].isna().all(), "what was given is left as it is"
    together = kept.adjusted(get("leakage-paired").spec, data)
    one = multipletests(data["p"].fillna(1.0), method="holm")[1]
    np.testing.assert_allclose(together["holm"].dropna(), one[data["p"].notna()])
