import dataclasses
import errno
import math
import os

import pytest
import torch

from thesis_repro import data
from thesis_repro.data import Dataset, Split
from thesis_repro.lab import sealed
from thesis_repro.lab.cells import CellError
from thesis_repro.robustness import attacks, boundary, certify, models, recipes, relaxed
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.tables import records
from thesis_repro.training import named

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


def test_a_disk_that_fills_up_at_the_card_leaves_the_earlier_model_whole(saved, monkeypatch):
    other = recipes.build(dataclasses.replace(RECIPE, seed=1), (1, 28, 28), 10)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:  # the weights are on the disk by then
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"the disk is full: small.json \("):
        models.save("small", other, RECIPE, {"data": "mnist-5k"})
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(models.load("small").body(x), saved.body(x))


NAMED = "mnist-5k-2c2f-gloro"
OTHER = dataclasses.replace(RECIPE, net="4c3f")


def test_a_model_copied_over_another_is_named(saved, tmp_path):
    models.save(NAMED, saved, RECIPE, {"data": "mnist-5k"})
    assert models.load(NAMED).epsilon == 0.3
    large = recipes.build(OTHER, (1, 28, 28), 10)
    models.save("mnist-5k-4c3f-gloro", large, OTHER, {"data": "mnist-5k"})
    models.save("mnist-2c2f-gloro", saved, RECIPE, {"data": "mnist"})
    for other, said in (
        ("mnist-5k-4c3f-gloro", "4c3f for mnist-5k"),
        ("mnist-2c2f-gloro", "mnist"),
    ):
        for suffix in (".json", ".safetensors"):
            content = (tmp_path / "models" / f"{other}{suffix}").read_bytes()
            (tmp_path / "models" / f"{NAMED}{suffix}").write_bytes(content)
        for ask in (models.load, models.card, models.architecture, models.to_verify):
            with pytest.raises(ValueError, match=rf"{NAMED}\.json was altered: .*{said}$"):
                ask(NAMED)
        with pytest.raises(ValueError, match=rf"{NAMED}\.json was altered: .*{said}$"):
            records.check_all([])
        path = tmp_path / "models" / f"{NAMED}.safetensors"
        assert models.load(path).classes == 10  # a path says nothing


def test_a_name_that_says_another_net_is_not_saved(saved, tmp_path):
    with pytest.raises(ValueError, match="it is the card of a net 2c2f for mnist-5k"):
        models.save("mnist-5k-4c3f-gloro", saved, RECIPE, {"data": "mnist-5k"})
    models.save("cifar10-6c2f-relu-gloro", saved, RECIPE, {"data": "mnist-5k"})
    models.load("cifar10-6c2f-relu-gloro")
    assert not (tmp_path / "models" / "mnist-5k-4c3f-gloro.json").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": None}, "is no card of a model: it lacks sha256$"),
        ({"recipe": [1], "classes": "ten"}, "it lacks recipe, classes$"),
        ({"sha256": 5, "format": "thesis-repro certificate 1"}, "its format is .* certificate 1'$"),
        ({"recipe": {"net": "2c2f", "speed": 1}}, "no recipe of this version: .*'speed'"),
    ],
)
def test_a_sealed_file_that_is_no_card_is_one_line(saved, tmp_path, change, says):
    file = tmp_path / "models" / "small.json"
    content = {key: value for key, value in (sealed.read(file) | change).items() if value}
    sealed.write(file, content)
    for name in ("small", file.with_suffix(".safetensors")):
        for ask in (models.load, models.architecture, models.to_verify):
            with pytest.raises(ValueError, match=says) as error:
                ask(name)
            assert "\n" not in str(error.value)


def test_a_net_in_float64_comes_back_in_float64(tmp_path):
    net = recipes.build(RECIPE, (1, 28, 28), 10).eval().double()
    with torch.no_grad():
        net.body[0].weight.mul_(1 + 1e-12)
    file = models.write(tmp_path / "wide.safetensors", net, RECIPE, {})
    found = models.load(file)
    assert torch.equal(found.body[0].weight, net.body[0].weight)
    assert found.body[0].weight.dtype == torch.float64


def test_a_model_goes_to_a_safetensors_file(saved, tmp_path):
    for name in ("mine.json", "mine"):
        with pytest.raises(ValueError, match=rf"to a \.safetensors file, got .*{name}$"):
            models.write(tmp_path / name, saved, RECIPE, {})
        assert not (tmp_path / name).exists()


@pytest.fixture
def committed(monkeypatch, tmp_path):
    """A training with its committed model, and a store in which nothing is trained."""
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "store"))
    net = recipes.build(RECIPE, (1, 28, 28), 10).eval()
    sha256 = data.fingerprint("mnist-5k")
    about = {"data": "mnist-5k", "data_sha256": sha256, "augment": "none"}
    models.save("small", net, RECIPE, about)
    monkeypatch.setattr(recipes.training, "fit", None)  # a training would fail
    return net, about


def test_a_training_whose_model_is_committed_is_not_run(committed):
    config = recipes.Training("mnist-5k", RECIPE)
    x = torch.rand(3, 1, 28, 28)
    net = models.trained(config)
    assert torch.equal(net.body(x), committed[0].body(x))
    assert isinstance(net, recipes.GloroNet) and not net.training
    sha256 = models.card("small")["sha256"]
    assert models.fingerprints(config) == (*named.fingerprints(config), ("small", sha256))
    fast = dataclasses.replace(RECIPE, autocast=True, fused=True, graph=True)
    assert models.standing_for(recipes.Training("mnist-5k", fast)) == "small"


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": dataclasses.replace(RECIPE, epochs=2)},
        {"recipe": dataclasses.replace(RECIPE, seed=1)},
        {"recipe": dataclasses.replace(RECIPE, device="cuda")},
        {"recipe": dataclasses.replace(RECIPE, guarantee=relaxed.up_to(2))},
        {"augment": "crop-flip"},
        {"dataset": "mnist"},
    ],
)
def test_any_other_training_is_run(committed, change):
    config = dataclasses.replace(recipes.Training("mnist-5k", RECIPE), **change)
    assert models.standing_for(config) == ""


def test_a_model_of_other_data_or_altered_weights_does_not_stand_in(committed, monkeypatch):
    net, about = committed
    config = recipes.Training("mnist-5k", RECIPE)
    weights = models.weights_file("small")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"small\.safetensors was altered"):
        models.trained(config)
    models.save("small", net, RECIPE, {**about, "data_sha256": "0" * 64})
    assert models.standing_for(config) == ""
    with pytest.raises(CellError, match="NoneType"):  # it would be trained
        models.trained(config)


def test_a_relaxed_model_comes_back_with_its_guarantee(monkeypatch, tmp_path):
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    within = relaxed.within([(0, 1), range(2, 10)])
    recipe = dataclasses.replace(RECIPE, guarantee=within)
    net = recipes.build(recipe, (1, 28, 28), 10).eval()
    models.save("small", net, recipe, {})
    assert models.load("small").guarantee == within


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


def test_a_radius_that_is_given_is_that_of_the_net_and_the_cards_otherwise() -> None:
    assert (
        models.load("mnist-2c2f-gloro").epsilon
        == models.card("mnist-2c2f-gloro")["recipe"]["epsilon"]
    )
    assert models.load("mnist-2c2f-gloro", 0.12).epsilon == 0.12
    with pytest.raises(ValueError, match="epsilon needs to be positive and finite, got 'far'"):
        models.load("mnist-2c2f-gloro", "far")


def test_loading_a_committed_model_leaves_the_random_numbers_of_a_program_alone() -> None:
    before = torch.get_rng_state()
    models.load("mnist-2c2f-gloro")
    assert torch.equal(before, torch.get_rng_state())
