"""From a table's name to its file: ``a-b-c`` is ``TABLE`` in ``experiments/a/b_c.py``.

Examples
--------
>>> module_of("gloro-vra")
'thesis_repro.experiments.gloro.vra'
>>> "gloro-vra" in names(), get("gloro-vra").spec.chapter
(True, 'robustness/gloro')
>>> nearest("gloro-vrs", ["gloro-vra", "bias-deep"])
'did you mean gloro-vra?'
"""

import importlib
import importlib.util
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thesis_repro.tables.spec import Table

EXPERIMENTS = "thesis_repro.experiments"
"""The package whose folders are chapters and whose files are tables."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
_DEFINED = re.compile(r"^TABLE\b", re.MULTILINE)


def module_of(name: str) -> str:
    """The module that defines a table, by its name alone; nothing is imported.

    Raises
    ------
    ValueError
        If this is no name of a table: ``<chapter>-<what>``.
    """
    if not NAME.fullmatch(name):
        raise _unknown(name)
    chapter, _, what = name.partition("-")
    return f"{EXPERIMENTS}.{chapter}.{what.replace('-', '_')}"


def names() -> tuple[str, ...]:
    """The names of all tables: the files under `EXPERIMENTS` that define a ``TABLE``."""
    return _names(EXPERIMENTS)


@cache
def _names(package: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(package)
    found = []
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(folder).glob("*/*.py"):
            if _DEFINED.search(path.read_text("utf-8")):
                found.append(f"{path.parent.name}-{path.stem.replace('_', '-')}")
    return tuple(sorted(found))


def get(name: str) -> "Table":
    """The table of this name.

    Raises
    ------
    ValueError
        On an unknown name; the message has the nearest ones.
    """
    module = module_of(name)
    try:
        table: Table = importlib.import_module(module).TABLE
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the file is there, and something that it imports is not
        raise _unknown(name) from None
    except AttributeError:  # a file that tables share
        raise _unknown(name) from None
    return table


def _unknown(name: str) -> ValueError:
    return ValueError(f"no table is called {name!r}; {nearest(name, names())}")


def nearest(word: str, known: "Iterable[str]") -> str:
    """What to say of an unknown word: those like it, else all there are."""
    known = list(known)
    close = get_close_matches(word, known, n=4, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(known)}"
