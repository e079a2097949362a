"""What a table is, before any number: columns, claims of the thesis, tolerances, cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.estimate import Measurement

Row = tuple[str, ...]
Kind = Literal["key", "rate", "number", "text"]
Side = Literal["at least", "at most", "equal"]

NOT_RUN = "not run"
NOT_PUBLISHED = "not published"


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

    @property
    def heading(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Claim:
    """One value that the thesis or a paper publishes, and how ours is judged against it.

    value : None where the source publishes none ("not published").
    side : "at least" (ours should reach it), "at most", or "equal".
    tolerance : in the column's units.
    """

    row: Row
    column: str
    value: float | None
    source: str
    side: Side = "at least"
    tolerance: float = 0.0


@dataclass(frozen=True)
class Quoted:
    """A row copied from a source; never mixed with measured ones."""

    row: Row
    values: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class TableSpec:
    """A table's contract.

    name : "<chapter stem>-<what>"
    caption : one sentence, without run details (they are added)
    keys, columns : what names a row, what is measured
    claims : published values that judge paper runs
    chapter : document of the chapter, e.g. "robustness/gloro"
    trend : decides from the measured frame whether the order that the thesis claims holds
    trend_says : that order in words
    rows : rows in their order, so that absent ones read "not run"
    """

    name: str
    caption: str
    keys: tuple[Column, ...]
    columns: tuple[Column, ...]
    chapter: str
    claims: tuple[Claim, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    trend: Callable[[pd.DataFrame], bool] | None = None
    trend_says: str = ""
    rows: tuple[Row, ...] = ()
    version: int = 1

    def __post_init__(self) -> None:
        names = {c.name for c in self.columns if c.kind in ("rate", "number")}
        for claim in self.claims:
            if claim.column not in names or len(claim.row) != len(self.keys):
                raise ValueError(f"{self.name}: claim {claim.row} {claim.column!r} fits no column")
            if claim.tolerance < 0:
                raise ValueError(f"{self.name}: claim {claim.row} has a tolerance below 0")
        for quote in self.quoted:
            if not set(quote.values) <= names or len(quote.row) != len(self.keys):
                raise ValueError(f"{self.name}: quoted row {quote.row} fits no column")

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(c for c in (*self.keys, *self.columns) if c.name == name)

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
    """

    spec: TableSpec
    cells: Callable[[Profile], Plan]
    assemble: Assembly | None = None
    timed: bool = False


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
        if found is None or pd.isna(found[column]):
            return None
        return float(found[column])

    def lookup(self, row: Row) -> pd.Series | None:
        """The record of one row, or None."""
        names = [c.name for c in self.spec.keys]
        hits = self.data
        for name, key in zip(names, row, strict=True):
            hits = hits[hits[name] == key]
        return None if hits.empty else hits.iloc[0]
