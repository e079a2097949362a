"""Columns that came after a recording, and rates of too few points: neither shown nor judged."""

import dataclasses
import math
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.lab import places
from thesis_repro.tables import drift, records, render
from thesis_repro.tables.claims import Claim, Quoted
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import NOT_JUDGED, Column, Frame, TableSpec
from thesis_repro.tables.verdict import judge_all

ABOUT = {"profile": "paper", "device": "x", "seeds": [0], "date": "2026-01-01", "spec_version": 1}
ABOUT |= {"table": "made-up", "run": "paper-cpu"}
ROW = ("ours",)


def spec(*columns: Column, **fields: object) -> TableSpec:
    key = Column("key", "key", kind="key")
    return TableSpec("made-up", "", (key,), columns, "c/x", **fields)  # type: ignore[arg-type]


OLD = spec(Column("x", "x"))
LATER = Column("y", "y", drift=0.1, later=True)
NEW = spec(
    Column("x", "x"),
    LATER,
    claims=(Claim(ROW, "y", 1.0, "s"), Claim(ROW, "x", 1.0, "s")),
    quoted=(Quoted(("theirs",), {"y": 2.0}, "s"), Quoted(("others",), {"x": 2.0, "y": 2.0}, "s")),
)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Frame:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    data = tabulate(OLD, {ROW: Measurement({"x": Estimate(3.0)}, 1)})
    frame = Frame(OLD, "paper-cpu", data, ABOUT)
    records.write(frame)
    return frame


def test_a_record_without_a_later_column_is_read_and_keeps_its_key(recorded: Frame) -> None:
    found = records.read(NEW)
    assert records.key(found) == records.key(recorded)
    assert [c.name for c in found.spec.columns] == ["x"]
    assert found.value(ROW, "x") == 3.0 and found.value(ROW, "y") is None
    assert "y" not in render.grid(found)[0]
    assert records.check(NEW)[0].endswith("hash confirmed")
    assert [q.values for q in found.spec.quoted] == [{"x": 2.0}]


def test_what_is_claimed_of_a_later_column_is_not_judged(recorded: Frame) -> None:
    later, there = judge_all(records.read(NEW), NEW.claims)
    assert (later.verdict, there.verdict) == (NOT_JUDGED, "reproduced")


def test_a_later_column_drifts_from_no_record_without_it(recorded: Frame) -> None:
    data = tabulate(NEW, {ROW: Measurement({"x": Estimate(3.0), "y": Estimate(9.0)}, 1)})
    live = Frame(NEW, "paper-cpu", data, ABOUT)
    compared, lines = drift._drift(live, records.read(NEW), [ROW])
    assert (compared, lines) == (0, [])
    records.write(live)
    moved = dataclasses.replace(live, data=data.assign(y=8.0))
    assert len(drift._drift(moved, records.read(NEW), [ROW])[1]) == 1


def test_another_column_that_a_record_lacks_is_refused(recorded: Frame) -> None:
    with pytest.raises(records.NotRecorded, match="other columns"):
        records.read(spec(Column("x", "x"), Column("z", "z")))


def test_a_text_cannot_come_later() -> None:
    with pytest.raises(ValueError, match="only a number"):
        Column("t", "t", kind="text", later=True)


def of_points(n: int, **fields: object) -> Frame:
    made = spec(Column("vra", "VRA", "%", kind="rate", **fields))  # type: ignore[arg-type]
    how = f"Clopper-Pearson over {n:,} points"
    found = Measurement({"vra": Estimate(35.0, 20.0, 50.0, how)}, 1)
    return Frame(made, "paper-cpu", tabulate(made, {ROW: found}), ABOUT)


@pytest.mark.parametrize(("n", "shown"), [(4, False), (99, False), (100, True), (1_000, True)])
def test_no_rate_of_fewer_than_a_hundred_points_is_shown_or_judged(n: int, shown: bool) -> None:
    frame = of_points(n)
    assert render.grid(frame)[1][0][1].startswith("35.0") == shown
    assert ("fewer than 100 points" in render.caption(frame)) != shown
    (judged,) = judge_all(frame, [Claim(ROW, "vra", 30.0, "s")])
    assert (judged.verdict == "reproduced") == shown
    assert shown or judged.verdict == NOT_JUDGED


def test_a_share_of_cases_that_keep_a_theorem_is_no_accuracy() -> None:
    assert render.grid(of_points(10, least=1))[1][0][1].startswith("35.0")


def test_no_recorded_rate_of_few_points_reaches_a_page() -> None:
    seen = hidden = 0
    for name in tables.names():
        for run in records.runs(tables.get(name).spec):
            frame = records.read(tables.get(name).spec, run)
            cells = render.grid(frame, quoted=False)[1]
            for line, shown in zip(frame.data.to_dict("records"), cells, strict=True):
                for place, column in enumerate(frame.spec.columns, len(frame.spec.keys)):
                    few = "points" in line and line.get("points", math.inf) < 100
                    few |= any(f"over {n} points" in str(line["interval"]) for n in range(100))
                    if column.kind != "rate" or math.isnan(line[column.name]) or column.least == 1:
                        continue
                    seen += 1
                    hidden += few
                    assert (shown[place] == render.NOTHING) == few, (name, run, column.name)
    assert seen > 100 and hidden > 10


def test_a_family_of_tests_is_counted_in_the_caption() -> None:
    seen = 0
    for name in tables.names():
        spec = tables.get(name).spec
        for run in records.runs(spec):
            frame = records.read(spec, run)
            found = "p" in frame.data and frame.data["p"].notna().sum()
            counted = f"a family of {found} test" in render.caption(frame)
            assert counted == bool(found and spec.family is None), (name, run)
            assert spec.family is None or "Holm: over" in spec.caption, (
                name
            )  # also what did not run
            seen += counted
    assert seen >= 2
