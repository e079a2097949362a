"""The table arc-threats: odds ratios against statsmodels' own model, a cell, directions."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.arc import judged, threats
from thesis_repro.experiments.arc.threats import THREATS, ThreatsConfig
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet, models


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("arc-threats") is threats.TABLE
    plan = threats.cells(profile("quick"))
    assert [row[1] for row, _ in plan] == list(THREATS)


def drawn(direct: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points that survive by confidence and, by `direct` in log odds, by being certified."""
    rng = np.random.default_rng(0)
    confidence = rng.normal(0, 1.5, n)
    certified = rng.random(n) < 1 / (1 + np.exp(-2 * confidence))
    odds = confidence + direct * certified
    return rng.random(n) < 1 / (1 + np.exp(-odds)), certified, confidence


@pytest.mark.parametrize("direct", [0.0, 1.0])
def test_equal_confidence_takes_off_what_confidence_explains(direct):
    kept, certified, confidence = drawn(direct)
    found = threats.compared(kept, certified, confidence)
    assert found["odds"][1] > np.exp(direct) * 1.5  # confounded
    value, low, high = found["equal"]
    model = sm.Logit(kept, sm.add_constant(np.column_stack([certified, confidence]))).fit(disp=0)
    assert np.log(value) == pytest.approx(model.params[1], abs=0.15)
    assert (low > 1) is (direct > 0) and low < value < high


def test_counts_without_both_kinds_give_finite_odds_and_no_pooled_ones():
    kept, certified = np.ones(40, bool), np.arange(40) < 20
    found = threats.compared(kept, certified, np.arange(40.0))
    assert np.isfinite(found["odds"]).all() and "equal" not in found


def test_counts_stand_where_they_should():
    kept = np.array([True, True, True, False, False, False])
    certified = np.array([True, True, False, True, False, False])
    assert threats.counted(kept, certified).tolist() == [[2, 1], [1, 2]]


@pytest.fixture
def setting(monkeypatch) -> None:
    """Points on a line: a linear net on four pixels, some of them near its boundary."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        body[1].weight.copy_(torch.stack([torch.ones(64), -torch.ones(64)]))
        body[1].bias.copy_(torch.tensor([-32.0, 32.0]))
    net = GloroNet(body, 0.5, (1, 8, 8)).eval()
    x = torch.linspace(0.3, 0.7, 60).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    y = (x[:, 0, 0, 0] < 0.5).long()
    monkeypatch.setattr(data, "held_out", lambda name: Split(x, y))
    monkeypatch.setattr(models, "trained", lambda _: net)


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.usefixtures("setting")
def test_the_cell_counts_right_points_by_certificate(name):
    training = judged.subjects(profile("quick"))[0][1]
    found = threats.surviving(ThreatsConfig(training, name, 60, 10)).values
    assert found["certified"]["n"] + found["uncertified"]["n"] == 60
    assert 0 < found["uncertified"]["n"] < 30
    if name == threats.LINF:  # all within 0.1 of the boundary fall, and no other
        assert found["certified"]["k"] + found["uncertified"]["k"] == 30
        assert found["uncertified"]["k"] == 0


@pytest.mark.parametrize("dataset", ["mnist-5k", "mnist", "cifar10"])
def test_each_threat_is_as_large_as_its_title_and_the_caption_say(dataset, monkeypatch):
    made = []

    def stub(module, name: str, at: int) -> None:
        """An attack that notes its size, which is its argument of this number."""
        monkeypatch.setattr(module, name, lambda *given, **_: made.append((name, given[at])))

    attacks = ("linf", "l1", "patch", "turned")
    for name in attacks:
        stub(threats.threats, name, 3)
    for name in ("_noisy", "_blurred"):
        stub(threats, name, 1)
    training = replace(judged.subjects(profile("quick"))[0][1], dataset=dataset)
    for name in THREATS:
        threats.attacked(None, None, None, ThreatsConfig(training, name, 2, 1))
    names, (linf, l1, patch, turned, noise, blur) = zip(*made, strict=True)
    assert names == (*attacks, "_noisy", "_blurred")
    assert f"patch of {patch} × {patch}" == threats.PATCH
    assert f"turned by up to {turned:g}°" == threats.TURNED
    digits = (
        f"L∞ {linf:g} and L1 {l1:g} on digits",
        f"noise {noise:g} and ",
        f"blur of {blur:g} and ",
    )
    colours = (
        f"{255 * linf:g}/255 and {l1:g} on CIFAR-10",
        f" and {noise:g}, blur",
        f" and {blur:g} pixels",
    )
    for size in colours if dataset == "cifar10" else digits:
        assert size in threats.TABLE.spec.caption


def frame() -> pd.DataFrame:
    found = pd.DataFrame({"threat": THREATS, "odds": 2.0, "odds_low": 1.2, "odds_high": 3.0})
    return found.assign(equal=2.0, equal_low=1.1, equal_high=3.0)


def test_the_directions_can_fail():
    def found(**change):
        return [c.holds for c in threats.conditions(frame().assign(**change))]

    assert found() == [True, True]
    assert found(odds_low=[1.2, 1.2, 0.9, 1.2, 1.2, 1.2]) == [None, True]
    below = {"odds": 0.8, "odds_low": 0.7, "odds_high": [3.0, 3.0, 0.9, 3.0, 3.0, 3.0]}
    assert found(**below) == [False, True]
    assert found(equal_low=[1.1, 0.9, 0, 0, 0, 0]) == [True, None]
    assert found(equal_low=[1.1, 1.1, 0, 0, 0, 0]) == [True, True]
    assert found(equal_low=0.8, equal_high=[3.0, 0.9, 3, 3, 3, 3]) == [True, False]


def test_a_ratio_that_could_not_be_taken_decides_nothing():
    nowhere = frame().assign(equal=math.nan, equal_low=math.nan, equal_high=math.nan)
    at_all, near = threats.conditions(nowhere)
    assert (at_all.holds, near.holds) == (True, None)
    assert near.measured == "in 0 of 2, measured in 0"
    assert [c.holds for c in threats.conditions(frame()[:0])] == [None, None]
