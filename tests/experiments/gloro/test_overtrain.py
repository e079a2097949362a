import dataclasses

import pandas as pd
import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments.gloro import overtrain
from thesis_repro.lab.cells import compute
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import certify, models

FAST = {"epochs": 1, "batch_size": 512}


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Recipes of one epoch, on 300 digits for training and 100 for judging."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    whole = data.load("mnist-5k")
    small = dataclasses.replace(
        whole,
        train=data.Split(whole.train.x[:300], whole.train.y[:300]),
        test=data.Split(whole.test.x[:100], whole.test.y[:100]),
    )
    monkeypatch.setattr(data, "load", lambda _: small)
    monkeypatch.setitem(overtrain.HELD, "mnist-5k", 100)
    for name, recipe in overtrain.QUICK.items():
        monkeypatch.setitem(overtrain.QUICK, name, dataclasses.replace(recipe, **FAST))
    monkeypatch.setattr(overtrain, "QUICK", {"1.58": overtrain.QUICK["1.58"]})
    return small


def test_the_images_that_choose_are_trained_on_by_none_that_is_chosen_from():
    dataset = data.load("mnist-5k")
    found = overtrain.dealt(dataset, 1000)
    assert len(found.train) == len(dataset.train) - 1000 and len(found.test) == 1000
    rows = {row.numpy().tobytes() for row in found.train.x}
    assert not rows & {row.numpy().tobytes() for row in found.test.x}
    test = {row.numpy().tobytes() for row in dataset.test.x}
    assert not test & {row.numpy().tobytes() for row in found.test.x}
    for held in (0, len(dataset.train)):
        with pytest.raises(ValueError, match="held out of"):
            overtrain.dealt(dataset, held)


def test_the_chosen_training_has_the_most_vra_on_the_images_held_out(few):
    plan = overtrain.cells(profile("quick"))
    *swept, (key, last) = plan
    assert key[2] == overtrain.CHOSEN and len(swept) == len(overtrain.MULTIPLES)
    found = [compute(cell) for _, cell in swept]
    assert all(result.values["vra"]["n"] == 100 for result in found)
    assert sum(map(int, found[0].arrays["verified"])) == found[0].values["vra"]["k"]
    shares = [result.values["vra"]["k"] for result in found]
    best = swept[shares.index(max(shares))][1].config.training
    chosen = compute(last)
    assert chosen.values["train_epsilon"] == best.recipe.train_epsilon
    net = models.trained(best).double()
    certificate = certify(net, data.held_out("mnist-5k").x.double())
    assert torch.equal(
        certificate.certified & (certificate.labels == data.held_out("mnist-5k").y),
        torch.from_numpy(chosen.arrays["verified"]),
    )


def test_the_predictions_are_judged_by_their_intervals():
    swept = pd.DataFrame(
        [("0.3", "1.5", 1.0, 0.4, 1.6), ("1.58", "1.5", 2.0, 0.5, 3.5), ("1.58", "3", -9, -11, -7)],
        columns=["radius", "multiple", "gain", "gain_low", "gain_high"],
    )
    assert [c.holds for c in overtrain.conditions(swept)] == [True, True]
    swept.loc[0, "gain_low"] = -0.1
    swept.loc[2, "gain_high"] = 0.1
    assert [c.holds for c in overtrain.conditions(swept)] == [False, False]
    nothing = pd.DataFrame(columns=swept.columns)
    assert {c.holds for c in overtrain.conditions(nothing)} == {None}
