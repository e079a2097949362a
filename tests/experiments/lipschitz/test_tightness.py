"""The table lipschitz-tightness: how far each profile climbs, and the trend."""

import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.lipschitz import tightness
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.robustness import GloroNet, certifying, models
from thesis_repro.robustness.margins import Bound


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("lipschitz-tightness") is tightness.TABLE
    plan = tightness.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(tightness.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_a_cpu_climbs_fewer_pairs_of_the_large_net(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: name)

    def efforts(profile, device):
        plan = tightness.cells(Profile(profile, device, (0,)))
        return {row[1]: (cell.config.points, cell.config.steps) for row, cell in plan}

    small = dict.fromkeys(("GloRo 2C2F", "standard 2C2F"), (50, 500))
    large = dict.fromkeys(("GloRo 6C2F", "standard 6C2F"), (10, 300))
    assert efforts("paper", "cpu") == small | large
    assert efforts("paper", "cuda") == small | large  # it climbs there too, on the CPU
    assert set(efforts("quick", "cpu").values()) == {(20, 150)}


def test_the_conditions_can_fail():
    good = pd.DataFrame({"net": ["GloRo 2C2F", "standard 2C2F"], "share": [80.0, 40.0]})
    good = good.assign(bound=[10.0, 50.0], found=[8.0, 20.0])

    def found(**change):
        return [c.holds for c in tightness.conditions(good.assign(**change))]

    assert found() == [True, True, True]
    assert found(share=[100.1, 40.0]) == [False, True, True]
    assert found(share=[40.0, 80.0]) == [True, False, True]
    assert found(found=[8.0, 9.9]) == [True, True, False]  # below what the other may have
    assert len(tightness.conditions(good[:1])) == 1  # nothing to compare with
    large = good.assign(net=["GloRo 6C2F", "standard 6C2F"])
    both = pd.concat([good, large.assign(share=[30.0, 45.0])])
    assert [c.holds for c in tightness.conditions(both)] == [True, True, True, False, True]
    claimed = {c.column for c in tightness.TABLE.spec.claims}
    assert claimed == {c.says for c in tightness.conditions(both)}


def test_a_cell_says_of_each_method_its_own_slack(monkeypatch):
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2)).eval()
    x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    below, k = 2.0, {"fast": 3.0, "auto": 2.5}

    def bound(body, shape, how, *_):
        return Bound(k[how], 96 * k[how] * (1 - torch.eye(2)), ())

    monkeypatch.setattr(models, "trained", lambda _: net)
    monkeypatch.setattr(data, "held_out", lambda _: Split(x, torch.zeros(3)))
    monkeypatch.setattr(certifying, "bound", bound)
    monkeypatch.setattr(tightness, "converged", lambda _: below)
    training = tightness.cells(profile("quick"))[0][1].config.net
    values = tightness.tightness(tightness.TightnessConfig(training, 3, 2, 0.5)).values
    for name, how in (("slack", "auto"), ("fast_slack", "fast")):
        assert values[name] == pytest.approx(100 * (k[how] - below) / below)
    assert values["bound"] == pytest.approx(96 * k["auto"])
    assert values["share"] == pytest.approx(100 * values["found"] / values["bound"])
    assert values["note"] == "3 pairs, 2 steps"
