"""Rows of an earlier run stay when a later one does not compute them, with their origin."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sample_table
from sample_experiments.sample import rates
from sample_table import RATES, Config

from thesis_repro import tables
from thesis_repro.lab import engine, provenance
from thesis_repro.lab.cells import Cell
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.lab.sealed import Altered
from thesis_repro.tables import earlier_rows as kept
from thesis_repro.tables import render
from thesis_repro.tables.spec import Frame, Plan, Table

PAPER = profile("paper")
NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample")


def plan_of(*rows: tuple[str, ...]) -> Any:
    """A plan of these rows alone, on the profile's seeds."""

    def cells(size: Profile) -> Plan:
        return [
            (row, Cell(sample_table.evaluate, Config(row[1], seed, True), ((row[0], "0f" * 32),)))
            for row in rows
            for seed in size.seeds
        ]

    return cells


def record(
    monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, ...], date: str = "2026-01-01", **more: Any
) -> Frame:
    """Record a run of these rows alone, as of a date."""
    table: Table = dataclasses.replace(RATES, cells=plan_of(*rows), **more.pop("table", {}))
    monkeypatch.setattr(rates, "TABLE", table)
    collect = provenance.collect
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "collect", lambda *a: {**collect(*a), "date": date})
        return tables.record(NAME, more.pop("size", PAPER), progress=False, **more)


OURS, PLAIN, FACES = RATES.spec.rows


def ran(frame: Frame) -> list[tuple[str, ...]]:
    return kept.ran(frame)


def test_a_run_of_other_rows_keeps_those_that_were_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = record(monkeypatch, OURS, PLAIN, date="2026-01-01")
    second = record(monkeypatch, FACES, date="2026-02-02")
    assert ran(second) == [OURS, PLAIN, FACES]
    whole = tables.recorded(NAME)
    pd.testing.assert_frame_equal(whole.data, second.data)
    for row in (OURS, PLAIN):
        pd.testing.assert_series_equal(whole.lookup(row), first.lookup(row), check_names=False)
    about = whole.provenance
    assert about["date"] == "2026-02-02"
    (origin,) = about["kept"]
    assert origin["rows"] == [list(OURS), list(PLAIN)]
    assert {name: origin[name] for name in kept.ORIGIN} == {
        name: first.provenance[name] for name in kept.ORIGIN
    }
    assert {tuple(cell["row"]) for cell in about["cells"]} == {OURS, PLAIN, FACES}
    assert len(about["cells"]) == 9
    assert about["data"] == {"faces": "0f" * 32}
    assert {tuple(line["row"]) for line in about["shortened"]} == {OURS, FACES}
    assert tables.check(NAME)


def test_runs_of_other_rows_at_a_time_lose_none(
    monkeypatch: pytest.MonkeyPatch, beside: Any
) -> None:
    engine.run([cell for _, cell in sample_table.cells(PAPER) if cell], progress=False)
    real, others = kept.with_earlier, []

    def with_earlier(table: Table, frame: Frame) -> Frame:
        found = real(table, frame)
        if not others:  # the first has read the record, and not written it yet
            others.append(None)
            others[0] = beside(lambda: tables.record(NAME, PAPER, only="plain", progress=False))
        return found

    monkeypatch.setattr(kept, "with_earlier", with_earlier)
    tables.record(NAME, PAPER, only="ours", progress=False)
    others[0].join(60)
    assert ran(tables.recorded(NAME)) == [OURS, PLAIN]


def test_a_row_has_the_origin_of_the_run_that_computed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, OURS, date="2026-01-01")
    record(monkeypatch, PLAIN, date="2026-02-02")
    record(monkeypatch, FACES, date="2026-03-03")
    third = record(monkeypatch, PLAIN, date="2026-04-04")
    origins = {origin["date"]: origin["rows"] for origin in third.provenance["kept"]}
    assert origins == {"2026-01-01": [list(OURS)], "2026-03-03": [list(FACES)]}
    last = record(monkeypatch, OURS, PLAIN, FACES, date="2026-05-05")
    assert "kept" not in last.provenance


def test_the_caption_names_kept_rows_and_their_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, OURS, PLAIN, date="2026-01-01")
    frame = record(monkeypatch, FACES, date="2026-02-02")
    device = frame.provenance["device"]
    text = render.caption(tables.recorded(NAME))
    assert f"{device}, seeds 0, 1, 2, 2026-02-02." in text
    assert text.endswith(f"Recorded earlier: digits ({device}, 2026-01-01).")
    assert "Recorded earlier" not in render.caption(record(monkeypatch, OURS, PLAIN, FACES))


def test_all_seeds_that_rows_rest_on_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, OURS, size=profile("paper", "cpu", (0, 1, 2)))
    frame = record(monkeypatch, FACES, size=profile("paper", "cpu", (0,)))
    assert render.seeds_used(frame) == [0, 1, 2]
    assert [frame.lookup(row)["seeds"] for row in (OURS, FACES)] == [3, 1]


def test_rows_of_no_fixed_list_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"spec": dataclasses.replace(RATES.spec, rows=(), claims=())}
    record(monkeypatch, ("a", "ours"), table=free)
    assert ran(record(monkeypatch, ("b", "ours"), table=free)) == [("a", "ours"), ("b", "ours")]


def test_nothing_is_kept_of_times_of_quick_runs_or_by_a_fresh_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for options in ({"table": {"timed": True}}, {"size": profile("quick")}, {"fresh": True}):
        record(monkeypatch, OURS, **options)
        assert ran(record(monkeypatch, FACES, **options)) == [FACES]


def test_only_some_rows_are_computed_and_the_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, OURS, PLAIN, date="2026-01-01")
    frame = record(monkeypatch, OURS, PLAIN, FACES, date="2026-02-02", only="faces / o")
    assert ran(frame) == [OURS, PLAIN, FACES]
    assert [origin["rows"] for origin in frame.provenance["kept"]] == [[list(OURS), list(PLAIN)]]
    with pytest.raises(ValueError, match=r"no row holds 'x'; there are: digits / ours; faces"):
        record(monkeypatch, OURS, FACES, only="x")
    for kind, more in {
        "a fresh run": {"fresh": True},
        "a quick run": {"size": profile("quick")},
        "a table of times": {"table": {"timed": True}},
        "a table of one family of tests": {"table": {"whole": True}},
    }.items():
        with pytest.raises(ValueError, match=rf"sample-rates: {kind} is recorded whole, .* lost"):
            record(monkeypatch, OURS, only="ours", **more)


def test_rows_with_other_columns_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, OURS)
    newer = {"spec": dataclasses.replace(RATES.spec, version=RATES.spec.version + 1)}
    assert ran(record(monkeypatch, FACES, table=newer)) == [FACES]


def test_nothing_is_kept_of_an_altered_record(
    monkeypatch: pytest.MonkeyPatch, results: Path
) -> None:
    record(monkeypatch, OURS)
    path = results / NAME / "paper-cpu.csv"
    content = path.read_bytes().replace(b"digits", b"Digits")
    path.write_bytes(content)
    with pytest.raises(Altered, match=r"paper-cpu\.csv was altered"):
        record(monkeypatch, FACES)
    assert path.read_bytes() == content  # nor lost
