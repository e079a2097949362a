"""The table of axioms: each property can hold, and can fail."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro.experiments.influence import axioms as tables
from thesis_repro.explanations import axioms
from thesis_repro.explanations.axioms import Case
from thesis_repro.explanations.influence import internal_influence
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Result
from thesis_repro.tables.estimate import Estimate


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()
    x = torch.rand(12, 6)
    return Case(net, x, net(x).argmax(1), ("0", "1", "2"), points=200)


@pytest.mark.parametrize("name", [n for n in tables.CHECKS if "Captum" not in n])
def test_each_property_holds_on_a_small_net(case: Case, name: str) -> None:
    check = tables.CHECKS[name]
    errors = check.measure(case)
    assert 100 * (errors <= check.bound).double().mean() >= check.share


@pytest.mark.parametrize("name", [n for n in tables.CHECKS if "Captum" in n])
def test_captum_agrees(case: Case, name: str) -> None:
    pytest.importorskip("captum")
    assert tables.CHECKS[name].measure(case).max() <= tables.CAPTUM


@pytest.mark.parametrize(
    "name", ["linear agreement", "distributional marginality", "slice invariance", "consistency"]
)
def test_each_axiom_sees_another_value(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second measurement is off by a hundredth."""
    measured: list[torch.Tensor] = []

    def wrong(*arguments: Any, **options: Any) -> torch.Tensor:
        measured.append(internal_influence(*arguments, **options))
        return measured[-1] + 0.01 * (len(measured) % 2)

    one = Case(case.net, case.x[:1], case.labels[:1], case.slices, points=5)
    monkeypatch.setattr(axioms, "internal_influence", wrong)
    check = tables.CHECKS[name]
    assert check.measure(one).max() > check.bound


def test_completeness_needs_enough_points(case: Case) -> None:
    coarse = Case(case.net, 20 * case.x - 10, case.labels, case.slices, points=1)
    assert axioms.completeness(coarse).max() > 1e-2


def test_an_error_is_seen(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the line that do not sum to one break completeness and the table says no."""
    true = axioms.distributions.nodes

    def wrong(rule: str, points: int) -> tuple[np.ndarray, np.ndarray]:
        at, weight = true(rule, points)
        return at, 1.1 * weight

    monkeypatch.setattr(axioms.distributions, "nodes", wrong)
    monkeypatch.setattr(tables, "case", lambda config: case)
    found = tables.axiom(tables.AxiomConfig("completeness, 95th percentile", "digits", 12)).values
    assert found["holds"] == "no"
    assert found["median"] > 1e-2


def test_one_seed_that_fails_is_enough() -> None:
    good = {"median": 1e-7, "largest": 2e-7, "bound": 1e-6, "share": 100.0, "holds": "yes"}
    bad = good | {"largest": 3e-3, "holds": "no"}
    row = tables.row("digits", "saliency")
    within = [{"k": 10, "n": 10}, {"k": 10, "n": 10}, {"k": 9, "n": 10}]
    seeds = [Result(v | {"within": w}) for v, w in zip((good, good, bad), within, strict=True)]
    record = tables.assemble(profiles.profile("paper"), {row: seeds})[row]
    assert record.values["holds"] == "no"
    assert record.values["largest"] == Estimate(3e-3)  # no means over seeds: no intervals
    assert record.values["bound"] == Estimate(1e-6) and record.values["share"] == Estimate(100.0)
    assert record.estimate("within").value == pytest.approx(290 / 3)
    good_alone = tables.assemble(profiles.profile("paper"), {row: seeds[:2]})[row]
    assert good_alone.values["holds"] == "yes"


def test_the_plan() -> None:
    quick = [row for row, _ in tables.cells(profiles.profile("quick"))]
    asked = [*(name for name in tables.CHECKS if "Captum" not in name), *tables.RIVALS]
    assert quick == [tables.row("digits", name) for name in asked]
    paper = {row for row, cell in tables.cells(profiles.profile("paper")) if cell is not None}
    assert paper <= set(tables.TABLE.spec.rows)
    assert set(quick) <= paper


def test_a_measure_that_keeps_its_axiom_breaks_the_condition() -> None:
    rows = pd.DataFrame({"property": [*tables.RIVALS, "consistency"], "within": 0.0, "median": 0.1})
    found = tables.conditions(rows)
    assert len(found) == len(tables.RIVALS) and all(c.holds for c in found)
    assert found[-1].says == "conductance breaks consistency"
    assert [c.holds for c in tables.conditions(rows.assign(within=100.0))] == [False] * len(found)
    assert {c.verdict for c in tables.conditions(rows[-1:])} == {"not judged"}
