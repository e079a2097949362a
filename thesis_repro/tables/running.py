"""Record several tables, inside a limit of time if there is one."""

from collections.abc import Iterable, Iterator
from typing import Any

from thesis_repro import tables
from thesis_repro.lab import timebox
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.spec import Frame


def record_all(
    names: Iterable[str], profile: Profile, minutes: float | None = None, **options: Any
) -> Iterator[Frame]:
    """Record tables one after another and yield each; options as in `tables.record`.

    A table for which the time does not suffice leaves it to those that follow.

    Parameters
    ----------
    minutes : the run ends before so many are over, and on SIGTERM

    Raises
    ------
    Unfinished
        At the end, if any table was not finished: one sentence for each.
    """
    stopped = []
    with timebox.limited(minutes):
        for name in names:
            try:
                frame = tables.record(name, profile, **options)
            except timebox.Unfinished as stop:
                stopped.append(f"{name}: {stop}")
                if timebox.asked():
                    break
            else:
                yield frame
    if stopped:
        raise timebox.Unfinished("; ".join(stopped))
