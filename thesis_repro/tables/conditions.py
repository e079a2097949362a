"""What has to hold: a paper's claims in words, each with the number that decides it.

Examples
--------
>>> held = Condition("more is verified", "interval above 0", "+3.0 points", True)
>>> held.verdict, listed([held]).shape
('holds', (1, 4))
>>> "conditions-quick" in show(tables.recorded("lipschitz-soundness", "quick")).data
True
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thesis_repro import tables
from thesis_repro.tables.estimate import Estimate, difference
from thesis_repro.tables.spec import NOT_JUDGED, NOT_RUN, Checked, Frame
from thesis_repro.tables.verdict import DOES_NOT_HOLD, HOLDS, NOT_MEASURABLE

ABOVE = 1e-9
"""What an interval that lies above zero reaches."""
HEADINGS = ["what has to hold", "needed", "measured", "verdict"]


@dataclass(frozen=True)
class Condition:
    """One thing that has to hold, with the number that decides it; None: it is not decided.

    measurable : false where what is to be removed is no larger than chance makes it; then it is not
        decided however long one measures
    """

    says: str
    needed: str
    measured: str
    holds: bool | None
    measurable: bool = True

    def __post_init__(self) -> None:
        if self.holds is not None and not self.measurable:
            raise ValueError(f"{self.says!r} is not measurable, so it cannot hold or fail")

    @property
    def verdict(self) -> str:
        """In words, whether it holds."""
        if self.holds is None:
            return NOT_JUDGED if self.measurable else NOT_MEASURABLE
        return HOLDS if self.holds else DOES_NOT_HOLD


def of(row: pd.Series, column: str) -> Estimate:
    """A value of a frame's row; both ends are the value itself where it has no interval.

    Examples
    --------
    >>> of(pd.Series({"vra": 95.0, "vra_low": 94.0, "vra_high": 96.0}), "vra").low
    94.0
    >>> of(pd.Series({"vra": 95.0}), "vra").high
    95.0
    """
    value = float(row[column])
    ends = [float(row.get(f"{column}_{end}", value)) for end in ("low", "high")]
    low, high = (value if math.isnan(end) else end for end in ends)
    return Estimate(value, low, high)


def between(first: pd.Series, second: pd.Series, column: str) -> Estimate:
    """The first row less the second, with an interval that takes them as independent.

    A condition that asks for a difference asks it of an end of this, not of the value alone.

    Examples
    --------
    >>> row = {"vra": 95.0, "vra_low": 94.0, "vra_high": 96.0}
    >>> other = {"vra": 90.0, "vra_low": 89.0, "vra_high": 91.0}
    >>> between(pd.Series(row), pd.Series(other), "vra").low > 3
    True
    """
    return difference(of(first, column), of(second, column))


def reaches(found: Estimate, needed: float, at_most: bool = False) -> bool | None:
    """Whether a whole interval is at `needed` or above (below); None where it lies across.

    Examples
    --------
    >>> [reaches(Estimate(2.0, *ends), 1.0) for ends in ((1.5, 2.5), (0.5, 3.5))]
    [True, None]
    >>> reaches(Estimate(2.0, 1.5, 2.5), 1.0, at_most=True)
    False
    """
    low, high = (-found.high, -found.low) if at_most else (found.low, found.high)
    needed = -needed if at_most else needed
    return True if low >= needed else False if high < needed else None


def every(parts: Iterable[bool | None]) -> bool | None:
    """Whether all parts hold; one that fails decides, and one that is open leaves it open.

    Examples
    --------
    >>> every([True, None]), every([None, False]), every([True])
    (None, False, True)
    """
    found = set(parts)
    return False if False in found else None if None in found else True


def beyond(found: Estimate, other: Estimate) -> bool | None:
    """Whether a whole interval lies above another one; None where they meet.

    Examples
    --------
    >>> lower, upper = Estimate(1.0, 0.5, 1.5), Estimate(2.0, 1.6, 2.4)
    >>> beyond(upper, lower), beyond(lower, upper), beyond(lower, Estimate(1.4, 1.0, 1.8))
    (True, False, None)
    """
    return True if found.low > other.high else False if found.high < other.low else None


def said(found: Estimate, decimals: int = 1) -> str:
    """A value in words, with its interval where it has one.

    Examples
    --------
    >>> said(Estimate(-2.0, -3.0, 1.0)), said(Estimate(2.0, 2.0, 2.0), 0)
    ('−2.0 [−3.0, 1.0]', '2')
    """
    value, low, high = (f"{x:,.{decimals}f}" for x in (found.value, found.low, found.high))
    ends = f" [{low}, {high}]"
    text = value + (ends if found.low < found.high else "")
    return text.replace("-", "−")


def listed(found: Sequence[Checked], headings: Sequence[str] = HEADINGS) -> pd.DataFrame:
    """Conditions as the rows of a small table: what, needed, measured, verdict."""
    rows = [(c.says, c.needed, c.measured, c.verdict) for c in found]
    return pd.DataFrame(rows, columns=list(headings))


def show(first: Frame, *others: Frame) -> Any:
    """All conditions of a chapter's tables as one numbered table; whether they hold is computed.

    Raises
    ------
    ValueError
        If a table has no conditions.
    """
    found = [condition for frame in (first, *others) for condition in _of(frame)]
    caption = (
        f"What is claimed in words, as conditions of ours, and whether they hold: run {first.run}."
    )
    chapter = first.spec.name.partition("-")[0]
    name = f"{chapter}-conditions-{first.run}"
    return tables.small(listed(found), name, caption, keys=len(HEADINGS))


def _of(frame: Frame) -> Sequence[Checked]:
    check = frame.spec.conditions
    if check is None:
        raise ValueError(f"{frame.spec.name} has no conditions")
    return check(frame.data[frame.data["status"] != NOT_RUN])
