import pytest
import torch

from thesis_repro.experiments.gloro import training as gloro_training


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
