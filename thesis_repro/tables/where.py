"""From a table, or one of its rows, to the lines of code that make it.

Examples
--------
>>> print(Place("cell", "evaluate", "thesis_repro.tables.where", 1))
cell       thesis_repro/tables/where.py:1  evaluate
>>> [place.what for place in places("gloro-vra")][:2]
['spec', 'cell']
>>> [function.__name__ for function in cells(find.get("gloro-vra"))]
['evaluate']
>>> frame = records.read(find.get("gloro-vra").spec, "quick")
>>> "evaluate" in links(frame)
True
>>> commits(frame).startswith(f"`{origins(frame)[0]}`")
True
>>> any(line.startswith("quick ") for line in made_by("gloro-vra"))
True
>>> figure("thesis_repro.experiments.influence.figures:cars").name
'cars'
"""

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.tables import find, records
from thesis_repro.tables.spec import Frame, Row, Table

PACKAGE = "thesis_repro"
TOOL = (f"{PACKAGE}.tables", f"{PACKAGE}.lab")
"""What measures and keeps; it is no science."""
UNKNOWN = "unknown"
"""The commit of a run that was made outside a checkout, or without git."""
STATISTICS = f"{PACKAGE}.tables.statistics"
"""Intervals and tests: of the tool, what has formulas."""


@dataclass(frozen=True)
class Place:
    """A line of code: what stands there, its name, module and line.

    what : spec, cell, assembly, shared (of another file under `experiments`), science,
        statistics, or figure
    """

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
        return f"{self.what:10} {self.file}:{self.line}  {self.name}"


def places(name: str, row: str | None = None) -> list[Place]:
    """Where a table is specified, which cells make it, what assembles them, and what these call.

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
    functions += [thing for thing in _inside(functions) if thing not in functions]
    found += [_place("cell", function) for function in functions]
    if table.assemble is not None:
        found.append(_place("assembly", table.assemble))
        functions = [*functions, table.assemble]
    more = [_place(_kind(t), t) for t in _called(functions) if t.__module__ != module]
    return found + sorted(more, key=lambda p: (_KINDS.index(p.what), p.file, p.line))


_KINDS = ("shared", "science", "statistics")


def _kind(thing: Any) -> str:
    """What a function or class is that a table's cells go through outside the table's file."""
    if thing.__module__.startswith(find.EXPERIMENTS):
        return "shared"
    return "statistics" if thing.__module__ == STATISTICS else "science"


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
    table as it stands. What assembles the rows comes with them.
    """
    table = find.get(frame.spec.name)
    outer = cells(table)
    here = {_full(function) for function in outer}
    named = {cell["function"] for cell in frame.provenance["cells"] if "function" in cell}
    more = {_full(function) for function in _inside(outer)}
    if table.assemble is not None:
        more.add(_full(table.assemble))
    by_module: dict[str, list[str]] = {}
    for name in sorted((named & here or here) | more):
        module, _, function = name.rpartition(".")
        by_module.setdefault(module, []).append(f"{{source}}`{function} <{module}:{function}>`")
    files = [
        f"`{module.removeprefix('thesis_repro.').replace('.', '/')}.py`, {', '.join(functions)}"
        for module, functions in by_module.items()
    ]
    return "; ".join(files) or f"`{find.module_of(frame.spec.name)}`"


def origins(frame: Frame) -> list[str]:
    """The first digits of these commits, each once; `UNKNOWN` where a run had no git."""
    runs = (frame.provenance, *frame.provenance.get("kept", ()))
    return list(dict.fromkeys(str(run.get("commit") or UNKNOWN)[:7] for run in runs))


def commits(frame: Frame) -> str:
    """The commits whose code made a recorded frame: its own, then those of rows that it kept."""
    own, *kept = (f"`{commit}`" for commit in origins(frame))
    return own + (f", and {', '.join(kept)} for rows that it kept" if kept else "")


def made_by(name: str) -> list[str]:
    """A line for each recorded run of a table: by the code of which commits it was made."""
    spec = find.get(name).spec
    return [
        f"{run:10} recorded by the code of {commits(records.read(spec, run))}".replace("`", "")
        for run in records.runs(spec)
    ]


def figure(script: str) -> Place:
    """Where a recorded figure is drawn.

    script : "module:function"
    """
    module, _, function = script.partition(":")
    return _place("figure", getattr(importlib.import_module(module), function))


def _full(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


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


def _inside(functions: Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """The cells that cells ask for what they give: what a row shows may be computed there."""
    return [thing for thing in _called(functions) if (thing.__doc__ or "").startswith("Cell:")]


def _called(functions: Sequence[Callable[..., Any]]) -> list[Any]:
    """What cells and assemblies name of experiments, science and statistics.

    Names inside a function of an experiment, and in what its file binds to a name, count.
    """
    found: dict[Any, None] = {}
    pending = list(functions)
    while pending:
        for thing in _named(pending.pop()):
            home = str(getattr(thing, "__module__", ""))
            kept = home.startswith(TOOL) and home != STATISTICS
            if not home.startswith(f"{PACKAGE}.") or kept or thing in found or thing in functions:
                continue
            found[thing] = None
            if home.startswith(find.EXPERIMENTS):
                pending.append(thing)
    return list(found)


def _named(thing: Any) -> Iterator[Any]:
    """What the source of a function or class names: functions and classes, by name or path."""
    scope, bound = vars(sys.modules[thing.__module__]), dict(_bound(thing.__module__))
    trees: list[ast.AST] = [ast.parse(textwrap.dedent(inspect.getsource(thing)))]
    while trees:
        for node in ast.walk(trees.pop()):
            value = _value(node, scope)
            if isinstance(value, FunctionType | type):
                yield inspect.unwrap(value) if isinstance(value, FunctionType) else value
            elif isinstance(node, ast.Name) and node.id in bound:
                trees.append(bound.pop(node.id))  # such as a dictionary of methods


@cache
def _bound(module: str) -> dict[str, ast.AST]:
    """By name, the statements that bind one in a module; not TABLE, which names everything."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        found |= {t.id: node for t in targets if isinstance(t, ast.Name) and t.id != "TABLE"}
    return found


def _value(node: ast.AST, scope: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return scope.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, scope)
        return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    return None


def _is_package(module: str) -> bool:
    return Path(str(sys.modules[module].__file__)).name == "__init__.py"
