"""What the thesis or a paper says of a row, and what ours is judged by.

Examples
--------
>>> Claim(("0.3",), "vra", 95.0, "a paper, table 1", tolerance=1.5).kind
'measured'
>>> Quoted(("a rival",), {"vra": 40.0}, "a paper, table 1").values["vra"]
40.0
>>> Measured(96.0, 95.0, 97.0, seeds=3).measurable
True
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Row = tuple[str, ...]
"""What names a row: one text for each key of its table."""

Side = Literal["at least", "at most", "equal", "holds"]
ClaimKind = Literal["theorem, checked", "measured", "order", "factor", "in words"]

THEOREM: ClaimKind = "theorem, checked"
MEASURED: ClaimKind = "measured"
ORDER: ClaimKind = "order"
FACTOR: ClaimKind = "factor"
IN_WORDS: ClaimKind = "in words"
SIDES: Mapping[str, tuple[Side, ...]] = {
    THEOREM: ("at least", "at most", "holds"),
    MEASURED: ("at least", "at most", "equal"),
    ORDER: ("at least", "at most"),
    FACTOR: ("equal",),
    IN_WORDS: ("holds",),
}
"""The sides that a claim of each kind may be judged from."""


@dataclass(frozen=True)
class Claim:
    """One thing that the thesis or a paper says, and how ours is judged against it.

    Parameters
    ----------
    row : of the table; () for a claim that holds or does not (side "holds")
    column : a column or a derived measure of the table; with side "holds", the name of one of the
        table's conditions
    value : in the column's units; for kind "order" how far the row is ahead; None where the source
        publishes none ("not published")
    side : "at least" (ours should reach it), "at most", "equal", or "holds"
    tolerance : in the column's units, at most the value itself
    kind : how it is judged (:mod:`thesis_repro.tables.verdict`)
    ahead_of : rows of the table, measured or quoted, that the source says this row is ahead of
    points : test points behind the published value; None where not known
    how_read : one of `HOW_READ`
    says : the claim in one sentence
    note : what a reader has to know, such as an older published value

    Raises
    ------
    ValueError
        Without a source; if the tolerance is negative or wider than the value; if there is no such
        kind, or it does not fit the side; or if the value is none that the kind can be judged by.
    """

    row: Row
    column: str
    value: float | None
    source: str
    side: Side = "at least"
    tolerance: float = 0.0
    kind: ClaimKind = MEASURED
    ahead_of: tuple[Row, ...] = ()
    points: int | None = None
    how_read: str = ""
    says: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        what = f"claim {' / '.join(self.row)!r} {self.column!r}"
        if not self.source.strip():
            raise ValueError(f"{what} names no source")
        if self.kind not in SIDES:
            raise ValueError(f"{what} is of kind {self.kind!r}; there are {'; '.join(SIDES)}")
        if self.side not in SIDES[self.kind]:
            raise ValueError(f"{what} is of kind {self.kind!r}, which has no side {self.side!r}")
        if (self.side == "holds") == bool(self.row):
            raise ValueError(f"{what}: a claim has a row, or is on the side 'holds'")
        if self.side == "holds" and self.value is not None:
            raise ValueError(f"{what} holds or does not: it takes no value, got {self.value}")
        if not 0 <= self.tolerance <= abs(self.value or 0.0):
            raise ValueError(
                f"{what}: a tolerance lies between 0 and the value, got {self.tolerance} for "
                f"{self.value}"
            )
        if self.kind in (THEOREM, FACTOR) and self.tolerance:
            raise ValueError(f"{what} is of kind {self.kind!r}, which takes no tolerance")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{what} has the value {self.value}; it has to be finite")
        if self.kind == FACTOR and self.value is not None and self.value <= 0:
            raise ValueError(f"{what}: a factor is above 0, got {self.value}")
        if self.kind == ORDER and (self.value is None or self.value < 0 or not self.ahead_of):
            raise ValueError(f"{what}: an order names what it is ahead of, and by how much")


@dataclass(frozen=True)
class Quoted:
    """A row copied from a source; never mixed with measured ones."""

    row: Row
    values: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Measured:
    """What a claim is judged by: a value with its 95% interval, NaN where there is none.

    seeds : how many seeds (targets, runs) are behind it
    measurable : false where what is to be removed is no larger than chance makes it
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    seeds: int = 1
    measurable: bool = True
