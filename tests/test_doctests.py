"""The examples in docstrings run, and each public name that one builds with has one."""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "thesis_repro"
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def modules() -> list[str]:
    """All modules of the package, by their names in it."""
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(file.parts).removesuffix("__init__").rstrip(".") for file in files)


PUBLIC = (
    "data",
    "data.folders",
    "data.images",
    "data.own",
    "nets",
    "training",
    "explanations.experts",
    "explanations.influence",
    "robustness",
    "robustness.adopt",
    "robustness.attacks",
    "robustness.gloro",
    "robustness.interchange",
    "robustness.layer_facts",
    "robustness.lipschitz",
    "robustness.own",
    "robustness.relaxed",
    "robustness.stated",
    *(name for name in modules() if name.startswith(("tables", "weaknesses"))),
)
"""What these make public needs an example each."""

WITHOUT = {
    **dict.fromkeys(("Dataset", "Split", "check_images", "dealt"), "see from_arrays"),
    **dict.fromkeys(("fetch", "photos", "weights", "lfw", "roots"), "need what lies elsewhere"),
    **dict.fromkeys(("DataDamaged", "DataMissing", "Photos"), "come from others"),
    **dict.fromkeys(("UnknownLayer", "ZeroInfluence", "Nearest", "Reconstruction"), "are got"),
    **dict.fromkeys(
        ("Headline", "Line", "NotRecorded", "Rule", "Statement", "Superseded"), "are got"
    ),
    **dict.fromkeys(("Halves", "View", "descend"), "see halves, features, and pgd_l2"),
    **dict.fromkeys(("record", "record_all", "write"), "write what is recorded"),
    **dict.fromkeys(("adjoint_map", "linear_head", "linear_map", "named_layers"), "see estimate"),
    **dict.fromkeys(("orthogonal", "uniform", "zeros", "fused"), "see build"),
    "Checked": "see Condition",
    "check_all": "see tables.check",
    "content": "see data.fingerprint",
    "from_logits": "see relaxed.certify",
    "pooled": "see nearest",
    "shown": "trains a net",
    "shows": "trains a net",
    "through_training": "trains a net",
    "pushed": "see Pushed",
    "fast_bfloat16": "says what a machine has",
    "to_onnx": "needs an extra",
}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(name: str) -> None:
    failed, tried = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried and not failed


def own_names(module: ModuleType) -> list[str]:
    """Functions and classes of the project that a module makes public: `__all__`, else its own."""
    home = "thesis_repro" if hasattr(module, "__all__") else module.__name__
    names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
    values = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return [
        name
        for name, value in values.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and str(value.__module__).startswith(home)
    ]


def shown(value: object) -> bool:
    """Whether an example stands in its docstring, or calls it at the head of its module."""
    name = getattr(value, "__name__", "")
    head = inspect.getdoc(inspect.getmodule(value)) or ""
    calls = [line for line in head.splitlines() if line.startswith((">>> ", "... "))]
    return ">>> " in (inspect.getdoc(value) or "") or any(
        re.search(rf"\b{name}\(", line) for line in calls
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_has_an_example(name: str) -> None:
    module = importlib.import_module(f"thesis_repro.{name}")
    lacking = [
        public
        for public in own_names(module)
        if public not in WITHOUT and not shown(getattr(module, public))
    ]
    assert lacking == []


def test_what_goes_without_an_example_is_public_and_has_none() -> None:
    known = {}
    for name in PUBLIC:
        module = importlib.import_module(f"thesis_repro.{name}")
        known |= {public: getattr(module, public) for public in own_names(module)}
    assert set(WITHOUT) <= set(known)
    had = [name for name in WITHOUT if shown(known[name])]
    assert had == [], "take them off the list"
