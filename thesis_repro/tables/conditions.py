"""What has to hold: a paper's claims in words, each with the number that decides it.

Examples
--------
>>> held = Condition("more is verified", "interval above 0", "+3.0 points", True)
>>> held.verdict, listed([held]).shape
('holds', (1, 4))
>>> "conditions-quick" in show(tables.recorded("lipschitz-soundness", "quick")).data
True
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thesis_repro import tables
from thesis_repro.tables.spec import NOT_JUDGED, NOT_RUN, Checked, Frame
from thesis_repro.tables.verdict import DOES_NOT_HOLD, HOLDS, NOT_MEASURABLE

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
        "What the paper claims in words, as conditions of ours, and whether they hold: run "
        f"{first.run}."
    )
    chapter = first.spec.name.partition("-")[0]
    name = f"{chapter}-conditions-{first.run}"
    return tables.small(listed(found), name, caption, keys=len(HEADINGS))


def _of(frame: Frame) -> Sequence[Checked]:
    check = frame.spec.conditions
    if check is None:
        raise ValueError(f"{frame.spec.name} has no conditions")
    return check(frame.data[frame.data["status"] != NOT_RUN])
