"""The pages of the API show what a user's program needs: what the examples use, what is public."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^\.\. automodule:: ([\w.]+)\n((?: +:.*\n)*)", re.M)
PAGES = "".join(p.read_text("utf-8") for p in (ROOT / "book/reference/api").glob("*.md"))
EXAMPLES = re.findall(
    r"literalinclude\} ../../(examples/\w+\.py)",
    (ROOT / "book/reference/own-net.md").read_text("utf-8"),
)
PACKAGES = ("data", "nets", "robustness", "tables", "training")
PACKAGES += ("robustness.checker", "weaknesses.leakage", "weaknesses.membership")


def members(name: str, options: str) -> list[Any]:
    """What autodoc shows of a module: what is listed, else `__all__`, else what it defines."""
    module = importlib.import_module(name)
    listed = re.search(r":members: (.+)", options)
    if listed:
        return [getattr(module, one) for one in listed[1].split(", ")]
    if hasattr(module, "__all__"):
        return [getattr(module, one) for one in module.__all__]
    own = vars(module).items()
    return [one for key, one in own if getattr(one, "__module__", name) == name and key[0] != "_"]


def used(code: ast.AST) -> set[tuple[str, str]]:
    """The module and the name of all that a program imports of the package, or takes by a dot."""
    modules, found = {}, set()
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thesis_repro"):
            for alias in node.names:
                thing = getattr(importlib.import_module(node.module or ""), alias.name)
                if isinstance(thing, ModuleType):
                    modules[alias.asname or alias.name] = thing.__name__
                else:
                    found.add((node.module or "", alias.name))
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            found.add((modules[ast.unparse(node.value)], node.attr))
    return found


@pytest.fixture(scope="module")
def shown() -> set[int]:
    """All that the pages show, by identity: a name may be imported from several modules."""
    return {id(one) for name, options in BLOCK.findall(PAGES) for one in members(name, options)}


def absent(names: set[tuple[str, str]], shown: set[int]) -> list[str]:
    things = {f"{m}.{name}": getattr(importlib.import_module(m), name) for m, name in names}
    return sorted(name for name, thing in things.items() if id(thing) not in shown)


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_an_example_uses_is_on_a_page_of_the_api(example: str, shown: set[int]) -> None:
    names = used(ast.parse((ROOT / example).read_text("utf-8")))
    assert names
    assert absent(names, shown) == [], "book/reference/api/*.md: add an automodule block, or a name"


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_lists_is_on_a_page_of_the_api(package: str, shown: set[int]) -> None:
    module = importlib.import_module(f"thesis_repro.{package}")
    names = {(module.__name__, name) for name in module.__all__}
    assert absent(names, shown) == [], "book/reference/api/*.md: add an automodule block, or a name"


def test_what_is_on_no_page_is_seen(shown: set[int]) -> None:
    code = (
        "from thesis_repro import robustness\nfrom thesis_repro.lab import sealed\nsealed.write\n"
    )
    names = used(ast.parse(f"{code}robustness.certify\n"))
    assert names == {("thesis_repro.lab.sealed", "write"), ("thesis_repro.robustness", "certify")}
    assert absent(names, shown) == ["thesis_repro.lab.sealed.write"]
