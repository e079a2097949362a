"""The table certifiers-cost: its cell, its ratios and their order, its cost."""

import dataclasses

import pandas as pd
import pytest
import torch

from thesis_repro import data, nets, tables
from thesis_repro.data import Split
from thesis_repro.experiments.certifiers import cost
from thesis_repro.experiments.certifiers.methods import (
    BCP,
    GLORO,
    KW,
    METHODS,
    RS,
    Measured,
    Method,
)
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.robustness.certifiers import dual


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
    found = cost.subject(profile("quick"))
    return dataclasses.replace(found, recipe=dataclasses.replace(found.recipe, epochs=1))


def test_a_cost_is_scaled_to_the_test_set_and_to_all_copies(little, monkeypatch):
    fixed = Measured(2.0, 10.0, 3_000_000, 2, 1.5, 0.5, torch.zeros(4), torch.ones(4))
    fixed = dataclasses.replace(fixed, labels=torch.zeros(4).long(), certified=torch.ones(4) > 0)
    monkeypatch.setattr(cost, "measure", lambda *_: fixed)
    monkeypatch.setattr(cost.timing, "matrix_rate", lambda device: 1e6)
    test = data.load("mnist-5k").test
    chosen = test.y[torch.arange(4) * 40 // 4]
    kw = cost.cost(cost.CostConfig(little, Method(KW, 4, 2, 2))).values
    assert kw["seconds"] == 2.0 * 40 / 2 and kw["floor"] == 3.0 * 40 / 2
    assert kw["gflop"] == pytest.approx(0.0015)
    assert kw["note"] == "measured on 4 points, scaled to 40"
    assert kw["vra"] == {"k": int((chosen == 0).sum()), "n": 4}
    rs = cost.cost(cost.CostConfig(little, Method(RS, 4, 2, 20, samples=50, sigma=0.1))).values
    assert rs["seconds"] == pytest.approx(40.0 * 100_100 / 150)
    assert rs["note"].endswith("and from 50 copies of each to 100,000")
    assert rs["guarantee"] != kw["guarantee"]


def costs(**ratios):
    return pd.DataFrame(
        {"net": "GloRo 2C2F (ReLU)", "method": list(METHODS), "ratio": list(ratios.values())}
    )


def test_the_order_of_the_thesis_can_fail():
    good = costs(gloro=1.0, bcp=5.0, kw=100.0, rs=1000.0)
    assert cost.in_order(good)
    for row, below in ((1, 4.9), (2, 99.0), (3, 999.0)):
        bad = good.copy()
        bad.loc[row, "ratio"] = below
        assert not cost.in_order(bad)
    assert not cost.in_order(good[good["method"] != KW])
    other = good.assign(net="noise-trained 2C2F (ReLU)")
    assert not cost.in_order(other)


def test_the_ratio_is_to_gloro_s_time_of_the_same_table():
    values = {"mb": 1.0, "vra": {"k": 1, "n": 2}, "guarantee": "x", "note": ""}
    gathered = {
        ("d", "GloRo", name): [Result({"seconds": seconds, **values})]
        for name, seconds in ((GLORO, 0.5), (KW, 600.0))
    }
    records = cost.assemble(profile("quick"), gathered)
    assert records["d", "GloRo", KW].estimate("ratio").value == 1200.0
    assert records["d", "GloRo", GLORO].estimate("ratio").value == 1.0
    alone = cost.assemble(profile("quick"), {("d", "n", KW): gathered["d", "GloRo", KW]})
    assert "ratio" not in alone["d", "n", KW].values


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("certifiers-cost") is cost.TABLE
    plan = cost.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(cost.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_subject_is_one_net_that_the_dual_bound_can_read():
    for found in (profile("quick"), profile("paper")):
        assert cost.subject(found).recipe.activation == "relu"
    plan = cost.cells(profile("quick"))
    assert len({cell.config.training for _, cell in plan[:4]}) == 1
    noisy = plan[4][1].config
    assert noisy.training.recipe.noise == noisy.method.sigma == plan[3][1].config.method.sigma > 0
    assert noisy.training.recipe.method == "standard"
    with pytest.raises(ValueError, match="MinMax"):
        dual.certify(nets.cnn_2c2f(), torch.rand(1, 1, 28, 28), 0.3)


def test_the_paper_plan_fills_the_rows_of_the_spec_where_the_data_is(monkeypatch):
    monkeypatch.setattr(cost.data, "available", lambda name: True)
    monkeypatch.setattr(cost.data, "fingerprint", lambda name: "0" * 64)
    for device in ("cpu", "cuda"):
        rows = [row for row, _ in cost.cells(Profile("paper", device, (0, 1, 2)))]
        assert tuple(rows) == cost.TABLE.spec.rows
    monkeypatch.setattr(cost.data, "available", lambda name: False)
    assert cost.cells(profile("paper")) == []


def test_claims_ask_for_the_thesis_s_ratio_less_what_its_order_allows():
    ratios = {c.row[2]: c for c in cost.TABLE.spec.claims if c.column == "ratio"}
    assert {m: c.value - c.tolerance for m, c in ratios.items()} == cost.LEAST
    assert {m: c.value for m, c in ratios.items()} == {BCP: 15, KW: 6000, RS: 90_000}
