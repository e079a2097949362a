"""What each top-level statement of a Python file binds, uses, changes and imports.

Read from the syntax tree; nothing is imported. Docstrings and annotations decide nothing that
runs, so neither counts as a use.
"""

import ast
import builtins
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from thesis_repro.lab.scopes import Chain, chain_of, names_of, object_of

Target = tuple[str, Chain]
"""What an import binds: a module, and the name in it; none for the module itself."""

Imports = dict[str, list[Target]]

READING = ("copy", "format", "get", "index", "items", "join", "keys", "split", "values")
"""Methods that change nothing they are called on."""


@dataclass
class Moment:
    """What happens at one of two moments: when a file is imported, or when its functions run.

    changed : objects that are stored into, or that a method which may change them is called on
    stored : those of them whose attribute or item is assigned
    called : functions, decorators and metaclasses
    given : what these are called with
    bases : of classes
    bare : what is called for nothing but what it changes
    imports : names bound by import statements
    loaded : modules that are imported, or may be
    """

    changed: set[Chain] = field(default_factory=set)
    stored: set[Chain] = field(default_factory=set)
    called: set[Chain] = field(default_factory=set)
    bases: set[Chain] = field(default_factory=set)
    given: set[Chain] = field(default_factory=set)
    bare: set[Chain] = field(default_factory=set)
    imports: Imports = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)


@dataclass
class Statement:
    """A top-level statement.

    uses : names that it reads, anywhere in it, that are not local to a function
    texts : its string constants
    alters : whether a function in it changes what it is given
    hooks : whether classes that are derived from one in it run code of it
    """

    node: ast.stmt
    uses: set[Chain] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    importing: Moment = field(default_factory=Moment)
    running: Moment = field(default_factory=Moment)
    alters: bool = False
    hooks: bool = False

    @cached_property
    def dump(self) -> str:
        """Its syntax tree, the same whatever its layout and the version of Python."""
        empty = {"show_empty": True} if sys.version_info >= (3, 13) else {}
        return ast.dump(self.node, **empty).replace(", type_params=[]", "")

    @property
    def lines(self) -> int:
        """How many lines it has in the file."""
        decorators: list[ast.expr] = getattr(self.node, "decorator_list", [])
        first = min([self.node.lineno, *(part.lineno for part in decorators)])
        return (self.node.end_lineno or first) - first + 1


@dataclass(frozen=True)
class File:
    """The top-level statements of a file, in its order, without docstrings.

    names : numbers of the statements that bind or change a name; "#3" is the name of number 3
    imports : what its import statements bind
    """

    statements: tuple[Statement, ...]
    names: Mapping[str, list[int]]
    imports: Imports


@lru_cache(maxsize=1024)
def read(source: str, module: str, is_package: bool) -> File:
    """Read a file, or a package's __init__.

    Raises
    ------
    ValueError
        For a star import, behind which no name can be followed.
    SyntaxError
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [part for part in body if not _is_text(part)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in tree.body:
        if isinstance(node, ast.If) and _never(node.test) and not node.orelse:
            continue
        statement = Statement(node)
        _Reader(statement, module, package).visit(node)
        found.append(statement)
    imports: Imports = {}
    for statement in found:
        for name, targets in statement.importing.imports.items():
            imports.setdefault(name, []).extend(targets)
    foreign = imports.keys() | set(dir(builtins))
    names: dict[str, list[int]] = {}
    for number, statement in enumerate(found):
        changed = {chain[0] for chain in statement.importing.changed} - foreign
        for name in (*(names_of([statement.node]).bound | changed), f"#{number}"):
            names.setdefault(name, []).append(number)
    return File(tuple(found), names, imports)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _never(test: ast.expr) -> bool:
    """Whether a condition is false in every file that is imported."""
    return ast.unparse(test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "__name__ == '__main__'",
    )


class _Reader(ast.NodeVisitor):
    """Fills a statement with what it does; keeps the names that are local where it stands."""

    def __init__(self, statement: Statement, module: str, package: str) -> None:
        self.statement, self.module, self.package = statement, module, package
        self.local: frozenset[str] = frozenset()
        self.given: frozenset[str] = frozenset()
        self.now = statement.importing

    def _note(self, chains: set[Chain], chain: Chain) -> None:
        if chain and chain[0] not in self.local:
            chains.add(chain)

    def _change(self, chain: Chain) -> None:
        self._note(self.now.changed, chain)
        if chain and chain[0] in self.given - {"self", "cls"}:
            self.statement.alters = True

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._note(self.statement.uses, (node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._store(node)
        if chain := chain_of(node):
            self._note(self.statement.uses, chain)
        else:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._store(node)
        self.generic_visit(node)

    def _store(self, node: ast.Attribute | ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(object_of(node))
            self._note(self.now.stored, object_of(node))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.statement.texts.add(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._note(self.now.bare, object_of(node.value.func))
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self._call(node.func, [*node.args, *(keyword.value for keyword in node.keywords)])
        self.generic_visit(node)

    def _call(self, function: ast.expr, given: Iterable[ast.expr] = ()) -> None:
        self._note(self.now.called, object_of(function))
        for part in given:
            self._note(self.now.given, object_of(part))
        if isinstance(function, ast.Attribute) and function.attr not in READING:
            self._change(object_of(function.value))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._decorated(node)
        self._function(node, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, [node.body])

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, body: Sequence[ast.AST]
    ) -> None:
        arguments = node.args
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(default)
        given = {part.arg for part in ast.walk(arguments) if isinstance(part, ast.arg)}
        names = names_of(body)
        before = self.local, self.given, self.now
        self.local = (self.local | given | names.bound) - names.shared - names.imported
        self.given |= given
        self.now = self.statement.running
        for name in names.shared:
            self._change((name,))
        for part in body:
            self.visit(part)
        self.local, self.given, self.now = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorated(node)
        for base in node.bases:
            self._note(self.now.bases, object_of(base))
        for keyword in node.keywords:
            self._call(keyword.value)
        hook = any(getattr(part, "name", "") == "__init_subclass__" for part in node.body)
        self.statement.hooks |= hook or bool(node.keywords)
        for part in (*node.bases, *(keyword.value for keyword in node.keywords), *node.body):
            self.visit(part)

    def _decorated(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self._call(decorator.func if isinstance(decorator, ast.Call) else decorator)
            self.visit(decorator)

    def _comprehension(self, node: ast.AST) -> None:
        first, *rest = node.generators  # type: ignore[attr-defined]
        self.visit(first.iter)  # which is evaluated outside
        before = self.local
        self.local |= names_of(part.target for part in (first, *rest)).bound
        elements = (getattr(node, name, None) for name in ("elt", "key", "value"))
        for part in (first.target, *first.ifs, *rest, *filter(None, elements)):
            self.visit(part)
        self.local = before

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in filter(None, (node.target, node.value)):  # not the annotation
            self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._note(self.statement.uses, chain_of(node.target))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        for part in (*(() if _never(node.test) else (node.test, *node.body)), *node.orelse):
            self.visit(part)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._import(alias.asname or top, (alias.name if alias.asname else top, ()))
            self.now.loaded.add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        stem = self.package.split(".")
        stem = stem[: len(stem) - node.level + 1] if node.level else []
        base = ".".join([*stem, *filter(None, [node.module])])
        self.now.loaded.add(base)
        for alias in node.names:
            if alias.name == "*":
                raise ValueError(
                    f"{self.module}, line {node.lineno}: name what is imported from {base}; "
                    f"behind a star no name can be followed"
                )
            self._import(alias.asname or alias.name, (base, (alias.name,)))
            self.now.loaded.add(f"{base}.{alias.name}")

    def _import(self, name: str, target: Target) -> None:
        self.now.imports.setdefault(name, []).append(target)
