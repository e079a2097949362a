"""The tables on experts: rows, must-show, trend, and that no claim is typed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro.experiments import nets as experts_nets
from thesis_repro.experiments.experts import compression as experts
from thesis_repro.experiments.experts import faithfulness as experts_faithfulness
from thesis_repro.experiments.experts.compression import WHOLE
from thesis_repro.explanations import faithfulness
from thesis_repro.lab import places, profiles
from thesis_repro.lab.cells import Result
from thesis_repro.robustness import models, recipes
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame

SPEC = experts.TABLE.spec
FAITHFUL = experts_faithfulness.TABLE


def frame(recall: dict[str, int], balanced: dict[str, float], near: int = 9) -> Frame:
    gathered = {
        experts.compression_row("mnist-5k", -1, ranking): [
            Result(
                {
                    "kept": 12,
                    "recall": {"k": recall[ranking], "n": 100},
                    "precision": {"k": 50, "n": 100},
                    "balanced": balanced[ranking],
                    "near": near,
                }
            )
        ]
        for ranking in recall
    }
    records = experts.assemble(profiles.profile("quick"), gathered)
    return Frame(SPEC, "quick", tabulate(SPEC, records))


GOOD = {WHOLE: 96, "influence": 94, "activation": 70, "gradient at the input": 80, "random": 50}


def test_must_show_is_computed() -> None:
    shown = experts.must_show(frame(GOOD, {k: float(v) for k, v in GOOD.items()}))
    assert shown["holds"].tolist() == ["yes"] * 5
    loud = {**GOOD, "activation": 97}
    shown = experts.must_show(frame(loud, {k: float(v) for k, v in loud.items()}, near=7))
    assert shown["holds"].tolist() == ["no", "yes", "yes", "no", "no"]
    assert shown["measured"].tolist() == [7, 44, 44, -3, -3]


def test_trend() -> None:
    balanced = {k: float(v) for k, v in GOOD.items()}
    assert experts.near_enough(frame(GOOD, balanced).data)
    assert not experts.near_enough(frame({**GOOD, "influence": 90}, balanced).data)
    assert not experts.near_enough(frame(GOOD, {**balanced, "random": 95.0}).data)


def test_intervals_are_named_once() -> None:
    (said,) = set(frame(GOOD, {k: float(v) for k, v in GOOD.items()}).data["interval"])
    assert said == "Clopper-Pearson over the images that a rate counts"


def test_the_halves_share_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    x = torch.arange(20.0).view(10, 2)
    sides = experts.halves(net, "1", x, torch.arange(10) % 4 // 2)
    first, second = sides.choosing.x[:, 0].tolist(), sides.judging.x[:, 0].tolist()
    assert sorted(first + second) == x[:, 0].tolist()
    assert not set(first) & set(second)


def test_rows_of_other_sets_decide_nothing() -> None:
    """The statements are about digits; rows on CIFAR-10 and rows not run stand beside them."""
    good = frame(GOOD, {k: float(v) for k, v in GOOD.items()})
    other = good.data.assign(dataset="CIFAR-10, 6C2F, standard", recall=1.0, balanced=50.0)
    absent = good.data.assign(dataset="MNIST", recall=np.nan, status="not run")
    mixed = Frame(SPEC, "paper-cpu", pd.concat([absent, other, good.data], ignore_index=True))
    assert experts.must_show(mixed).equals(experts.must_show(good))
    assert experts.near_enough(mixed.data)


def test_the_plans() -> None:
    quick = profiles.profile("quick")
    rows = [row for row, _ in experts.compression_cells(quick)]
    assert len(rows) == 5 + 20
    assert len(set(rows)) == len(rows)
    paper = profiles.profile("paper")
    for table in (experts.TABLE, FAITHFUL):
        assert {row for row, _ in table.cells(paper)} <= set(table.spec.rows)


def test_without_data_the_paper_rows_are_not_run(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts.data, "roots", lambda: [tmp_path])
    monkeypatch.setattr(experts.data, "available", lambda name: name == "mnist-5k")
    paper = profiles.profile("paper")
    assert experts.compression_cells(paper) == []
    assert FAITHFUL.cells(paper) == []


@pytest.fixture
def all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_nets.data, "available", lambda name: True)


@pytest.mark.parametrize(("name", "cifar"), [("quick", 0), ("paper", 2)])
def test_both_nets_of_a_pair_are_of_one_architecture(name: str, cifar: int, all_data: None) -> None:
    profile = profiles.Profile(name, "cpu", (2,))
    found = [experts_nets.digit_nets(profile), experts_nets.cifar_nets(profile)]
    assert [len(named) for named in found] == [2, cifar]
    for pair in filter(None, found):
        plain, robust = (net.training for _, net in pair)
        assert (plain.recipe.method, robust.recipe.method) == ("standard", "gloro")
        for same in ("net", "activation", "seed", "batch_size", "lr"):
            assert getattr(plain.recipe, same) == getattr(robust.recipe, same)
        assert (plain.dataset, plain.augment) == (robust.dataset, robust.augment)
        assert pair[0][1].epochs() == {"epochs_run": plain.recipe.epochs, "epochs_paper": 0}
    on_gpu = profiles.Profile("paper", "cuda", (0, 1, 2))
    assert len(experts_nets.cifar_nets(on_gpu)) == 6
    assert len(experts_nets.cifar_nets(profiles.Profile("paper", "cpu", (0, 1, 2)))) == 2


def test_the_first_net_on_a_cpu_is_the_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_data: None
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    paper = profiles.Profile("paper", "cpu", (0,))
    (_, plain), (_, trained) = experts_nets.digit_nets(paper)
    assert (plain.model, trained.model) == ("", "")
    recipe = replace(trained.training.recipe, epochs=7)
    net = recipes.build(recipe, (1, 28, 28), 10).eval()
    models.save("mnist-2c2f-gloro", net, recipe, {"data": "mnist"})
    (_, plain), (_, committed) = experts_nets.digit_nets(paper)
    assert (plain.model, committed.model) == ("", "mnist-2c2f-gloro")
    assert committed.sha256 == models.card("mnist-2c2f-gloro")["sha256"]
    assert committed.epochs() == {"epochs_run": 7, "epochs_paper": recipe.epochs_paper}
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(committed.load().body(x), net.body(x))
    for other in (profiles.Profile("paper", "cpu", (1,)), profiles.Profile("paper", "cuda", (0,))):
        assert not any(net.model for _, net in experts_nets.digit_nets(other))


def test_regions_and_shares_by_hand() -> None:
    x = torch.zeros(2, 1, 4, 4)
    x[0, 0, 1, 2] = 0.9
    assert experts_faithfulness.ink(x).sum((1, 2)).tolist() == [1, 0]
    square = experts_faithfulness.middle(torch.zeros(1, 3, 8, 8))[0]
    assert square.sum() == 16
    assert square[2:6, 2:6].all()
    worth = torch.ones(1, 2, 10)
    worth[0, 0, :2] = 8.0
    assert experts_faithfulness.strongest(worth).item() == pytest.approx(16 / 34)


def shares(plain: float, certified: float) -> Frame:
    """A measured table in which each explanation has these shares on the object."""
    gathered = {}
    for title, share in zip(experts_nets.QUICK_PAIR, (plain, certified), strict=True):
        for method in faithfulness.METHODS:
            each = share + np.array([-1.0, 0.0, 1.0] * 10)
            arrays = {f"each_{name}": each for name in experts_faithfulness.MEASURES}
            found = dict.fromkeys(experts_faithfulness.MEASURES, share)
            gathered["MNIST-5k", title, method] = [Result(found, arrays)]
    records = experts_faithfulness.assemble(profiles.profile("quick"), gathered)
    return Frame(FAITHFUL.spec, "quick", tabulate(FAITHFUL.spec, records))


def test_concentration_is_judged_by_its_intervals() -> None:
    for plain, certified, says in ((20.0, 40.0, "more"), (40.0, 20.0, "less"), (20, 20.2, "open")):
        found = experts_faithfulness.concentration(shares(plain, certified))
        assert set(found["certified is"]) == {says}
        assert len(found) == 2 * (len(faithfulness.METHODS) - 1)
    data = shares(20, 40).data
    assert set(data["interval"]) == {"Student t over 30 images"}
    assert (data["on_object_low"] < data["on_object"]).all()


def test_best_of_each_net() -> None:
    found = shares(20, 40)
    at = (found.data["method"] == "saliency").idxmax()
    found.data.loc[at, ["deletion", "insertion"]] = (0.0, 99.0)
    rows = experts_faithfulness.best(found)
    assert rows.iloc[0].tolist() == ["MNIST-5k", experts_nets.QUICK_PAIR[0], "saliency", "saliency"]
    assert len(rows) == 2


def test_columns_hold_what_cells_give(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cheap cell of each table, with a net of one epoch."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    small = replace(experts.DIGITS, width=20, epochs=1)
    cell = experts.compress(experts.CompressionConfig(small, "influence"))
    assert cell.values["kept"] == 1
    assert cell.values["recall"]["n"] == 500
    rows = {experts.compression_row("mnist-5k", c, "influence"): [cell] for c in (-1, 3)}
    mean, three = experts.assemble(profiles.profile("quick"), rows).values()
    per_class = [found["balanced"] for found in cell.values["classes"]]
    assert mean["balanced"] == pytest.approx(np.mean(per_class))
    assert three["balanced"] == per_class[3]
    assert 0 <= three["alpha"] <= float(three["kept"]) == 1
    quick = profiles.profile("quick")
    training = experts_nets.digit_nets(quick)[0][1].training
    short = replace(training, recipe=replace(training.recipe, epochs=1))
    config = experts_faithfulness.FaithfulConfig("saliency", experts_nets.Net(short), 10, 7)
    cell = experts_faithfulness.faithful(config)
    assert {c.name for c in FAITHFUL.spec.columns} <= set(cell.values)
    assert 0 <= cell.values["deletion"] <= 1
    assert cell.arrays["curve_insertion"].shape == (8,)
    for name in experts_faithfulness.MEASURES:
        assert cell.values[name] == pytest.approx(cell.arrays[f"each_{name}"].mean(), rel=1e-6)


@pytest.mark.slow
def test_the_cifar_rows_run_on_made_up_pictures(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both tables' CIFAR-10 cells from end to end, with one epoch on noise."""
    from thesis_repro import data

    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(120, 3, 32, 32, generator=generator), torch.arange(120) % 10
    noise = data.Dataset(
        "cifar10", data.Split(x[:60], y[:60]), data.Split(x[60:], y[60:]),
        tuple(str(c) for c in range(10)),
    )  # fmt: skip
    monkeypatch.setattr(data, "available", lambda name: name == "cifar10")
    monkeypatch.setattr(data, "fingerprint", lambda name: "0" * 64)
    monkeypatch.setattr(data, "load", lambda name: noise)
    monkeypatch.setattr(experts_nets.models, "names", lambda: ())
    short = experts_nets.paper_training

    def one_epoch(radius: str, seed: int, device: str) -> experts_nets.Training:
        found = short(radius, seed, device)
        return replace(found, recipe=replace(found.recipe, epochs=1, fused=False))

    monkeypatch.setattr(experts_nets, "paper_training", one_epoch)
    monkeypatch.setattr(experts_nets, "PLAIN_EPOCHS", {"cpu": {"36/255": 1}})
    paper = profiles.profile("paper", seeds=0)
    for table, count in ((experts.TABLE, 10), (FAITHFUL, 8)):
        plan = table.cells(paper)
        assert len(plan) == count
        assert {row for row, _ in plan} <= set(table.spec.rows)
        for _, cell in plan[:: count - 1]:
            assert cell is not None
            values = cell.function(cell.config).values
            assert {"epochs_run", "epochs_paper"} <= set(values)
