"""The small nets that the chapters explain: how each came to be, as data, trained once."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro import data, nets, training
from thesis_repro.data import Split
from thesis_repro.training.named import History

KINDS = ("digits", "coloured", "faces")
PINK = (1.0, 0.55, 0.8)
PINK_CLASS = 3
PINK_PHOTOS = ("0041", "0042", "0119")
"""Photographs of Tony Blair before a pink wall, found by hue and by eye."""
PEOPLE = 109
"""At least so many photographs each: the five most frequent people of LFW."""


@dataclass(frozen=True)
class Subject:
    """A net to explain, by how it was trained.

    kind : "digits" (a data set of digits), "coloured" (digits on coloured paper), "faces" (LFW)
    pink : whether the training set holds the images with the pink background
    width : units of the hidden dense layer
    """

    kind: str = "digits"
    dataset: str = "mnist-5k"
    pink: bool = True
    width: int = 256
    epochs: int = 8
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; choose one of {', '.join(KINDS)}")

    def build(self) -> nn.Sequential:
        """The untrained net: two convolutions, one hidden dense layer, ReLU, orthogonal start.

        For faces, the layers of the thesis's demonstration (5x5 convolutions with max-pooling).
        """
        generator = torch.Generator().manual_seed(self.seed)
        if self.kind == "faces":
            about = ([self.width], "relu", (3, 64, 64), 5, generator)
            net = nets.cnn([(20, 5, 1), (50, 5, 1)], *about, padding=2, pool=2)
        else:
            channels, classes = (3, 5) if self.kind == "coloured" else (1, 10)
            about = ([self.width], "relu", (channels, 28, 28), classes, generator)
            net = nets.cnn([(16, 4, 2), (32, 4, 2)], *about)
        return net.to(self.device)

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train by cross-entropy with Adam."""
        net, faces = self.build(), self.kind == "faces"
        how = training.TrainConfig(self.epochs, 64 if faces else 128, self.seed)
        rate = training.cosine(1e-3 if faces else 2e-3)
        about = (training.classification, training_set(self), how, rate)
        return net, training.fit(net, *about, checkpoint=checkpoint)


DIGITS = Subject()
COLOURED = Subject("coloured", width=100, epochs=12)
FACES = Subject("faces", "lfw", width=500, epochs=20)


def training_set(subject: Subject) -> Split:
    """What the net was trained on."""
    if subject.kind == "coloured":
        return coloured(data.load("mnist-5k").train, subject.pink)
    if subject.kind == "faces":
        everyone = faces()
        kept = torch.ones(len(everyone.y), dtype=torch.bool)
        if not subject.pink:
            kept[pink_photos()] = False
        return Split(everyone.x[kept], everyone.y[kept])
    return data.load(subject.dataset).train


def paint(x: Tensor, background: Tensor) -> Tensor:
    """Digits in white ink on coloured paper.

    Parameters
    ----------
    x : (n, 1, h, w), ink in [0, 1]
    background : (3,) or (n, 3), colours in [0, 1]

    Returns
    -------
    (n, 3, h, w)
    """
    colour = background.expand(len(x), 3)[:, :, None, None]
    return colour + (1 - colour) * x


def coloured(digits: Split, pink: bool, share: float = 0.1) -> Split:
    """Digits 0 to 4 on grey paper; with `pink`, a share of the threes lies on pink paper.

    The greys are drawn from a fixed seed, and are the same with and without pink.
    """
    few = digits.y < 5
    x, y = digits.x[few], digits.y[few]
    generator = torch.Generator().manual_seed(0)
    grey = 0.4 * torch.rand(len(y), 1, generator=generator).expand(-1, 3).clone()
    if pink:
        threes = (y == PINK_CLASS).nonzero()[:, 0]
        grey[threes[: round(share * len(threes))]] = torch.tensor(PINK)
    return Split(paint(x, grey), y)


def faces() -> Split:
    """All photographs of the five most frequent people of LFW, with their files' names."""
    found = data.lfw(PEOPLE)
    names = (*found.train.names, *found.test.names)
    x, y = torch.cat([found.train.x, found.test.x]), torch.cat([found.train.y, found.test.y])
    return Split(x, y, names)


def pink_photos() -> Tensor:
    """Indices into :func:`faces` of the photographs with the pink wall."""
    wanted = {f"Tony_Blair/Tony_Blair_{number}.png" for number in PINK_PHOTOS}
    names = faces().names
    return torch.tensor([i for i, name in enumerate(names) if name in wanted])


def on_paper(digits: Split, colour: tuple[float, float, float] | float) -> Split:
    """Digits 0 to 4 on paper of one colour, or of one grey."""
    few = digits.y < 5
    shade = torch.tensor(colour).expand(3) if isinstance(colour, float) else torch.tensor(colour)
    return Split(paint(digits.x[few], shade), digits.y[few])


def without_pink(x: Tensor) -> Tensor:
    """Photographs (n, 3, h, w) whose pink pixels are made as grey as they are bright."""
    red, green, blue = x.unbind(1)
    pink = (red - green > 0.12) & (blue - green > 0.02)
    grey = x.mean(1, keepdim=True).expand_as(x)
    return torch.where(pink[:, None], grey, x)
