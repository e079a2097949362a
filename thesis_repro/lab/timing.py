"""Honest timings: warm-up, interleaved repeats, medians and quartiles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles over the repeats."""

    seconds: float
    low: float
    high: float
    repeats: int


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(
    calls: Sequence[Callable[[], object]], repeats: int = 7, warmup: int = 2
) -> list[Timing]:
    """Time several calls in turn, so that a noisy moment of the machine falls on all of them.

    Raises
    ------
    ValueError
        With fewer than two repeats.
    """
    if repeats < 2:
        raise ValueError(f"a timing needs at least 2 repeats, got {repeats}")
    for _ in range(warmup):
        for call in calls:
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, mine in zip(calls, seconds, strict=True):
            _synchronize()
            began = time.perf_counter()
            call()
            _synchronize()
            mine.append(time.perf_counter() - began)
    found = []
    for mine in seconds:
        low, _, high = quantiles(mine, n=4)
        found.append(Timing(median(mine), low, high, repeats))
    return found
