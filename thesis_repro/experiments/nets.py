"""The nets that tables of several chapters train, at the scale of a profile and device.

First the recipes of GloRo nets, then which nets are compared.
"""

from dataclasses import replace
from typing import Any

from thesis_repro import data, training
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models
from thesis_repro.robustness.recipes import Recipe, Training

TITLES = {
    "mnist-5k": "MNIST-5k",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "tiny-imagenet": "Tiny-ImageNet",
}

_QUICK = Recipe(
    net="2c2f",
    epsilon=0.3,
    train_epsilon=0.45,
    epochs=12,
    epochs_paper=0,
    batch_size=64,
    ramp_until=0.3,
    trades=(0.0, 2.0),
    lr=2e-3,
    lr_end=2e-6,
    power_steps=1,
)
QUICK = {
    "0.3": _QUICK,
    "1.58": replace(
        _QUICK, epsilon=1.58, train_epsilon=1.74, epochs=16, batch_size=32, trades=(0.0, 1.5)
    ),
}
"""Recipes for MNIST-5k: half a minute on one core. Small batches make many steps of few digits.

Batch sizes and epochs were chosen on the test digits of MNIST, of which MNIST-5k has none.
"""

_LARGE = Recipe(
    net="4c3f",
    epsilon=1.58,
    train_epsilon=1.58 * 1.1,
    epochs=100,
    epochs_paper=300,
    batch_size=256,
    ramp="logarithmic",
    trades=(1.5, 1.5),
    clip=5.0,
    power_steps=2,
    fused=True,
)
PAPER = {
    "0.3": Recipe(
        net="2c2f",
        epsilon=0.3,
        train_epsilon=0.45,
        epochs=60,
        epochs_paper=500,
        batch_size=256,
        ramp_until=0.3,
        trades=(0.0, 2.0),
        fused=True,
    ),
    "1.58": _LARGE,
    "36/255": replace(
        _LARGE,
        net="6c2f",
        epsilon=36 / 255,
        train_epsilon=36 / 255 * 1.1,
        epochs=6,
        epochs_paper=800,
        trades=(1.2, 1.2),
    ),
}
"""Recipes after Leino, Wang and Fredrikson 2021 and the authors' code, with epochs for a CPU."""

DATASETS = {
    "0.3": ("mnist", "none"),
    "1.58": ("mnist", "none"),
    "36/255": ("cifar10", "crop-flip"),
}
"""Data set and augmentation of each radius."""

# a net that takes hours on a CPU: for its own row and where it is committed; other tables make do
# with a few epochs, and say so
LONG_CPU: dict[str, dict[str, Any]] = {
    "0.3": {"epochs": 125, "batch_size": 64},
    "36/255": {"epochs": 150},
}

MANY_STEPS_CPU: dict[str, dict[str, Any]] = {"1.58": {"epochs": 75, "batch_size": 64}}
"""What a CPU changes: a quarter of the epochs, in batches of a quarter, so as many steps as the
paper takes; so has the long training for 0.3. The number of steps was fixed so beforehand, not
chosen by results."""


def paper_training(radius: str, seed: int, device: str, long: bool = False) -> Training:
    """The paper-scale training at a radius, on one seed: shortened on a CPU, in full on a GPU.

    long : whether a CPU trains it as `LONG_CPU` has it
    """
    dataset, augment = DATASETS[radius]
    recipe = at_scale(PAPER[radius], seed, device)
    if device == "cpu":
        recipe = replace(recipe, **MANY_STEPS_CPU.get(radius, {}))
    if long and device == "cpu":
        recipe = replace(recipe, **LONG_CPU.get(radius, {}))
    return Training(dataset, recipe, augment)


def at_scale(recipe: Recipe, seed: int, device: str) -> Recipe:
    """A recipe on one seed as a device runs it: in bfloat16 where that is fast (a LiResNet on a
    CPU alone), and on a GPU for the paper's epochs, each step recorded."""
    large = recipe.net in ("4c3f", "6c2f", "8c2f")
    deep = recipe.net.startswith("liresnet") and device == "cpu"
    fast = (large or deep) and training.fast_bfloat16(device)
    recipe = replace(recipe, seed=seed, device=device, autocast=fast)
    if device == "cuda":
        graph = recipe.method != "adversarial"
        recipe = replace(recipe, epochs=recipe.epochs_paper, graph=graph)
    return recipe


def quick_training(radius: str, seed: int) -> Training:
    """The quick training on MNIST-5k at a radius."""
    return Training("mnist-5k", replace(QUICK[radius], seed=seed))


def at_hand(radius: str, seed: int, device: str) -> Training:
    """The paper-scale training at a radius, for tables that are about something else.

    On a CPU it is the long one where a committed model spares it, else one of a few epochs.
    """
    found = paper_training(radius, seed, device, long=True)
    return found if models.standing_for(found) else paper_training(radius, seed, device)


def epochs(training: Training) -> dict[str, Any]:
    """How long a net is trained, and how long the paper trains: for a row's note."""
    recipe = training.recipe
    return {"epochs_run": recipe.epochs, "epochs_paper": recipe.epochs_paper}


def plain(robust: Training, epochs: int, **changes: Any) -> Training:
    """The training of the same net in the standard way; no paper gives epochs."""
    recipe = replace(robust.recipe, method="standard", epochs=epochs, epochs_paper=0, **changes)
    return replace(robust, recipe=recipe)


# one architecture, trained in the standard way and certifiably


QUICK_PAIR = ("2C2F, standard", "2C2F, GloRo at 1.58")
PAPER_PAIR = ("2C2F, standard", "2C2F, GloRo at 0.3")
CIFAR_PAIR = ("6C2F, standard", "6C2F, GloRo at 36/255")
PLAIN_EPOCHS = {"cpu": {"0.3": 5, "36/255": 4}, "cuda": {"0.3": 20, "36/255": 60}}
"""Epochs of the standard training, by device and radius."""


def digit_nets(profile: Profile) -> list[tuple[str, Training]]:
    """The pair on digits: a minute's training on MNIST-5k, or the paper's on MNIST."""
    if profile.name != "quick":
        return _pairs(profile, "mnist", "0.3", PAPER_PAIR)
    found = []
    for seed in profile.seeds:
        robust = quick_training("1.58", seed)
        robust = replace(robust, recipe=replace(robust.recipe, epochs=15, batch_size=128))
        found += list(zip(QUICK_PAIR, (plain(robust, 10), robust), strict=True))
    return found


def cifar_nets(profile: Profile) -> list[tuple[str, Training]]:
    """The pair on CIFAR-10 at the paper's scale; none without the data."""
    return [] if profile.name == "quick" else _pairs(profile, "cifar10", "36/255", CIFAR_PAIR)


def _pairs(
    profile: Profile, dataset: str, radius: str, titles: tuple[str, str]
) -> list[tuple[str, Training]]:
    """One pair for each seed; on a CPU for the first seed alone, whose net may be committed."""
    if not data.available(dataset):
        return []
    device = profile.device
    found = []
    for seed in profile.seeds[: 1 if device == "cpu" else None]:
        robust = at_hand(radius, seed, device)
        standard = plain(robust, PLAIN_EPOCHS[device][radius])
        found += list(zip(titles, (standard, robust), strict=True))
    return found


# the nets whose bounds are looked at


BOUNDED_EPOCHS = {"quick": 6, "paper": 10}
"""Epochs of the standard 2C2F, by profile."""
GLORO_2C2F, STANDARD_2C2F, GLORO_6C2F = "GloRo 2C2F", "standard 2C2F", "GloRo 6C2F"


def bounded(profile: Profile, seed: int) -> dict[str, Training]:
    """The GloRo net for radius 0.3, a standard net of the same shape, and one for CIFAR-10.

    At the paper's scale the first seed's GloRo nets are the committed ones, where there are such.
    """
    if profile.name == "quick":
        robust = quick_training("0.3", seed)
    else:
        robust = paper_training("0.3", seed, profile.device)
    epochs = BOUNDED_EPOCHS[profile.name]
    found = {GLORO_2C2F: robust, STANDARD_2C2F: plain(robust, epochs, lr=1e-3)}
    if profile.name == "quick" or seed:
        return found
    radii = {GLORO_2C2F: "0.3"}
    if data.available("cifar10"):
        radii[GLORO_6C2F] = "36/255"
    for name, radius in radii.items():
        known = at_hand(radius, 0, "cpu")
        committed = bool(models.standing_for(known))
        found[name] = known if committed else paper_training(radius, 0, profile.device)
    return found


def bounded_nets(profile: Profile) -> list[tuple[str, Training]]:
    """The `bounded` nets of all seeds; a CPU run at the paper's scale has those of the first."""
    quick = profile.name == "quick"
    if not data.available("mnist-5k" if quick else "mnist"):
        return []
    seeds = profile.seeds if quick or profile.device == "cuda" else (0,)
    return [pair for seed in seeds for pair in bounded(profile, seed).items()]
