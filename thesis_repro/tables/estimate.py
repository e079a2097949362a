"""What an assembly gives for a row: estimates with their intervals, texts, and what to know.

Examples
--------
>>> mean = Estimate(93.0, 92.0, 94.0, "Student t over 3 seeds")
>>> Measurement({"vra": mean, "sound": "yes"}).estimate("vra").low
92.0
>>> intervals([mean, "yes", mean])
'Student t over 3 seeds'
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A measured value, with its 95% interval where there is one.

    low, high : ends of the interval; NaN where there is none
    how : which interval, e.g. "Student t over 20 runs"; empty where there is none
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    how: str = ""


def difference(first: Estimate, second: Estimate) -> Estimate:
    """The first less the second, taken as independent: distances from the ends add in squares.

    The ends are kept apart, so the interval leans as those of the two do: it reaches lowest where
    the first is low and the second high. Pairs that share points or targets have a narrower one
    (`statistics.paired`). Where neither has an interval, this has none.

    Examples
    --------
    >>> difference(Estimate(95.0, 94.0, 96.0), Estimate(90.0))
    Estimate(value=5.0, low=4.0, high=6.0, how='')
    """
    value = first.value - second.value
    down = _together(first.value - first.low, second.high - second.value)
    up = _together(first.high - first.value, second.value - second.low)
    return Estimate(value, value - down, value + up)


def _together(*distances: float) -> float:
    """The root of the sum of squares of those that are known; nan where none is."""
    known = [one for one in distances if not math.isnan(one)]
    return math.hypot(*known) if known else math.nan


@dataclass(frozen=True)
class Measurement:
    """One row of a table.

    values : by the name of the column; a text where the column is one
    seeds : how many of them stand behind the row; None: as many as it has cells
    note : what a reader has to know of it
    """

    values: Mapping[str, Estimate | str]
    seeds: int | None = None
    note: str = ""

    def estimate(self, column: str) -> Estimate:
        """The estimate of a column that was measured.

        Raises
        ------
        ValueError
            If it is a text.
        """
        found = self.values[column]
        if isinstance(found, str):
            raise ValueError(f"{column} is a text, {found!r}, and no estimate")
        return found


def intervals(values: Iterable[Estimate | str]) -> str:
    """Which intervals these are, each once."""
    said = (value.how for value in values if isinstance(value, Estimate))
    return "; ".join(dict.fromkeys(filter(None, said)))
