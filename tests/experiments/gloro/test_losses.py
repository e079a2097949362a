import dataclasses

import pandas as pd
import pytest
import torch

from thesis_repro import tables
from thesis_repro.experiments.gloro import losses
from thesis_repro.lab.cells import compute
from thesis_repro.lab.profiles import profile


@pytest.fixture
def fast(monkeypatch, tmp_path):
    """Recipes of one epoch in large batches, at one radius."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    recipe = dataclasses.replace(losses.QUICK["1.58"], epochs=1, batch_size=512)
    monkeypatch.setitem(losses.QUICK, "1.58", recipe)
    monkeypatch.setattr(losses, "QUICK", {"1.58": losses.QUICK["1.58"]})


def test_the_losses_are_compared_point_by_point(fast):
    frame = tables.live("gloro-losses")
    plan = dict(losses.cells(profile("quick")))
    trades, emma = (
        compute(plan[losses.row("mnist-5k", "1.58", name)]) for name in (losses.TRADES, losses.EMMA)
    )
    apart = (
        100.0 * (emma.values["vra"]["k"] - trades.values["vra"]["k"]) / trades.values["vra"]["n"]
    )
    row = losses.row("mnist-5k", "1.58", losses.EMMA)
    assert frame.value(row, "gain") == pytest.approx(apart)
    radius = torch.from_numpy(trades.arrays["radius"])[torch.from_numpy(trades.arrays["correct"])]
    held = (radius >= trades.values["tail"]).double().mean()
    assert 0.88 <= held <= 0.92
    assert set(losses.curves()) == set(losses.LOSSES)


def test_the_prediction_is_judged_by_its_interval():
    row = {"loss": losses.EMMA, "gain": 1.0, "gain_low": 0.0, "gain_high": 2.0}
    emma = pd.DataFrame([row])
    assert losses.conditions(emma)[0].holds
    emma["gain_low"] = -0.1
    assert losses.conditions(emma)[0].holds is None
    emma["gain_high"] = -0.05
    assert losses.conditions(emma)[0].holds is False
    assert losses.conditions(emma[:0])[0].holds is None
