"""The table of faithfulness: regions by hand, and sentences that can turn out otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments import nets as experts_nets
from thesis_repro.experiments.experts import faithfulness as looks
from thesis_repro.experiments.experts.faithfulness import TABLE
from thesis_repro.explanations import faithfulness
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Result
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame


def test_regions_and_shares_by_hand() -> None:
    x = torch.zeros(2, 1, 4, 4)
    x[0, 0, 1, 2] = 0.9
    assert looks.ink(x).sum((1, 2)).tolist() == [1, 0]
    square = looks.middle(torch.zeros(1, 3, 8, 8))[0]
    assert square.sum() == 16
    assert square[2:6, 2:6].all()
    worth = torch.ones(1, 2, 10)
    worth[0, 0, :2] = 8.0
    assert looks.strongest(worth).item() == pytest.approx(16 / 34)


def shares(plain: float, certified: float) -> Frame:
    """A measured table in which each explanation has these shares on the object."""
    gathered = {}
    for title, share in zip(experts_nets.QUICK_PAIR, (plain, certified), strict=True):
        for method in faithfulness.METHODS:
            each = share + np.array([-1.0, 0.0, 1.0] * 10)
            arrays = {f"each_{name}": each for name in looks.MEASURES}
            found = dict.fromkeys(looks.MEASURES, share)
            gathered["MNIST-5k", title, method] = [Result(found, arrays)]
    records = looks.assemble(profiles.profile("quick"), gathered)
    return Frame(TABLE.spec, "quick", tabulate(TABLE.spec, records))


def test_concentration_is_judged_by_its_intervals() -> None:
    for plain, certified, says in ((20.0, 40.0, "more"), (40.0, 20.0, "less"), (20, 20.2, "open")):
        found = looks.concentration(shares(plain, certified))
        assert set(found["certified is"]) == {says}
        assert len(found) == 2 * (len(faithfulness.METHODS) - 1)
    data = shares(20, 40).data
    assert set(data["interval"]) == {"Student t over 30 images"}
    assert (data["on_object_low"] < data["on_object"]).all()


def test_best_of_each_net() -> None:
    found = shares(20, 40)
    at = (found.data["method"] == "saliency").idxmax()
    found.data.loc[at, ["deletion", "insertion"]] = (0.0, 99.0)
    rows = looks.best(found)
    assert rows.iloc[0].tolist() == ["MNIST-5k", experts_nets.QUICK_PAIR[0], "saliency", "saliency"]
    assert len(rows) == 2


def test_the_plans_name_rows_of_the_spec() -> None:
    assert {row for row, _ in TABLE.cells(profiles.profile("paper"))} <= set(TABLE.spec.rows)


def test_without_data_the_paper_rows_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "roots", lambda: [tmp_path])
    monkeypatch.setattr(data, "available", lambda name: name == "mnist-5k")
    assert TABLE.cells(profiles.profile("paper")) == []


def test_columns_hold_what_cells_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cheap cell, of a net of one epoch."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    quick = profiles.profile("quick")
    training = experts_nets.digit_nets(quick)[0][1]
    short = replace(training, recipe=replace(training.recipe, epochs=1))
    config = looks.FaithfulConfig("saliency", short, 10, 7)
    cell = looks.faithful(config)
    assert {c.name for c in TABLE.spec.columns} <= set(cell.values)
    assert 0 <= cell.values["deletion"] <= 1
    assert cell.arrays["curve_insertion"].shape == (8,)
    for name in looks.MEASURES:
        assert cell.values[name] == pytest.approx(cell.arrays[f"each_{name}"].mean(), rel=1e-6)


@pytest.mark.slow
def test_the_cifar_rows_run_on_made_up_pictures(made_up_cifar: None) -> None:
    """The cells of CIFAR-10 from end to end, with one epoch on noise."""
    plan = TABLE.cells(profiles.profile("paper", seeds=0))
    assert len(plan) == 8
    assert {row for row, _ in plan} <= set(TABLE.spec.rows)
    for _, cell in plan[::7]:
        assert cell is not None
        values = cell.function(cell.config).values
        assert {"epochs_run", "epochs_paper"} <= set(values)
