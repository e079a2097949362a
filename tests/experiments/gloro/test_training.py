import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro.experiments.gloro import training as gloro_training
from thesis_repro.lab.cells import Result


def test_an_epoch_is_timed_by_steps_and_memory_by_what_is_held(monkeypatch):
    monkeypatch.setitem(gloro_training.SIZES, "2c2f", ((1, 28, 28), 17))
    config = gloro_training.StepsConfig("2c2f", 8, "cpu", repeats=2)
    found = gloro_training.measure(config).values["methods"]
    assert set(found) == set(gloro_training.METHODS)
    assert found["PGD, 7 steps"]["seconds"] > found["plain"]["seconds"]  # eight passes for one
    assert found["KW, margins alone"]["seconds"] > found["GloRo"]["seconds"]
    assert all(row["seconds"] > 0 and row["memory"] > 0 for row in found.values())

    def hold():
        kept = torch.ones(1000, 1000)
        again = kept + kept
        del kept
        return again + 1  # at most two at once

    assert gloro_training.most_held(hold, "cpu") == pytest.approx(8e6, rel=0.01)


@pytest.mark.parametrize("name", gloro_training.MARGINS)
def test_the_margins_of_a_rival_are_those_of_a_whole_batch(name, monkeypatch):
    _, points = gloro_training.MARGINS[name]
    monkeypatch.setitem(gloro_training.MARGINS, name, (lambda net, x: len(x), points))
    config = gloro_training.StepsConfig("2c2f", 8, "cpu")
    call, times = gloro_training._margins(config, name, torch.rand(8, 1, 28, 28))
    assert call() * times == config.batch


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


def timed(**changes):
    """Rows of ratios over GloRo, a tenth each way as interval; over plain training 1.1 times."""
    over = {"GloRo, RT3": 1.1, "GloRo, affinity": 1.1, "noise (RS)": 0.8}
    over |= {"BCP, margins alone": 2.0, "KW, margins alone": 900.0, "GloRo": 1.0}
    rows = pd.DataFrame({"method": over.keys(), "over": over.values()})
    rows["memory"] = np.where(rows["method"] == "GloRo", 100.0, 200.0)
    rows["over_low"], rows["over_high"] = 0.9 * rows["over"], 1.1 * rows["over"]
    for name, ends in changes.items():
        rows.loc[rows["method"].str.startswith(name), ["over", "over_low", "over_high"]] = ends
    for end, value in {"": 1.1, "_low": 1.0, "_high": 1.2}.items():
        rows[f"ratio{end}"] = value
    return rows


def test_a_ratio_is_judged_by_its_whole_interval():
    assert [c.holds for c in gloro_training.conditions(timed())] == [True, True, True, False]
    relaxed = [gloro_training.conditions(timed(GloRo=ends))[1] for ends in RELAXED_ENDS]
    assert [c.holds for c in relaxed] == [True, None, False]
    noise = [gloro_training.conditions(timed(noise=ends))[3] for ends in NOISE_ENDS]
    assert [c.holds for c in noise] == [True, None, False]
    assert noise[1].measured == "noise (RS) 1.10 [0.70, 1.60]"
    held = timed().assign(memory=100.0)  # no more than a step of GloRo
    assert [c.holds for c in gloro_training.conditions(held)] == [True, True, False, False]


def test_the_overhead_of_relaxed_training_is_judged_against_plain_training_as_the_paper_says():
    for high, holds in ((1.25, True), (1.4, None)):
        rows = timed(GloRo=(1.4, 1.3, 1.6)).assign(ratio_high=high)
        plain, over, *_ = gloro_training.conditions(rows)
        assert plain.holds is holds and over.holds is False
        assert plain.measured.startswith("GloRo, RT3 1.10 [1.00,")


RELAXED_ENDS = (1.2, 1.1, 1.25), (1.0, 0.6, 1.6), (1.4, 1.26, 1.6)
NOISE_ENDS = (1.2, 1.1, 1.3), (1.1, 0.7, 1.6), (0.8, 0.7, 1.0)


def test_what_no_run_has_timed_is_not_judged():
    before = timed().drop(columns=["over", "over_low", "over_high"])
    assert [c.verdict for c in gloro_training.conditions(before)] == ["holds", *["not judged"] * 3]
    assert {c.measured for c in gloro_training.conditions(before)[1:]} == {"not in this run"}
    bare = timed().drop(columns=["over_low", "over_high", "ratio_low", "ratio_high"])
    assert [c.verdict for c in gloro_training.conditions(bare)] == ["not judged"] * 4
