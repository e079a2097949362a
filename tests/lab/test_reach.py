"""What a key covers: all that a function reaches by name, and nothing else."""

import importlib
import itertools
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from thesis_repro.lab.code import MACHINERY, classes_of, code_version
from thesis_repro.lab.reach import PACKAGE, ROOT, Package
from thesis_repro.robustness.guarantees import top
from thesis_repro.robustness.recipes import Recipe, Training

# a package with one of each thing that names can do

FILES = {
    "__init__.py": "",
    "words.py": '"""Words."""\n\nLIMIT = 3\nOTHER = 4\n\n\ndef spoken(x):\n    return x + LIMIT\n',
    "front/__init__.py": "from pack.front.inner import depth as deep, wide\n",
    "front/inner.py": "def depth():\n    return 1\n\n\ndef wide():\n    return 2\n",
    "kinds.py": (
        "RULES = {}\nLATER = []\n\n\n"
        "def rule(kind):\n    def enter(f):\n        RULES[kind] = f\n        return f\n"
        "    return enter\n\n\n"
        "def given(registry, f):\n    registry.append(f)\n    return f\n\n\n"
        "class Base:\n    heirs = []\n\n"
        "    def __init_subclass__(cls):\n        Base.heirs.append(cls)\n"
    ),
    "filled.py": (
        "from pack.kinds import LATER, Base, given, rule\n\n\n"
        "@rule(int)\ndef whole(x):\n    return 10\n\n\n"
        "def later(x):\n    return 20\n\n\nUSED = given(LATER, later)\n\n\n"
        "class Heir(Base):\n    size = 30\n\n\ndef apart():\n    return 40\n"
    ),
    "patch.py": "import pack.words\n\npack.words.OTHER = 5\n",
    "cells.py": '''
import functools as tools
import pack.front.inner as inner
from pack import front, kinds, words
from pack import filled, patch
from . import words as near

if words.LIMIT > 2:
    def chosen():
        return "big"
else:
    def chosen():
        return "small"

STATE = {"a": 1}
STATE["b"] = 2
LOOSE = 7


def alias(x):
    return inner.wide() + x


def exported(x):
    return front.deep()


def inside(x):
    import pack.front.inner
    return pack.front.inner.wide()


def hidden(words):
    from pack.front import inner as words
    return words.wide()


def relative(x):
    return near.spoken(x)


def looked_up(x):
    return kinds.RULES[type(x)](x)


def listed(x):
    return [f(x) for f in kinds.LATER]


def heirs(x):
    return kinds.Base.heirs


def patched(x):
    return words.OTHER


def conditional(x):
    return chosen()


def dynamic(x):
    return getattr(words, x)


def stateful(x):
    return STATE[x]


def shadowed(LOOSE):
    return LOOSE, [LOOSE for LOOSE in range(3)]


def after(x):
    return [LOOSE for LOOSE in range(3)] + [LOOSE]


def outside(x):
    return tools.reduce(max, x)


def deferred(x):
    """Tabulate."""
    return "table-one"
''',
    "tables/one.py": "WIDTH = 1\nTABLE = WIDTH\nREST = 2\n",
}


def version(tmp_path: Path, files: Mapping[str, str], function: str) -> str:
    root = tmp_path / str(next(counter))
    for name, text in files.items():
        path = root / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    package = Package(root, name="pack")
    lead = {"table-one": [("pack.tables.one", "TABLE")]}
    return package.reach([("pack.cells", function)], lambda text: lead.get(text, [])).version


counter = itertools.count()


@pytest.mark.parametrize(
    ("function", "file", "old", "new", "changes"),
    [
        ("alias", "front/inner.py", "return 2", "return 3", True),
        ("alias", "front/inner.py", "return 1", "return 3", False),
        ("alias", "cells.py", "front.inner as inner", "words as inner", True),
        ("exported", "front/inner.py", "return 1", "return 3", True),
        ("exported", "front/inner.py", "return 2", "return 3", False),
        ("exported", "front/__init__.py", "depth as deep, wide", "wide as deep, depth", True),
        ("inside", "front/inner.py", "return 2", "return 3", True),
        ("inside", "front/inner.py", "return 1", "return 3", False),
        ("hidden", "front/inner.py", "return 2", "return 3", True),
        ("relative", "words.py", "LIMIT = 3", "LIMIT = 1", True),
        ("relative", "words.py", "OTHER = 4", "OTHER = 1", False),
        ("relative", "words.py", '"""Words."""', "# words", False),
        ("relative", "words.py", "x + LIMIT", "(x +\n        LIMIT)", False),
        ("looked_up", "filled.py", "return 10", "return 11", True),
        ("looked_up", "filled.py", "return 40", "return 41", False),
        ("looked_up", "kinds.py", "RULES[kind] = f", "RULES[kind] = None", True),
        ("listed", "filled.py", "return 20", "return 21", True),
        ("listed", "filled.py", "return 10", "return 11", False),
        ("heirs", "filled.py", "size = 30", "size = 31", True),
        ("heirs", "filled.py", "return 20", "return 21", False),
        ("patched", "patch.py", "= 5", "= 6", True),
        ("relative", "patch.py", "= 5", "= 6", False),
        ("relative", "patch.py", "pack.words.OTHER = 5", "import json; json.loads = 5", True),
        ("relative", "patch.py", "pack.words.OTHER = 5", "import json; json.loads('5')", True),
        ("conditional", "cells.py", '"small"', '"tiny"', True),
        ("conditional", "words.py", "LIMIT = 3", "LIMIT = 1", True),
        ("dynamic", "words.py", "OTHER = 4", "OTHER = 1", True),
        ("stateful", "cells.py", '["b"] = 2', '["b"] = 3', True),
        ("shadowed", "cells.py", "LOOSE = 7", "LOOSE = 8", False),
        ("after", "cells.py", "LOOSE = 7", "LOOSE = 8", True),
        ("outside", "cells.py", "import functools as tools", "import builtins as tools", True),
        ("deferred", "tables/one.py", "WIDTH = 1", "WIDTH = 3", True),
        ("deferred", "tables/one.py", "REST = 2", "REST = 3", False),
        ("deferred", "cells.py", '"""Tabulate."""', '"""Show."""', False),
    ],
)
def test_names_are_followed(
    tmp_path: Path, function: str, file: str, old: str, new: str, changes: bool
) -> None:
    assert FILES[file].count(old) == 1
    edited = {**FILES, file: FILES[file].replace(old, new)}
    same = version(tmp_path, FILES, function) == version(tmp_path, edited, function)
    assert same is not changes


def test_a_star_import_is_refused(tmp_path: Path) -> None:
    files = {**FILES, "front/__init__.py": "from pack.front.inner import *\n"}
    with pytest.raises(ValueError, match=r"pack\.front, line 1: name what is imported from pack"):
        version(tmp_path, files, "exported")


# the trainings of the book


def defined(folder: str, *names: str) -> list[tuple[str, str]]:
    """Where functions and classes are defined, in one of the files of a folder."""
    found = []
    for name in names:
        start = re.compile(rf"^(def|class) {name}\b", re.MULTILINE)
        paths = (ROOT / PACKAGE / folder).glob("*.py")
        (path,) = (path for path in paths if start.search(path.read_text("utf-8")))
        found.append((".".join([PACKAGE, *folder.split("/"), path.stem]), name))
    return found


GLORO, MEMBERSHIP, LEAKAGE, BIAS = "gloro", "membership", "leakage", "bias"
TRAIN = [(f"{PACKAGE}.training.named", "train")]
TRAININGS = {
    GLORO: TRAIN + defined("robustness", "Training", "Recipe", "Guarantee"),
    MEMBERSHIP: TRAIN + defined("weaknesses/membership", "Victim"),
    LEAKAGE: defined("experiments/leakage", "model", "ModelConfig", "Setup"),
    BIAS: defined("experiments/bias", "synthetic", "SyntheticConfig"),
}

IDLE = {
    "data/download.py": ("http://cs231n", "https://cs231n"),  # of Tiny-ImageNet
    "robustness/attacks.py": ("rounds: int = 12", "rounds: int = 13"),  # of `closest`
    "robustness/banded.py": ("LARGEST_BAND = ", "LARGEST_BAND = 1 + "),
    "robustness/margins.py": ("SAFE = 2.0**-50", "SAFE = 2.0**-49"),
    "experiments/gloro/vra.py": ("caption=", 'caption="In short: " + '),
    "robustness/recipes.py": ('"""The net of a recipe', '"""One net of a recipe'),
}


@dataclass(frozen=True)
class Copy:
    """A copy of the package whose files can be edited."""

    root: Path

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / PACKAGE / file
        before = path.read_text("utf-8")
        assert old in before
        path.write_text(before.replace(old, new, 1))

    def versions(self) -> dict[str, str]:
        package = Package(self.root, skip=MACHINERY)
        return {name: package.reach(starts).version for name, starts in TRAININGS.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    shutil.copytree(
        ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__")
    )
    return Copy(tmp_path)


def test_no_training_depends_on_a_proof_an_attack_a_download_or_a_caption(copy: Copy) -> None:
    before = copy.versions()
    for file, (old, new) in IDLE.items():
        copy.edit(file, old, new)
    assert copy.versions() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("training/loop.py", "model.train()", "model.eval()", {GLORO, MEMBERSHIP, LEAKAGE}),
        ("nets/minmax.py", "kept = first >= second", "kept = first > second", None),
        ("training/augment.py", "CROP = 4", "CROP = 5", {GLORO}),
        ("robustness/relaxed.py", "logits.amax(1) - best", "logits.amax(1) + best", {GLORO}),
        ("robustness/rules.py", "windows = 1", "windows = 2", {GLORO, LEAKAGE}),  # of max-pooling
        ("robustness/guarantees.py", "self, classes: int", "self, classes: int = 2", {GLORO}),
        ("lab/store.py", "import json", "import json, re", set()),  # it carries results
        ("weaknesses/bias/gaussian.py", "class Mixture:", "class Mixture(object):", {BIAS}),
    ],
)
def test_each_training_depends_on_what_decides_its_weights(
    copy: Copy, file: str, old: str, new: str, changed: set[str] | None
) -> None:
    before = copy.versions()
    copy.edit(file, old, new)
    after = copy.versions()
    expected = {GLORO, MEMBERSHIP, LEAKAGE} if changed is None else changed
    assert {name for name in before if after[name] != before[name]} == expected


# the version of a function

SOURCE = """
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    x: int = 1

    def value(self):
        return self.x + 5


@dataclass(frozen=True)
class Config:
    part: Part = Part()
    others: tuple = ()


def cell(config):
    return config.part.value()
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module, import it, and give the version of its cell."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(source: str) -> str:
        (tmp_path / "made_up.py").write_text(source)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "made_up", raising=False)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        module = importlib.import_module("made_up")
        return code_version(module.cell, *classes_of(module.Config()))

    return load


def test_methods_of_the_configuration_count(load: Callable[[str], str]) -> None:
    assert load(SOURCE) == load(SOURCE + "\n# a comment\n")
    assert load(SOURCE) != load(SOURCE.replace("self.x + 5", "self.x + 6"))


def test_the_classes_of_a_configuration_are_found_in_its_parts() -> None:
    recipe = Recipe("2c2f", 0.1, 0.1, 1, 1, 8, guarantee=top(2))
    names = [kind.__name__ for kind in classes_of({"a": [Training("mnist-5k", recipe)]})]
    assert names == ["Guarantee", "Recipe", "Training"]


def test_what_has_no_source_cannot_be_a_cell() -> None:
    with pytest.raises(ValueError, match="cannot be a cell: it needs to be a function"):
        code_version(lambda config: config)
