"""The examples in docstrings run; the modules for builders have one on each public name."""

import doctest
import importlib
import inspect

import pytest

BUILDERS = (
    "data.folders",
    "data.images",
    "data.own",
    "robustness.adopt",
    "robustness.interchange",
    "robustness.own",
    "robustness.stated",
    "weaknesses.leakage.marker",
    "weaknesses.membership.own",
)
OTHERS = ("data", "explanations.influence", "nets.blocks", "robustness.guarantees")
OTHERS += ("weaknesses.membership.one_run",)
WITHOUT = {
    "to_onnx": "needs an extra",
    "check_images": "see images",
    "content": "see data.fingerprint",
    "dealt": "see from_arrays",
    "Train": "a type",
}


@pytest.mark.parametrize("name", [*BUILDERS, *OTHERS])
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(f"thesis_repro.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed


@pytest.mark.parametrize("name", BUILDERS)
def test_each_public_name_has_an_example(name: str) -> None:
    module = importlib.import_module(f"thesis_repro.{name}")
    lacking = [
        public
        for public in module.__all__
        if public not in WITHOUT and ">>>" not in (inspect.getdoc(getattr(module, public)) or "")
    ]
    assert lacking == []
