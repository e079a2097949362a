import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import data, nets, tables
from thesis_repro.data import Split
from thesis_repro.experiments.certifiers import cells, plans
from thesis_repro.experiments.certifiers.cells import BCP, GLORO, KW, METHODS, RS, Method
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.certifiers import bcp, dual, smoothing

SMALL = {
    GLORO: Method(GLORO, 0, 2, 8),
    BCP: Method(BCP, 6, 2, 3),
    KW: Method(KW, 4, 2, 2),
    RS: Method(RS, 4, 2, 20, samples=50, sigma=0.1),
}


@pytest.fixture(scope="module")
def body():
    return cells.untrained(classes=4, depth=1, pixels=6)


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_measured_method_says_what_the_method_says(name, body, images):
    method = SMALL[name]
    x = images[: method.points or len(images)]
    found = cells.measure(method, body, 0.05, x)
    labels = body(x).argmax(1)
    if name == GLORO:
        expected = certify(GloroNet(body, 0.05, (3, 6, 6)).eval(), x).certified
    elif name == BCP:
        expected = bcp.certify(body, x, 0.05)
    elif name == KW:
        expected = dual.certify(body, x, 0.05)
    else:
        smooth = smoothing.Smooth(body, 4, 0.1)
        answers = []
        for half in x.chunk(2):
            generator = torch.Generator().manual_seed(0)
            answers += [smooth.certify(one, 100, 50, 0.001, 20, generator) for one in half]
        labels = torch.tensor([label for label, _ in answers])
        expected = torch.tensor([radius > 0.05 for _, radius in answers])
    assert found.labels.tolist() == labels.tolist()
    assert found.certified.tolist() == expected.tolist()
    assert found.seconds > 0 and found.mb > 0 and found.operations > 0


def test_operations_of_a_forward_pass_are_counted_by_hand(body, images):
    found = cells.measure(SMALL[GLORO], body, 0.05, images)
    by_hand = 2 * 36 * 8 * 3 * 9 + 2 * 8 * 36 * 64 + 2 * 64 * 4
    assert found.operations == len(images) * by_hand and found.points == len(images)
    smoothed = cells.measure(SMALL[RS], body, 0.05, images[:4])
    assert smoothed.operations == 2 * (100 + 50) * by_hand and smoothed.points == 2


def test_memory_of_smoothing_grows_with_the_batch_and_not_with_the_copies(body, images):
    def mb(samples, batch):
        method = Method(RS, 2, 2, batch, samples=samples, sigma=0.1)
        return cells.measure(method, body, 0.05, images[:2]).mb

    assert mb(400, 50) == pytest.approx(mb(2000, 50), rel=0.01)
    assert mb(400, 100) == pytest.approx(2 * mb(400, 50), rel=0.1)


@pytest.fixture
def little(monkeypatch, tmp_path):
    """A subject that trains in a moment, and few points for each method."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    full = data.load("mnist-5k")
    part = dataclasses.replace(
        full,
        train=Split(full.train.x[:256], full.train.y[:256]),
        test=Split(full.test.x[::25], full.test.y[::25]),
    )
    monkeypatch.setattr(data, "load", lambda name: part)
    found = plans.subject(profile("quick"))
    return dataclasses.replace(found, recipe=dataclasses.replace(found.recipe, epochs=1))


def test_a_cost_is_scaled_to_the_test_set_and_to_all_copies(little, monkeypatch):
    fixed = cells.Measured(2.0, 10.0, 3_000_000, 2, 1.5, 0.5, torch.zeros(4), torch.ones(4))
    fixed = dataclasses.replace(fixed, labels=torch.zeros(4).long(), certified=torch.ones(4) > 0)
    monkeypatch.setattr(cells, "measure", lambda *_: fixed)
    monkeypatch.setattr(cells.timing, "matrix_rate", lambda device: 1e6)
    test = data.load("mnist-5k").test
    chosen = test.y[torch.arange(4) * 40 // 4]
    kw = cells.cost(cells.CostConfig(little, SMALL[KW])).values
    assert kw["seconds"] == 2.0 * 40 / 2 and kw["floor"] == 3.0 * 40 / 2
    assert kw["gflop"] == pytest.approx(0.0015)
    assert kw["note"] == "measured on 4 points, scaled to 40"
    assert kw["vra"] == {"k": int((chosen == 0).sum()), "n": 4}
    rs = cells.cost(cells.CostConfig(little, SMALL[RS])).values
    assert rs["seconds"] == pytest.approx(40.0 * 100_100 / 150)
    assert rs["note"].endswith("and from 50 copies of each to 100,000")
    assert rs["guarantee"] != kw["guarantee"]


def costs(**ratios):
    return pd.DataFrame(
        {"net": "GloRo 2C2F (ReLU)", "method": list(METHODS), "ratio": list(ratios.values())}
    )


def test_the_order_of_the_thesis_can_fail():
    good = costs(gloro=1.0, bcp=5.0, kw=100.0, rs=1000.0)
    assert plans.in_order(good)
    for row, below in ((1, 4.9), (2, 99.0), (3, 999.0)):
        bad = good.copy()
        bad.loc[row, "ratio"] = below
        assert not plans.in_order(bad)
    assert not plans.in_order(good[good["method"] != KW])
    other = good.assign(net="noise-trained 2C2F (ReLU)")
    assert not plans.in_order(other)


def test_the_ratio_is_to_gloro_s_time_of_the_same_table():
    values = {"mb": 1.0, "vra": {"k": 1, "n": 2}, "guarantee": "x", "note": ""}
    gathered = {
        ("d", "GloRo", name): [Result({"seconds": seconds, **values})]
        for name, seconds in ((GLORO, 0.5), (KW, 600.0))
    }
    records = plans.assemble_cost(profile("quick"), gathered)
    assert records["d", "GloRo", KW]["ratio"] == 1200.0
    assert records["d", "GloRo", GLORO]["ratio"] == 1.0
    alone = plans.assemble_cost(profile("quick"), {("d", "n", KW): gathered["d", "GloRo", KW]})
    assert "ratio" not in alone["d", "n", KW]


def test_exponents_are_those_of_powers():
    sizes = np.array([10, 20, 40])
    assert plans.exponent(sizes, 3.0 * sizes**1.5) == pytest.approx(1.5)
    rows = {
        ("pixels per side", KW): [
            Result({"operations": s**4, "seconds": 0.002 * s, "mb": 5.0})
            for s in plans.SIZES["quick"]["pixels"]
        ],
        ("classes", KW): [Result({"operations": 1, "seconds": 1.0, "mb": 1.0})],  # unfinished
    }
    (record,) = plans.assemble_scaling(profile("quick"), rows).values()
    assert record["operations"] == pytest.approx(4.0) and record["mb"] == pytest.approx(0.0)
    assert record["seconds"] == pytest.approx(1.0)
    assert (record["least"], record["most"]) == pytest.approx((16.0, 32.0))


def test_the_scaling_s_trend_can_fail():
    good = pd.DataFrame(
        {"varied": "pixels per side", "method": list(METHODS), "operations": [2.0, 2.0, 3.9, 2.0]}
    )
    assert plans.dearest(good)
    assert not plans.dearest(good.assign(operations=[2.0, 3.0, 3.9, 2.0]))
    assert not plans.dearest(good[good["method"] != RS])


def test_the_untrained_nets_have_the_sizes_they_are_asked_for():
    net = cells.untrained(classes=7, depth=3, pixels=5)
    assert sum(isinstance(layer, nn.Conv2d) for layer in net) == 3
    assert net(torch.rand(2, 3, 5, 5)).shape == (2, 7)
    config = plans.scaling_config("depth", 4, SMALL[KW])
    assert (config.classes, config.depth, config.pixels) == (10, 4, 8)


@pytest.mark.parametrize("table", [plans.CERTIFIERS_COST, plans.CERTIFIERS_SCALING])
def test_the_quick_plans_need_no_data_and_name_their_rows(table):
    assert tables.get(table.spec.name) is table
    plan = table.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(table.spec.keys) for row, _ in plan)


def test_the_subject_is_one_net_that_the_dual_bound_can_read():
    for found in (profile("quick"), profile("paper")):
        assert plans.subject(found).recipe.activation == "relu"
    plan = plans.cost_cells(profile("quick"))
    assert len({cell.config.training for _, cell in plan[:4]}) == 1
    noisy = plan[4][1].config
    assert noisy.training.recipe.noise == noisy.method.sigma == plan[3][1].config.method.sigma > 0
    assert noisy.training.recipe.method == "standard"
    with pytest.raises(ValueError, match="MinMax"):
        dual.certify(nets.cnn_2c2f(), torch.rand(1, 1, 28, 28), 0.3)


def test_the_paper_plan_fills_the_rows_of_the_spec_where_the_data_is(monkeypatch):
    monkeypatch.setattr(plans.data, "available", lambda name: True)
    monkeypatch.setattr(plans.data, "fingerprint", lambda name: "0" * 64)
    for device in ("cpu", "cuda"):
        rows = [row for row, _ in plans.cost_cells(Profile("paper", device, (0, 1, 2)))]
        assert tuple(rows) == plans.CERTIFIERS_COST.spec.rows
    monkeypatch.setattr(plans.data, "available", lambda name: False)
    assert plans.cost_cells(profile("paper")) == []


def test_claims_ask_for_the_thesis_s_ratio_less_what_its_order_allows():
    ratios = {c.row[2]: c for c in plans.CERTIFIERS_COST.spec.claims if c.column == "ratio"}
    assert {m: c.value - c.tolerance for m, c in ratios.items()} == plans.LEAST
    assert {m: c.value for m, c in ratios.items()} == {BCP: 15, KW: 6000, RS: 90_000}
