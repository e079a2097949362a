"""Recorded tables: results/<table>/<run>.csv and .json, read only when their hashes agree.

Examples
--------
>>> from thesis_repro.tables.find import get
>>> spec = get("lipschitz-soundness").spec
>>> frame = read(spec, "quick")
>>> to_csv(frame) == (root() / spec.name / "quick.csv").read_bytes()
True
>>> key(frame) == f"{spec.name}-{digest(frame)[:12]}"
True
>>> "quick" in runs(spec), paper(spec).run in runs(spec), check(spec)[-1][-14:]
(True, True, 'hash confirmed')
"""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_repro.lab import cards, places, sealed
from thesis_repro.lab.sealed import Altered
from thesis_repro.lab.store import leftovers
from thesis_repro.tables.spec import Frame, TableSpec

RUNS = ("paper-cuda", "paper-cpu", "quick")
"""Names of recorded runs, the fullest first."""

PAIRS = {"models": ".safetensors", "figures": ".png"}
"""Folders of files with a sealed card NAME.json that holds the file's sha256."""

TEXT = ("status", "interval", "note")

LISTS = (
    "published.csv",
    "headlines.csv",
    "statement.csv",
    "verdicts-before.csv",
    "superseded.csv",
)
"""Files beside the recorded folders that are no records: people write them, tests read them."""


class NotRecorded(ValueError):
    """No such run has been recorded."""


def root() -> Path:
    """The folder of everything recorded (:func:`lab.places.results_root`)."""
    return places.results_root()


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
        return "" if math.isnan(value) else repr(float(value))
    return str(value)


def write(frame: Frame) -> Path:
    """Record a frame under its run's name; returns the CSV's path."""
    path = root() / frame.spec.name / f"{frame.run}.csv"
    sealed.write_pair(path, to_csv(frame), frame.provenance)
    return path


def replacing(spec: TableSpec, run: str) -> AbstractContextManager[None]:
    """Hold a run against others that replace it, from reading its record to writing the new one.

    Examples
    --------
    >>> from thesis_repro.tables.find import get
    >>> with replacing(get("lipschitz-soundness").spec, "quick"):
    ...     pass  # what another process records meanwhile waits
    """
    return sealed.alone(root() / spec.name / run)


def runs(spec: TableSpec) -> list[str]:
    """The recorded runs of a table, the fullest first."""
    return [run for run in RUNS if _is_recorded(_file(spec, run).with_suffix(".json"))]


def _file(spec: TableSpec, run: str) -> Path:
    """Where the CSV of a run is read: one that was recorded here goes before one brought along."""
    return places.recorded(Path(spec.name) / f"{run}.csv")


def _is_recorded(card: Path) -> bool:
    """Whether a run has its card, be it under the name that a killed writer left it with."""
    return card.exists() or (card.with_suffix(".csv").exists() and bool(leftovers(card)))


def read(spec: TableSpec, run: str | None = None) -> Frame:
    """Read a recorded run, the fullest one by default.

    Raises
    ------
    NotRecorded
        If there is none.
    Altered
        If a file is not what was recorded, or is the record of another run or table.
    """
    there = runs(spec)
    if run is None and there:
        run = there[0]
    if run is None or run not in there:
        what = "no run" if run is None else f"no run {run!r}"
        beside = f" ({', '.join(there)})" if there else ""
        raise NotRecorded(f"{spec.name}: {what} is recorded{beside}; {_advice(spec, run)}")
    path = _file(spec, run)
    about, content = sealed.read_pair(path)
    if (said := f"{about.get('table')}/{about.get('run')}") != f"{spec.name}/{run}":
        raise Altered(f"{spec.name}/{run}.json was altered: it is the record of {said}")
    header = content.partition(b"\n")[0].decode().split(",")
    spec = spec.as_recorded(header)
    if header != spec.fields() or about.get("spec_version") != spec.version:
        raise NotRecorded(
            f"{spec.name}: {run} was recorded when the table had other columns or another "
            f"version; {_advice(spec, run)}"
        )
    texts = {c.name for c in (*spec.keys, *spec.columns) if c.kind in ("key", "text")}
    data = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    for name in data:
        if name not in texts.union(TEXT):  # Python's float is exact, pandas' need not be
            data[name] = [float(value or "nan") for value in data[name]]
    return Frame(spec, run, data.astype({"seeds": int}), about)


def paper(spec: TableSpec) -> Frame | None:
    """The fullest recorded paper run, or None."""
    there = [run for run in runs(spec) if run != "quick"]
    return read(spec, there[0]) if there else None


def _advice(spec: TableSpec, run: str | None) -> str:
    profile, _, device = (run or "quick").partition("-")
    device = f" --device {device}" if device else ""
    return f"run: thesis-repro run {spec.name} --profile {profile}{device}"


def check(spec: TableSpec) -> list[str]:
    """Recompute every hash of a table's records; one line per run.

    Raises
    ------
    NotRecorded
        If there is no run.
    Altered
        Naming the first file that is not what was recorded, or belongs to no run.
    """
    there = runs(spec)
    known = {f"{run}{suffix}" for run in there for suffix in (".csv", ".json")}
    _no_others(root() / spec.name, known)
    if not there:
        read(spec)
    lines = []
    for run in there:
        frame = read(spec, run)
        if to_csv(frame) != _file(spec, run).read_bytes():
            raise Altered(f"{spec.name}/{run}.csv was altered: it is not written as we write")
        lines.append(f"{key(frame)}: {run}, {frame.provenance['date']}, hash confirmed")
    return lines


def check_all(specs: Sequence[TableSpec]) -> list[str]:
    """Recompute every hash under results/: tables, models, figures; one line each.

    Raises
    ------
    Altered
        Naming the first file that is not what was recorded, or that no record covers, or a model
        under the name of another.
    """
    folders = {spec.name for spec in specs if (root() / spec.name).is_dir()}
    _no_others(root(), folders | set(PAIRS) | set(LISTS))
    lines = []
    for spec in specs:
        if spec.name in folders:
            lines += check(spec)
    for kind, suffix in PAIRS.items():
        found = sorted((root() / kind).glob("*.json"))
        _no_others(root() / kind, {p for c in found for p in (c.name, c.stem + suffix)})
        for card in found:
            about = sealed.read(card)
            if kind == "models":
                cards.check_name(card.stem, about)
            sealed.check_bytes(card.with_suffix(suffix), about["sha256"])
            lines.append(f"{kind}/{card.stem}: hash confirmed")
    return lines


def _no_others(folder: Path, known: set[str]) -> None:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        part = path.name.startswith(".") and path.name.endswith(".part")  # a writer was killed
        if path.name not in known and not part:
            raise Altered(f"{folder.name}/{path.name} belongs to no record")


def digest(frame: Frame) -> str:
    """SHA-256 of the frame's CSV."""
    return hashlib.sha256(to_csv(frame)).hexdigest()


def key(frame: Frame) -> str:
    """The citation key: the table's name and the first 12 hex digits of its hash."""
    return f"{frame.spec.name}-{digest(frame)[:12]}"
