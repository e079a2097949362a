"""Each type of layer that is certified has all its facts, and they are those that are used."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, Sum
from thesis_repro.robustness import (
    certificate,
    estimates,
    layer_facts,
    layer_rounding,
    rules,
    stated,
    steps,
)
from thesis_repro.robustness.checker import nets as checked
from thesis_repro.robustness.layers import Shape

IMAGE: Shape = (2, 4, 4)
LAYERS: dict[type[nn.Module], tuple[nn.Module, Shape]] = {
    nn.Linear: (nn.Linear(3, 2), (3,)),
    nn.Conv2d: (nn.Conv2d(2, 2, 3), IMAGE),
    nn.BatchNorm1d: (nn.BatchNorm1d(3), (3,)),
    nn.BatchNorm2d: (nn.BatchNorm2d(2), IMAGE),
    nn.MaxPool2d: (nn.MaxPool2d(3, 1), IMAGE),
    nn.AvgPool2d: (nn.AvgPool2d(2), IMAGE),
    nn.ReLU: (nn.ReLU(), IMAGE),
    nn.Identity: (nn.Identity(), IMAGE),
    nn.Dropout: (nn.Dropout(), IMAGE),
    nn.Flatten: (nn.Flatten(), IMAGE),
    nn.PixelUnshuffle: (nn.PixelUnshuffle(2), IMAGE),
    MinMax: (MinMax(), IMAGE),
    Scale: (Scale(torch.tensor(2.0), torch.tensor(0.0)), IMAGE),
    Residual: (Residual(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)), IMAGE),
    Sum: (Sum(nn.Sequential(nn.Identity()), nn.Sequential(nn.ReLU())), IMAGE),
    LinearResidual: (LinearResidual(2, 0.5), IMAGE),
    nn.Sequential: (nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()), IMAGE),
}


@pytest.mark.parametrize("kind", sorted(rules.RULES, key=lambda kind: kind.__name__))
def test_every_type_with_a_bound_has_all_facts(kind: type[nn.Module]) -> None:
    assert layer_facts.lacking(kind) == ()


@pytest.mark.parametrize("kind", sorted(rules.RULES, key=lambda kind: kind.__name__))
def test_a_training_estimates_it_as_is_said(kind: type[nn.Module]) -> None:
    layer, shape = LAYERS[kind]
    found = {factor.kind for factor in estimates.factors(nn.Sequential(layer), shape)}
    said = layer_facts.facts_of(kind).estimate
    # what does not grow a vector has no factor; a Sequential those of the layers inside
    assert found == {"inside": {"power"}}.get(str(said), {said}) or (said == "fixed" and not found)


def test_what_rounds_by_no_step_is_exact_in_float32() -> None:
    for kind in layer_facts.EXACT:
        layer, shape = LAYERS[kind]
        x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
        layer = layer.eval()
        assert torch.equal(layer(x).double(), layer(x.double()))


class Doubling(nn.Module):
    """A layer of somebody's own."""


PLANTED = {
    "bound": (rules.RULES, Doubling, lambda *given: (2.0, "by hand")),
    "rounding": (layer_rounding.STEPS, Doubling, lambda *given: None),
    "estimate": (layer_facts.ESTIMATES, Doubling, "fixed"),
    "way_in": (steps.MODULES, Doubling, lambda layer, shape: [layer]),
    "description": (certificate.GEOMETRY, Doubling, ()),
    "maker": (stated.MAKERS, "Doubling", lambda about, own, inner: Doubling()),
    "check": (checked.KINDS, "Doubling", (checked.Layer, {})),
}


@pytest.mark.parametrize("absent", PLANTED)
def test_a_type_that_lacks_one_fact_is_told_which(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fact, (table, key, value) in PLANTED.items():
        if fact != absent:
            monkeypatch.setitem(table, key, value)
    assert layer_facts.lacking(Doubling) == (f"{absent}: {layer_facts.PLACES[absent]}",)
    monkeypatch.setitem(*PLANTED[absent])
    assert layer_facts.lacking(Doubling) == ()


def test_the_places_are_where_they_are_said() -> None:
    assert {fact.name for fact in fields(layer_facts.Facts)} == set(layer_facts.PLACES)
    package = Path(rules.__file__).parents[1]
    for place in layer_facts.PLACES.values():
        name, _, rest = place.partition(" in ")
        text = (package / rest.split(",")[0]).read_text("utf-8")
        assert f"\n{name}: " in text or f"\ndef {name}(" in text, place
