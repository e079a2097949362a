"""Run many cells: in this process, in several of this machine, or on a Dask cluster."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from thesis_repro.lab import cluster, threads, timebox, workers
from thesis_repro.lab.cells import Cell, CellError, compute
from thesis_repro.lab.store import Result, Store
from thesis_repro.lab.workers import Left, Outcome

__all__ = ["run"]

BAR_SECONDS = 0.3
"""A run that ends or fails sooner shows no bar."""


def run(
    cells: Sequence[Cell],
    *,
    scheduler: str | None = None,
    jobs: int = 1,
    fresh: bool = False,
    store: Store | None = None,
    progress: bool = True,
) -> list[Result]:
    """Compute cells, in this process, in several, or on a Dask cluster; results in order.

    Finished cells are taken from the store, so an interrupted run goes on where it stopped.

    Parameters
    ----------
    cells : sequence of Cell
    scheduler : "tcp://HOST:PORT" of a running Dask scheduler, optional
    jobs : how many cells at a time on this machine, in processes of their own when more than one;
        a fresh run, and one with cells on a GPU, goes one by one
    fresh : forget stored results of these cells, and of the cells that they use, first
    store : where results are kept; the default store without it
    progress : show a bar

    Raises
    ------
    CellError
        If any cell raised; the others are computed and kept.
    Unfinished
        If the run was stopped (:mod:`lab.timebox`) before all cells were computed.
    OSError
        If the disk is full; finished cells are kept.
    ValueError
        If more than one thread is asked for on a cluster, whose workers give a cell one, or a
        limit of time.
    """
    from tqdm import tqdm

    if scheduler is not None:
        _check_cluster()
    store = store or Store()
    keys = [cell.key for cell in cells]
    unique = dict(zip(keys, cells, strict=True))
    if fresh:  # all of them now, so that a killed run goes on without the option
        for key in unique:
            store.drop(key)
    outcomes = _outcomes(unique, scheduler, jobs, fresh, store)
    quiet = {} if progress else {"disable": True}  # without it tqdm honours TQDM_DISABLE
    with threads.limit(), tqdm(total=len(unique), unit="cell", delay=BAR_SECONDS, **quiet) as bar:
        failures, left = _watched(outcomes, bar, scheduler is not None)
    if left is None:
        left = [Left() for key in unique if not store.path(key).exists()]
    _raise(failures, left, len(unique))
    results = {key: store.get(key) for key in unique}
    if any(result is None for result in results.values()):  # damaged between writing and reading
        return run(cells, scheduler=scheduler, jobs=jobs, store=store, progress=progress)
    return [result for key in keys if (result := results[key]) is not None]


def _check_cluster() -> None:
    if threads.threads() > 1:
        raise ValueError(
            f"a cluster gives a cell one thread: unset {threads.VARIABLE}, or leave out the "
            f"scheduler"
        )
    if timebox.remaining() < math.inf:
        raise ValueError("a cluster's workers know no limit of time: leave out the minutes")


def _outcomes(
    cells: dict[str, Cell], scheduler: str | None, jobs: int, fresh: bool, store: Store
) -> Iterator[Outcome]:
    """Of each cell, as it is done."""
    if scheduler is not None:
        return cluster.compute_all(cells, scheduler, store, fresh)
    if jobs > 1 and not fresh and all(cell.device == "cpu" for cell in cells.values()):
        return workers.compute_all(cells, jobs, store)
    return _in_process(cells, store, fresh)


def _watched(
    outcomes: Iterator[Outcome], bar: Any, waits: bool
) -> tuple[list[CellError], list[Left] | None]:
    """The failures and the cells that were left, as outcomes come in.

    None for those left where the run was stopped while it waited for a cluster.
    """
    failures: list[CellError] = []
    left: list[Left] = []
    try:
        with timebox.interruptible() if waits else nullcontext():
            for outcome in outcomes:
                if isinstance(outcome, Left):
                    left.append(outcome)
                    continue
                if outcome is not None:
                    failures.append(outcome)
                bar.update()
    except timebox.Stop:
        return failures, None
    return failures, left


def _raise(failures: Sequence[CellError], left: Sequence[Left], total: int) -> None:
    """Raise for the first cell that failed, else where cells were left."""
    finished = total - len(failures) - len(left)
    if failures:
        rest = f" ({len(failures) - 1} more failed)" if len(failures) > 1 else ""
        raise CellError(f"{failures[0]}{rest}; {finished} finished cells are kept") from failures[0]
    if left:
        raise timebox.Unfinished(_stopped(left, finished))


def _in_process(cells: dict[str, Cell], store: Store, fresh: bool) -> Iterator[Outcome]:
    renewed: set[str] | None = set() if fresh else None
    for key, cell in cells.items():
        if not store.path(key).exists() and (left := workers.no_time(cell, store)):
            yield left
            continue
        try:
            compute(cell, store, renewed)
        except CellError as error:
            yield error
        except timebox.Stop:
            yield Left()
        else:
            yield None


def _stopped(left: Sequence[Left], finished: int) -> str:
    """What a run says that was stopped: why, and what is needed for more."""
    kept = f"{finished} of {finished + len(left)} cells are finished and kept"
    if timebox.asked():
        return f"stopped on request: {kept}; the same command goes on from here"
    needs = [one.needs for one in left if one.needs is not None]
    if len(needs) < len(left):
        return f"the time is over: {kept}; the same command goes on from here"
    return (
        f"no time for another cell: {kept}; the shortest that is left takes about "
        f"{min(needs) / 60:.1f} minutes, give the same command more than that"
    )
