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


def test_the_picture_has_every_person_and_both_arms_in_one_scale(planted, monkeypatch):
    faces = torch.rand(10 * CLASSES, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    split = data.Split(faces, torch.arange(CLASSES).repeat(10))
    small = data.Dataset("lfw", split, split, tuple("abcdefg"))
    monkeypatch.setattr(figures, "load", lambda name: small)
    monkeypatch.setattr(instances, "load", lambda name: small)
    monkeypatch.setattr(figures.data, "fingerprint", lambda name: "0" * 64)
    axes = figures.faces().axes
    assert len(axes) == 3 * CLASSES + 3
    near, far = (
        [float(axis.get_title().split()[-1]) for axis in axes[row * CLASSES :][:CLASSES]]
        for row in (1, 2)
    )
    assert all(0 < value < 2 for value in near + far)
    marked, clean = (axis.images[0] for axis in axes[-2:])
    assert marked.get_clim() == clean.get_clim()
    assert marked.get_array().any() and not clean.get_array().any()
