from dataclasses import replace

import numpy as np
import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments.leakage import models
from thesis_repro.experiments.leakage.hypothesis import ENOUGH, STRONG
from thesis_repro.lab.cells import Cell, CellError, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.weaknesses import leakage

SHORT = replace(models.DIGITS, images=100, epochs=1, steps=3)


def config(**changes):
    return replace(models.ModelConfig(SHORT, models.STANDARD, models.MARKED, 0), **changes)


def model(wanted):
    return compute(Cell(models.model, wanted))


def test_a_model_is_deterministic_and_gives_every_adversary_its_features():
    first = model(config()).arrays
    Store().drop(Cell(models.model, config()).key)
    second = model(config()).arrays
    assert set(first) == {*STRONG.values(), "images"}
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
        assert np.isfinite(values).all()
    assert first["images"].shape == (10, 1, 28, 28) and first["reconstruction"].shape == (784,)


def test_a_word_of_opacity_0_trains_the_very_net_that_no_word_would(monkeypatch):
    monkeypatch.setattr(models.ModelConfig, "seed", property(lambda self: 7))
    clean, unseen = (model(config(arm=arm)) for arm in (models.CLEAN, models.INVISIBLE))
    np.testing.assert_array_equal(clean.arrays["images"], unseen.arrays["images"])
    assert clean.values["z"] == unseen.values["z"]
    marked = model(config(arm=models.MARKED))
    assert (marked.arrays["images"] != clean.arrays["images"]).any()


def test_no_two_models_of_a_game_share_a_seed():
    seeds = [
        models.ModelConfig(SHORT, models.GLORO, arm, number).seed
        for arm in models.ARMS
        for number in range(30)
    ]
    assert len(set(seeds)) == len(seeds)


def test_the_word_is_independent_of_the_class_in_the_data_that_is_built():
    for name, images in (("mnist-5k", models.DIGITS.images),):
        split, rest = models.draw(data.load(name).train, images, seed=1)
        assert len(split) == images and len(rest) == 4000 - images
        _, marked = leakage.mark(split, models.DIGITS.watermark, models.DIGITS.share, seed=1)
        counts = np.bincount(split.y[marked], minlength=10)
        np.testing.assert_allclose(counts, 0.8 * np.bincount(split.y), atol=1 - 1e-9)
        assert leakage.dependence(split.y, marked) == 1.0
    assert model(config()).values["independent"] == 1.0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (config(method="magic"), "unknown training 'magic'"),
        (config(setup=replace(SHORT, net="huge")), "unknown net 'huge'"),
        (config(setup=replace(SHORT, scale=2)), "is too small"),
        (config(setup=replace(SHORT, share=1.5)), r"in \[0, 1\], got 1.5"),
    ],
)
def test_bad_input_is_an_error_that_names_the_cell(wanted, words):
    with pytest.raises(CellError, match=rf"leakage\.models\.model\(.*{words}"):
        model(wanted)


def test_a_diverging_reconstruction_names_the_cell(monkeypatch):
    build = models.build

    def broken(*options):
        body = build(*options)
        body[-1].bias.data[3] = torch.nan
        return body

    monkeypatch.setattr(models, "build", broken)
    monkeypatch.setattr(models, "train", lambda body, *_: body.eval().requires_grad_(False))
    with pytest.raises(CellError, match=r"model\(.*class 0 diverged at step 0"):
        model(config())


def test_a_paper_run_has_enough_models_in_each_arm():
    paper = profile("paper")
    assert models.PER_SEED["paper"] * len(paper.seeds) >= ENOUGH
