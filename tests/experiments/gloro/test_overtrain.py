import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments.gloro import overtrain
from thesis_repro.lab.cells import Result, compute
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
    assert key[2] == overtrain.CHOSEN and len(swept) == len(overtrain.MULTIPLES) + 6
    found = [compute(cell) for _, cell in swept]
    assert all(result.values["vra"]["n"] == 100 for result in found)
    assert sum(map(int, found[0].arrays["verified"])) == found[0].values["vra"]["k"]
    shares = [result.values["vra"]["k"] for result in found]
    best = swept[shares.index(max(shares))][1].config.training
    chosen = compute(last)
    assert chosen.values["train_epsilon"] == best.recipe.train_epsilon
    assert [row for row, _ in plan] == [
        overtrain.row("mnist-5k", "1.58", row[2])
        for row in overtrain.TABLE.spec.rows
        if row[1] == "1.58"
    ]
    net = models.trained(best).double()
    certificate = certify(net, data.held_out("mnist-5k").x.double())
    assert torch.equal(
        certificate.certified & (certificate.labels == data.held_out("mnist-5k").y),
        torch.from_numpy(chosen.arrays["verified"]),
    )


def test_steps_and_schedule_are_changed_alone_and_together():
    for kind in ("quick", "paper"):
        found = {
            title: one.recipe
            for title, one in overtrain.trainings("1.58", 0, profile(kind)).items()
        }
        for multiple in overtrain.JOINED:
            plain = found[f"{multiple:g}"]
            steps, schedule, both = (
                found[overtrain.joined(multiple, way)]
                for way in (overtrain.STEPS, overtrain.SCHEDULE, overtrain.BOTH)
            )
            assert plain.train_epsilon == multiple * plain.epsilon
            assert steps == dataclasses.replace(plain, batch_size=plain.batch_size // 2)
            assert schedule == dataclasses.replace(plain, ramp=schedule.ramp) != plain
            assert both == dataclasses.replace(schedule, batch_size=steps.batch_size)


def test_each_way_is_compared_with_its_own_multiple_point_by_point():
    points = {
        "1": [1, 1, 0, 0],
        "2": [1, 0, 0, 0],
        overtrain.joined(2.0, overtrain.STEPS): [1, 1, 1, 0],
        overtrain.CHOSEN: [1, 1, 1, 1],
    }
    gathered = {
        overtrain.row("mnist-5k", "1.58", title): [
            Result(
                {"clean": {"k": 4, "n": 4}, "vra": {"k": sum(kept), "n": 4}, "k_sub": 1.0},
                {"verified": np.array(kept, bool)},
            )
        ]
        for title, kept in points.items()
    }
    found = overtrain.assemble(profile("quick"), gathered)
    by_title = {key[2]: measured.values for key, measured in found.items()}
    more = by_title[overtrain.joined(2.0, overtrain.STEPS)]
    assert (more["gain"].value, more["way"].value) == (25.0, 50.0)
    assert by_title["2"]["gain"].value == -25.0 and "way" not in by_title["2"]
    assert not {"gain", "way"} & set(by_title[overtrain.CHOSEN])


def test_the_predictions_are_judged_by_their_intervals():
    swept = pd.DataFrame(
        [("0.3", "1.5", 1.0, 0.4, 1.6), ("1.58", "1.5", 2.0, 0.5, 3.5), ("1.58", "3", -9, -11, -7)],
        columns=["radius", "multiple", "gain", "gain_low", "gain_high"],
    )
    ways = [(radius, "2, twice the steps", 2.0, 0.5, 3.5) for radius in ("0.3", "1.58")]
    more = pd.DataFrame(ways, columns=["radius", "multiple", "way", "way_low", "way_high"])
    swept = pd.concat([swept, more], ignore_index=True)
    assert [c.holds for c in overtrain.conditions(swept)] == [True, True, True]
    swept.loc[0, "gain_low"] = -0.1
    swept.loc[2, "gain_high"] = 0.1
    swept.loc[4, "way_low"] = -0.1
    assert [c.holds for c in overtrain.conditions(swept)] == [None, None, None]
    swept.loc[0, "gain_high"] = swept.loc[4, "way_high"] = -0.05
    swept.loc[2, "gain_low"] = 0.05
    assert [c.holds for c in overtrain.conditions(swept)] == [False, False, False]
    nothing = pd.DataFrame(columns=swept.columns)
    assert {c.holds for c in overtrain.conditions(nothing)} == {None}
