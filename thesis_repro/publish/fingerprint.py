"""When is an executed chapter still true? A hash over everything its outputs come from.

The chapter's text; the package code it can reach through imports; profile, seed and device; the
data; the recorded results it shows; the versions of Python and torch. A change anywhere else
(another chapter, a page of text, a table module it does not use) leaves the hash as it was.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from thesis_repro.publish.sources import Run

PACKAGE = "thesis_repro"
PIPELINE = 1  # raise it when the way a chapter is executed changes
LAZY = re.compile(rf"({PACKAGE}(?:\.\w+)+)(?::\w+)?")  # "thesis_repro.experiments.gloro.vra:VRA"


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
    modules = reachable(root, text)
    content = {
        "pipeline": PIPELINE,
        "text": _sha(text.encode()),
        "run": run.parameters(),
        "code": {name: _meaning(path.read_text("utf-8")) for name, path in modules.items()},
        "data": _data(run),
        "results": _results(root, docname, text, modules),
        "python": list(sys.version_info[:2]),
        "torch": importlib.metadata.version("torch"),
    }
    return _sha(json.dumps(content, sort_keys=True).encode())[:16]


def code_of(text: str) -> str:
    """Return the Python of a MyST page's code cells, one after another."""
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    bare = (re.sub(r"\A(?:---\n.*?\n---\n|(?::[^\n]*\n)+)", "", c, flags=re.DOTALL) for c in cells)
    return "\n".join(re.sub(r"^[%!].*$", "pass", cell, flags=re.MULTILINE) for cell in bare)


def reachable(root: Path, text: str) -> dict[str, Path]:
    """Return the modules of the package that a page's code can reach, by name.

    Imports are followed wherever they stand, inside functions too. A registry that maps a name to
    ``"module:ATTRIBUTE"`` is followed for the names that the page's code writes.
    """
    code = code_of(text)
    found: dict[str, Path] = {}
    waiting = list(_imported(ast.parse(code), PACKAGE, code))
    while waiting:
        name = waiting.pop()
        path = _file(root, name)
        if name in found or path is None:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imported(ast.parse(path.read_text("utf-8")), package, code)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return dict(sorted(found.items()))


def _imported(tree: ast.AST, package: str, code: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(PACKAGE))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, *filter(None, [base])])
            if base.split(".")[0] == PACKAGE:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Dict):
            for name, value in zip(node.keys, node.values, strict=True):
                if isinstance(name, ast.Constant) and isinstance(value, ast.Constant):
                    lazy = LAZY.fullmatch(str(value.value))
                    if lazy and str(name.value) in code:
                        yield lazy[1]


def _file(root: Path, name: str) -> Path | None:
    path = root.joinpath(*name.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


@cache
def _meaning(source: str) -> str:
    """Hash a module's syntax tree without docstrings: comments and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return _sha(ast.dump(tree).encode())


def _data(run: Run) -> dict[str, str]:
    """Hash the data sets a run may read: what ships for quick, all that are here for the rest."""
    from thesis_repro import data

    names = [n for n in data.NAMES if n == "mnist-5k" or run.profile != "quick"]
    return {name: data.fingerprint(name) for name in names if data.available(name)}


def _results(root: Path, docname: str, text: str, modules: dict[str, Path]) -> dict[str, str]:
    """Hash the recorded tables, figures and models of the chapter's stem, or named in its code."""
    # a package's __init__ may list every name there is
    paths = [path for path in modules.values() if path.name != "__init__.py"]
    named = "\n".join([text, *(path.read_text("utf-8") for path in paths)])
    stem = docname.rpartition("/")[2]
    hashes = {}
    for path in sorted((root / "results").rglob("*")):
        folder = path.parent.name
        name = path.stem if folder in ("figures", "models") else folder
        if path.is_file() and (name.startswith(f"{stem}-") or name in named):
            hashes[path.relative_to(root).as_posix()] = _sha(path.read_bytes())
    return hashes


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
