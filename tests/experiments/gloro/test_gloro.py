import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro import data, nets, tables
from thesis_repro.experiments import commit_models as gate
from thesis_repro.experiments import nets as gloro_recipes
from thesis_repro.experiments.gloro import cifar10 as gloro_cifar
from thesis_repro.experiments.gloro import frontier
from thesis_repro.experiments.gloro import schedule as gloro_schedule
from thesis_repro.experiments.gloro import training as gloro_training
from thesis_repro.experiments.gloro import vra as gloro
from thesis_repro.lab.cells import Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.robustness import recipes
from thesis_repro.tables.measure import measure


@pytest.fixture
def short(monkeypatch, tmp_path):
    """The quick table with one epoch per net, in a store of its own."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    brief = {k: dataclasses.replace(r, epochs=1) for k, r in gloro_recipes.QUICK.items()}
    monkeypatch.setattr(gloro_recipes, "QUICK", brief)
    return tables.live("gloro-vra")


def test_the_quick_table_is_consistent_and_deterministic(short, tmp_path, monkeypatch):
    rows = short.data.set_index("radius")
    assert list(rows.index) == ["0.3", "1.58"]
    assert (rows["clean"] > 80).all()  # one epoch
    assert gloro.ordered(short.data)
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
    net, history = recipes.trained(cell.config.training)
    test = data.load("mnist-5k").test
    predicted = net.predict(test.x)
    right = (predicted == test.y).sum().item()
    assert result.values["vra"] == {"k": right, "n": 1000}
    assert result.values["rejected"]["k"] == (predicted == -1).sum().item()
    assert len(history) == 1
    assert gloro.vra(result, np.array([0.3]))[0] == right / 10


def test_vra_curve_falls_and_starts_at_the_clean_accuracy():
    result = Result(
        {}, {"radius": np.array([0.0, 1.0, 2.0, 3.0]), "correct": np.array([1, 1, 0, 1])}
    )
    result = Result({}, {**result.arrays, "correct": result.arrays["correct"].astype(bool)})
    found = gloro.vra(result, np.array([0.0, 0.5, 1.0, 2.5, 4.0]))
    assert found.tolist() == [50.0, 50.0, 25.0, 25.0, 0.0]  # a radius of 0 is never robust


def test_the_trend_is_false_when_a_proof_breaks_or_vra_beats_the_attack():
    good = pd.DataFrame({"clean": [99.0], "pgd": [97.0], "vra": [95.0], "broken": [0.0]})
    assert gloro.ordered(good)
    assert not gloro.ordered(good.assign(broken=1.0))
    assert not gloro.ordered(good.assign(vra=98.0))
    assert not gloro.ordered(good.assign(pgd=99.5))


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
    assert double.values["vra"]["k"] > single.values["vra"]["k"]
    assert double.values["broken"] == single.values["broken"] == 0
    assert (double.arrays["radius"] > single.arrays["radius"]).mean() > 0.9


@pytest.fixture
def cifar(monkeypatch):
    """CIFAR-10 counts as present; nothing is read from it."""
    monkeypatch.setattr(gloro.data, "available", lambda name: name == "cifar10")
    monkeypatch.setattr(gloro.data, "fingerprint", lambda name: "0" * 64)


def test_cifar_rows_share_their_cells_with_the_other_tables(cifar):
    plan = gloro_cifar.cells(profile("paper"))
    assert [row for row, _ in plan] == list(gloro_cifar.WAYS)
    by_row = dict(plan)
    first = by_row[("GloRo, TRADES", gloro_cifar.ONCE)].config
    single, vra = (c.config for r, c in gloro.cells(profile("paper")) if r[0] == "CIFAR-10")
    assert dataclasses.replace(single, double=True) == vra != single
    assert vra.training.recipe.epochs == 150 > first.training.recipe.epochs
    shorter = dataclasses.replace(vra.training.recipe, epochs=first.training.recipe.epochs)
    short = dataclasses.replace(vra.training, recipe=shorter)
    lighter = {"broken_steps": 50, "broken_restarts": 1}
    light = dataclasses.replace(vra, **lighter)
    assert dataclasses.replace(light, training=short) == first
    on_gpu = dataclasses.replace(profile("paper"), device="cuda")
    own = [c.config for r, c in gloro.cells(on_gpu) if r[2].endswith(gloro.IN_DOUBLE)]
    ways = [c.config for r, c in gloro_cifar.cells(on_gpu)]
    assert own == ways[: len(own)]  # the same nets, certified and attacked once
    long, six, lires = (cell.config for _, cell in frontier.cells(profile("paper")))
    assert (long, six) == (light, first) and lires.training.recipe.objective == "emma"
    assert lires.training.recipe.epochs == six.training.recipe.epochs  # one budget
    assert gate.trainings()["cifar10-6c2f-gloro"] == vra.training
    twice = by_row[("GloRo, TRADES", gloro_cifar.TWICE)].config.training.recipe
    assert twice.train_epsilon == pytest.approx(2 * twice.epsilon)
    assert gloro_cifar.cells(profile("quick")) == frontier.cells(profile("quick")) == []


def test_a_gpu_trains_for_the_epochs_of_the_paper_in_recorded_steps():
    for name, training in gate.trainings("cuda").items():
        recipe = training.recipe
        assert recipe.epochs == recipe.epochs_paper > 0, name
        assert recipe.graph and recipe.device == "cuda"
    wide = gate.trainings("cuda")["cifar10-liresnet-gloro"].recipe
    assert wide.net == "liresnet-l6w128" and not wide.autocast
    hard = gloro_cifar.WAYS["adversarial (PGD)", "36/255"]
    assert not gloro_recipes.at_scale(hard, 0, "cuda").graph  # its loss reads values back


def test_the_models_of_other_chapters_have_their_names():
    known = gate.trainings()
    assert known["cifar10-6c2f-relu-gloro"].recipe.activation == "relu"
    noisy = known["cifar10-6c2f-noise"].recipe
    assert (noisy.method, noisy.noise, noisy.activation) == ("standard", 0.25, "relu")
    for training in known.values():
        recipes.build(training.recipe, (3, 32, 32), 10)


def test_a_large_net_is_attacked_in_full_on_a_gpu_and_lighter_on_a_cpu():
    full = (gate.STEPS, gate.RESTARTS, gate.NEAREST)
    for device, name, as_full in (
        ("cpu", "mnist-2c2f-gloro", True),
        ("cpu", "cifar10-6c2f-gloro", False),
        ("cuda", "cifar10-6c2f-gloro", True),
    ):
        attack = gate.gate_of(gate.trainings(device)[name])
        assert ((attack.steps, attack.restarts, attack.nearest) == full) is as_full
        assert min(attack.steps, attack.restarts, attack.nearest) >= 1


def test_vra_at_each_radius_is_a_count_over_the_stored_points(cifar, monkeypatch):
    radius = np.array([0.0, 0.2, 0.3, 0.5, 0.5])
    correct = np.array([True, True, True, True, False])
    stored = Result({"clean": {"k": 4, "n": 5}}, {"radius": radius, "correct": correct})
    monkeypatch.setattr(gloro_cifar, "compute", lambda cell: stored)
    config = gloro_cifar.config_of(gloro_cifar.liresnet_training(0, "cpu"))
    values = gloro_cifar.at_radii(config).values
    assert [values[name]["k"] for name in gloro_cifar.RADII] == [3, 2, 1]
    assert values["clean"] == {"k": 4, "n": 5}
    monkeypatch.setattr(frontier, "compute", lambda cell: stored)
    body = nets.build("liresnet-l6w64")
    count = sum(p.numel() for p in body.parameters()) / 1e6
    assert frontier.sized(config).values["parameters"] == count


def test_the_trade_of_radii_is_false_when_one_part_of_it_is():
    names = [*list(gloro_cifar.WAYS)[:2], ("standard", "none")]
    good = pd.DataFrame(names, columns=["method", "trained"]).assign(
        clean=[75.0, 66.0, 85.0], vra36=[60.0, 57, 0], vra108=[27.0, 40, 0], broken=0.0
    )
    assert gloro_cifar.traded(good)
    assert gloro_cifar.traded(good[1:])  # nothing to compare with yet
    for column, row, value in (
        ("clean", 1, 76.0),
        ("vra108", 1, 20.0),
        ("vra36", 2, 5.0),
        ("broken", 0, 1.0),
    ):
        bad = good.copy()
        bad.loc[row, column] = value
        assert not gloro_cifar.traded(bad), column


def test_the_frontier_quotes_each_row_once_with_a_source_and_in_order():
    quoted = frontier.TABLE.spec.quoted
    assert len({q.row for q in quoted}) == len(quoted)
    for q in quoted:
        assert q.source
        values = [q.values[name] for name in ("clean", *gloro_cifar.RADII) if name in q.values]
        assert values == sorted(values, reverse=True), q.row  # VRA falls with the radius
    sizes = {q.row[0]: q.values.get("parameters") for q in quoted}
    assert sizes["GloRo 6C2F (ICML 2021)"] == pytest.approx(2.25, abs=0.01)
    shown = tables.text(measure(frontier.TABLE, profile("quick")), "md")
    assert "78.1" in shown and "quoted: README" in shown


def test_the_sentence_on_liresnet_says_who_is_ahead_and_by_how_much():
    empty = measure(frontier.TABLE, profile("quick"))
    assert frontier.ahead(empty).endswith("not run")
    for gain, says in ((4.0, "4.0 points more"), (-1.5, "1.5 points fewer")):
        shown = pd.DataFrame(frontier.TABLE.spec.rows, columns=["method", "extra"])
        shown["vra36"] = [np.nan, 40.0, 40.0 + gain]
        assert says in frontier.ahead(dataclasses.replace(empty, data=shown))


def test_an_epoch_is_timed_by_steps_and_memory_by_what_is_held(monkeypatch):
    monkeypatch.setitem(gloro_training.SIZES, "2c2f", ((1, 28, 28), 17))
    config = gloro_training.StepsConfig("2c2f", 8, "cpu", repeats=2)
    found = gloro_training.measure(config).values["methods"]
    assert list(found) == list(gloro_training.LOSSES)
    assert found["plain"]["ratio"] == 1.0
    assert found["PGD, 7 steps"]["ratio"] > 2  # eight passes for one
    assert all(row["seconds"] > 0 and row["memory"] > 0 for row in found.values())

    def hold():
        kept = torch.ones(1000, 1000)
        again = kept + kept
        del kept
        return again + 1  # at most two at once

    assert gloro_training.most_held(hold, "cpu") == pytest.approx(8e6, rel=0.01)


def test_a_followed_training_ends_where_the_plain_one_does(monkeypatch, tmp_path):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    recipe = dataclasses.replace(gloro_schedule.BASE, epochs=1)
    training = recipes.Training("mnist-5k", recipe)
    values = gloro_schedule.follow(gloro_schedule.FollowConfig(training)).values
    (record,) = values["history"]
    net, _ = recipes.train(recipe, data.load("mnist-5k"))
    test = data.load("mnist-5k").test
    right = (net.body(test.x).argmax(1) == test.y).sum().item()
    assert values["clean"]["k"] == right == round(10 * record["clean"])
    assert record["k"] >= net.bound().k_sub * (1 - 1e-9)  # the fast bound is above the tight one
    assert record["vra"] <= record["clean"]


@pytest.mark.slow
def test_the_quick_net_reaches_its_figures():
    frame = tables.live("gloro-vra")
    rows = frame.data.set_index("radius")
    assert rows.loc["0.3", "clean"] >= 96
    assert rows.loc["0.3", "vra"] >= 92
    assert rows.loc["1.58", "vra"] >= 46
