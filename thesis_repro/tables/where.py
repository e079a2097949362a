"""From a table, or one of its rows, to the lines of code that make it."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.tables import find
from thesis_repro.tables.spec import Frame, Row, Table

PACKAGE = "thesis_repro"
TOOL = (f"{PACKAGE}.tables", f"{PACKAGE}.lab")
"""What measures and keeps; it is no science."""


@dataclass(frozen=True)
class Place:
    """A line of code: what stands there (spec, cell, science), its name, module and line."""

    what: str
    name: str
    module: str
    line: int

    @property
    def file(self) -> str:
        """The module's file, from the folder that holds the package."""
        end = "/__init__" if _is_package(self.module) else ""
        return f"{self.module.replace('.', '/')}{end}.py"

    def __str__(self) -> str:
        return f"{self.what:8} {self.file}:{self.line}  {self.name}"


def places(name: str, row: str | None = None) -> list[Place]:
    """Where a table is specified, which cells make it, and which science these call.

    Parameters
    ----------
    name : of a table
    row : its keys, written "key / key"; default: all rows

    Raises
    ------
    ValueError
        On an unknown table or row; the message has the nearest ones.
    """
    table, module = find.get(name), find.module_of(name)
    found = [Place("spec", "TABLE", module, _line_of_table(module))]
    functions = cells(table, row)
    found += [_place("cell", function) for function in functions]
    science = {_place("science", thing) for function in functions for thing in _called(function)}
    return found + sorted(science, key=lambda place: (place.file, place.line))


def cells(table: Table, row: str | None = None) -> list[Callable[..., Any]]:
    """The functions that make a table, or one of its rows, each once.

    Raises
    ------
    ValueError
        If no row is called so; the message has the nearest names.
    """
    plan = [pair for size in _sizes() for pair in table.cells(size)]
    rows = {" / ".join(r): r for r in (*table.spec.rows, *(r for r, _ in plan))}
    if row is not None and row not in rows:
        raise ValueError(f"{table.spec.name}: no row is called {row!r}; {find.nearest(row, rows)}")
    wanted: Row | None = None if row is None else rows[row]
    # a row of an assembly may have more keys than the cell that it comes from
    made = [c for r, c in plan if c is not None and (wanted is None or wanted[: len(r)] == r)]
    return list(dict.fromkeys(cell.function for cell in made)) or _defined(table.spec.name)


def _defined(name: str) -> list[Callable[..., Any]]:
    """The cells that a table's file defines: for rows whose data is not here, and have no plan."""
    module = sys.modules[find.module_of(name)]
    functions = inspect.getmembers(module, inspect.isfunction)
    return [f for _, f in functions if (f.__doc__ or "").startswith("Cell:")]


def links(frame: Frame) -> str:
    """Links to the source of the cells that made a frame, as the provenance names them.

    A run that was recorded before it named them, or whose code has moved since, has those of the
    table as it stands.
    """
    here = {f"{f.__module__}.{f.__qualname__}" for f in cells(find.get(frame.spec.name))}
    named = {cell["function"] for cell in frame.provenance["cells"] if "function" in cell}
    by_module: dict[str, list[str]] = {}
    for name in sorted(named & here or here):
        module, _, function = name.rpartition(".")
        by_module.setdefault(module, []).append(f"{{source}}`{function} <{module}:{function}>`")
    files = [
        f"`{module.removeprefix('thesis_repro.').replace('.', '/')}.py`, {', '.join(functions)}"
        for module, functions in by_module.items()
    ]
    return "; ".join(files) or f"`{find.module_of(frame.spec.name)}`"


def _sizes() -> Iterator[Profile]:
    yield profile("quick")
    yield profile("paper")


def _place(what: str, thing: Any) -> Place:
    return Place(what, thing.__qualname__, thing.__module__, inspect.getsourcelines(thing)[1])


def _line_of_table(module: str) -> int:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(t, ast.Name) and t.id == "TABLE" for t in targets):
            return node.lineno
    return 1


def _called(function: Callable[..., Any]) -> list[Any]:
    """Functions and classes of the package's science that a cell names, itself or in its file."""
    found: dict[Any, None] = {}
    seen, pending = {function}, [function]
    while pending:
        current = pending.pop()
        for thing in _named(current):
            home = str(getattr(thing, "__module__", ""))
            if not home.startswith(f"{PACKAGE}.") or home.startswith(TOOL) or thing in seen:
                continue
            seen.add(thing)
            if home.startswith(find.EXPERIMENTS):
                pending.append(thing)
            else:
                found[thing] = None
    return list(found)


def _named(thing: Any) -> Iterator[Any]:
    """What the source of a function or class names: functions and classes, by name or path."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    scope = vars(sys.modules[thing.__module__])
    for node in ast.walk(tree):
        value = _value(node, scope)
        if isinstance(value, FunctionType | type):
            yield inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _value(node: ast.AST, scope: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return scope.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, scope)
        return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    return None


def _is_package(module: str) -> bool:
    return Path(str(sys.modules[module].__file__)).name == "__init__.py"
