"""Cells: pure functions of frozen configurations, each computed once and kept.

A cell's key covers its function's code, its configuration, its data, the kind of device, the
default dtype and the version of torch. While a cell computes, torch and the numerical libraries
use one thread, so the number of workers changes no bytes; `threads` can allow more.
"""

import contextvars
import dataclasses
import hashlib
import json
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_repro.lab import estimates, memory, provenance, threads, timebox
from thesis_repro.lab.code import classes_of, code_version
from thesis_repro.lab.store import Result, Store

__all__ = ["Cell", "CellError", "Result", "compute", "current_workdir", "describe", "lookup"]

MEANING = 1
"""Raise it when this package changes what a cell's result is; no older result is used then."""


class CellError(RuntimeError):
    """A cell raised; the message names function and configuration, `details` is the traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
        if details:
            self.add_note(details)  # shown wherever a traceback of this error is


@dataclass(frozen=True)
class Cell:
    """One computation.

    Parameters
    ----------
    function : a function of a module, config -> Result
    config : a frozen dataclass of JSON-able fields; a field `device` names the device, its own or
        else that of the first configuration in it that has one
    data : (name, SHA-256) of each data set, and of each committed model, that it reads
    """

    function: Callable[[Any], Result]
    config: Any
    data: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The function with its module."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def device(self) -> str:
        """The kind of device: cpu or cuda."""
        return (_device(self.config) or "cpu").partition(":")[0]

    def identity(self) -> dict[str, Any]:
        """All that decides the result, as JSON."""
        import torch

        return {
            "meaning": MEANING,
            "function": self.name,
            "config": describe(self.config),
            "code": code_version(self.function, *classes_of(self.config)),
            "data": sorted(list(pair) for pair in self.data),
            "device": self.device,
            "dtype": str(torch.get_default_dtype()),
            "torch": torch.__version__,
        }

    @property
    def key(self) -> str:
        """SHA-256 of :meth:`identity`."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def work(self) -> tuple[str, str, Any]:
        """What its time is estimated from: function, device and configuration as JSON values."""
        return self.name, self.device, describe(self.config)

    def __str__(self) -> str:
        return f"{self.name}({json.dumps(describe(self.config))})"


def _device(config: Any) -> str | None:
    """The device that a configuration, or the first one in it that has one, names."""
    if not dataclasses.is_dataclass(config):
        return None
    if hasattr(config, "device"):
        return str(config.device)
    inner = (_device(getattr(config, one.name)) for one in dataclasses.fields(config))
    return next(filter(None, inner), None)


def describe(config: Any) -> Any:
    """The configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


@dataclass(frozen=True)
class _Running:
    """The cell that computes in this context."""

    store: Store
    key: str
    renewed: set[str] | None
    reused: list[float] = field(default_factory=list)
    """Seconds that stored cells which it used had taken."""


_running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar("running", default=None)


def current_workdir() -> Path:
    """The folder in which the running cell may keep a checkpoint.

    Raises
    ------
    RuntimeError
        Outside a cell.
    """
    running = _running.get()
    if running is None:
        raise RuntimeError("current_workdir() is for code that runs inside a cell")
    return running.store.workdir(running.key)


def compute(cell: Cell, store: Store | None = None, renewed: set[str] | None = None) -> Result:
    """The result of a cell, from the store or computed now; may be used inside another cell.

    Two processes that ask for the same cell at once: one computes, both get it.

    Parameters
    ----------
    cell : Cell
    store : default: that of the cell that is running, else the user's
    renewed : keys that a fresh run has computed; what is not among them is forgotten first

    Raises
    ------
    CellError
        If the cell raises.
    lab.timebox.Stop
        If the run is to stop before the cell is finished.
    """
    outer = _running.get()
    store = store or (outer.store if outer else Store())
    renewed = outer.renewed if outer and renewed is None else renewed
    key = cell.key
    if renewed is not None and key not in renewed:
        store.drop(key)
    found = store.get(key)
    if found is None:
        with timebox.deferred(), ExitStack() as held:
            with timebox.interruptible():  # another process may compute it for hours
                held.enter_context(store.lock(key))
            found = store.get(key)
            if found is None:
                found = _call(cell, _Running(store, key, renewed))
                store.put(key, found)
    elif outer is not None:
        outer.reused.append(found.seconds)
    if renewed is not None:
        renewed.add(key)
    return found


def lookup(cell: Cell) -> Result | None:
    """The result of a cell if the store that `compute` would ask has it; nothing is computed."""
    outer = _running.get()
    return (outer.store if outer else Store()).get(cell.key)


def _call(cell: Cell, running: _Running) -> Result:
    """Compute a cell on a fixed number of threads; errors name the cell."""
    token = _running.set(running)
    memory.keep_freed()
    resumed = estimates.resumable(running.store, running.key)
    began = time.perf_counter()
    try:
        with threads.limit(), timebox.interruptible():
            result = cell.function(cell.config)
    except timebox.Stop:
        spent = time.perf_counter() - began
        estimates.record(running.store, cell.work, running.key, spent, finished=False)
        raise
    except CellError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise CellError(
            f"{cell} failed: {type(error).__name__}: {said}", traceback.format_exc()
        ) from error
    finally:
        _running.reset(token)
    if not isinstance(result, Result):
        raise CellError(f"{cell} returned {type(result).__name__}, needs a Result")
    seconds = time.perf_counter() - began + sum(running.reused)
    estimates.record(running.store, cell.work, running.key, seconds, resumed=resumed)
    device = provenance.device_name(cell.device)
    return dataclasses.replace(result, seconds=seconds, device=device)
