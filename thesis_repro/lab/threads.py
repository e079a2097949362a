"""How many threads a cell uses: one, unless a long training is given more."""

import contextvars
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

VARIABLE = "THESIS_REPRO_THREADS"

limited: contextvars.ContextVar[bool] = contextvars.ContextVar("limited", default=False)
"""Whether the number of threads is set already."""


def threads() -> int:
    """$THESIS_REPRO_THREADS, or one: then the number of workers changes no byte of a result.

    Raises
    ------
    ValueError
        If the variable is not a whole number of at least one.
    """
    return at_least_one(VARIABLE, 1)


def at_least_one(variable: str, default: int) -> int:
    """The whole number in a variable of the environment; an empty one counts as not set.

    Raises
    ------
    ValueError
        If it is not a whole number of at least one.
    """
    asked = os.environ.get(variable)
    if not asked:
        return default
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"{variable}={asked!r}: needs a whole number of at least 1")
    return int(asked)


@contextmanager
def limit(most: int | None = None) -> Iterator[None]:
    """Let torch and the numerical libraries that are loaded use few threads, then as before.

    Also a decorator. What is made of many tiny calls, proofs for one, runs in `limit(1)`: threads
    wait for each other at the end of every call, for longer than the call takes.

    Parameters
    ----------
    most : how many; `threads()` by default, and then nothing changes inside another limit
    """
    import torch

    before = torch.get_num_threads()
    if limited.get() and (most is None or before <= most):
        yield
        return
    most = threads() if most is None else most
    token = limited.set(True)
    pools = _pools(len(sys.modules))
    sizes = [pool.num_threads for pool in pools]
    torch.set_num_threads(most)
    for pool in pools:
        pool.set_num_threads(most)
    try:
        yield
    finally:
        for pool, size in zip(pools, sizes, strict=True):
            pool.set_num_threads(size)
        torch.set_num_threads(before)
        limited.reset(token)


@lru_cache(maxsize=1)
def _pools(modules: int) -> list[Any]:
    """The pools of the loaded libraries; looked for again when another module is imported."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().lib_controllers
    return [pool for pool in found if pool.num_threads]
