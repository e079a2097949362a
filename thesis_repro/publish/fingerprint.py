"""When is an executed chapter still true? A hash over everything its outputs come from.

The chapter's text; the package code it reaches by name; profile, seed and device; the
data; the recorded results it shows; the versions of Python and torch. A change anywhere else
(another chapter, a page of text, a function it does not use) leaves the hash as it was.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path

from thesis_repro.lab.reach import PACKAGE, WHOLE, Node, Package, Reached
from thesis_repro.publish.sources import Run

PIPELINE = 4  # raise it when the way a chapter is executed changes
PAGE = "page"
TABLE = "TABLE"  # what a table's module calls it


def key(root: Path, docname: str, run: Run) -> str:
    """Return the hash of one chapter, 16 hex digits.

    Parameters
    ----------
    root : Path
        The project's folder.
    docname : str
        For example ``book/robustness/gloro``.
    run : Run
        The parameters that the chapter is executed with.
    """
    text = (root / f"{docname}.md").read_text("utf-8")
    code = reached(root, text).code
    content = {
        "pipeline": PIPELINE,
        "text": _sha(text.encode()),
        "run": run.parameters(),
        "code": {name: _sha(part.encode()) for name, part in code.items()},
        "scripts": _scripts(root, code),
        "data": _data(run),
        "results": _results(root, docname, text, code),
        "python": list(sys.version_info[:2]),
        "torch": importlib.metadata.version("torch"),
    }
    return _sha(json.dumps(content, sort_keys=True).encode())[:16]


def code_of(text: str) -> str:
    """Return the Python of a MyST page's code cells, one after another."""
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    bare = (re.sub(r"\A(?:---\n.*?\n---\n|(?::[^\n]*\n)+)", "", c, flags=re.DOTALL) for c in cells)
    return "\n".join(re.sub(r"^[%!].*$", "pass", cell, flags=re.MULTILINE) for cell in bare)


def reached(root: Path, text: str) -> Reached:
    """Return the code of the package that a page's code reaches, by name.

    A table is found by its name when the code runs; so a string that is the name of a table, or
    the beginning of one up to a dash, leads to the module that the name stands for.
    """
    modules = {
        f"{path.parent.name}-{path.stem.replace('_', '-')}": f"{path.parent.name}.{path.stem}"
        for path in sorted((root / PACKAGE / "experiments").glob("*/*.py"))
    }
    keys = frozenset({f"{PACKAGE}.lab.code"})  # decides what is computed again, no result
    package = Package(root, beside={PAGE: code_of(text)}, skip=keys)

    def lead(text: str) -> list[Node]:
        begun = (name for name in modules if text.endswith("-") and name.startswith(text))
        found = [
            f"{PACKAGE}.experiments.{modules[name]}" for name in {text, *begun} & modules.keys()
        ]
        return [(module, TABLE) for module in found if package.defines(module, TABLE)]

    found = package.reach([(PAGE, WHOLE)], lead)
    found.statements.pop(PAGE, None)
    return found


def _scripts(root: Path, code: dict[str, str]) -> dict[str, str]:
    """Hash the scripts of moving figures, where the chapter has one."""
    if f"{PACKAGE}.figures.moving" not in code:
        return {}
    return {
        path.name: _sha(path.read_bytes())
        for path in sorted((root / PACKAGE / "figures" / "moving").glob("*.js"))
    }


def _data(run: Run) -> dict[str, str]:
    """Hash the data sets a run may read: what ships for quick, all that are here for the rest."""
    from thesis_repro import data

    names = [n for n in data.NAMES if n == "mnist-5k" or run.profile != "quick"]
    return {name: data.fingerprint(name) for name in names if data.available(name)}


def _results(root: Path, docname: str, text: str, code: dict[str, str]) -> dict[str, str]:
    """Hash the recorded tables, figures and models of the chapter's stem, or named in its code.

    Of the published values, the lines of those tables; of the headlines, the chapter's. Code that
    looks for a committed model to stand for a training may find any of them.
    """
    named = "\n".join([text, *code.values()])
    stem, results = docname.rpartition("/")[2], root / "results"

    def shown(name: str) -> bool:
        return name.startswith(f"{stem}-") or name in named

    hashes = {}
    for path in sorted(results.glob("*/*")):
        folder = path.parent.name
        any_model = folder == "models" and f"{PACKAGE}.robustness.models" in code
        if any_model or shown(path.stem if folder in ("figures", "models") else folder):
            hashes[path.relative_to(root).as_posix()] = _sha(path.read_bytes())
    published = results / "published.csv"
    if published.is_file():
        lines = published.read_text("utf-8").splitlines()
        mine = [line for line in lines if shown(line.partition(",")[0])]
        hashes["results/published.csv"] = _sha("\n".join(mine).encode())
    headlines = results / "headlines.csv"
    if headlines.is_file():
        chapter = docname.removeprefix("book/") + ","
        own = [one for one in headlines.read_text("utf-8").splitlines() if one.startswith(chapter)]
        hashes["results/headlines.csv"] = _sha("\n".join(own).encode())
    return hashes


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
