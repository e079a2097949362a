import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments import nets as gloro_recipes
from thesis_repro.experiments.gloro import vra as gloro
from thesis_repro.lab.cells import Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.robustness import GloroNet, certify, models
from thesis_repro.tables.measure import measure


@pytest.fixture(scope="module")
def brief_nets(tmp_path_factory):
    """The folder that keeps the nets of one epoch."""
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture
def short(brief_nets, monkeypatch):
    """The quick table with one epoch per net."""
    monkeypatch.setenv("THESIS_REPRO_STORE", brief_nets)
    brief = {k: dataclasses.replace(r, epochs=1) for k, r in gloro_recipes.QUICK.items()}
    monkeypatch.setattr(gloro_recipes, "QUICK", brief)
    return tables.live("gloro-vra")


def test_the_quick_table_is_consistent_and_deterministic(short, tmp_path, monkeypatch):
    rows = short.data.set_index("radius")
    assert list(rows.index) == ["0.3", "1.58"]
    assert (rows["clean"] > 80).all()  # one epoch
    assert gloro.conditions(short.data)[0].holds
    assert (rows["vra"] + rows["rejected"] <= 100 + 1e-9).all()
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "again"))
    pd.testing.assert_frame_equal(tables.live("gloro-vra").data, short.data)


def test_finished_takes_whole_rows_from_the_store_and_computes_nothing(short):
    plan = gloro.cells(profile("quick"))
    Store().drop(plan[1][1].key)
    frame = measure(gloro.TABLE, profile("quick"), finished=True)
    assert frame.data["radius"].tolist() == ["0.3"]
    assert frame.value(plan[0][0], "vra") == short.value(plan[0][0], "vra")


def test_a_cell_scores_as_a_plain_count_does(short):
    cell = gloro.cells(profile("quick"))[0][1]
    result = compute(cell, Store())
    net = models.trained(cell.config.training)
    test = data.load("mnist-5k").test
    predicted = net.predict(test.x)
    right = (predicted == test.y).sum().item()
    assert result.values["vra"] == {"k": right, "n": 1000}
    assert result.values["rejected"]["k"] == (predicted == -1).sum().item()
    assert gloro.vra(result, np.array([0.3]))[0] == pytest.approx(right / 10)


def test_the_attack_reaches_as_far_as_the_certificate(monkeypatch):
    config = dataclasses.replace(gloro.cells(profile("quick"))[0][1].config, pgd_points=3)
    epsilon, reached = config.training.recipe.epsilon, []
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), epsilon, (1, 2, 2)).eval()
    test = Split(torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.long))

    def attack(model, x, y, radius, *how):
        reached.append((radius, len(x)))
        return x

    monkeypatch.setattr(models, "trained", lambda _: net)
    monkeypatch.setattr(data, "held_out", lambda _: test)
    monkeypatch.setattr(gloro.attacks, "pgd_l2", attack)
    none = {"broken": 0, "attacked": 0}
    monkeypatch.setattr(gloro.attacks, "break_certificates", lambda *_, **__: none)
    values = gloro.evaluate(config).values
    assert reached == [(epsilon, 3)]
    assert (values["pgd"]["n"], values["clean"]["n"]) == (3, 8)


def test_vra_curve_falls_and_starts_at_the_clean_accuracy():
    result = Result(
        {}, {"radius": np.array([0.0, 1.0, 2.0, 3.0]), "correct": np.array([1, 1, 0, 1])}
    )
    result = Result({}, {**result.arrays, "correct": result.arrays["correct"].astype(bool)})
    found = gloro.vra(result, np.array([0.0, 0.5, 1.0, 2.5, 4.0]))
    assert found.tolist() == [50.0, 50.0, 25.0, 25.0, 0.0]  # a radius of 0 is never robust


def test_the_theorem_fails_when_a_proof_breaks_or_vra_beats_the_attack():
    good = pd.DataFrame(
        {"clean": [99.0], "pgd": [97.0], "vra": [95.0], "broken": [0.0], "attacked": [9.0]}
    )

    def holds(**change):
        (found,) = gloro.conditions(good.assign(**change))
        return found.holds

    assert holds()
    assert not holds(broken=1.0)
    assert not holds(vra=98.0)
    assert not holds(pgd=99.5)


def test_paper_rows_follow_the_data(monkeypatch):
    monkeypatch.setattr(gloro.data, "available", lambda name: False)
    assert gloro.cells(profile("paper")) == []
    monkeypatch.setattr(gloro.data, "available", lambda name: name == "mnist")
    monkeypatch.setattr(gloro.data, "fingerprint", lambda name: "0" * 64)
    rows = [row for row, _ in gloro.cells(profile("paper"))]
    assert rows.count(("MNIST", "0.3", "GloRo 2C2F")) == 3
    assert set(rows) == {row for row in gloro.TABLE.spec.rows if row[0] == "MNIST"}


def test_float64_certifies_more_of_the_same_net(short):
    config = gloro.cells(profile("quick"))[-1][1].config
    config = dataclasses.replace(config, pgd_points=20, pgd_steps=2, broken_points=20)
    single, double = (
        gloro.evaluate(dataclasses.replace(config, double=flag)) for flag in (False, True)
    )
    assert single.values["k_sub"] == pytest.approx(double.values["k_sub"], rel=1e-6)
    assert single.values["clean"]["k"] == pytest.approx(double.values["clean"]["k"], abs=2)
    assert double.values["vra"]["k"] >= single.values["vra"]["k"]
    assert double.values["broken"] == single.values["broken"] == 0
    assert (double.arrays["radius"] > single.arrays["radius"]).mean() > 0.9
    # the verdicts of a filter and of what it leaves open, point by point
    net = models.trained(config.training)
    found = certify(net, data.held_out("mnist-5k").x, arithmetic="float64")
    robust = double.arrays["radius"] > config.training.recipe.epsilon
    assert np.array_equal(found.certified.numpy(), robust)
    assert (found.radius.numpy() <= double.arrays["radius"] * (1 + 1e-6) + 1e-12).all()


@pytest.mark.slow
def test_the_quick_net_reaches_its_figures():
    frame = tables.live("gloro-vra")
    rows = frame.data.set_index("radius")
    assert rows.loc["0.3", "clean"] >= 96
    assert rows.loc["0.3", "vra"] >= 92
    assert rows.loc["1.58", "vra"] >= 46
