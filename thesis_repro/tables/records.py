"""Recorded tables: results/<table>/<run>.csv and .json, read only when their hashes agree."""

import csv
import hashlib
import io
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_repro.lab import sealed
from thesis_repro.lab.sealed import Altered
from thesis_repro.lab.store import write_atomic
from thesis_repro.tables.measure import REPOSITORY
from thesis_repro.tables.spec import Frame, TableSpec

RUNS = ("paper-cuda", "paper-cpu", "quick")
"""Names of recorded runs, the fullest first."""

ROOT_VARIABLE = "THESIS_REPRO_RESULTS"
TEXT = ("status", "interval", "note")


class NotRecorded(ValueError):
    """No such run has been recorded."""


def root() -> Path:
    """$THESIS_REPRO_RESULTS, or the folder results/ of the checkout."""
    return Path(os.environ.get(ROOT_VARIABLE, REPOSITORY / "results"))


def to_csv(frame: Frame) -> bytes:
    """Deterministic CSV: full precision, empty where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(frame.data.columns)
    for line in frame.data.itertuples(index=False):
        writer.writerow([_cell(value) for value in line])
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def write(frame: Frame) -> Path:
    """Record a frame under its run's name; returns the CSV's path."""
    path = root() / frame.spec.name / f"{frame.run}.csv"
    content = to_csv(frame)
    write_atomic(path, content)
    digest = hashlib.sha256(content).hexdigest()
    sealed.write(path.with_suffix(".json"), {**frame.provenance, "sha256": digest})
    return path


def runs(spec: TableSpec) -> list[str]:
    """The recorded runs of a table, the fullest first."""
    folder = root() / spec.name
    return [run for run in RUNS if (folder / f"{run}.json").exists()]


def read(spec: TableSpec, run: str | None = None) -> Frame:
    """Read a recorded run, the fullest one by default.

    Raises
    ------
    NotRecorded
        If there is none.
    Altered
        If a file is not what was recorded.
    """
    there = runs(spec)
    if run is None and there:
        run = there[0]
    if run is None or run not in there:
        what = "no run" if run is None else f"no run {run!r}"
        raise NotRecorded(
            f"{spec.name}: {what} is recorded; run: thesis-repro run {spec.name} --profile "
            f"{(run or 'paper').partition('-')[0]}"
        )
    path = root() / spec.name / f"{run}.csv"
    about = sealed.read(path.with_suffix(".json"))
    content = sealed.check_bytes(path, about["sha256"])
    types = {c.name: str for c in (*spec.keys, *spec.columns) if c.kind in ("key", "text")}
    data = pd.read_csv(
        io.BytesIO(content),
        dtype={**types, **dict.fromkeys(TEXT, str)},
        na_values=[""],
        keep_default_na=False,
        float_precision="round_trip",
    )
    texts = [name for name in (*types, *TEXT) if name in data]
    data[texts] = data[texts].fillna("")
    return Frame(spec, run, data, about)


def check(spec: TableSpec) -> list[str]:
    """Recompute every hash of a table's records; one line per run.

    Raises
    ------
    Altered
        Naming the first file that is not what was recorded, or belongs to no run.
    """
    lines = []
    for run in runs(spec):
        frame = read(spec, run)
        if to_csv(frame) != (root() / spec.name / f"{run}.csv").read_bytes():
            raise Altered(f"{spec.name}/{run}.csv does not fit the table's columns any more")
        lines.append(f"{key(frame)}: {run}, {frame.provenance['date']}, hash confirmed")
    folder = root() / spec.name
    known = {f"{run}{suffix}" for run in runs(spec) for suffix in (".csv", ".json")}
    for path in sorted(folder.glob("*")) if folder.exists() else []:
        if path.name not in known:
            raise Altered(f"{spec.name}/{path.name} belongs to no recorded run")
    return lines


def digest(frame: Frame) -> str:
    """SHA-256 of the frame's CSV."""
    return hashlib.sha256(to_csv(frame)).hexdigest()


def key(frame: Frame) -> str:
    """The citation key: the table's name and the first 12 hex digits of its hash."""
    return f"{frame.spec.name}-{digest(frame)[:12]}"
