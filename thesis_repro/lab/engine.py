"""Run cells: pure functions of frozen configurations, each computed once and kept.

A cell's key covers its function's code, its configuration, its data, the kind of device, the
default dtype and the version of torch. While a cell computes, torch uses one thread, so the
number of workers changes no bytes.
"""

import contextvars
import dataclasses
import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_repro.lab.code import code_version
from thesis_repro.lab.store import Result, Store

__all__ = ["Cell", "CellError", "Result", "compute", "current_workdir", "run"]

_workdir: contextvars.ContextVar[Path] = contextvars.ContextVar("workdir")
_reused: contextvars.ContextVar[list[float]] = contextvars.ContextVar("reused")


class CellError(RuntimeError):
    """A cell raised; the message names function and configuration, `details` is the traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Cell:
    """One computation.

    function : a function of a module, config -> Result
    config : a frozen dataclass of JSON-able fields; a field `device` names the device
    data : (name, SHA-256) of each data set it reads
    """

    function: Callable[[Any], Result]
    config: Any
    data: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The function with its module."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def identity(self) -> dict[str, Any]:
        """All that decides the result, as JSON."""
        import torch

        return {
            "function": self.name,
            "config": describe(self.config),
            "code": code_version(self.function),
            "data": [list(pair) for pair in self.data],
            "device": _device(self.config),
            "dtype": str(torch.get_default_dtype()),
            "torch": torch.__version__,
        }

    @property
    def key(self) -> str:
        """SHA-256 of :meth:`identity`."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def describe(config: Any) -> Any:
    """The configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _device(config: Any) -> str:
    return str(getattr(config, "device", "cpu")).partition(":")[0]


def current_workdir() -> Path:
    """The folder in which the running cell may keep a checkpoint.

    Raises
    ------
    RuntimeError
        Outside a cell.
    """
    try:
        return _workdir.get()
    except LookupError:
        raise RuntimeError("current_workdir() is for code that runs inside a cell") from None


def compute(cell: Cell, store: Store | None = None) -> Result:
    """The result of a cell, from the store or computed now; may be used inside another cell.

    Two processes that ask for the same cell at once: one computes, both get it.

    Raises
    ------
    CellError
        If the cell raises.
    """
    store = store or Store()
    key = cell.key
    found = store.get(key)
    if found is not None:
        _reused.get([]).append(found.seconds)
        return found
    with store.lock(key):
        found = store.get(key)  # another process may have computed it meanwhile
        if found is None:
            found = call(cell, store.workdir(key))
            store.put(key, found)
    return found


def call(cell: Cell, workdir: Path) -> Result:
    """Compute a cell on one thread; errors name the cell."""
    token = _workdir.set(workdir)
    reused: list[float] = []  # seconds of stored cells that this one used
    inner = _reused.set(reused)
    began = time.perf_counter()
    try:
        with _one_thread():
            result = cell.function(cell.config)
    except (KeyboardInterrupt, CellError):
        raise
    except BaseException as error:
        raise CellError(
            f"{cell.name}({json.dumps(describe(cell.config))}) failed: "
            f"{type(error).__name__}: {error}",
            traceback.format_exc(),
        ) from error
    finally:
        _workdir.reset(token)
        _reused.reset(inner)
    if not isinstance(result, Result):
        raise CellError(f"{cell.name} returned {type(result).__name__}, needs a Result")
    return dataclasses.replace(result, seconds=time.perf_counter() - began + sum(reused))


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(
    cells: Sequence[Cell],
    *,
    scheduler: str | None = None,
    fresh: bool = False,
    store: Store | None = None,
    progress: bool = True,
) -> list[Result]:
    """Compute cells, in this process or on a Dask cluster, and return their results in order.

    Finished cells are taken from the store, so an interrupted run goes on where it stopped.

    Parameters
    ----------
    cells : sequence of Cell
    scheduler : "tcp://HOST:PORT" of a running Dask scheduler, optional
    fresh : forget stored results of these cells first
    store : where results are kept; the default store without it
    progress : show a bar

    Raises
    ------
    CellError
        If any cell raised; the others are computed and kept.
    """
    from tqdm import tqdm

    store = store or Store()
    keys = [cell.key for cell in cells]
    if fresh:
        for key in keys:
            store.drop(key)
    unique = dict(zip(keys, cells, strict=True))
    bar = tqdm(total=len(unique), unit="cell", disable=None if progress else True)
    failures: list[CellError] = []
    with bar:
        if scheduler is not None:
            from thesis_repro.lab.cluster import compute_all

            outcomes = compute_all(unique, scheduler, store)
        else:
            outcomes = _in_process(unique, store)
        for outcome in outcomes:
            if isinstance(outcome, CellError):
                failures.append(outcome)
            bar.update()
    if failures:
        rest = f" ({len(failures) - 1} more cells failed)" if len(failures) > 1 else ""
        raise CellError(
            f"{failures[0]}{rest}; {len(unique) - len(failures)} finished cells are kept",
            failures[0].details,
        )
    results = {key: store.get(key) for key in unique}
    lost = [key for key, result in results.items() if result is None]
    if lost:  # damaged between writing and reading
        return run(cells, scheduler=scheduler, store=store, progress=progress)
    return [result for key in keys if (result := results[key]) is not None]


def _in_process(cells: dict[str, Cell], store: Store) -> Iterator[CellError | None]:
    for cell in cells.values():
        try:
            compute(cell, store)
        except CellError as error:
            yield error
        else:
            yield None
