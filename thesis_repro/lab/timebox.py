"""A run inside a time limit: it ends by itself before the limit, or when it is asked to by SIGTERM.

Code that can go on from where it stops puts its work inside :func:`deferred`, asks
:func:`wanted` between two steps, keeps what it needs, and raises :class:`Stop`. Any other cell is
unwound where it is, when the time is over or the signal comes, and is computed again later.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

EXIT = 75
"""Status of a run that was stopped: "temporary failure" of sysexits.h, give the command again."""

RESERVE = 30.0
"""Seconds, or a twentieth of the limit if that is less, that are kept for what comes at the end:
a checkpoint, the record of what is finished."""


class Stop(BaseException):
    """Unwinds the running cell. It is no Exception: no cell is to take it for a failure."""


class Unfinished(RuntimeError):
    """A run was stopped before all its cells were computed; what is finished is kept."""


@dataclass(frozen=True)
class Limit:
    """A limit that processes of this machine share.

    deadline : on the clock `time.monotonic`; infinite without a limit of time
    flag : a file that says, once it is there, that all are to stop
    """

    deadline: float = math.inf
    flag: Path | None = None


@dataclass
class _State:
    limit: Limit | None = None
    asked: bool = False
    at_once: bool = False


_state = _State()


def asked() -> bool:
    """Whether a signal asked this run to stop."""
    flag = None if _state.limit is None else _state.limit.flag
    return _state.asked or (flag is not None and flag.exists())


def remaining() -> float:
    """Seconds to the deadline, infinite without one."""
    return math.inf if _state.limit is None else _state.limit.deadline - time.monotonic()


def wanted() -> bool:
    """Whether the run is to stop now: it was asked to, or its time is over."""
    return _state.limit is not None and (remaining() <= 0 or asked())


def check() -> None:
    """Raise Stop if the run is to stop now."""
    if wanted():
        raise Stop


def current() -> Limit | None:
    """The limit of this process, for the workers that it starts."""
    return _state.limit


@contextmanager
def limited(minutes: float | None) -> Iterator[None]:
    """Stop what runs in the block before so many minutes are over, and on SIGTERM.

    Raises
    ------
    ValueError
        If the minutes are not a positive number.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"a limit is a positive number of minutes, got {minutes}")
    seconds = math.inf if minutes is None else 60 * minutes
    deadline = time.monotonic() + seconds
    if minutes is not None:
        deadline -= min(RESERVE, seconds / 20)
    with (
        TemporaryDirectory(prefix="thesis-repro-") as folder,
        inherited(Limit(deadline, Path(folder) / "stop")),
    ):
        yield


@contextmanager
def inherited(limit: Limit | None) -> Iterator[None]:
    """Keep to a limit in the block: signals are handled where this is the main thread."""
    if limit == _state.limit:
        yield
        return
    before = _state.limit, _state.asked
    _state.limit, _state.asked = limit, False
    signals = limit is not None and threading.current_thread() is threading.main_thread()
    if not signals:
        try:
            yield
        finally:
            _state.limit, _state.asked = before
        return
    handlers = {s: signal.signal(s, _handle) for s in (signal.SIGTERM, signal.SIGALRM)}
    timed = math.isfinite(limit.deadline) if limit is not None else False
    if timed:
        # again each second: what was deferred when the time was over may be interruptible later
        signal.setitimer(signal.ITIMER_REAL, max(remaining(), 1e-3), 1.0)
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _state.limit, _state.asked = before


def _handle(number: int, frame: FrameType | None) -> None:
    """Note the signal, and unwind what runs if it keeps nothing anyway."""
    if number == signal.SIGTERM:
        _state.asked = True
        if _state.limit is not None and _state.limit.flag is not None:
            with suppress(OSError):  # the run that made its folder may have ended
                _state.limit.flag.touch()
    if _state.at_once and wanted():
        raise Stop


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block a stop unwinds at once: for work that has nothing to keep."""
    with _at_once(True):
        check()  # it may have been noted just before
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Within the block a stop is noted and nothing more: for work that asks `wanted` itself."""
    outside = _state.at_once
    with _at_once(False):
        yield
    if outside:
        check()


@contextmanager
def _at_once(value: bool) -> Iterator[None]:
    before, _state.at_once = _state.at_once, value
    try:
        yield
    finally:
        _state.at_once = before
