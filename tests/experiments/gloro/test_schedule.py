import dataclasses

from thesis_repro import data
from thesis_repro.experiments.gloro import schedule as gloro_schedule
from thesis_repro.robustness import recipes


def test_a_followed_training_ends_where_the_plain_one_does(monkeypatch, tmp_path):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    recipe = dataclasses.replace(gloro_schedule.BASE, epochs=1)
    training = recipes.Training("mnist-5k", recipe)
    values = gloro_schedule.follow(gloro_schedule.FollowConfig(training)).values
    (record,) = values["history"]
    net, _ = recipes.train(recipe, data.load("mnist-5k"))
    test = data.load("mnist-5k").test
    right = (net.body(test.x).argmax(1) == test.y).sum().item()
    assert values["clean"]["k"] == right == round(10 * record["clean"])
    assert record["k"] >= net.bound().k_sub * (1 - 1e-9)  # the fast bound is above the tight one
    assert record["vra"] <= record["clean"]
