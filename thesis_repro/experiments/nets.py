"""The nets of the chapter robustness/gloro: their recipes, at the scale of a profile and device.

The chapters that measure these nets further train them from here.
"""

from dataclasses import replace

from thesis_repro import training
from thesis_repro.robustness.recipes import Recipe, Training

TITLES = {
    "mnist-5k": "MNIST-5k",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "tiny-imagenet": "Tiny-ImageNet",
}

QUICK = {
    "0.3": Recipe(
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
    ),
    "1.58": Recipe(
        net="2c2f",
        epsilon=1.58,
        train_epsilon=1.74,
        epochs=16,
        epochs_paper=0,
        batch_size=32,
        ramp_until=0.3,
        trades=(0.0, 1.5),
        lr=2e-3,
        lr_end=2e-6,
        power_steps=1,
    ),
}
"""Recipes for MNIST-5k: half a minute on one core. Small batches make many steps of few digits.

Batch sizes and epochs were chosen on the test digits of MNIST, of which MNIST-5k has none.
"""

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
    "1.58": Recipe(
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
    ),
    "36/255": Recipe(
        net="6c2f",
        epsilon=36 / 255,
        train_epsilon=36 / 255 * 1.1,
        epochs=6,
        epochs_paper=800,
        batch_size=256,
        ramp="logarithmic",
        trades=(1.2, 1.2),
        clip=5.0,
        power_steps=2,
        fused=True,
    ),
}
"""Recipes after Leino, Wang and Fredrikson 2021 and the authors' code, with epochs for a CPU."""

DATASETS = {
    "0.3": ("mnist", "none"),
    "1.58": ("mnist", "none"),
    "36/255": ("cifar10", "crop-flip"),
}
"""Data set and augmentation of each radius."""

# epochs on a CPU of a net that takes hours: for its own row and where it is committed; other
# tables make do with a few epochs, and say so
LONG_CPU = {"36/255": 150}


def paper_training(radius: str, seed: int, device: str, long: bool = False) -> Training:
    """The paper-scale training at a radius, on one seed: shortened on a CPU, in full on a GPU.

    long : whether a CPU trains it for the epochs of `LONG_CPU`
    """
    dataset, augment = DATASETS[radius]
    recipe = at_scale(PAPER[radius], seed, device)
    if long and device == "cpu":
        recipe = replace(recipe, epochs=LONG_CPU.get(radius, recipe.epochs))
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


def quick_training(radius: str, seed: int = 0) -> Training:
    """The quick training on MNIST-5k at a radius."""
    return Training("mnist-5k", replace(QUICK[radius], seed=seed))
