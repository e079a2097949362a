"""The table certifiers-cost: its cell, its ratios and their order, its cost."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro import data, nets, tables
from thesis_repro.data import Split
from thesis_repro.experiments.certifiers import cost, figures
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
from thesis_repro.robustness import models
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.tables.estimate import Estimate
from thesis_repro.tables.spec import Frame
from thesis_repro.tables.verdict import judge_all


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
    fixed = Measured(2.0, 10.0, 3_000_000, 2, 1.5, 0.5, (1.5, 2.0, 2.5))
    monkeypatch.setattr(cost, "measure", lambda *_: fixed)
    monkeypatch.setattr(cost, "fastest", lambda m, sizes, *_: dataclasses.replace(m, batch_size=7))
    monkeypatch.setattr(cost.timing, "matrix_rate", lambda device: 1e6)
    kw = cost.cost(cost.CostConfig(little, Method(KW, 4, 2, 2), (2,))).values
    assert kw["calls"] == [30.0, 40.0, 50.0] and kw["batch"] == 7
    assert kw["seconds"] == 2.0 * 40 / 2 and kw["floor"] == 3.0 * 40 / 2
    assert kw["gflop"] == pytest.approx(0.0015)
    assert kw["note"] == "measured on 4 points, scaled to 40"
    assert "vra" not in kw  # of four points
    rs = cost.CostConfig(little, Method(RS, 4, 2, 20, samples=50, sigma=0.1), (20,))
    rs = cost.cost(rs).values
    assert rs["seconds"] == pytest.approx(40.0 * 100_100 / 150)
    assert rs["note"].endswith("and from 50 copies of each to 100,000")
    assert rs["guarantee"] != kw["guarantee"]


def test_what_is_certified_of_enough_points_is_counted_in_float64(little, monkeypatch):
    fixed = Measured(2.0, 10.0, 3_000_000, 2, 1.5, 0.5, (1.5, 2.0, 2.5))
    monkeypatch.setattr(cost, "measure", lambda *_: fixed)
    monkeypatch.setattr(cost.timing, "matrix_rate", lambda device: 1e6)
    monkeypatch.setattr(cost, "ENOUGH_POINTS", 4)
    test = data.load("mnist-5k").test
    chosen = torch.arange(4) * 40 // 4
    for name in (BCP, KW):
        method = Method(name, 4, 2, 2)
        found = cost.cost(cost.CostConfig(little, method, (2,))).values
        body = models.trained(little).body.double()
        x, y = test.x[chosen].double(), test.y[chosen]
        rival = {BCP: bcp.certify, KW: dual.certify}[name]
        expected = rival(body, x, little.recipe.epsilon) & (body(x).argmax(1) == y)
        assert found["vra"] == {"k": int(expected.sum()), "n": 4}


def costs(**ratios):
    return pd.DataFrame(
        {"net": "GloRo 2C2F (ReLU)", "method": list(METHODS), "ratio": list(ratios.values())}
    )


def test_ratios_are_judged_from_both_sides_and_the_order_by_itself():
    def found(**ratios):
        data = costs(**ratios).assign(dataset="CIFAR-10", net="GloRo 6C2F (ReLU)", status="run")
        data = data.reindex(columns=cost.TABLE.spec.fields()).assign(seeds=1)
        frame = Frame(cost.TABLE.spec, "paper-cpu", data)
        judged = judge_all(frame, cost.TABLE.spec.claims)
        of_time = [j for j in judged if j.claim.column == "ratio"]
        return [(j.claim.row[2], j.claim.kind, j.verdict) for j in of_time]

    same = found(gloro=1.0, bcp=15.0, kw=6000.0, rs=90_000.0)
    assert {verdict for *_, verdict in same} == {"reproduced"}
    other = found(gloro=1.0, bcp=2.0, kw=74_374.0, rs=66_417.0)
    assert other == [
        (BCP, "factor", "same order of magnitude"),
        (KW, "factor", "not reproduced"),
        (RS, "factor", "reproduced"),
        (GLORO, "order", "reproduced"),
        (RS, "order", "not reproduced"),
    ]


def test_memory_is_judged_over_gloro_s_of_the_same_net():
    data = costs(gloro=1.0, bcp=1.0, kw=1.0, rs=1.0).assign(dataset="d")
    data["mb"] = [2.0, 19.0, 1600, np.nan]
    frame = Frame(cost.TABLE.spec, "paper-cpu", data)
    row = ("d", "GloRo 2C2F (ReLU)")
    assert cost.over_gloro(frame, (*row, BCP)).value == 9.5
    assert cost.over_gloro(frame, (*row, RS)) is None


def test_the_ratio_is_to_gloro_s_time_of_the_same_table():
    values = {"mb": 1.0, "vra": {"k": 1, "n": 2}, "guarantee": "x", "note": ""}
    gathered = {
        ("d", "GloRo", name): [Result({"seconds": calls[1], "calls": calls, **values})]
        for name, calls in ((GLORO, [0.4, 0.5, 0.6]), (KW, [500.0, 600.0, 900.0]))
    }
    records = cost.assemble(profile("quick"), gathered)
    ratio = records["d", "GloRo", KW].estimate("ratio")
    assert ratio.value == 1200.0 and ratio.low < 1200 < ratio.high
    assert (ratio.low, ratio.high) == pytest.approx((500 / 0.6, 900 / 0.4))
    assert records["d", "GloRo", GLORO].estimate("ratio") == Estimate(1.0)
    alone = cost.assemble(profile("quick"), {("d", "n", KW): gathered["d", "GloRo", KW]})
    assert "ratio" not in alone["d", "n", KW].values


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("certifiers-cost") is cost.TABLE
    plan = cost.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(cost.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_each_row_runs_the_method_that_it_names_in_whatever_order_they_stand(monkeypatch):
    monkeypatch.setattr(cost, "QUICK_METHODS", cost.QUICK_METHODS[::-1])
    plan = cost.cells(profile("quick"))
    assert [cell.config.method.name for _, cell in plan] == [row[-1] for row, _ in plan]


def test_the_subject_is_one_net_that_the_dual_bound_can_read():
    for found in (profile("quick"), profile("paper")):
        assert cost.subject(found).recipe.activation == "relu"
    plan = cost.cells(profile("quick"))
    assert len({cell.config.training for _, cell in plan[:4]}) == 1
    noisy = plan[4][1].config
    assert noisy.training.recipe.noise == noisy.method.sigma == plan[3][1].config.method.sigma > 0
    assert noisy.training.recipe.method == "standard" and noisy.sizes == plan[3][1].config.sizes
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


def test_claims_are_the_slides_ratios():
    ratios = {c.row[2]: c.value for c in cost.TABLE.spec.claims if c.kind == "factor"}
    factors = [c for c in cost.TABLE.spec.claims if c.kind == "factor" and c.column == "ratio"]
    assert {c.row[2]: c.value for c in factors} == {BCP: 15, KW: 6000, RS: 90_000}
    assert ratios == {BCP: 10, KW: 800, RS: 10}  # of memory, the later lines


def test_times_are_read_in_the_unit_that_fits():
    seconds = (0.456, 1.5, 99.6, 119.0, 121.0, 5000.0, 172_000.0, 1.0e6)
    said = ["0.46 s", "1.5 s", "100 s", "119 s", "2 min", "83 min", "48 h", "12 days"]
    assert [figures._time(one) for one in seconds] == said
