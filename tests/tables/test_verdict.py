"""Verdicts by table of cases, and what must hold for all."""

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_repro.tables.spec import Claim, Column, Frame, TableSpec
from thesis_repro.tables.verdict import VERDICTS, judge, judge_all

NAN = math.nan
ROW = ("a",)


def frame(
    estimate: float, low: float = NAN, high: float = NAN, run: str = "paper-cpu", **spec: Any
) -> Frame:
    made = TableSpec(
        name="made-up",
        caption="",
        keys=(Column("key", "key", kind="key"),),
        columns=(Column("x", "x"),),
        chapter="",
        **spec,
    )
    line = ("a", estimate, low, high, "not run" if math.isnan(estimate) else "run", 1, "", "")
    return Frame(made, run, pd.DataFrame([line], columns=made.fields()))


@pytest.mark.parametrize(
    ("side", "value", "tolerance", "estimate", "low", "high", "trend", "verdict"),
    [
        # one-sided, upwards
        ("at least", 95.7, 1.5, 96.5, 96.0, 97.0, None, "exceeded"),
        ("at least", 95.7, 1.5, 96.0, 95.7, 97.0, None, "reproduced"),  # the end is not above
        ("at least", 95.7, 1.5, 95.0, 94.0, 96.0, None, "reproduced"),
        ("at least", 95.7, 1.5, 94.2, 93.0, 95.0, None, "reproduced"),  # just within, in floats
        ("at least", 95.7, 1.5, 94.19, 93.0, 95.0, None, "not reproduced"),
        ("at least", 95.7, 1.5, 94.19, 93.0, 95.0, False, "not reproduced"),
        ("at least", 95.7, 1.5, 94.19, 93.0, 95.0, True, "trend"),
        ("at least", 95.7, 1.5, 99.0, NAN, NAN, None, "reproduced"),  # no interval, no more
        # one-sided, downwards
        ("at most", 10.0, 1.0, 8.0, 7.0, 9.0, None, "exceeded"),
        ("at most", 10.0, 1.0, 8.0, 7.0, 10.0, None, "reproduced"),
        ("at most", 10.0, 1.0, 11.0, 10.5, 12.0, None, "reproduced"),
        ("at most", 10.0, 1.0, 11.1, 10.5, 12.0, None, "not reproduced"),
        ("at most", 10.0, 1.0, 11.1, 10.5, 12.0, True, "trend"),
        # two-sided
        ("equal", 50.6, 1.0, 50.9, 50.7, 51.0, None, "reproduced"),
        ("equal", 50.6, 1.0, 49.6, 49.0, 50.0, None, "reproduced"),
        ("equal", 50.6, 1.0, 57.0, 56.0, 58.0, None, "not reproduced"),  # never exceeded
        ("equal", 50.6, 1.0, 45.0, 44.0, 46.0, True, "trend"),
        # nothing to judge
        ("at least", 95.7, 1.5, NAN, NAN, NAN, True, "not run"),
        ("at least", None, 1.5, 96.0, 95.0, 97.0, True, "not published"),
        ("at least", None, 1.5, NAN, NAN, NAN, True, "not run"),
    ],
)
def test_verdicts(
    side: Any,
    value: float | None,
    tolerance: float,
    estimate: float,
    low: float,
    high: float,
    trend: bool | None,
    verdict: str,
) -> None:
    claim = Claim(ROW, "x", value, "source", side, tolerance)
    judged = judge(claim, frame(estimate, low, high), trend)
    assert judged.verdict == verdict
    if value is not None and verdict != "not run":
        assert judged.difference == pytest.approx(estimate - value)


def test_without_a_run_or_a_row_it_is_not_run() -> None:
    assert judge(Claim(ROW, "x", 1.0, "source"), None).verdict == "not run"
    assert judge(Claim(("b",), "x", 1.0, "source"), frame(1.0)).verdict == "not run"


numbers = st.floats(-1e3, 1e3)
widths = st.floats(0, 1e3)


@given(numbers, widths, numbers, widths, st.sampled_from(["at least", "at most", "equal"]))
def test_verdicts_are_consistent(
    value: float, tolerance: float, estimate: float, half: float, side: Any
) -> None:
    def verdict(claim: Claim, trend: bool | None = None) -> str:
        return judge(claim, frame(estimate, estimate - half, estimate + half), trend).verdict

    claim = Claim(ROW, "x", value, "source", side, tolerance)
    found = verdict(claim)
    assert found in VERDICTS
    wider = verdict(Claim(ROW, "x", value, "source", side, tolerance + 1))
    if found in ("reproduced", "exceeded"):
        assert wider == found  # a wider tolerance takes nothing back
        assert verdict(claim, True) == found  # nor does the trend
    else:
        assert verdict(claim, True) == "trend"
    mirrored = {"at least": "at most", "at most": "at least", "equal": "equal"}[side]
    opposite = Claim(ROW, "x", -value, "source", mirrored, tolerance)  # type: ignore[arg-type]
    flipped = judge(opposite, frame(-estimate, -estimate - half, -estimate + half))
    assert flipped.verdict == found


def test_a_quick_run_is_never_judged_by_the_thesis() -> None:
    claims = (Claim(ROW, "x", 1.0, "source"),)
    assert [j.verdict for j in judge_all(frame(2.0, run="quick"), claims)] == ["not run"]
    assert [j.verdict for j in judge_all(frame(2.0), claims)] == ["reproduced"]
    assert [j.verdict for j in judge_all(None, claims)] == ["not run"]


def test_the_trend_is_decided_from_the_rows_that_ran() -> None:
    def trend(data: pd.DataFrame) -> bool:
        assert (data["status"] == "run").all()
        return bool((data["x"] > 0).all())

    claims = (Claim(ROW, "x", 9.0, "source"),)
    assert judge_all(frame(1.0, trend=trend), claims)[0].verdict == "trend"
    assert judge_all(frame(-1.0, trend=trend), claims)[0].verdict == "not reproduced"
    assert judge_all(frame(NAN, trend=trend), claims)[0].verdict == "not run"


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        (Claim(("a", "b"), "x", 1.0, "s"), "fits no column"),
        (Claim(ROW, "y", 1.0, "s"), "fits no column"),
        (Claim(ROW, "key", 1.0, "s"), "fits no column"),
        (Claim(ROW, "x", 1.0, "s", tolerance=-1.0), "tolerance below 0"),
    ],
)
def test_a_claim_that_fits_no_column_is_refused(claim: Claim, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        frame(1.0, claims=(claim,))
