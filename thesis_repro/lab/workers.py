"""Compute cells in several processes of this machine; results go to the store they share."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from thesis_repro.lab import estimates, threads, timebox
from thesis_repro.lab.cells import Cell, CellError, compute
from thesis_repro.lab.store import Store

JOBS_VARIABLE = "THESIS_REPRO_JOBS"
MOST = 4
"""A worker holds torch and a data set: more of them than this only on request."""


@dataclass(frozen=True)
class Left:
    """What is said of a cell that was not computed, or not to its end, since the run stopped.

    needs : seconds that it is reckoned to take, where that was the reason
    """

    needs: float | None = None


Outcome = CellError | Left | None
"""Of one cell: the error, that it was left, or None for a result in the store."""


def no_time(cell: Cell, store: Store) -> Left | None:
    """Whether a cell is not to be started: the run stops, or what is left of it is too short."""
    if timebox.wanted():
        return Left()
    if timebox.remaining() < math.inf:
        needs = estimates.estimate(store, cell.work)
        if needs is not None and needs > timebox.remaining():
            return Left(needs)
    return None


def jobs() -> int:
    """How many cells to compute at a time: $THESIS_REPRO_JOBS, or the cores, at most four.

    Raises
    ------
    ValueError
        If the variable is not a whole number of at least one.
    """
    return threads.at_least_one(JOBS_VARIABLE, min(MOST, _cores()))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compute_all(cells: dict[str, Cell], jobs: int, store: Store) -> Iterator[Outcome]:
    """Compute the cells that the store lacks, `jobs` at a time; yields once per finished cell.

    A cell that two others use is computed by the first that asks, and the other waits for it; so
    cells that seem to rest on the same ones come last (:func:`shared_last`).

    Raises
    ------
    CellError
        If a process was killed; finished cells are kept.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    missing = shared_last({key: cell for key, cell in cells.items() if store.get(key) is None})
    yield from [None] * (len(cells) - len(missing))
    limit = timebox.current()
    if len(missing) < 2:  # not worth a process
        for key, cell in missing.items():
            yield _failure(_work(cell, key, store.root, limit))
        return
    pool = Parallel(min(jobs, len(missing)), return_as="generator_unordered", batch_size=1)
    try:
        for outcome in pool(delayed(_work)(c, k, store.root, limit) for k, c in missing.items()):
            yield _failure(outcome)
    except BrokenProcessPool as error:
        raise CellError(
            f"a process that computed cells was killed, by lack of memory perhaps; finished cells "
            f"are kept, fewer jobs than {jobs} need less ({type(error).__name__})"
        ) from None


def shared_last(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The same cells, those last whose configuration shares a part with one that goes before.

    A part is a dataclass inside the configuration: how the net of a cell was trained, say. Two
    cells with the same net would otherwise start together, and one would wait for the other.
    """
    seen: set[str] = set()
    later: dict[str, Cell] = {}
    first: dict[str, Cell] = {}
    for key, cell in cells.items():
        values = (getattr(cell.config, field.name) for field in fields(cell.config))
        parts = {repr(value) for value in values if is_dataclass(value)}
        (later if parts & seen else first)[key] = cell
        if key in first:
            seen |= parts
    return first | later


def _failure(outcome: tuple[str, str] | Left | None) -> Outcome:
    return CellError(*outcome) if isinstance(outcome, tuple) else outcome


def _work(
    cell: Cell, key: str, root: Path, limit: timebox.Limit | None
) -> tuple[str, str] | Left | None:
    """In the worker: compute one cell from its own code, having checked that this is the same."""
    if cell.key != key:
        return f"{cell}: the code was edited while it ran; run again", ""
    store = Store(root)
    try:
        with timebox.inherited(limit):
            if left := no_time(cell, store):
                return left
            compute(cell, store)
    except CellError as error:
        return str(error), error.details
    except timebox.Stop:
        return Left()
    return None
