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
PUBLIC = (
    "data",
    "data.folders",
    "data.images",
    "data.own",
    "nets",
    "training",
    "explanations.influence",
    "robustness",
    "robustness.adopt",
    "robustness.gloro",
    "robustness.interchange",
    "robustness.lipschitz",
    "robustness.own",
    "robustness.relaxed",
    "robustness.stated",
    "weaknesses.leakage",
    "weaknesses.leakage.marker",
    "weaknesses.membership",
    "weaknesses.membership.own",
)
"""What `__all__` of these names needs an example each."""

OTHERS = ("nets.blocks", "robustness.guarantees", "weaknesses.membership.one_run")
WITHOUT = {
    **dict.fromkeys(("Dataset", "Split", "check_images", "dealt"), "see from_arrays"),
    **dict.fromkeys(("fetch", "photos", "weights", "lfw", "roots"), "need what lies elsewhere"),
    **dict.fromkeys(("DataDamaged", "DataMissing", "Photos"), "come from others"),
    **dict.fromkeys(("UnknownLayer", "ZeroInfluence", "Nearest", "Reconstruction"), "are got"),
    **dict.fromkeys(("adjoint_map", "linear_head", "linear_map", "named_layers"), "see estimate"),
    **dict.fromkeys(("orthogonal", "uniform", "zeros", "fused"), "see build"),
    "content": "see data.fingerprint",
    "from_logits": "see relaxed.certify",
    "pooled": "see nearest",
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
    """Functions and classes of the project that a module makes public."""
    found = []
    for public in module.__all__:
        value = getattr(module, public)
        if (inspect.isfunction(value) or inspect.isclass(value)) and str(
            value.__module__
        ).startswith("thesis_repro"):
            found.append(public)
    return found


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
