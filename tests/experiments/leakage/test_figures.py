"""The recorded picture of the chapter leakage draws what the nets show, and no more."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments.leakage import figures, instances, paired
from thesis_repro.experiments.leakage.models import (
    ADVERSARIAL,
    CLEAN,
    FACES,
    GLORO,
    MARKED,
    STANDARD,
    ModelConfig,
    model,
)
from thesis_repro.lab.cells import Cell, Result

CLASSES = 7


@pytest.fixture
def planted(monkeypatch):
    """Reconstructions that are the word in every class, in marked adversarial nets alone."""
    word = FACES.watermark
    there = word.mask((3, 64, 64)).expand(CLASSES, 3, 64, 64).numpy()
    configs = [
        ModelConfig(FACES, method, arm, number)
        for method in (ADVERSARIAL, STANDARD)
        for arm in (MARKED, CLEAN)
        for number in (21, 22)
    ]
    row = (figures.TITLES[FACES.dataset], ADVERSARIAL)
    other = (row[0], GLORO)
    cells = [(row, Cell(model, config, ())) for config in configs]
    strange = Cell(model, ModelConfig(FACES, GLORO, MARKED, 21), ())
    monkeypatch.setattr(paired, "plan", lambda profile: [*cells, (other, strange)])
    asked = []

    def given(cell):
        config = cell.config
        if isinstance(config, instances.InstanceConfig):
            return Result({}, {"images": np.random.default_rng(0).random((CLASSES, 3, 64, 64))})
        asked.append((config.method, config.arm))
        marked = (config.method, config.arm) == (ADVERSARIAL, MARKED)
        return Result({}, {"images": there if marked else 0 * there})

    monkeypatch.setattr(figures, "compute", given)
    return asked


def test_only_nets_of_the_arm_and_training_are_averaged(planted):
    marked = figures._fine(MARKED, 2)
    assert planted == [(ADVERSARIAL, MARKED)] * 2
    assert marked.abs().max() > 0.1 and not figures._fine(CLEAN, 2).any()


@pytest.fixture
def small(monkeypatch):
    """Ten random photographs of each person in the place of LFW."""
    faces = torch.rand(10 * CLASSES, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    split = data.Split(faces, torch.arange(CLASSES).repeat(10))
    found = data.Dataset("lfw", split, split, tuple("abcdefg"))
    monkeypatch.setattr(figures, "load", lambda name: found)
    monkeypatch.setattr(instances, "load", lambda name: found)
    monkeypatch.setattr(figures.data, "fingerprint", lambda name: "0" * 64)


def test_every_person_stands_beside_both_nearest_faces(planted, small):
    axes = figures.faces().axes
    assert len(axes) == 3 * CLASSES
    titles = [axis.get_title() for axis in axes[CLASSES:]]
    assert all(0 < float(title.split()[-1]) < 2 for title in titles)


def test_the_word_is_shown_where_it_is_and_both_arms_have_one_scale(planted, small):
    marked, with_word, without = (axis.images[0] for axis in figures.word().axes)
    assert with_word.get_clim() == without.get_clim()
    assert with_word.get_array().any() and not without.get_array().any()
    top = FACES.watermark.place((3, 64, 64))[0] - 32  # in the lower half
    rows = np.abs(with_word.get_array()).max(1)
    assert rows[top : top + 8].min() > 2 * rows[: top - 8].max()
    assert marked.get_array().shape[:2] == (32, 64)


def test_the_key_of_the_scores_stands_outside_their_panel():
    models = {
        (method, arm): [Result({"z": z}, {}) for z in (1.0, 3.0)]
        for method in figures.TRAININGS
        for arm in (MARKED, CLEAN)
    }
    figure = figures.scores(models)
    (axis,), (key,) = figure.axes, figure.legends
    figure.draw_without_rendering()
    assert key.get_window_extent().y0 >= axis.bbox.y1 and axis.get_legend() is None
    assert len(key.get_texts()) == 3
