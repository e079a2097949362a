import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from thesis_repro import data, tables
from thesis_repro.experiments import nets as gloro_recipes
from thesis_repro.experiments.relaxed import conditions as relaxed_conditions
from thesis_repro.experiments.relaxed import groupings as relaxed_groupings
from thesis_repro.experiments.relaxed import rejection as relaxed
from thesis_repro.experiments.relaxed.settings import SETTINGS
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import recipes
from thesis_repro.robustness import relaxed as robust
from thesis_repro.tables import statistics
from thesis_repro.tables.measure import measure


@pytest.fixture
def short(monkeypatch, tmp_path):
    """The quick tables with one epoch per net, in a store of their own."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    brief = dataclasses.replace(relaxed.QUICK, epochs=1, train_epsilon=0.1, epsilon=0.1)
    monkeypatch.setattr(relaxed, "QUICK", brief)
    return tables.live("relaxed-rejection")


def test_the_quick_tables_are_consistent_and_say_what_a_plain_count_says(short):
    rows = short.data
    assert len(rows) == 8
    for _, part in rows.groupby("dataset"):
        by = part.set_index(["guarantee", "objective"])
        assert part.iloc[0][["guarantee", "objective"]].tolist() == ["top-1", "GloRo"]
        plain = by.xs("GloRo", level="objective")
        # the same net under a weaker guarantee: same accuracy, never more rejected
        assert plain["clean"].nunique() == 1
        assert (plain["rejected"] <= plain.loc["top-1", "rejected"]).all()
        assert (plain["vra"] >= plain.loc["top-1", "vra"]).all()
        assert by.loc[("top-1", "GloRo"), "size"] == 1.0
    assert (rows["strict"] <= rows["vra"]).all()
    assert (rows["vra"] <= rows["topk"]).all()
    assert (rows["vra"] + rows["rejected"] <= 100 + 1e-9).all()
    assert (rows["broken"] == 0).all() and (rows["attacked"] > 0).all()
    top = rows["guarantee"] == "top-1"
    assert rows[top]["fewer"].isna().all() and rows[~top]["fewer"].notna().all()
    # the difference of the columns is the difference of the rates
    base = rows.loc[top].set_index("dataset")
    for _, line in rows[~top].iterrows():
        lost = base.loc[line["dataset"], "rejected"] - line["rejected"]
        assert line["fewer"] == pytest.approx(lost)
        assert line["fewer_low"] <= line["fewer"] <= line["fewer_high"]
    assert relaxed_conditions.conditions(rows)[0][3]

    grouped = tables.live("relaxed-groupings").data
    assert set(grouped["objective"]) == {"GloRo", "relaxed"}
    for _, part in grouped.groupby("objective"):
        shown = part[part["rank"] != "all"]["points"]
        assert shown.is_monotonic_decreasing
        assert shown.sum() <= part[part["rank"] == "all"]["points"].iloc[0]

    plan = dict(relaxed.cells(profile("quick")))
    by = {(g, o): cell.config for (d, g, o), cell in plan.items() if d == "MNIST-5k"}
    assert by["RT3", "GloRo"].training == by["top-1", "GloRo"].training
    assert by["RT3", "relaxed"].training.recipe.guarantee == robust.up_to(3)
    assert by["RT3", "relaxed"].guarantee == by["RT3", "GloRo"].guarantee
    # the row as a plain count over the net says it
    net, _ = recipes.trained(by["RT3", "GloRo"].training)
    test = data.load("mnist-5k").test
    found = robust.certify(net, test.x, k=3)
    wanted = 100 * (found.strictest == 0).double().mean().item()
    assert short.value(("MNIST-5k", "RT3", "GloRo"), "rejected") == pytest.approx(wanted)
    hits = [y in found.order[i, : found.loosest[i]].tolist() for i, y in enumerate(test.y.tolist())]
    assert short.value(("MNIST-5k", "RT3", "GloRo"), "vra") == pytest.approx(100 * np.mean(hits))


def test_gains_are_paired():
    ours, base = np.array([1, 1, 1, 0, 0] * 40) > 0, np.array([1, 0, 1, 0, 1] * 40) > 0
    mean, low, high, method = relaxed.gain([ours], [base])
    assert mean == 0.0 and low == -high and "paired" in method
    # McNemar's variance, (b + c) / n^2 at b = c
    half = 1.96 * 100 * (80 / 200**2) ** 0.5
    assert high == pytest.approx(half, rel=0.02)
    seeds = [np.arange(100) < k for k in (50, 60, 70)]
    mean, low, high, method = relaxed.gain(seeds, [np.zeros(100, bool)] * 3)
    assert (low, high) == pytest.approx(statistics.student_t([50.0, 60.0, 70.0]))
    assert mean == pytest.approx(60.0) and method == "Student t over 3 seeds"


def line(dataset, guarantee, objective, rejected, fewer=np.nan, higher=np.nan, broken=0.0):
    return {
        "dataset": dataset,
        "guarantee": guarantee,
        "objective": objective,
        "rejected": rejected,
        "fewer": fewer,
        "fewer_low": fewer,
        "fewer_high": fewer,
        "higher": higher,
        "higher_low": higher,
        "higher_high": higher,
        "broken": broken,
        "attacked": 10.0,
    }


def test_conditions_can_fail():
    good = [
        line("plane", "top-1", "GloRo", 24.0),
        line("plane", "RT2", "relaxed", 8.0),
        line("EuroSAT", "top-1", "GloRo", 30.0),
        line("EuroSAT", "RT3", "relaxed", 20.0, 5.0, 3.0),
    ]
    assert [c[3] for c in relaxed_conditions.conditions(pd.DataFrame(good))] == [True] * 4
    bad = [
        line("plane", "top-1", "GloRo", 24.0),
        line("plane", "RT2", "relaxed", 8.1),
        line("EuroSAT", "top-1", "GloRo", 30.0),
        line("EuroSAT", "RT3", "relaxed", 25.1, 4.9, 2.9, broken=1.0),
    ]
    assert [c[3] for c in relaxed_conditions.conditions(pd.DataFrame(bad))] == [False] * 4


# groupings


def cell(order, strictest, y):
    arrays = {"order": order, "strictest": strictest, "y": y}
    return Result({}, {name: np.array(value, np.int16) for name, value in arrays.items()})


def test_sets_are_counted_by_their_labels_whatever_the_order():
    first = cell([[1, 0, 2], [0, 1, 3], [2, 3, 1], [3, 2, 0]], [2, 2, 1, 3], [0, 3, 2, 1])
    second = cell([[0, 1, 2]], [0], [0])
    sets, right = relaxed_groupings.masks([first, second], 4)
    assert relaxed_groupings.counted(sets) == [((0, 1), 2), ((0, 2, 3), 1)]
    assert right.tolist() == [True, False, False]
    pairs = relaxed_groupings.together([first, second], 4)
    assert pairs[0, 1] == pairs[1, 0] == 2
    assert pairs[2, 3] == pairs[0, 3] == pairs[0, 2] == 1
    assert pairs.diagonal().sum() == 0 and pairs.sum() == 10


def test_chance_is_the_mean_over_all_permutations():
    rng = np.random.default_rng(0)
    groups = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
    sets = np.array([[1, 1, 0, 0, 0]] * 3 + [[0, 0, 1, 1, 1]] + [[1, 0, 0, 1, 0]], bool)
    every = []
    for order in itertools.permutations(range(5)):  # a plain loop over the definition
        hits = [
            any({order[i] for i in np.flatnonzero(s)} <= set(np.flatnonzero(g)) for g in groups)
            for s in sets
        ]
        every.append(np.mean(hits))
    mean, p = relaxed_groupings.chance(sets, groups, 4000, rng)
    assert mean == pytest.approx(np.mean(every), abs=0.02)
    assert p == pytest.approx(np.mean(np.array(every) >= 0.8 - 1e-9), abs=0.02)
    assert relaxed_groupings.inside(sets, groups).mean() == 0.8


def test_sets_without_any_relation_have_no_small_p():
    rng = np.random.default_rng(1)
    groups = np.zeros((4, 12), bool)
    groups[np.arange(12) // 3, np.arange(12)] = True
    sets = np.zeros((60, 12), bool)
    for row in sets:
        row[rng.choice(12, 2, replace=False)] = True
    assert relaxed_groupings.chance(sets, groups, 500, rng)[1] > 0.05


# settings and the paper's profile


def test_groups_name_every_class_of_their_data_set():
    assert SETTINGS["mnist-5k"].classes == data.load("mnist-5k").classes
    sizes = {name: len(SETTINGS[name].classes) for name in SETTINGS}
    assert sizes == {
        "mnist-5k": 10,
        "eurosat": 10,
        "cifar10": 10,
        "cifar100": 100,
        "tiny-imagenet": 0,
    }
    assert len(SETTINGS["cifar100"].groups) == 20
    for name, setting in SETTINGS.items():
        for guarantee in setting.guarantees.values():
            guarantee.check(200 if name == "tiny-imagenet" else len(setting.classes))
    for sets in relaxed_groupings.SLIDES.values():
        assert {one for chosen in sets for one in chosen} <= {
            one for setting in SETTINGS.values() for one in setting.classes
        }
    with pytest.raises(ValueError, match="the groups of EuroSAT name the classes AnnualCrop"):
        SETTINGS["eurosat"].check(("a", "b"))


def test_paper_rows_follow_the_data(monkeypatch):
    monkeypatch.setattr(relaxed.data, "available", lambda name: False)
    assert relaxed.cells(profile("paper")) == []
    for table in (relaxed.TABLE, relaxed_groupings.TABLE):
        frame = measure(table, profile("paper"), progress=False)
        assert set(frame.data["status"]) == {"not run"}
        assert {"EuroSAT", "CIFAR-10", "CIFAR-100", "Tiny-ImageNet"} == set(frame.data["dataset"])
    monkeypatch.setattr(relaxed.data, "available", lambda name: name == "cifar10")
    monkeypatch.setattr(relaxed.data, "fingerprint", lambda name: "0" * 64)
    plan = relaxed.cells(profile("paper"))
    assert [row[1:] for row, _ in plan] == relaxed.contenders(SETTINGS["cifar10"])
    # the plain net is that of the table gloro-vra: it is trained once for both
    plain = plan[0][1].config.training
    assert plain == gloro_recipes.paper_training("36/255", 0, "cpu")


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)


@pytest.mark.parametrize("name", ["eurosat", "tiny-imagenet"])
def test_the_paper_cells_run_on_made_up_images_in_the_layout(name, monkeypatch, tmp_path):
    """One step of training, certifying and attacking per net, on pictures of one colour."""
    monkeypatch.setenv("THESIS_REPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "store"))
    if name == "eurosat":
        for at, kind in enumerate(SETTINGS[name].classes):
            for i in range(5):
                picture(tmp_path / f"data/eurosat/2750/{kind}/{kind}_{i}.jpg", (20 * at, i, 90))
    else:
        folder = tmp_path / "data/tiny-imagenet-200"
        kinds = [f"n{i:08}" for i in range(8)]
        for at, kind in enumerate(kinds):
            picture(folder / f"train/{kind}/images/{kind}_0.JPEG", (30 * at, 9, 9))
            picture(folder / f"val/images/val_{at}.JPEG", (30 * at, 9, 9))
        lines = [f"val_{at}.JPEG\t{kind}\t0\t0\t9\t9\n" for at, kind in enumerate(kinds)]
        (folder / "val/val_annotations.txt").write_text("".join(lines))
        (folder / "words.txt").write_text("".join(f"{kind}\tthing\n" for kind in kinds))
    recipe, augment = relaxed.PAPER[name]
    small = dataclasses.replace(recipe, net="2c2f", epochs=1, fused=False, power_steps=1)
    monkeypatch.setitem(relaxed.PAPER, name, (small, augment))
    guarantee = f"RT{SETTINGS[name].sizes[0]}"
    config = relaxed.set_config(name, guarantee, "relaxed", "paper", 0, "cpu")
    config = dataclasses.replace(config, steps=2, restarts=1)

    result = compute(Cell(relaxed.evaluate, config, ((name, data.fingerprint(name)),)))
    points = {"eurosat": 10, "tiny-imagenet": 8}[name]
    assert result.values["clean"]["n"] == points
    assert result.values["broken"] == 0
    assert result.arrays["order"].shape == (points, SETTINGS[name].sizes[0])
    notes = {"eurosat": "50 of 27,000 images", "tiny-imagenet": ""}
    assert result.values["note"] == notes[name]
    row = (SETTINGS[name].title, guarantee, "relaxed")
    lines = relaxed_groupings.assemble(profile("paper"), {row: [result]})
    assert (*row, "all") in lines
    assert ((*row, "slides 1") in lines) == (name == "eurosat")


def test_the_plane_is_scored_by_the_nearest_center():
    config = relaxed.PlaneConfig(0.08, None, robust.up_to(1), 0, side=20)
    result = relaxed.evaluate_plane(config)
    assert result.values["clean"]["n"] == 400
    assert result.values["clean"]["k"] > 360
    y = torch.from_numpy(result.arrays["y"]).view(20, 20)
    assert y[0, 0] == 0 and y[0, -1] == 1 and y[-1, 10] == 2


@pytest.mark.slow
def test_the_quick_nets_reach_their_figures():
    rows = tables.live("relaxed-rejection").data.set_index(["dataset", "guarantee", "objective"])
    assert rows.loc[("MNIST-5k", "RT3", "relaxed"), "fewer"] >= 3
    assert rows.loc[("MNIST-5k", "RT3", "relaxed"), "higher"] >= 3
    share = rows.loc[("plane", "RT2", "relaxed"), "rejected"]
    assert share <= rows.loc[("plane", "top-1", "GloRo"), "rejected"] / 3
