"""Schedules over training: constant, linear, logarithmic, exponential decay, cosine."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

Schedule = Callable[[float], float]
"""Maps progress in [0, 1] through the whole training to a value.

Those of this module take a scalar tensor as well, and give one back: a step that is recorded once
for a GPU reads its progress from a tensor.
"""


def constant(value: float) -> Schedule:
    """The same value throughout.

    Examples
    --------
    >>> constant(0.1)(0.7)
    0.1
    """
    return lambda progress: value


def linear(start: float, stop: float, until: float = 1.0) -> Schedule:
    """From start to stop in a straight line over the first `until` of training, then stop.

    Examples
    --------
    >>> linear(0.0, 1.0, until=0.5)(0.25)
    0.5
    """
    return lambda progress: start + (stop - start) * _between(progress / until, 0.0, 1.0)


def logarithmic(stop: float, until: float = 1.0) -> Schedule:
    """Rise fast, then slowly, to `stop` at progress `until`, and stay there.

    The value is stop * ln((e - e^0.01) t + e^0.01): 1% of stop at the start.

    Source: the "logarithmic" epsilon schedule of Leino, Wang and Fredrikson 2021.

    Examples
    --------
    >>> round(logarithmic(0.3, until=0.5)(0.5), 6)
    0.3
    """

    def at(progress: float) -> float:
        t = _between(progress / until, 0.0, 1.0)
        inside = (math.e - math.exp(0.01)) * t + math.exp(0.01)
        value: float = stop * _log(inside)
        return value

    return at


def decay_after(start: float, stop: float, since: float = 0.5) -> Schedule:
    """Keep start until progress `since`, then fall exponentially to stop at the end.

    Examples
    --------
    >>> decay_after(1e-3, 1e-5)(0.4)
    0.001
    """

    def value(progress: float) -> float:
        t = _between(progress - since, 0.0, math.inf) / (1.0 - since)
        fallen: float = start * (stop / start) ** t
        return fallen

    return value


def cosine(start: float, warmup: float = 0.0) -> Schedule:
    """Rise linearly during `warmup`, then fall to zero along half a cosine.

    Examples
    --------
    >>> round(cosine(0.1)(0.5), 6)
    0.05
    """

    def value(progress: float) -> float:
        if progress < warmup:
            return start * progress / warmup
        return start * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return value


def _between(value: Any, low: float, high: float) -> Any:
    """Clamp a float, or a scalar tensor that stands for one."""
    return value.clamp(low, high) if isinstance(value, Tensor) else min(max(value, low), high)


def _log(value: Any) -> Any:
    return value.log() if isinstance(value, Tensor) else math.log(value)
