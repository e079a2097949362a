"""Cells for tests: quick, and they say when they compute."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_info

from thesis_repro.lab import timebox
from thesis_repro.lab.cells import Cell, Result, compute, current_workdir


@dataclass(frozen=True)
class Config:
    i: int = 0
    seconds: float = 0.0
    log: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Part:
    i: int


@dataclass(frozen=True)
class Whole:
    part: Part
    j: int


def on_part(config: Whole) -> Result:
    return Result({"sum": config.part.i + config.j})


def computing(config: Config, name: str) -> None:
    """Leave a line; one write of a short line is atomic."""
    if config.log:
        handle = os.open(config.log, os.O_WRONLY | os.O_APPEND)
        os.write(handle, f"{name} {config.i} {os.getpid()}\n".encode())
        os.close(handle)
    time.sleep(config.seconds)


def square(config: Config) -> Result:
    computing(config, "square")
    return Result({"square": config.i**2}, {"ramp": np.arange(config.i)})


def outer(config: Config) -> Result:
    inner = compute(Cell(square, config))
    computing(config, "outer")
    return Result({"more": inner.values["square"] + 1})


def threads(config: Config) -> Result:
    pools = sorted({pool["num_threads"] for pool in threadpool_info()})
    compute(Cell(square, config))  # does not give the threads back
    return Result({"torch": torch.get_num_threads(), "pools": pools})


def raising(config: Config) -> Result:
    if config.i % 2:
        raise RuntimeError(f"no luck\nwith {config.i}")
    return square(config)


def nothing(config: Config) -> None:
    pass


def resumable(config: Config) -> Result:
    """Counts to i, with what it has in its working folder."""
    path = current_workdir() / "count"
    count = int(path.read_text()) if path.exists() else 0
    while count < config.i:
        computing(config, f"step-{count}")
        count += 1
        path.write_text(str(count))
        if count == 2 and config.log.endswith("stop"):
            raise RuntimeError("stopped")
    return Result({"count": count})


def matrix(config: Config) -> Result:
    """Floating-point work whose last digits would show another order of additions."""
    computing(config, "matrix")
    generator = torch.Generator().manual_seed(config.i)
    a = torch.randn(300, 300, generator=generator)
    return Result({"trace": float((a @ a).trace())}, {"product": (a @ a).numpy()})


def dying(config: Config) -> Result:
    """The process goes away without a word, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Result({})


def terminating(config: Config) -> Result:
    """The run is asked to stop while it computes."""
    computing(config, "terminating")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    return Result({})


def stoppable(config: Config) -> Result:
    """Counts to i; is asked to stop at 2, and stops between two steps."""
    path = current_workdir() / "count"
    count = int(path.read_text()) if path.exists() else 0
    first = not count
    with timebox.deferred():
        while count < config.i:
            if timebox.wanted():
                path.write_text(str(count))
                raise timebox.Stop
            computing(config, f"step-{count}")
            count += 1
            if first and count == 2:
                os.kill(os.getpid(), signal.SIGTERM)
    return Result({"count": count})
