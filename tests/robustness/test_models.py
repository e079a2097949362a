import dataclasses
import math

import pytest
import torch

from thesis_repro import data
from thesis_repro.data import Dataset, Split
from thesis_repro.robustness import attacks, boundary, certify, models, recipes
from thesis_repro.robustness.recipes import Recipe

RECIPE = Recipe("2c2f", 0.3, 0.45, epochs=1, epochs_paper=1, batch_size=32)


@pytest.fixture
def saved(monkeypatch, tmp_path):
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    net = recipes.build(RECIPE, (1, 28, 28), 10).eval()
    models.save("small", net, RECIPE, {"data": "mnist-5k"})
    return net


def test_a_model_comes_back_as_it_was(saved):
    x = torch.rand(3, 1, 28, 28)
    again = models.load("small")
    assert torch.equal(again.body(x), saved.body(x))
    assert not again.training
    assert models.card("small")["data"] == "mnist-5k"
    assert models.names() == ("small",)


def test_altered_bytes_unknown_names_and_other_architectures_are_refused(saved, tmp_path):
    path = tmp_path / "models" / "small.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"small\.safetensors was altered"):
        models.load("small")
    with pytest.raises(ValueError, match="there are small"):
        models.load("other")
    path.write_bytes(whole)
    wide = dataclasses.replace(RECIPE, net="4c3f")
    models.save("small", recipes.build(RECIPE, (1, 28, 28), 10), wide, {})
    with pytest.raises(ValueError, match="does not fit 4c3f"):
        models.load("small")
    with pytest.raises(ValueError, match="at most 10 MB"):
        models.save(
            "big",
            recipes.build(dataclasses.replace(RECIPE, net="8c2f"), (3, 64, 64), 200),
            RECIPE,
            {},
        )


def test_a_recipe_names_its_choices():
    for change in ({"method": "magic"}, {"objective": "x"}, {"ramp": "x"}, {"decay": "x"}):
        with pytest.raises(ValueError, match="choose one of"):
            dataclasses.replace(RECIPE, **change)


def test_a_gpu_that_is_not_here_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="asks for cuda, but torch finds no GPU"):
        recipes.build(dataclasses.replace(RECIPE, device="cuda"), (1, 28, 28), 10)


def tiny(**change):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(48, 3, 16, 16, generator=generator)
    dataset = Dataset("made up", Split(x, torch.arange(48) % 4), None, tuple("abcd"))
    base = Recipe("liresnet-l2w8", 0.1, 0.15, epochs=2, epochs_paper=2, batch_size=16)
    return recipes.train(dataclasses.replace(base, **change), dataset)


EMMA = {
    "objective": "emma",
    "optimizer": "nadam",
    "decay": "cosine",
    "warmup": 0.1,
    "ramp_start": 0.1,
    "clip": 3.0,
}


def test_a_liresnet_trains_by_its_recipe_and_comes_back_as_a_model(monkeypatch, tmp_path):
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    net, history = tiny(**EMMA)
    assert history[-1]["lr"] < history[0]["lr"] < 1e-3
    assert all(map(math.isfinite, (record["loss"] for record in history)))
    recipe = dataclasses.replace(
        Recipe("liresnet-l2w8", 0.1, 0.15, epochs=2, epochs_paper=2, batch_size=16), **EMMA
    )
    models.save("lires", net, recipe, {"data": "made up"})
    x = torch.rand(5, 3, 16, 16)
    again = models.load("lires")
    assert torch.equal(again.body(x), net.body(x))
    assert torch.equal(certify(again, x).radius, certify(net, x).radius)


def test_each_new_field_of_a_recipe_changes_the_training():
    base = tiny(**EMMA)[1][-1]["loss"]
    for change in (
        {"objective": "cross-entropy"},
        {"optimizer": "adam"},
        {"decay": "exponential"},
        {"warmup": 0.6},
        {"ramp_start": 0.9},
        {"ramp": "constant"},
        {"noise": 0.3},
        {"weight_decay": 10.0},
    ):
        assert tiny(**{**EMMA, **change})[1][-1]["loss"] != base, change


@pytest.mark.parametrize("name", models.names() or ["none"])
def test_no_certified_point_of_a_committed_model_falls(name):
    if name == "none":
        pytest.skip("no model is committed yet")
    net = models.load(name)
    dataset = models.card(name)["data"]
    if not data.available(dataset):
        dataset = "mnist-5k" if dataset == "mnist" else dataset
    if not data.available(dataset):
        pytest.skip(data.how_to_get(dataset))
    x = data.load(dataset).test.x
    found = attacks.break_certificates(net, x, steps=50, restarts=2, smallest=200, nearest=1)
    assert found["attacked"] == 200
    assert found["broken"] == 0
    near = boundary.search(net, x, pairs=20, generator=torch.Generator().manual_seed(1))
    assert near.certified > 0 and near.broken == 0
    assert certify(net, x[:10]).bound.k_sub > 0
