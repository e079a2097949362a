"""The version of the code that a function depends on, read from its syntax tree.

It covers the function, what the function names in its own module (also through other names
there), and every module of the package that these import, whole. Comments, docstrings, layout
and definitions of its own module that the function does not reach change nothing.
"""

import ast
import builtins
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "thesis_repro"
ALWAYS = ""
_IMPORTS = (ast.Import, ast.ImportFrom)

MACHINERY = frozenset(
    f"{PACKAGE}.lab.{name}"
    for name in (
        "cells",
        "cluster",
        "code",
        "engine",
        "memory",
        "places",
        "profiles",
        "provenance",
        "sealed",
        "store",
        "threads",
    )
)
"""Modules that carry results about and decide none; `cells.MEANING` stands for them in a key."""


@cache
def code_version(function: Callable[..., Any]) -> str:
    """SHA-256 over the function, what it names in its own module, and the modules these import.

    Raises
    ------
    ValueError
        If the source of the function's module cannot be read.
    """
    module = function.__module__
    names = _top_level(module)
    if function.__qualname__ not in names:
        raise ValueError(
            f"{module}.{function.__qualname__} cannot be a cell: it needs to be a function that "
            f"is defined at the top level of a file"
        )
    reached: set[str] = set()
    statements: dict[int, ast.stmt] = {}  # by place, so that the order is that of the file
    modules: set[str] = set()
    pending = [function.__qualname__, ALWAYS]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        for place, node in names.get(name, ()):
            if isinstance(node, _IMPORTS):
                modules |= _imported(node, module, only=name)
                continue
            statements[place] = node
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name):
                    pending.append(inner.id)
                elif isinstance(inner, _IMPORTS):  # inside a function
                    modules |= _imported(inner, module)
    parts = [_dump(statements[place]) for place in sorted(statements)]
    parts += [f"{name}:{_module_dump(name)}" for name in sorted(_closure(modules))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _closure(modules: set[str]) -> set[str]:
    reached: set[str] = set()
    pending = set(modules)
    while pending:
        name = pending.pop()
        if name in reached or name in MACHINERY:
            continue
        reached.add(name)
        for node in ast.walk(_tree(name)):
            if isinstance(node, _IMPORTS):
                pending |= _imported(node, name)
    return reached


def _imported(node: ast.Import | ast.ImportFrom, module: str, only: str | None = None) -> set[str]:
    """Modules of the package that an import statement reaches (for one bound name, if given)."""
    found = set()
    for alias in node.names:
        bound = alias.asname or alias.name.partition(".")[0]
        if only is not None and bound != only:
            continue
        if isinstance(node, ast.Import):
            candidates = [alias.name]
        else:
            base = node.module or ""
            if node.level:
                origin = _origin(module)
                inside = origin is not None and origin.name == "__init__.py"
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + inside]
                base = ".".join([*parents, base] if base else parents)
            candidates = [f"{base}.{alias.name}", base]
        for name in candidates:
            if name.startswith(f"{PACKAGE}.") and _origin(name) is not None:
                found.add(name)
                break
    return found


@cache
def _origin(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.has_location and spec.origin:
        return Path(spec.origin)
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file else None


@cache
def _tree(module: str) -> ast.Module:
    origin = _origin(module)
    if origin is None or origin.suffix != ".py":
        return ast.Module(body=[], type_ignores=[])
    return ast.parse(origin.read_text(encoding="utf-8"))


@cache
def _module_dump(module: str) -> str:
    return _dump(_tree(module))


def _top_level(module: str) -> dict[str, list[tuple[int, ast.stmt]]]:
    """The statements of a module by the names that they bind or change, in order.

    A call, or a decoration by a function of the module, may change anything: they count always.
    """
    names: dict[str, list[tuple[int, ast.stmt]]] = {}
    body = _tree(module).body
    foreign = set(dir(builtins)).union(*(_bound(n) for n in body if isinstance(n, _IMPORTS)))
    for place, node in enumerate(body):
        if _is_text(node):  # what is written below a constant
            continue
        bound = _bound(node) if isinstance(node, _IMPORTS) else _bound(node) - foreign
        decorators = _names(getattr(node, "decorator_list", []))
        if isinstance(node, ast.Expr) or decorators - foreign:
            bound.add(ALWAYS)
        for name in bound:
            names.setdefault(name, []).append((place, node))
    return names


def _bound(node: ast.stmt) -> set[str]:
    """Names that a statement of a module binds or may change."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        case ast.Assign():
            return _names(node.targets)
        case ast.AnnAssign() | ast.AugAssign():
            return _names([node.target])
    inner = (part for part in ast.walk(node) if isinstance(part, ast.stmt) and part is not node)
    return _names([node]).union(*map(_bound, inner))


def _names(nodes: Sequence[ast.AST]) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _dump(node: ast.AST) -> str:
    """The syntax tree without positions and docstrings."""
    copy = ast.parse(ast.unparse(node))
    for inner in ast.walk(copy):
        body = getattr(inner, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not _is_text(s)]
            inner.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(copy)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
