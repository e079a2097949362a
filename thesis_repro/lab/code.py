"""The version of the code that a function depends on, read from its syntax tree.

It changes when the meaning of the code may have changed, and not with comments, docstrings,
or definitions that the function does not reach.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "thesis_repro"


def code_version(function: Callable[..., Any]) -> str:
    """SHA-256 over the function, what it names in its own module, and the modules these import."""
    module = function.__module__
    dumps: dict[str, str] = {}
    modules: set[str] = set()
    names = _top_level(module)
    pending = [function.__qualname__.partition(".")[0]]
    while pending:
        name = pending.pop()
        if name in dumps or name not in names:
            continue
        node = names[name]
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= _imported(node, module, only=name)
            continue
        dumps[name] = ast.dump(_bare(node))
        pending += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        for inner in ast.walk(node):  # lazy imports inside functions
            if isinstance(inner, ast.Import | ast.ImportFrom):
                modules |= _imported(inner, module)
    reached = _closure(modules)
    parts = [f"{name}:{dumps[name]}" for name in sorted(dumps)]
    parts += [f"{name}:{_module_dump(name)}" for name in sorted(reached)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _closure(modules: set[str]) -> set[str]:
    reached: set[str] = set()
    pending = sorted(modules)
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                pending += _imported(node, name)
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
                parents = module.split(".")[: -node.level]
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
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _tree(module: str) -> ast.Module:
    origin = _origin(module)
    if origin is None:
        loaded = sys.modules.get(module)
        origin = Path(loaded.__file__) if loaded is not None and loaded.__file__ else None
    if origin is None:
        return ast.Module(body=[], type_ignores=[])
    return ast.parse(origin.read_text(encoding="utf-8"))


@cache
def _module_dump(module: str) -> str:
    return ast.dump(_bare(_tree(module)))


def _top_level(module: str) -> dict[str, ast.stmt]:
    names: dict[str, ast.stmt] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names |= {n.id: node for n in ast.walk(target) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
    return names


def _bare(node: ast.AST) -> ast.AST:
    """The node without docstrings."""
    copy = ast.parse(ast.unparse(node))  # without positions
    return _Bare().generic_visit(copy)


class _Bare(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [
                s
                for s in body
                if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        return node
