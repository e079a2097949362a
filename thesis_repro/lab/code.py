"""The version of the code that a cell depends on.

It covers what the cell's function reaches by name (:mod:`thesis_repro.lab.reach`), and the classes
of its configuration, whose methods it may call without naming them.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from thesis_repro.lab.reach import PACKAGE, Package

MACHINERY = frozenset(
    f"{PACKAGE}.lab.{name}"
    for name in (
        *("cells", "cluster", "code", "engine", "estimates", "memory", "places", "profiles"),
        *("provenance", "reach", "scopes", "sealed", "statements", "store", "threads"),
        *("timebox", "transfer"),
    )
)
"""Modules that carry results about and decide none; `cells.MEANING` stands for them in a key."""


@cache
def code_version(function: Callable[..., Any], *classes: type) -> str:
    """SHA-256 over the code that a function and the classes of its configuration reach.

    Raises
    ------
    ValueError
        If the source of the function's module cannot be read, or the function is inside another.
    """
    beside = {}
    for module in {function.__module__, *(part.__module__ for part in classes)}:
        if module.partition(".")[0] != PACKAGE and (path := _origin(module)) is not None:
            beside[module] = path.read_text("utf-8")
    package = Package(beside=beside, skip=MACHINERY) if beside else _package()
    module, name = function.__module__, function.__qualname__
    if not package.defines(module, name):
        raise ValueError(
            f"{module}.{name} cannot be a cell: it needs to be a function that is defined at the "
            f"top level of a file"
        )
    starts = [(module, name), *((part.__module__, part.__qualname__) for part in classes)]
    return package.reach(starts).version


@cache
def _package() -> Package:
    return Package(skip=MACHINERY)


def _origin(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.has_location and spec.origin:
        path = Path(spec.origin)
    else:
        path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    return path if path.suffix == ".py" and path.is_file() else None


def classes_of(value: Any) -> tuple[type, ...]:
    """The classes of a configuration and of the dataclasses inside it, sorted by name."""
    found: set[type] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if is_dataclass(part) and not isinstance(part, type):
            found.add(type(part))
            waiting += (getattr(part, item.name) for item in fields(part))
        elif isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, tuple | list | set | frozenset):
            waiting += part
    return tuple(sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__)))
