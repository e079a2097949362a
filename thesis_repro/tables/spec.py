"""What a table is: columns, rows, the cells that fill it; and, filled, a frame.

Examples
--------
>>> radius = Column("radius", "radius", kind="key")
>>> vra = Column("vra", "VRA", "%", kind="rate")
>>> vra.heading
'VRA (%)'
>>> spec = TableSpec("gloro-example", "An example.", (radius,), (vra,), "robustness/gloro")
>>> spec.fields()
['radius', 'vra', 'vra_low', 'vra_high', 'status', 'seeds', 'interval', 'note']
>>> data = pd.DataFrame([["0.3", 90.0, 88.0, 92.0, "run", 1, "", ""]], columns=spec.fields())
>>> Frame(spec, "quick", data).value(("0.3",), "vra")
90.0
>>> Table(spec, cells=lambda profile: []).timed
False
>>> Derived(vra, lambda frame, row: None).column.name
'vra'
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import pandas as pd

from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.claims import Claim, Measured, Quoted, Row
from thesis_repro.tables.estimate import Measurement

__all__ = [
    "NOT_JUDGED",
    "NOT_PUBLISHED",
    "NOT_RUN",
    "Assembly",
    "Checked",
    "Column",
    "Derived",
    "Frame",
    "Gathered",
    "Plan",
    "Row",
    "Table",
    "TableSpec",
]

OVER_POINTS = re.compile(r"Clopper-Pearson over ([\d,]+) points")
Kind = Literal["key", "rate", "number", "text"]

NOT_RUN = "not run"
NOT_PUBLISHED = "not published"
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Column:
    """One column. A rate is a share of points in percent; a number is any float."""

    name: str
    title: str
    unit: str = ""
    format: str = "{:.1f}"
    kind: Kind = "number"
    drift: float | None = None
    """How far a quick run may lie from the committed quick run; None: not compared."""
    of_training: bool = True
    """Whether it depends on how long the nets were trained; times and memory do not."""
    least: int = 100
    """Of a rate: points below which none is shown, since it would say nothing."""
    counted: str = ""
    """Of a rate: the column with its number of points; else the name of its interval has it."""
    later: bool = False
    """Whether it was added after runs were recorded, which then lack it."""
    leads: str = ""
    over: str = ""
    """Where it is a paired difference: the column that is compared, and the last key of the row
    that it is compared with."""

    def __post_init__(self) -> None:
        if self.later and self.kind not in ("rate", "number"):
            raise ValueError(f"column {self.name!r}: only a number is added later")

    def too_few(self, line: Mapping[str, Any]) -> bool:
        """Whether a rate stands on too few points to be shown, in the line of a frame's data."""
        if self.kind != "rate":
            return False
        if self.counted:
            return bool(line[self.counted] < self.least)
        said = OVER_POINTS.search(str(line["interval"]))
        return said is not None and int(said[1].replace(",", "")) < self.least

    @property
    def heading(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Derived:
    """A measure that is computed from the recorded rows of a table, and is no column of it."""

    column: Column
    measure: Callable[["Frame", Row], Measured | None]


@dataclass(frozen=True)
class Family:
    """Tests of several rows whose p-values are adjusted together, by Holm's method.

    p, adjusted : the columns of the p-values and of the adjusted ones
    within : a key, each value of which has a family of its own; "" for one family of all rows
    """

    p: str = "p"
    adjusted: str = "holm"
    within: str = ""


class Checked(Protocol):
    """One thing that has to hold, with the number that decides it."""

    @property
    def says(self) -> str:
        """What has to hold."""

    @property
    def needed(self) -> str:
        """How much is needed."""

    @property
    def measured(self) -> str:
        """What was measured."""

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None where what was recorded cannot decide it."""

    @property
    def verdict(self) -> str:
        """That in words."""


@dataclass(frozen=True)
class TableSpec:
    """A table's contract.

    name : "<chapter stem>-<what>"
    caption : one sentence, without run details (they are added)
    keys, columns : what names a row, what is measured
    claims : published values that judge paper runs
    chapter : document of the chapter, e.g. "robustness/gloro"
    derived : measures of the recorded rows that claims are about
    conditions : what has to hold, computed from the rows that ran; claims in words name them
    rows : rows in their order, so that absent ones read "not run"
    family : of rows that are tested together, whichever run computed each of them
    """

    name: str
    caption: str
    keys: tuple[Column, ...]
    columns: tuple[Column, ...]
    chapter: str
    claims: tuple[Claim, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    derived: tuple[Derived, ...] = ()
    conditions: Callable[[pd.DataFrame], Sequence[Checked]] | None = None
    rows: tuple[Row, ...] = ()
    family: Family | None = None
    version: int = 1

    def __post_init__(self) -> None:
        names = {c.name for c in self.columns if c.kind in ("rate", "number")}
        known = names | {d.column.name for d in self.derived}
        for claim in self.claims:
            if claim.side != "holds":
                self._fits([claim.column], known, (claim.row, *claim.ahead_of))
            elif self.conditions is None:
                raise ValueError(f"{self.name}: claim {claim.column!r} fits no condition")
        for quote in self.quoted:
            self._fits(quote.values, names, (quote.row,))

    def _fits(self, columns: Iterable[str], known: set[str], rows: Sequence[Row]) -> None:
        """Refuse a column or a row, of a claim or quoted, that the table cannot have."""
        for column in columns:
            if column not in known:
                raise ValueError(
                    f"{self.name}: {' // '.join(rows[0])!r} {column!r} fits no column; there are "
                    f"{', '.join(sorted(known))}"
                )
        for row in rows:
            if len(row) != len(self.keys):
                raise ValueError(
                    f"{self.name}: the row {' // '.join(row)!r} has {len(row)} keys, "
                    f"{len(self.keys)} are needed; in published.csv ' // ' stands between them"
                )

    def column(self, name: str) -> Column:
        """The column, or the derived measure, of this name."""
        derived = (d.column for d in self.derived)
        return next(c for c in (*self.keys, *self.columns, *derived) if c.name == name)

    def as_recorded(self, fields: Sequence[str]) -> "TableSpec":
        """The contract of a run with these fields: without later columns that it lacks."""
        lacking = {c.name for c in self.columns if c.later and c.name not in fields}
        if not lacking:
            return self
        quoted = tuple(
            replace(q, values={k: v for k, v in q.values.items() if k not in lacking})
            for q in self.quoted
        )
        return replace(
            self,
            columns=tuple(c for c in self.columns if c.name not in lacking),
            claims=tuple(c for c in self.claims if c.column not in lacking),
            quoted=tuple(q for q in quoted if q.values),
        )

    def fields(self) -> list[str]:
        """The columns of a frame's data, and of its CSV, in order."""
        names = [c.name for c in self.keys]
        for column in self.columns:
            names.append(column.name)
            if column.kind != "text":
                names += [f"{column.name}_low", f"{column.name}_high"]
        return [*names, "status", "seeds", "interval", "note"]


Plan = Sequence[tuple[Row, Cell | None]]
"""Rows with the cells that make them, one per seed; None where the data is not here."""

Gathered = Mapping[Row, Sequence[Result]]
"""Results by row; there is at least one of each."""

Assembly = Callable[[Profile, Gathered], Mapping[Row, Measurement]]


@dataclass(frozen=True)
class Table:
    """A spec with the cells that fill it.

    cells : the plan of a profile
    assemble : from results by row to what is measured; by default a row's cells are its seeds
    timed : the cells take the time of what they do, so they run one after another
    whole : its rows are tested against each other, so no part of a run is recorded
    """

    spec: TableSpec
    cells: Callable[[Profile], Plan]
    assemble: Assembly | None = None
    timed: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Frame:
    """A computed table: measurements with intervals, and the run that made them.

    data : one row per row of the table, with the columns of `TableSpec.fields`: the keys; for
        each measure NAME its mean over seeds and the ends NAME_low and NAME_high of its 95%
        interval; status (run, not run), seeds (how many), interval (which), note.

    provenance : as in results/<table>/<run>.json
    """

    spec: TableSpec
    run: str
    data: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def value(self, row: Row, column: str) -> float | None:
        """One measured value, or None where it was not run."""
        found = self.lookup(row)
        if found is None or column not in found or pd.isna(found[column]):
            return None
        return float(found[column])

    def lookup(self, row: Row) -> pd.Series | None:
        """The record of one row, or None."""
        names = [c.name for c in self.spec.keys]
        hits = self.data
        for name, key in zip(names, row, strict=True):
            hits = hits[hits[name] == key]
        return None if hits.empty else hits.iloc[0]
