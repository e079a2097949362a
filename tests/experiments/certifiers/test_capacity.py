"""The table certifiers-capacity: its nets, its conditions, its plan, and what a cell counts."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.certifiers import capacity
from thesis_repro.experiments.certifiers.methods import BCP, GLORO, KW
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile


def test_the_nets_have_the_sizes_they_are_asked_for():
    body = capacity.body_of(depth=5, classes=3, seed=0)
    assert sum(isinstance(layer, nn.Conv2d) for layer in body) == 5
    assert body(torch.rand(2, 1, 28, 28)).shape == (2, 3)
    assert not torch.equal(body[0].weight, capacity.body_of(5, 3, seed=1)[0].weight)


def test_the_conditions_can_fail():
    good = pd.DataFrame(
        {
            "varied": ["convolutions", "convolutions", "classes"],
            "size": ["2", "4", "2"],
            "gloro": [80.0, 77.0, 99.0],
            "kw": [10.0, 82.0, 70.0],
            "bcp_more": [1.0, 1.0, 0.0],
            "kw_more": [-70.0, 5.0, -29.0],
            "bcp_cost": 4.0,
            "kw_cost": 500.0,
        }
    )
    assert [c.holds for c in capacity.conditions(good)] == [True, True]
    for column, values, fails in (
        ("kw_more", [-70.0, 5.1, -29.0], 0),  # a rival far ahead
        ("bcp_cost", [4.0, 4.0, 1.9], 0),  # a rival at the same price
        ("gloro", [80.0, 74.9, 99.0], 1),  # depth takes too much
    ):
        found = [c.holds for c in capacity.conditions(good.assign(**{column: values}))]
        assert found[fails] is False, column
    assert len(capacity.conditions(good[good["varied"] == "classes"])) == 1
    # so few points that the interval of what depth takes lies across what is allowed
    few = good.assign(gloro_low=good["gloro"] - 6, gloro_high=good["gloro"] + 6)
    assert capacity.conditions(few)[1].verdict == "not judged"
    few = good.assign(bcp_more_low=good["bcp_more"] - 6, bcp_more_high=good["bcp_more"] + 6)
    assert capacity.conditions(few)[0].verdict == "not judged"


def test_rivals_are_compared_with_gloro_point_by_point():
    gloro, rival = (torch.arange(200) < n for n in (100, 102))
    arrays = {"gloro": gloro.numpy(), "bcp": rival.numpy(), "kw": (~gloro).numpy()}
    values = {name: {"k": int(hits.sum()), "n": 200} for name, hits in arrays.items()}
    values |= {"clean": {"k": 200, "n": 200}, "bcp_cost": 4.0, "kw_cost": 500.0}
    row = ("convolutions", "2")
    found = capacity.assemble(profile("quick"), {row: [Result(values, arrays)]})[row]
    more = found.estimate("bcp_more")
    assert (more.value, round(more.low, 2), round(more.high, 2)) == (1.0, -0.39, 2.39)
    less = found.estimate("kw_more")  # as many points, all of them others
    assert less.value == 0 and less.high > 10


def test_a_cell_counts_what_each_method_proves_on_the_same_points():
    config = capacity.config_at("classes", 2, profile("quick"), 0)
    config = replace(config, recipe=replace(config.recipe, epochs=1), points=100)
    found = capacity.capacity(config)
    right = {name: found.arrays[name] for name in capacity.NAMES.values()}
    assert {name: int(hits.sum()) for name, hits in right.items()} == {
        name: found.values[name]["k"] for name in right
    }
    # the box takes nothing from the ball, and nobody verifies what the net gets wrong
    assert (right["bcp"] >= right["gloro"]).all()
    assert all(hits.sum() <= found.values["clean"]["k"] for hits in right.values())
    assert found.values["kw_cost"] > found.values["bcp_cost"] > 2


def test_every_method_certifies_and_is_counted_at_the_radius_of_the_row(monkeypatch):
    part = Split(torch.rand(10, 1, 28, 28), torch.arange(10) % 2)
    none, reached = torch.zeros(10, dtype=torch.bool), {}

    def gloro(net, x):
        reached["gloro"] = net.epsilon
        return SimpleNamespace(certified=none)

    def rival(name):
        return lambda net, x, epsilon: reached.update({name: epsilon}) or none

    def operations(name, body, epsilon, x):
        reached[f"{name}, counted"] = epsilon
        return 1.0

    monkeypatch.setattr(data, "load", lambda _: SimpleNamespace(train=part, test=part))
    monkeypatch.setattr(capacity.recipes, "fit", lambda *_: [])
    monkeypatch.setattr(capacity, "operations", operations)
    monkeypatch.setattr(capacity, "certify", gloro)
    monkeypatch.setattr(capacity.bcp, "certify", rival("bcp"))
    monkeypatch.setattr(capacity.dual, "certify", rival("kw"))
    config = replace(capacity.config_at("classes", 2, profile("quick"), 0), points=10)
    assert config.recipe.train_epsilon != config.recipe.epsilon
    capacity.capacity(config)
    assert len(reached) == 6 and set(reached.values()) == {config.recipe.epsilon}


def test_operations_of_the_dual_bound_are_counted_to_the_letter():
    body, x = capacity.body_of(2, 10, 0).double(), torch.rand(100, 1, 28, 28).double()
    spent = {name: capacity.operations(name, body, 0.3, x) for name in (GLORO, BCP, KW)}
    units = 4 * 14 * 14 + 8 * 7 * 7  # of which each is sent back
    assert spent[KW] > units * 100 and spent[BCP] > 2 * spent[GLORO]


def test_the_plan_shares_the_base_net_and_needs_its_digits(monkeypatch):
    assert tables.get("certifiers-capacity") is capacity.TABLE
    plan = dict(capacity.cells(profile("quick")))
    assert plan["convolutions", "2"].key == plan["classes", "10"].key
    assert len({cell.key for cell in plan.values()}) == len(plan) - 1
    monkeypatch.setattr(data, "available", lambda name: False)
    assert capacity.cells(profile("quick")) == []


@pytest.mark.parametrize("classes", [2, 5])
def test_fewer_classes_are_the_first_ones(classes):
    part = data.load("mnist-5k").test
    kept = capacity._first(part, classes)
    assert set(kept.y.tolist()) == set(range(classes))
    assert len(kept) == int((part.y < classes).sum())
