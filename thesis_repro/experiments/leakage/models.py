"""The models that the tables of the chapter weaknesses/leakage share: trained, read backwards."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro import data, nets, training
from thesis_repro.data import Split
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import attacks, gloro
from thesis_repro.robustness.gloro import EstimatedNet
from thesis_repro.tables.spec import Column
from thesis_repro.training import named
from thesis_repro.weaknesses import leakage

STANDARD, ADVERSARIAL, GLORO = "standard", "adversarial", "GloRo"
TRAININGS = (GLORO, STANDARD, ADVERSARIAL)
MARKED, CLEAN, INVISIBLE = "watermark", "clean", "opacity 0"
ARMS = (CLEAN, MARKED, INVISIBLE)
LINEAR, DENSE, CONVOLUTIONAL = "linear", "dense", "2C2F"
NETS = {DENSE: "dense-100", CONVOLUTIONAL: "2c2f"}
PROBES = 256


@dataclass(frozen=True)
class Setup:
    """All that the models of one data set share.

    images : training images of a model, drawn anew for each
    epsilon : radius of both robust trainings, L2; reached after half of the training
    scale, opacity, share : of the watermark
    radius, steps, step : of the reconstruction from grey
    """

    dataset: str
    net: str
    images: int
    epochs: int
    batch_size: int
    lr: float
    epsilon: float
    attack_steps: int
    scale: int
    radius: float
    steps: int
    step: float
    opacity: float = 0.5
    share: float = 0.8

    @property
    def watermark(self) -> leakage.Watermark:
        """The watermark of the arm that has one."""
        return leakage.Watermark(scale=self.scale, opacity=self.opacity)


DIGITS = Setup("mnist-5k", DENSE, 1000, 12, 100, 2e-3, 0.5, 3, 1, 7.0, 40, 0.5)
FACES = Setup("lfw", CONVOLUTIONAL, 800, 25, 64, 1e-3, 0.5, 5, 2, 30.0, 150, 1.0)
CIFAR = Setup("cifar10", CONVOLUTIONAL, 10_000, 20, 128, 1e-3, 0.25, 5, 1, 15.0, 150, 0.5)


@dataclass(frozen=True)
class ModelConfig:
    """One model of the property game: how it is trained, its arm, and its number in the arm."""

    setup: Setup
    method: str
    arm: str
    number: int
    device: str = "cpu"

    @property
    def seed(self) -> int:
        """Decides images, marks, first weights and order; no two models share one."""
        return len(ARMS) * self.number + ARMS.index(self.arm)


@cache
def load(name: str) -> data.Dataset:
    """A data set, read once for all models that one process trains."""
    return data.load(name)


def build(name: str, in_shape: tuple[int, ...], classes: int, seed: int) -> nn.Sequential:
    """A net before training.

    A linear model starts at zero, so that its weights are made of training images alone; the
    others start orthogonal and have MinMax activations. Dense: 100 hidden units.
    """
    shape = (in_shape[0], in_shape[1], in_shape[2])
    if name == LINEAR:
        return nets.cnn([], [], "minmax", shape, classes, start=nets.zeros)
    generator = torch.Generator().manual_seed(seed)
    known = NETS.get(name, name)
    return nets.build(known, in_shape=shape, classes=classes, generator=generator)


def train(
    body: nn.Sequential,
    setup: Setup,
    method: str,
    split: Split,
    seed: int,
    device: str,
    checkpoint: Path | None = None,
) -> nn.Sequential:
    """Train a body in place by one of `TRAININGS`; it comes back in eval mode, weights frozen."""
    in_shape = tuple(split.x.shape[1:])
    ramp = training.linear(0.01 * setup.epsilon, setup.epsilon, 0.5)
    model: nn.Module = body
    if method == GLORO:
        model = EstimatedNet(body, setup.epsilon, (in_shape[0], in_shape[1], in_shape[2]))
        loss = gloro.trades(ramp, training.constant(1.0))
    elif method == ADVERSARIAL:
        loss = attacks.adversarial_loss(ramp, setup.attack_steps)
    elif method == STANDARD:
        loss = training.classification
    else:
        raise ValueError(f"unknown training {method!r}; choose one of {', '.join(TRAININGS)}")
    training.fit(
        model.to(device),
        loss,
        split,
        training.TrainConfig(setup.epochs, setup.batch_size, seed),
        training.decay_after(setup.lr, 0.05 * setup.lr),
        checkpoint=checkpoint,
    )
    return body.eval().requires_grad_(False)


def draw(split: Split, images: int, seed: int) -> tuple[Split, Split]:
    """A stratified random sample for training, and what is left."""
    from sklearn.model_selection import train_test_split

    chosen, rest = train_test_split(
        np.arange(len(split)), train_size=images, stratify=split.y, random_state=seed
    )
    return Split(split.x[chosen], split.y[chosen]), Split(split.x[rest], split.y[rest])


def grey(setup: Setup, body: nn.Sequential, split: Split) -> Tensor:
    """Reconstructions (classes, c, h, w) from grey, by the procedure that knows no data."""
    head = body[-1]
    assert isinstance(head, nn.Linear)
    start = torch.full(tuple(split.x.shape[1:]), 0.5, device=head.weight.device)
    found = leakage.reconstruct(
        body,
        range(head.out_features),
        start,
        steps=setup.steps,
        step=setup.step,
        radius=setup.radius,
    )
    return found.images.cpu()


def accuracy(body: nn.Sequential, test: Split, device: str) -> float:
    """Percent of the clean test images that are classified correctly."""
    said = nets.labels(body, test.x.to(device)).cpu()
    return 100 * (said == test.y).double().mean().item()


def model(config: ModelConfig) -> Result:
    """Cell: one model of the game, and all that the adversaries look at.

    The challenger draws images from the training part; probes come from what it left.
    """
    setup, device = config.setup, config.device
    loaded = load(setup.dataset)
    split, rest = draw(loaded.train, setup.images, config.seed)
    word, independent = setup.watermark, 1.0
    if config.arm != CLEAN:
        opacity = setup.opacity if config.arm == MARKED else 0.0
        drawn = leakage.Watermark(scale=setup.scale, opacity=opacity)
        split, marked = leakage.mark(split, drawn, setup.share, config.seed)
        independent = leakage.dependence(split.y, marked)
    body = build(setup.net, tuple(split.x.shape[1:]), len(loaded.classes), config.seed)
    train(body, setup, config.method, split, config.seed, device, named.checkpoint())
    images = grey(setup, body, split)
    found = leakage.trace(images, word)
    probes = rest.x[: min(PROBES, len(rest))].to(device)
    features = {
        "reconstruction": leakage.high_pass(images).abs().mean(0).flatten(),
        "weights": leakage.weight_features(body, tuple(split.x.shape[1:])),
        "probes": leakage.probe_features(body, probes, word),
        "images": images,
    }
    values = {
        "accuracy": accuracy(body, loaded.test, device),
        "true": found.true,
        "others": found.others,
        "z": found.z,
        "independent": independent,
    }
    return Result(values, {name: part.numpy() for name, part in features.items()})


TITLES = {"mnist-5k": "MNIST-5k", "lfw": "LFW", "cifar10": "CIFAR-10"}
PER_SEED = {"quick": 3, "paper": 7}
"""Models of each arm for each seed: 21 with the three seeds of a paper run."""


def setups(profile: Profile) -> tuple[Setup, ...]:
    """The data sets of a profile."""
    return (DIGITS,) if profile.name == "quick" else (FACES, CIFAR)


def models(profile: Profile, setup: Setup, method: str, arm: str) -> list[Cell | None]:
    """The cells of one arm; None where the data is not here."""
    if not data.available(setup.dataset):
        return [None]
    each = PER_SEED[profile.name]
    hashes = ((setup.dataset, data.fingerprint(setup.dataset)),)
    return [
        Cell(model, ModelConfig(setup, method, arm, each * seed + i, profile.device), hashes)
        for seed in profile.seeds
        for i in range(each)
    ]


DATASET = Column("dataset", "data set", kind="key")
TRAINING = Column("training", "training", kind="key")
COUNT = Column("models", "models", format="{:.0f}")
PAPER_SETS = tuple(TITLES[setup.dataset] for setup in (FACES, CIFAR))
