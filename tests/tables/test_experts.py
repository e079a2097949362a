"""The tables on experts: rows, must-show, trend, and that no claim is typed."""

import pandas as pd
import pytest
import torch

from thesis_repro.lab import profiles
from thesis_repro.lab.engine import Result
from thesis_repro.tables import experts
from thesis_repro.tables.experts import WHOLE
from thesis_repro.tables.measure import summarise, tabulate
from thesis_repro.tables.spec import Frame

SPEC = experts.EXPERTS_COMPRESSION.spec


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
    records = experts.plainly(summarise(SPEC, gathered))
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


def test_the_plans() -> None:
    quick = profiles.profile("quick")
    rows = [row for row, _ in experts.compression_cells(quick)]
    assert len(rows) == 5 + 20
    assert len(set(rows)) == len(rows)
    paper = profiles.profile("paper")
    for table in (experts.EXPERTS_COMPRESSION, experts.EXPERTS_FAITHFULNESS):
        assert {row for row, _ in table.cells(paper)} <= set(table.spec.rows)


def test_columns_hold_what_cells_give(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cheap cell of each table, with a net of one epoch."""
    from dataclasses import replace

    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    monkeypatch.setattr(experts, "DIGITS", replace(experts.DIGITS, width=20, epochs=1))
    found = experts.compress(experts.CompressionConfig("mnist-5k", 3, "influence")).values
    assert found["kept"] == 1
    assert found["recall"]["n"] == pd.Series([found["recall"]["n"]]).clip(30, 70).item()
    training = experts.pair(0)[experts.STANDARD]
    short = replace(training, recipe=replace(training.recipe, epochs=1))
    cell = experts.faithful(experts.FaithfulConfig("saliency", short, 10, 7, "3"))
    assert set(cell.values) == {c.name for c in experts.EXPERTS_FAITHFULNESS.spec.columns}
    assert 0 <= cell.values["deletion"] <= 1
    assert cell.arrays["insertion"].shape == (8,)
