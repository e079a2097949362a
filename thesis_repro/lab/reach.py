"""What code a function depends on, followed by name through the files of the package.

A name that a reached statement uses leads to the statements of its file that bind or change it,
or, through imports, to a name of another file. Files are read, never imported. Classes count
whole; so does a module that is used as a value. Docstrings, comments and layout never count.

What a file does while it is imported can change what other files define. Such a statement counts
where the file is loaded and what it changes is reached: a function that a decorator enters in a
registry counts for whoever reads the registry.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thesis_repro.lab.scopes import Chain
from thesis_repro.lab.statements import File, Statement, read

PACKAGE = __name__.partition(".")[0]
ROOT = Path(__file__).resolve().parents[2]

Node = tuple[str, str]
"""A module and a name in it."""

Place = tuple[str, int]
"""A module and the number of a statement in it."""

Lead = Callable[[str], Iterable[Node]]
"""Where a string constant leads, for what is found by name when it runs."""

WHOLE = "*"
"""In a node: all names of the module."""


@dataclass
class _Call:
    """What a function changes when it is called; whether also what it is given."""

    changed: set[Node] = field(default_factory=set)
    alters: bool = False
    hooks: bool = False


@dataclass
class Reached:
    """What was reached.

    statements : in the order of their files, by module
    imported : by module, "name = where it comes from" of the imported names that are used
    """

    statements: dict[str, list[Statement]] = field(default_factory=dict)
    imported: dict[str, list[str]] = field(default_factory=dict)

    @property
    def code(self) -> dict[str, str]:
        """By module, what counts of it."""
        modules = sorted(self.statements.keys() | self.imported.keys())
        return {
            name: "\n".join(
                [
                    *self.imported.get(name, ()),
                    *(part.dump for part in self.statements.get(name, ())),
                ]
            )
            for name in modules
        }

    @property
    def version(self) -> str:
        """SHA-256 of it."""
        text = "\n".join(f"{name}\n{code}" for name, code in self.code.items())
        return hashlib.sha256(text.encode()).hexdigest()


class Package:
    """The files of a package, and of single modules beside it, as they are now.

    Parameters
    ----------
    root : folder that holds the package
    beside : source of further modules, by name
    skip : modules of the package that are not followed
    name : of the package
    """

    def __init__(
        self,
        root: Path = ROOT,
        beside: Mapping[str, str] | None = None,
        skip: frozenset[str] = frozenset(),
        name: str = PACKAGE,
    ) -> None:
        self.root, self.name, self.skip = root, name, skip
        self.beside = dict(beside or {})
        self._files: dict[str, File | None] = {}
        self._effects: dict[Place, frozenset[Node] | None] = {}
        self._calls: dict[Node, _Call] = {}

    def reach(self, starts: Iterable[Node], lead: Lead | None = None) -> Reached:
        """All that some names depend on.

        Parameters
        ----------
        starts : (module, name), or (module, WHOLE)
        lead : followed for the string constants of what is reached

        Raises
        ------
        ValueError
            For a star import in a file that is reached.
        SyntaxError
            If one is no Python.
        """
        nodes: set[Node] = set()
        places: set[Place] = set()
        loaded: set[str] = set()
        pending = [node for start in starts for node in self._start(start)]
        while pending:
            texts: set[str] = set()
            for place in self._follow(pending, nodes, places):
                statement = self._statement(place)
                self._load([place[0], *statement.running.loaded], loaded)
                texts |= statement.texts
            found = [node for text in texts for node in lead(text)] if lead else []
            pending = [node for start in found for node in self._start(start)]
            pending = pending or list(self._due(nodes, places, loaded))
        reached = Reached()
        for module, number in sorted(places):
            reached.statements.setdefault(module, []).append(self._statement((module, number)))
        for module, name in sorted(nodes):
            for target in self._found(module).imports.get(name, ()):
                line = f"{name} = {'.'.join([target[0], *target[1]])}"
                reached.imported.setdefault(module, []).append(line)
        return reached

    def file(self, module: str) -> Path | None:
        """Where a module of the package lies."""
        if module.partition(".")[0] != self.name:
            return None
        path = self.root.joinpath(*module.split("."))
        return next(filter(Path.is_file, (path / "__init__.py", path.with_suffix(".py"))), None)

    def _file(self, module: str) -> File | None:
        """A module as read, or None where it is no module of the package, or one to skip."""
        if module not in self._files:
            path = self.file(module)
            source = self.beside.get(module) if path is None else path.read_text("utf-8")
            self._files[module] = None
            if source is not None and module not in self.skip:
                package = path is not None and path.name == "__init__.py"
                self._files[module] = read(source, module, package)
        return self._files[module]

    def _found(self, module: str) -> File:
        file = self._file(module)
        assert file is not None
        return file

    def _statement(self, place: Place) -> Statement:
        return self._found(place[0]).statements[place[1]]

    def defines(self, module: str, name: str) -> bool:
        """Whether a module binds a name at its top level."""
        file = self._file(module)
        return file is not None and name in file.names

    # names

    def _start(self, node: Node) -> set[Node]:
        module, name = node
        return self._at(module, () if name == WHOLE else (name,))

    def _at(self, module: str, chain: Chain, seen: frozenset[Node] = frozenset()) -> set[Node]:
        """Where an attribute of a module leads."""
        file = self._file(module)
        if file is None:
            return set()
        if not chain:
            return {(module, WHOLE)}
        name, *rest = chain
        if (module, name) in seen:  # modules that import it from each other
            return set()
        seen |= {(module, name)}
        part = f"{module}.{name}"
        if name in file.names or name in file.imports or self.file(part):
            return self._own(module, name, rest, seen) | self._at(part, tuple(rest), seen)
        return set() if name.startswith("__") else {(module, WHOLE)}

    def _own(
        self, module: str, name: str, rest: Sequence[str], seen: frozenset[Node] = frozenset()
    ) -> set[Node]:
        """Where a global name of a module leads, and its attributes if it was imported."""
        file = self._found(module)
        found = {(module, name)} if name in file.names or name in file.imports else set()
        for base, chain in file.imports.get(name, ()):
            found |= self._at(base, (*chain, *rest), seen)
        return found

    def _resolve(self, module: str, statement: Statement, chains: Iterable[Chain]) -> set[Node]:
        """Where names lead that stand in a statement."""
        found = set()
        for name, *rest in chains:
            found |= self._own(module, name, rest)
            for base, chain in statement.running.imports.get(name, ()):  # inside a function
                found |= self._at(base, (*chain, *rest))
        return found

    def _follow(self, pending: Iterable[Node], nodes: set[Node], places: set[Place]) -> list[Place]:
        """Add all that is named, from `pending` on; returns the statements that are new."""
        new, waiting = [], list(pending)
        while waiting:
            module, name = node = waiting.pop()
            if node in nodes:
                continue
            nodes.add(node)
            file = self._found(module)
            numbers: Sequence[int] = file.names.get(name, ())
            if name == WHOLE:
                numbers = range(len(file.statements))
                names = file.names.keys() | file.imports.keys()
                passed = {n for own in names for n in self._own(module, own, ())}
                waiting += (n for n in passed if n[1] != WHOLE)
            for place in ((module, number) for number in numbers):
                if place not in places:
                    places.add(place)
                    new.append(place)
                    statement = self._statement(place)
                    waiting += self._resolve(module, statement, statement.uses)
        return new

    # what happens while files are imported

    def _load(self, modules: Iterable[str], loaded: set[str]) -> None:
        """Add modules with their packages and all that they import."""
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            file = self._file(module)
            if file is None or module in loaded:
                continue
            loaded.add(module)
            waiting.append(module.rpartition(".")[0])
            for statement in file.statements:
                waiting += statement.importing.loaded

    def _due(self, nodes: set[Node], places: set[Place], loaded: Iterable[str]) -> Iterator[Node]:
        """The statements of loaded files that change what is reached, or what is not ours."""
        for module in loaded:
            for number in range(len(self._found(module).statements)):
                place = module, number
                if place not in places:
                    changed = self._changed(place)
                    if changed is None or changed & nodes:
                        yield module, f"#{number}"

    def _changed(self, place: Place) -> frozenset[Node] | None:
        """What a statement changes when its file is imported; None: things outside the package."""
        if place not in self._effects:
            statement = self._statement(place)
            moment = statement.importing

            def known(chains: Iterable[Chain]) -> set[Node]:
                return self._known(place[0], statement, chains)

            found: frozenset[Node] | None = None
            if all(known([chain]) for chain in moment.bare | moment.stored):
                changed = known(moment.changed)
                for call in (self._call(node) for node in known(moment.called)):
                    changed |= call.changed | (known(moment.given) if call.alters else set())
                for call in (self._call(node) for node in known(moment.bases)):
                    changed |= call.changed if call.hooks else set()
                found = frozenset(changed)
            self._effects[place] = found
        return self._effects[place]

    def _call(self, function: Node) -> _Call:
        """What a call may change, going by the names that are stored into on its way."""
        if function not in self._calls:
            call = self._calls[function] = _Call()
            for module, number in self._follow([function], set(), set()):
                statement = self._statement((module, number))
                call.changed |= self._known(module, statement, statement.running.changed)
                call.alters |= statement.alters
                call.hooks |= statement.hooks
        return self._calls[function]

    def _known(self, module: str, statement: Statement, chains: Iterable[Chain]) -> set[Node]:
        """As :func:`_resolve`, without modules and what is not of the package."""
        found = self._resolve(module, statement, chains)
        return {(base, name) for base, name in found if name in self._found(base).names}
