"""Named ways to train a net, as data: what a cell's configuration holds.

Every robust training of the book goes through :func:`fit`, so a recipe says all there is to say
about how a net came to be. A training cell trains a net that estimates its constants and proves
nothing: what a proof does is no part of its key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from thesis_repro import data, nets, training
from thesis_repro.data import Dataset, Split
from thesis_repro.lab import threads
from thesis_repro.robustness import attacks, gloro
from thesis_repro.robustness.gloro import EstimatedNet, GloroNet
from thesis_repro.robustness.relaxed import EstimatedRelaxedNet, Guarantee, RelaxedNet
from thesis_repro.training import Loss, Schedule, TrainConfig
from thesis_repro.training.named import History

METHODS = ("gloro", "standard", "adversarial")
OBJECTIVES = ("trades", "cross-entropy", "emma")
RAMPS = ("linear", "logarithmic", "constant")
DECAYS = ("exponential", "cosine")


@dataclass(frozen=True)
class Recipe:
    """One training of one net.

    Parameters
    ----------
    train_epsilon
        Radius of the loss; reached after the share `ramp_until` of training by the schedule
        `ramp`, of which a linear one starts at the share `ramp_start` of it.
    epochs_paper
        The paper's number of epochs, so that a shortened run can say so.
    trades
        Weight of the divergence at the start and at the end (objective trades only).
    lr, lr_end, decay, warmup
        The rate rises over the share `warmup` (cosine only), then decays to `lr_end`
        (exponential, in the second half) or to zero (cosine).
    noise
        Deviation of Gaussian noise on the training images.
    graph
        Record the whole step once, on a GPU.
    guarantee
        Relaxes the bottom logit of the net, and so of every GloRo loss.

    Examples
    --------
    >>> Recipe("2c2f", 0.3, 0.33, epochs=20, epochs_paper=20, batch_size=128).objective
    'trades'
    """

    net: str
    epsilon: float
    train_epsilon: float
    epochs: int
    epochs_paper: int
    batch_size: int
    seed: int = 0
    method: str = "gloro"
    objective: str = "trades"
    activation: str = "minmax"
    ramp: str = "linear"
    ramp_until: float = 0.5
    trades: tuple[float, float] = (0.0, 1.0)
    lr: float = 1e-3
    lr_end: float = 1e-6
    clip: float = 0.0
    power_steps: int = 5
    attack_steps: int = 7
    autocast: bool = False
    fused: bool = False
    device: str = "cpu"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    decay: str = "exponential"
    warmup: float = 0.0
    ramp_start: float = 0.01
    noise: float = 0.0
    graph: bool = False
    guarantee: Guarantee | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("objective", OBJECTIVES),
            ("ramp", RAMPS),
            ("decay", DECAYS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
        if self.guarantee and (self.method != "gloro" or self.objective == "emma"):
            raise ValueError(
                f"a guarantee relaxes the bottom logit, which method {self.method!r} with "
                f"objective {self.objective!r} does not use"
            )


Shape = tuple[int, int, int]
N = TypeVar("N", bound=EstimatedNet)


def build(recipe: Recipe, in_shape: Shape, classes: int) -> GloroNet:
    """The net of a recipe before training, on the recipe's device.

    Raises
    ------
    ValueError
        On an unknown net or activation, or a GPU asked for where there is none.
    """
    return _build(recipe, in_shape, classes, GloroNet, RelaxedNet)


def _build(
    recipe: Recipe,
    in_shape: Shape,
    classes: int,
    plain: Callable[[nn.Sequential, float, Shape, int], N],
    relaxed: Callable[[nn.Sequential, float, Shape, Guarantee, int], N],
) -> N:
    if recipe.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"the recipe asks for {recipe.device}, but torch finds no GPU")
    generator = torch.Generator().manual_seed(recipe.seed)
    body = nets.build(
        recipe.net, recipe.activation, in_shape=in_shape, classes=classes, generator=generator
    )
    about = (body, recipe.epsilon, in_shape)
    if recipe.guarantee is None:
        return plain(*about, recipe.power_steps).to(recipe.device)
    return relaxed(*about, recipe.guarantee, recipe.power_steps).to(recipe.device)


@threads.limit()
def train(
    recipe: Recipe,
    dataset: Dataset,
    *,
    on_epoch: Callable[[nn.Module, dict[str, float]], None] | None = None,
) -> tuple[GloroNet, History]:
    """Train by recipe on dataset.train; returns the net in eval mode and the history.

    On a CPU it runs on as many threads as a cell does, so that it gives the same net: on one,
    unless THESIS_REPRO_THREADS says more. Power iteration is tiny calls, in which threads wait.

    A standard or adversarially trained body comes back inside a GloroNet too, so that it can be
    certified (with little success) like any other.
    """
    net = build(recipe, *_outline(dataset))
    return net, fit(net, recipe, dataset.train, on_epoch=on_epoch)


def _outline(dataset: Dataset) -> tuple[Shape, int]:
    """The shape of one image, and how many classes there are."""
    _, channels, height, width = dataset.train.x.shape
    return (channels, height, width), len(dataset.classes)


def fit(
    net: EstimatedNet,
    recipe: Recipe,
    split: Split,
    *,
    augment: training.Augment | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[nn.Module, dict[str, float]], None] | None = None,
) -> History:
    """Train a net of this recipe in place; returns the history."""
    if recipe.noise:
        augment = training.with_noise(augment, recipe.noise)
    if recipe.device != "cpu":
        net.iterate_at_once()
    return training.fit(
        net,
        _loss(recipe),
        split,
        TrainConfig(
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            optimizer=recipe.optimizer,
            weight_decay=recipe.weight_decay,
            clip=recipe.clip,
            autocast=recipe.autocast,
            channels_last=recipe.autocast or recipe.fused,
            fused=recipe.fused,
            graph=recipe.graph,
        ),
        _rate(recipe),
        augment=augment,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )


def _rate(recipe: Recipe) -> Schedule:
    if recipe.decay == "cosine":
        return training.cosine(recipe.lr, recipe.warmup)
    return training.decay_after(recipe.lr, recipe.lr_end)


def _epsilon(recipe: Recipe) -> Schedule:
    if recipe.ramp == "constant":
        return training.constant(recipe.train_epsilon)
    if recipe.ramp == "logarithmic":
        return training.logarithmic(recipe.train_epsilon, recipe.ramp_until)
    start = recipe.ramp_start * recipe.train_epsilon
    return training.linear(start, recipe.train_epsilon, recipe.ramp_until)


def _loss(recipe: Recipe) -> Loss:
    epsilon = _epsilon(recipe)
    if recipe.method == "standard":
        return _on_body(training.classification)
    if recipe.method == "adversarial":
        return _on_body(attacks.adversarial_loss(epsilon, recipe.attack_steps))
    if recipe.objective == "cross-entropy":
        return gloro.cross_entropy(epsilon)
    if recipe.objective == "emma":
        return gloro.emma(epsilon)
    return gloro.trades(epsilon, training.linear(*recipe.trades))


def _on_body(loss: Loss) -> Loss:
    def wrapped(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        assert isinstance(model, EstimatedNet)
        return loss(model.body, x, y, progress)

    return wrapped


@dataclass(frozen=True)
class Training:
    """The configuration of a training cell: a recipe on a data set, by a named augmentation."""

    dataset: str
    recipe: Recipe
    augment: str = "none"

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.recipe.device

    def build(self) -> EstimatedNet:
        """The net before training. It proves nothing: no proof is part of a training's key."""
        return self._for(data.load(self.dataset))

    def train(self, checkpoint: Path) -> tuple[EstimatedNet, History]:
        """Train by recipe."""
        found = data.load(self.dataset)
        net, augment = self._for(found), training.AUGMENTATIONS[self.augment]
        return net, fit(net, self.recipe, found.train, augment=augment, checkpoint=checkpoint)

    def _for(self, found: Dataset) -> EstimatedNet:
        return _build(self.recipe, *_outline(found), EstimatedNet, EstimatedRelaxedNet)


def proving(config: Training) -> GloroNet:
    """The net of a training as one that proves, before it is trained."""
    return build(config.recipe, *_outline(data.load(config.dataset)))
