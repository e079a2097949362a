"""How many threads a cell uses: one, unless a long training is given more."""

import contextvars
import os
from collections.abc import Iterator
from contextlib import contextmanager

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
def limit() -> Iterator[None]:
    """Let torch and the numerical libraries that are loaded use `threads()`, then as before."""
    if limited.get():
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    most, before = threads(), torch.get_num_threads()
    token = limited.set(True)
    torch.set_num_threads(most)
    try:
        with threadpool_limits(most):
            yield
    finally:
        torch.set_num_threads(before)
        limited.reset(token)
