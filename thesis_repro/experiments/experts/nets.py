"""The nets that the tables of the chapter explanations/experts compare: one architecture, twice."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from thesis_repro import data
from thesis_repro.experiments.nets import paper_training, quick_training
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models, recipes
from thesis_repro.robustness.recipes import Training

QUICK = ("2C2F, standard", "2C2F, GloRo at 1.58")
PAPER = ("2C2F, standard", "2C2F, GloRo at 0.3")
CIFAR = ("6C2F, standard", "6C2F, GloRo at 36/255")
"""Titles: trained in the standard way, and certifiably."""

COMMITTED = {"0.3": "mnist-2c2f-gloro", "36/255": "cifar10-6c2f-gloro"}
"""Committed models, by the radius that they were trained for."""
PLAIN_EPOCHS = {"cpu": {"0.3": 5, "36/255": 4}, "cuda": {"0.3": 20, "36/255": 60}}
"""Epochs of the standard training; no paper gives a number."""


@dataclass(frozen=True)
class Net:
    """A net: from a training, or a committed model of that kind, with the hash of its weights."""

    training: Training
    model: str = ""
    sha256: str = ""

    def load(self) -> nn.Module:
        """The net that gives the logits, in eval mode."""
        if self.model:
            return models.load(self.model).body
        return recipes.trained(self.training)[0].body

    def epochs(self) -> dict[str, Any]:
        """How long it was trained, and how long the paper trains."""
        if self.model:
            recipe = models.card(self.model)["recipe"]
            return {name: recipe[key] for name, key in EPOCHS.items()}
        return {name: getattr(self.training.recipe, key) for name, key in EPOCHS.items()}


EPOCHS = {"epochs_run": "epochs", "epochs_paper": "epochs_paper"}


def digit_nets(profile: Profile) -> list[tuple[str, Net]]:
    """The pair on digits: a minute's training on MNIST-5k, or the paper's on MNIST."""
    if profile.name != "quick":
        return _pairs(profile, "mnist", "0.3", PAPER)
    found = []
    for seed in profile.seeds:
        robust = quick_training("1.58", seed)
        robust = replace(robust, recipe=replace(robust.recipe, epochs=15, batch_size=128))
        found += list(zip(QUICK, (_plain(robust, 10), Net(robust)), strict=True))
    return found


def cifar_nets(profile: Profile) -> list[tuple[str, Net]]:
    """The pair on CIFAR-10 at the paper's scale; none without the data."""
    return [] if profile.name == "quick" else _pairs(profile, "cifar10", "36/255", CIFAR)


def _pairs(
    profile: Profile, dataset: str, radius: str, titles: tuple[str, str]
) -> list[tuple[str, Net]]:
    """One pair for each seed; on a CPU for the first seed alone, whose net may be committed."""
    if not data.available(dataset):
        return []
    on_cpu = profile.device == "cpu"
    found = []
    for seed in profile.seeds[: 1 if on_cpu else None]:
        name = COMMITTED[radius]
        committed = on_cpu and seed == 0 and models.committed(name)
        training = paper_training(radius, seed, profile.device, long=committed)
        robust = Net(training)
        if committed:
            robust = Net(training, name, models.card(name)["sha256"])
        plain = _plain(training, PLAIN_EPOCHS[profile.device][radius])
        found += list(zip(titles, (plain, robust), strict=True))
    return found


def _plain(robust: Training, epochs: int) -> Net:
    recipe = replace(robust.recipe, method="standard", epochs=epochs, epochs_paper=0)
    return Net(replace(robust, recipe=recipe))
