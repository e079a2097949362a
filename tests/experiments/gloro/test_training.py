import pandas as pd
import pytest
import torch

from thesis_repro.experiments.gloro import training as gloro_training
from thesis_repro.lab.cells import Result


def test_an_epoch_is_timed_by_steps_and_memory_by_what_is_held(monkeypatch):
    monkeypatch.setitem(gloro_training.SIZES, "2c2f", ((1, 28, 28), 17))
    config = gloro_training.StepsConfig("2c2f", 8, "cpu", repeats=2)
    found = gloro_training.measure(config).values["methods"]
    assert list(found) == list(gloro_training.METHODS)
    assert found["PGD, 7 steps"]["seconds"] > found["plain"]["seconds"]  # eight passes for one
    assert found["KW, margins alone"]["seconds"] > found["GloRo"]["seconds"]
    assert all(row["seconds"] > 0 and row["memory"] > 0 for row in found.values())

    def hold():
        kept = torch.ones(1000, 1000)
        again = kept + kept
        del kept
        return again + 1  # at most two at once

    assert gloro_training.most_held(hold, "cpu") == pytest.approx(8e6, rel=0.01)


def test_ratios_are_over_plain_and_over_gloro_with_an_interval():
    steps = {"plain": [1.0, 1.1, 0.9], "GloRo": [2.0, 2.2, 1.8], "GloRo, RT3": [2.2, 2.3, 2.1]}
    gathered = {
        ("2C2F", name): [Result({"seconds": calls[0], "calls": calls, "memory": 1.0})]
        for name, calls in steps.items()
    }
    found = gloro_training.assemble(None, gathered)
    ratio = found["2C2F", "GloRo, RT3"].estimate("over")
    assert ratio.value == pytest.approx(1.1) and ratio.low < 1.1 < ratio.high
    assert found["2C2F", "GloRo"].estimate("ratio").value == pytest.approx(2.0)
    assert found["2C2F", "GloRo"].estimate("over").value == 1.0


def test_what_no_run_has_timed_is_not_judged():
    over = {"GloRo, RT3": 1.1, "GloRo, affinity": 1.2, "noise (RS)": 0.9}
    over |= {"BCP, margins alone": 2.0, "KW, margins alone": 900.0}
    over |= {"GloRo": 1.0}
    rows = pd.DataFrame({"method": over.keys(), "over": over.values()}).assign(memory=200.0)
    rows.loc[rows["method"] == "GloRo", "memory"] = 100.0
    assert [c.holds for c in gloro_training.conditions(rows)] == [True, True, False]
    rows.loc[0, "over"] = 1.3
    assert gloro_training.conditions(rows)[0].holds is False
    wide = rows.assign(over_low=0.7, over_high=1.6)  # a machine that does other things as well
    assert [c.verdict for c in gloro_training.conditions(wide)] == ["not judged"] * 3
    held = rows.assign(memory=100.0)
    assert [c.holds for c in gloro_training.conditions(held)][1] is False
    before = rows.drop(columns="over")
    assert [c.verdict for c in gloro_training.conditions(before)] == ["not judged"] * 3
