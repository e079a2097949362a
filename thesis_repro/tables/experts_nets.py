"""The nets that the tables of the chapter explanations/experts compare: one architecture, twice."""

from dataclasses import replace

from thesis_repro import data
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.gloro import SEEDS_CPU, paper_training, quick_training

Named = list[tuple[str, Training]]

QUICK = ("2C2F, standard", "2C2F, GloRo at 1.58")
PAPER = ("2C2F, standard", "2C2F, GloRo at 0.3")
CIFAR = ("6C2F, standard", "6C2F, GloRo at 36/255")
"""Titles: trained in the standard way, and certifiably."""

PLAIN_EPOCHS = {"cpu": {"0.3": 5, "36/255": 4}, "cuda": {"0.3": 20, "36/255": 60}}
"""Epochs of the standard training; no paper gives a number."""


def digit_nets(profile: Profile, seed: int) -> Named:
    """The pair on digits: a minute's training on MNIST-5k, or the paper's on MNIST."""
    if profile.name == "quick":
        found = quick_training("1.58", seed)
        robust = replace(found, recipe=replace(found.recipe, epochs=15))
        return list(zip(QUICK, (_plain(robust, 10), robust), strict=True))
    if not data.available("mnist"):
        return []
    return list(zip(PAPER, _pair("0.3", seed, profile.device), strict=True))


def cifar_nets(profile: Profile) -> Named:
    """The pair on CIFAR-10 for each seed that the device affords; none without the data."""
    if profile.name == "quick" or not data.available("cifar10"):
        return []
    many = len(profile.seeds) if profile.device == "cuda" else SEEDS_CPU["36/255"]
    pairs = [_pair("36/255", seed, profile.device) for seed in profile.seeds[:many]]
    return [named for pair in pairs for named in zip(CIFAR, pair, strict=True)]


def _pair(radius: str, seed: int, device: str) -> tuple[Training, Training]:
    robust = paper_training(radius, seed, device)
    return _plain(robust, PLAIN_EPOCHS[device][radius]), robust


def _plain(robust: Training, epochs: int) -> Training:
    recipe = replace(robust.recipe, method="standard", epochs=epochs, epochs_paper=0)
    return replace(robust, recipe=recipe)
