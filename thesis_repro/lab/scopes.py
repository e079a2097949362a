"""Names in a syntax tree: what a scope binds, and which name an expression starts from."""

import ast
from collections.abc import Iterable, Iterator

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


def bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Names bound in a scope by assignment, definition, loop or pattern; imports apart."""
    names: set[str] = set()
    for node in scope(nodes):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(id=str(name), ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                names.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                names.add(name)
    return names


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that import statements bind in a scope."""
    found = (node for node in scope(nodes) if isinstance(node, ast.Import | ast.ImportFrom))
    return {part.asname or part.name.partition(".")[0] for node in found for part in node.names}


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
