import dataclasses
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments import commit_models
from thesis_repro.experiments.gloro import cifar10, frontier
from thesis_repro.experiments.gloro import vra as gloro
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile


def test_cifar_rows_share_their_cells_with_the_other_tables(cifar):
    plan = cifar10.cells(profile("paper"))
    assert [row for row, _ in plan] == list(cifar10.WAYS)
    by_row = dict(plan)
    first = by_row[("GloRo, TRADES", cifar10.ONCE)].config
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
    ways = [c.config for r, c in cifar10.cells(on_gpu)]
    assert own == ways[: len(own)]  # the same nets, certified and attacked once
    long, *_, lires = (cell.config for _, cell in frontier.cells(profile("paper")))
    assert long == light and lires.training.recipe.objective == "emma"
    assert commit_models.trainings()["cifar10-6c2f-gloro"] == vra.training
    twice = by_row[("GloRo, TRADES", cifar10.TWICE)].config.training.recipe
    assert twice.train_epsilon == pytest.approx(2 * twice.epsilon)
    assert cifar10.cells(profile("quick")) == frontier.cells(profile("quick")) == []


def test_columns_and_rows_are_about_the_radii_in_their_titles():
    def radius(title):  # of a product, such as "2 × 36/255"
        return math.prod(float(Fraction(factor)) for factor in title.split(" × "))

    titles = {column.name: column.title for column in cifar10.VRA_COLUMNS}
    for name, epsilon in cifar10.RADII.items():
        assert epsilon == pytest.approx(radius(titles[name].rpartition("at ")[2])), name
        assert 255 * epsilon == pytest.approx(int(name.removeprefix("vra")))
    for (method, trained), recipe in cifar10.WAYS.items():
        if method == "standard":
            assert (recipe.method, trained) == ("standard", "none")
        else:
            assert recipe.train_epsilon == pytest.approx(radius(trained)), method


def test_vra_at_each_radius_is_a_count_over_the_stored_points(cifar, monkeypatch):
    radius = np.array([0.0, 0.2, 0.3, 0.5, 0.5])
    correct = np.array([True, True, True, True, False])
    stored = Result({"clean": {"k": 4, "n": 5}}, {"radius": radius, "correct": correct})
    monkeypatch.setattr(cifar10, "compute", lambda cell: stored)
    config = cifar10.config_of(cifar10.liresnet_training(0, "cpu"))
    values = cifar10.at_radii(config).values
    assert [values[name]["k"] for name in cifar10.RADII] == [3, 2, 1]
    assert values["clean"] == {"k": 4, "n": 5}


def test_each_condition_is_false_when_one_part_of_it_is():
    names = [*list(cifar10.WAYS)[:2], ("standard", "none")]
    good = pd.DataFrame(names, columns=["method", "trained"]).assign(
        clean=[75.0, 66.0, 85.0], vra36=[60.0, 57, 0], vra108=[27.0, 40, 0], broken=0.0
    )
    good = good.assign(pgd=[70.0, 62.0, 60.0], pgd_high=[73.0, 65.0, 63.0], pgd_low=[67.0, 59, 57])
    assert [c.holds for c in cifar10.conditions(good)] == [True] * 5
    assert [c.holds for c in cifar10.conditions(good[1:])] == [True] * 4  # no trade to see
    assert len(cifar10.conditions(good[:2])) == 2  # no standard net
    assert len({c.says for c in cifar10.conditions(good)}) == 5
    for column, row, value, which in (
        ("clean", 1, 76.0, 0),
        ("vra108", 1, 20.0, 0),
        ("vra36", 2, 5.0, 1),
        ("broken", 0, 1.0, 2),
    ):
        bad = good.copy()
        bad.loc[row, column] = value
        found = [c.holds for c in cifar10.conditions(bad)]
        assert found == [i != which for i in range(5)], column
    weak = good.copy()
    weak.loc[0, ["pgd", "pgd_low", "pgd_high"]] = (
        40.0,
        38.0,
        42.0,
    )  # falls as far as the standard net
    assert [c.holds for c in cifar10.conditions(weak)] == [True] * 4 + [False]
    level = good.assign(pgd=good["clean"], pgd_low=good["clean"], pgd_high=good["clean"])
    assert cifar10.conditions(level)[3].holds is None
    above = good.assign(pgd=90.0, pgd_low=89.0, pgd_high=91.0)
    assert cifar10.conditions(above)[3].holds is False
    for column, which in (("clean", 0), ("vra108", 0), ("vra36", 1), ("pgd", 3), ("pgd", 4)):
        wide = good.assign(**{f"{column}_low": -99.0, f"{column}_high": 199.0})
        assert cifar10.conditions(wide)[which].holds is not True, column
