"""Names in a syntax tree: what a scope binds, and which name an expression starts from."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Chain = tuple[str, ...]
"""A name with the attributes that are read from it: ("nets", "MinMax") for ``nets.MinMax``."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)


def scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of one scope: a function or class inside comes itself, without its body."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, _COMPREHENSIONS):  # its variables are its own, but for those of :=
            pending += (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        elif not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)


@dataclass
class Names:
    """Names of one scope.

    bound : by assignment, definition, loop or pattern
    imported : by import statements
    shared : declared as those of the file
    """

    bound: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)


def names_of(nodes: Iterable[ast.AST]) -> Names:
    """The names of a scope, from its statements."""
    found = Names()
    for node in scope(nodes):
        match node:
            case ast.Name(id=str(name), ctx=ast.Store() | ast.Del()):
                found.bound.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.bound.add(node.name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.bound.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                found.bound.add(name)
            case ast.Import() | ast.ImportFrom():
                named = (part.asname or part.name.partition(".")[0] for part in node.names)
                found.imported.update(named)
            case ast.Global():
                found.shared.update(node.names)
    return found


def chain_of(node: ast.AST) -> Chain:
    """A name with its attributes; empty for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return (node.id, *attributes) if isinstance(node, ast.Name) else ()


def object_of(node: ast.AST) -> Chain:
    """The named object that an expression is a part of, or a result of: D of ``D[0].x``."""
    while not (chain := chain_of(node)):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return ()
    return chain
