"""From cells to a frame: plan, compute, summarise over seeds.

Examples
--------
>>> from thesis_repro.lab.profiles import profile
>>> from thesis_repro.tables.spec import Column
>>> keys, columns = (Column("net", "net", kind="key"),), (Column("vra", "VRA", "%", kind="rate"),)
>>> spec = TableSpec("gloro-example", "An example.", keys, columns, "robustness/gloro")
>>> gathered = {("a",): [Result({"vra": {"k": 90, "n": 100}})]}
>>> measured = summarise(spec, gathered)
>>> measured["a",].estimate("vra").value
90.0
>>> import numpy as np
>>> right = {("a",): np.ones(3), ("b",): np.eye(3)[0]}
>>> pair = {row: [Result({}, {"right": array})] for row, array in right.items()}
>>> gained = with_gains(summarise(spec, pair), pair, lambda row: ("b",), {"vra": "right"})
>>> round(gained["a",].estimate("vra").value, 1)  # percent of points
66.7
>>> table = Table(spec, cells=lambda profile: [(("a",), None)])  # its data is not here
>>> assembled(table, profile("quick"), gathered) == measured
True
>>> tabulate(spec, measured)["vra"].tolist()
[90.0]
>>> len(measure(table, profile("quick")).data), describe(table, profile("quick"), [], [])["run"]
(0, 'quick')
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pandas as pd

from thesis_repro.lab import engine, places, provenance
from thesis_repro.lab.cells import Cell, Result, lookup
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.store import Store
from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement, intervals
from thesis_repro.tables.spec import NOT_RUN, Frame, Gathered, Row, Table, TableSpec

NOTHING, ABSENT = Measurement({}), Estimate(math.nan)


def measure(
    table: Table,
    profile: Profile,
    *,
    scheduler: str | None = None,
    jobs: int = 1,
    fresh: bool = False,
    finished: bool = False,
    stored: bool = False,
    only: str | None = None,
    progress: bool = True,
) -> Frame:
    """Compute a table; finished cells come from the store.

    With `finished` nothing is computed: the rows whose cells are all in the store are taken, the
    others are not run. With `stored` nothing is computed either, and a row is made of those of its
    cells, its seeds, that are in the store. With `only` the rows that hold this text, written as
    "key / key", are computed. Of the `jobs`, a table that takes the time of its cells uses one.

    Raises
    ------
    CellError
        If a cell raised; the others are kept.
    ValueError
        If no row holds the text.
    """
    plan = list(table.cells(profile))
    if only is not None:
        plan = _chosen(table.spec, plan, only)
    if finished:
        store = Store()
        lacking = {row for row, cell in plan if cell is None or store.get(cell.key) is None}
        plan = [(row, None if row in lacking else cell) for row, cell in plan]
    if stored:
        plan = [(row, cell if cell and lookup(cell) else None) for row, cell in plan]
    wanted = [cell for _, cell in plan if cell is not None]
    results = engine.run(
        wanted,
        scheduler=scheduler,
        jobs=1 if table.timed else jobs,
        fresh=fresh,
        progress=progress,
    )
    by_row: dict[Row, list[Result]] = {row: [] for row, _ in plan}
    found = iter(results)
    for row, cell in plan:
        if cell is not None:
            by_row[row].append(next(found))
    records = assembled(table, profile, by_row)
    # only a paper run is expected to fill every row of the spec
    expected = () if profile.name == "quick" else table.spec.rows
    data = tabulate(table.spec, records, expected)
    return Frame(table.spec, profile.run, data, describe(table, profile, plan, results))


def _chosen(
    spec: TableSpec, plan: Sequence[tuple[Row, Cell | None]], text: str
) -> list[tuple[Row, Cell | None]]:
    """The plan with cells in those rows alone that hold the text."""
    names = {row: " / ".join(row) for row, _ in plan}
    if not any(text in name for name in names.values()):
        there = "; ".join(names.values()) or "none with the data that is here"
        raise ValueError(f"{spec.name}: no row holds {text!r}; there are: {there}")
    return [(row, cell if text in names[row] else None) for row, cell in plan]


def assembled(table: Table, profile: Profile, by_row: Gathered) -> Mapping[Row, Measurement]:
    """What each row measured, of those that have results."""
    gathered = {row: results for row, results in by_row.items() if results}
    if table.assemble is None:
        return summarise(table.spec, gathered)
    measured = table.assemble(profile, gathered)
    return {
        row: replace(found, seeds=len(gathered[row])) if found.seeds is None else found
        for row, found in measured.items()
    }


def summarise(spec: TableSpec, gathered: Gathered) -> dict[Row, Measurement]:
    """The default assembly: each row's cells are its seeds."""
    return {row: _summary(spec, results) for row, results in gathered.items()}


def _summary(spec: TableSpec, results: Sequence[Result]) -> Measurement:
    found: dict[str, Estimate | str] = {}
    for column in spec.columns:
        values = statistics.gather(results, column.name)
        if not values:
            continue
        if column.kind == "text":
            found[column.name] = str(values[0])
        elif column.kind == "rate":
            found[column.name] = statistics.summarise_rate(cast(list[dict[str, int]], values))
        else:
            numbers = [float(cast(float, v)) for v in values]
            found[column.name] = statistics.summarise_number(numbers)
    return Measurement(found, len(results), _note(results))


def _note(results: Sequence[Result]) -> str:
    """What a reader has to know of a row: a shortened training says so by itself."""
    notes = []
    for values in (r.values for r in results):
        if _is_short(values):
            notes.append(f"shortened: {values['epochs_run']} of {values['epochs_paper']} epochs")
        if values.get("note"):
            notes.append(str(values["note"]))
    return "; ".join(dict.fromkeys(notes))


def _is_short(values: Mapping[str, Any]) -> bool:
    return bool(values.get("epochs_run", 0) < values.get("epochs_paper", 0))


def with_gains(
    measured: Mapping[Row, Measurement],
    gathered: Gathered,
    base: Callable[[Row], Row | None],
    columns: Mapping[str, str],
) -> dict[Row, Measurement]:
    """Rows, with how many more points are true of each than of another one: paired by point.

    A row whose other one has not as many seeds, or is the row itself, stays as it is.

    Parameters
    ----------
    measured, gathered : by row: as :func:`summarise` gives and takes them
    base : the row that a row is compared with; None: it is not
    columns : by the column that it fills, the array (points,) whose values above 0 count
    """
    found = dict(measured)
    for row, one in measured.items():
        other = base(row)
        if other in (None, row) or len(gathered.get(other or (), ())) != len(gathered[row]):
            continue
        sides = gathered[row], gathered[other or ()]
        gains = {
            column: statistics.more_points(*([r.arrays[name] > 0 for r in side] for side in sides))
            for column, name in columns.items()
        }
        found[row] = replace(one, values={**one.values, **gains})
    return found


def tabulate(
    spec: TableSpec, measured: Mapping[Row, Measurement], expected: Sequence[Row] = ()
) -> pd.DataFrame:
    """What rows measured, in fixed columns; expected rows that are absent are not run."""
    rows = []
    # rows in the order of the plan or the spec, each once
    for row in dict.fromkeys((*expected, *measured)):
        found = measured.get(row, NOTHING)
        line: dict[str, str | float] = {c.name: key for c, key in zip(spec.keys, row, strict=True)}
        for column in spec.columns:
            if column.kind == "text":
                line[column.name] = str(found.values.get(column.name, ""))
                continue
            one = found.estimate(column.name) if column.name in found.values else ABSENT
            line[column.name] = float(one.value)
            line[f"{column.name}_low"], line[f"{column.name}_high"] = one.low, one.high
        line["status"] = "run" if row in measured else NOT_RUN
        line["seeds"] = found.seeds or 0
        line["interval"] = intervals(
            found.values[c.name] for c in spec.columns if c.name in found.values
        )
        line["note"] = found.note
        rows.append(line)
    return pd.DataFrame(rows, columns=spec.fields())


def describe(
    table: Table,
    profile: Profile,
    plan: Sequence[tuple[Row, Cell | None]],
    results: Sequence[Result],
) -> dict[str, Any]:
    """The provenance of a frame, as recorded beside it; its device is each that computed a cell."""
    computed = [(row, cell) for row, cell in plan if cell is not None]
    # rows may share a cell: it ran once
    seconds = {cell.key: r.seconds for (_, cell), r in zip(computed, results, strict=True)}
    about = provenance.collect(profile.device, places.checkout())
    devices = {r.device or about["device"] for r in results} or {about["device"]}
    return {
        "table": table.spec.name,
        "run": profile.run,
        "profile": profile.name,
        "spec_version": table.spec.version,
        "seeds": list(profile.seeds),
        "data": dict(sorted({pair for _, cell in computed for pair in cell.data})),
        "cells": [
            {
                "row": list(row),
                "function": cell.name,
                "config": cell.identity()["config"],
                "key": cell.key,
            }
            for row, cell in computed
        ],
        "shortened": _shortened(computed, results),
        "wall_seconds": round(math.fsum(seconds.values()), 1),
        **about,
        "device": "; ".join(sorted(devices)),
    }


def _shortened(
    cells: Sequence[tuple[Row, Cell]], results: Sequence[Result]
) -> list[dict[str, Any]]:
    """Rows that were trained for fewer epochs than in the paper, each once."""
    short = {
        row: {name: r.values[name] for name in ("epochs_run", "epochs_paper")}
        for (row, _), r in zip(cells, results, strict=True)
        if _is_short(r.values)
    }
    return [{"row": list(row), **epochs} for row, epochs in short.items()]
