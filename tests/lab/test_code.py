"""The code version changes with meaning, and with nothing else."""

import ast
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thesis_repro.lab import code

SOURCE = '''
"""A module."""
from dataclasses import dataclass

import thesis_repro.nets as architectures
from thesis_repro import training

CAPTION = "one"
LIMIT = 3
NAMES = {"a": 1}
NAMES["b"] = 2
if LIMIT > 2:
    BIG = True


def register(function):
    NAMES[function.__name__] = 3
    return function


@register
def entered():
    return 4


@dataclass
class Config:
    """What is run."""

    x: int = 1


@dataclass
class Other:
    y: int = 1


def unrelated():
    from thesis_repro import data
    return data, Other


def table():
    return CAPTION, architectures


def step(x):
    """One step."""
    return x + LIMIT + BIG


def cell(config: Config):
    # adds
    from thesis_repro.lab.cells import Result
    return step(config.x) + NAMES["a"]


def trains(config: Config):
    return training.fit(config)
'''

counter = itertools.count()
Load = Callable[..., Callable[..., object]]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No syntax tree of another test."""
    caches = (code.code_version, code._origin, code._tree, code._module_dump)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        getattr(cached, "cache_clear", lambda: None)()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a module and give one of its functions."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(source: str, function: str = "cell") -> Callable[..., object]:
        name = f"made_up_{next(counter)}"
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return getattr(importlib.import_module(name), function)

    return load


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A module.", "The module."),
        ("What is run.", "What runs."),
        ("One step.", "A step."),
        ("# adds", "# adds them"),
        ("x + LIMIT + BIG", "(x +\n        LIMIT + BIG)"),
        ('CAPTION = "one"', 'CAPTION = "two"'),
        ("y: int = 1", "y: int = 2"),
        ("return CAPTION,", "return LIMIT,"),
        ("return data, Other", "return data"),
        ("LIMIT = 3\n", 'LIMIT = 3\n"""Of what is run."""\n'),
    ],
)
def test_words_and_unreached_code_change_nothing(load: Load, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert code.code_version(load(SOURCE)) == code.code_version(load(SOURCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('step(config.x) + NAMES["a"]', 'step(config.x) - NAMES["a"]'),
        ("x + LIMIT + BIG", "x - LIMIT + BIG"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("    BIG = True", "    BIG = False"),
        ('NAMES = {"a": 1}', 'NAMES = {"a": 2}'),
        ('NAMES["b"] = 2', 'NAMES["b"] = 3'),
        ("function.__name__] = 3", "function.__name__] = 4"),
        ("return 4", "return 5"),  # what a decorator may have entered in NAMES
        ("    x: int = 1", "    x: int = 2"),
        ("@dataclass\nclass Config", "@dataclass(frozen=True)\nclass Config"),
    ],
)
def test_reached_code_changes_it(load: Load, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert code.code_version(load(SOURCE)) != code.code_version(load(SOURCE.replace(old, new)))


def _edited(monkeypatch: pytest.MonkeyPatch, module: str, edit: Callable[[str], str]) -> None:
    """Let a module of the package read as edited."""
    real = code._tree

    def tree(name: str) -> ast.Module:
        if name != module:
            return real(name)
        found = code._origin(name)
        assert found is not None
        before = found.read_text()
        after = edit(before)
        assert before != after
        return ast.parse(after)

    monkeypatch.setattr(code, "_tree", tree)
    code._module_dump.cache_clear()
    code.code_version.cache_clear()


@pytest.mark.parametrize(
    ("function", "module", "changes"),
    [
        ("trains", "thesis_repro.training", True),
        ("trains", "thesis_repro.data.sets", True),  # training imports data
        ("trains", "thesis_repro.lab.store", False),  # it carries results and decides none
        ("trains", "thesis_repro.lab.cluster", False),
        ("cell", "thesis_repro.training", False),  # nor does the cell name it
        ("cell", "thesis_repro.lab.engine", False),
        ("trains", "thesis_repro.lab.cells", False),
        ("trains", "thesis_repro.lab.places", False),  # training imports data, data its places
    ],
)
def test_modules_of_the_package_count_where_they_are_reached(
    load: Load, monkeypatch: pytest.MonkeyPatch, function: str, module: str, changes: bool
) -> None:
    found = load(SOURCE, function)
    before = code.code_version(found)
    _edited(monkeypatch, module, lambda text: f"{text}\nADDED = 1\n")
    assert (code.code_version(found) != before) is changes


def test_docstrings_and_comments_of_the_package_do_not_count(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(SOURCE, "trains")
    before = code.code_version(found)
    _edited(
        monkeypatch, "thesis_repro.training", lambda t: t.replace('"""One', '"""Now one') + "# end"
    )
    assert code.code_version(found) == before


def test_relative_imports_are_resolved() -> None:
    (node,) = ast.parse("from . import engine").body
    assert code._imported(node, "thesis_repro.lab.store") == {"thesis_repro.lab.engine"}
    assert code._imported(node, "thesis_repro.lab") == {"thesis_repro.lab.engine"}
    (node,) = ast.parse("from ..lab.engine import Cell").body
    assert code._imported(node, "thesis_repro.tables.spec") == {"thesis_repro.lab.engine"}


def test_what_has_no_source_cannot_be_a_cell() -> None:
    with pytest.raises(ValueError, match="cannot be a cell: it needs to be a function"):
        code.code_version(lambda config: config)
