"""What has to hold: a paper's claims in words, each with the number that decides it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thesis_repro import tables
from thesis_repro.tables.spec import NOT_RUN, Frame

HEADINGS = ["what has to hold", "needed", "measured", "verdict"]


@dataclass(frozen=True)
class Condition:
    """One thing that has to hold, with the number that decides it."""

    says: str
    needed: str
    measured: str
    holds: bool

    @property
    def verdict(self) -> str:
        """In words, whether it holds."""
        return "holds" if self.holds else "does not hold"


@dataclass(frozen=True)
class Every:
    """The trend of a table: there are conditions, and all of them hold.

    check : the conditions that the rows of a table, those that were run, have to meet
    """

    check: Callable[[pd.DataFrame], list[Condition]]

    def __call__(self, rows: pd.DataFrame) -> bool:
        """Whether all conditions hold; rows that ask for none show nothing."""
        found = self.check(rows)
        return bool(found) and all(condition.holds for condition in found)


def listed(found: Sequence[Condition], headings: Sequence[str] = HEADINGS) -> pd.DataFrame:
    """Conditions as the rows of a small table: what, needed, measured, verdict."""
    rows = [(c.says, c.needed, c.measured, c.verdict) for c in found]
    return pd.DataFrame(rows, columns=list(headings))


def show(first: Frame, *others: Frame) -> Any:
    """All conditions of a chapter's tables as one numbered table; whether they hold is computed.

    Raises
    ------
    ValueError
        If the trend of a table is not made of conditions.
    """
    found = [condition for frame in (first, *others) for condition in _of(frame)]
    caption = (
        "What the paper claims in words, as conditions of ours, and whether they hold: run "
        f"{first.run}."
    )
    chapter = first.spec.name.partition("-")[0]
    name = f"{chapter}-conditions-{first.run}"
    return tables.small(listed(found), name, caption, keys=len(HEADINGS))


def _of(frame: Frame) -> list[Condition]:
    trend = frame.spec.trend
    if not isinstance(trend, Every):
        raise ValueError(f"{frame.spec.name} has no conditions: its trend has to be an `Every`")
    return trend.check(frame.data[frame.data["status"] != NOT_RUN])
