"""What the thesis and the papers publish: ``results/published.csv``, one line a value or claim.

The claims and the quoted rows of every table come from this file, so one place says what is
published, from where, and how it was read. It enters no key of a cell.

Examples
--------
>>> path().name, len(lines()) > 100
('published.csv', True)
>>> {claim.column for claim in claims("lipschitz-soundness")} != set()
True
>>> [line.table for line in lines() if line.kind == QUOTED and not quoted(line.table)]
[]
>>> all(line.note for line in not_measured())
True
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from thesis_repro.lab import places
from thesis_repro.tables.claims import Claim, ClaimKind, Quoted, Side
from thesis_repro.tables.spec import NOT_RUN, Row

NAME = "published.csv"
COLUMNS = (
    "table",
    "row",
    "column",
    "value",
    "side",
    "kind",
    "tolerance",
    "ahead_of",
    "points",
    "quantity",
    "source",
    "how_read",
    "status",
    "says",
    "note",
)
QUOTED = "quoted"
"""Kind of a line that is shown beside ours and judges nothing."""
BETWEEN, ALSO = " // ", " ;; "
"""Between the keys of a row; between the rows that a row is ahead of."""
HOW_READ = (
    "slides",
    "abstract",
    "code",
    "board",
    "review",
    "computed from published radii",
    "computed from published logs",
    "derived",
    "from notes",
    "this book",
)
"""Slides of the thesis; a paper's abstract; the authors' repository; a list that is kept by others;
an open review of the paper; three ways to compute a value from published ones; notes that were not
checked against the paper again; a statement of ours."""


@dataclass(frozen=True)
class Line:
    """One line of the file, as text; see `COLUMNS`.

    Parameters
    ----------
    table : the table that measures it; where nothing does yet, the chapter that would, and
        `column` is the unit of the value
    quantity : a name for what the value is of, where several lines hold the same one
    status : "not run" where nothing measures it yet; `note` says why
    """

    table: str
    row: Row
    column: str
    value: float | None
    side: str
    kind: str
    tolerance: float
    ahead_of: tuple[Row, ...]
    points: int | None
    quantity: str
    source: str
    how_read: str
    status: str
    says: str
    note: str

    def claim(self) -> Claim:
        """The claim that this line makes."""
        return Claim(
            row=self.row,
            column=self.column,
            value=self.value,
            source=self.source,
            side=cast(Side, self.side),
            tolerance=self.tolerance,
            kind=cast(ClaimKind, self.kind),
            ahead_of=self.ahead_of,
            points=self.points,
            how_read=self.how_read,
            says=self.says,
            note=self.note,
        )


def path() -> Path:
    """The file: of the checkout, else where recorded results are looked for."""
    checkout = places.checkout()
    return places.recorded(NAME) if checkout is None else checkout / "results" / NAME


def lines() -> tuple[Line, ...]:
    """All lines in their order; none where the file is not here (a package brings it along).

    Raises
    ------
    ValueError
        Naming the line that cannot be read.
    """
    file = path()
    return _read(file.read_text("utf-8")) if file.is_file() else ()


@cache
def _read(text: str) -> tuple[Line, ...]:
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{NAME} needs the columns {', '.join(COLUMNS)}, got {reader.fieldnames}")
    found = []
    for record in reader:
        try:
            found.append(_line(record))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{NAME}, line {reader.line_num}: {error}") from None
    return tuple(found)


def _line(record: dict[str, str]) -> Line:
    if None in record or None in record.values():
        raise ValueError(f"a line has {len(COLUMNS)} fields")
    if not record["source"].strip() or record["how_read"] not in HOW_READ:
        raise ValueError(
            f"a line names its source and how it was read, one of {', '.join(HOW_READ)}; got "
            f"{record['source']!r}, {record['how_read']!r}"
        )
    if record["status"] not in ("", NOT_RUN):
        raise ValueError(f"a status is empty or {NOT_RUN!r}, got {record['status']!r}")
    if record["status"] and not record["note"]:
        raise ValueError("what is not run says why in its note")
    if record["kind"] == QUOTED and not record["value"]:
        raise ValueError("a quoted line has a value")
    line = Line(
        table=record["table"],
        row=_row(record["row"]),
        column=record["column"],
        value=float(record["value"]) if record["value"] else None,
        side=record["side"],
        kind=record["kind"],
        tolerance=float(record["tolerance"] or 0),
        ahead_of=tuple(_row(row) for row in record["ahead_of"].split(ALSO) if row),
        points=int(record["points"]) if record["points"] else None,
        quantity=record["quantity"],
        source=record["source"],
        how_read=record["how_read"],
        status=record["status"],
        says=record["says"],
        note=record["note"],
    )
    if line.kind != QUOTED and not line.status:
        line.claim()  # refuses what cannot be judged, here where the line is known
    return line


def _row(text: str) -> Row:
    return tuple(text.split(BETWEEN)) if text else ()


def claims(table: str) -> tuple[Claim, ...]:
    """What is claimed about a table."""
    mine = (line for line in lines() if line.table == table)
    return tuple(line.claim() for line in mine if line.kind != QUOTED and not line.status)


def quoted(table: str) -> tuple[Quoted, ...]:
    """The quoted rows of a table, in their order; a row is quoted from one source."""
    rows: dict[tuple[Row, str], dict[str, float]] = {}
    for line in lines():
        if line.table == table and line.kind == QUOTED and line.value is not None:
            rows.setdefault((line.row, line.source), {})[line.column] = line.value
    return tuple(Quoted(row, values, source) for (row, source), values in rows.items())


def not_measured() -> Sequence[Line]:
    """The claims that nothing measures yet; `table` is the chapter that would."""
    return [line for line in lines() if line.status == NOT_RUN]
