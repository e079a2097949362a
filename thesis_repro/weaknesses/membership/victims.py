"""The nets that are attacked and those that the adversary trains, as data: one cell each.

A :class:`Game` cuts a data set in two. Targets train on a random half of the *universe*; the
other half are their non-members. Shadows and proxies train on a random half of the *pool*, which
shares no point with the universe.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import data, nets, training
from thesis_repro.data import Split
from thesis_repro.training.named import History
from thesis_repro.weaknesses.membership import private

Indices = NDArray[np.int64]

NETS = ("mlp", "cnn")
ROLES = ("target", "shadow")
PEOPLE = 109
"""LFW: at least so many photographs each, which leaves the five most frequent people."""


@dataclass(frozen=True)
class Victim:
    """One training of one net in a game.

    dataset : name of a data set; its training and test points are one pool here
    n : points that each net trains on; a game needs four times as many
    role, index : the how-manieth target or shadow
    smoothing : label smoothing in [0, 1); 0 is plain cross-entropy
    epsilon : privacy budget of DP-SGD; 0 trains without privacy

    Examples
    --------
    >>> victim = Victim("mnist-5k", "mlp", n=1000, epochs=10, lr=0.1)
    >>> victim.seed, other(victim, "shadow", 3).seed
    (0, 7)
    """

    dataset: str
    net: str
    n: int
    epochs: int
    lr: float
    smoothing: float = 0.0
    weight_decay: float = 0.0
    epsilon: float = 0.0
    batch_size: int = 64
    width: int = 500
    role: str = "target"
    index: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in (("net", NETS), ("role", ROLES)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
        if self.n < 1 or min(self.index, self.epsilon) < 0 or not 0 <= self.smoothing < 1:
            raise ValueError(
                f"a victim needs n >= 1, index and epsilon >= 0 and smoothing in [0, 1), got "
                f"n={self.n}, index={self.index}, epsilon={self.epsilon}, "
                f"smoothing={self.smoothing}"
            )

    @property
    def seed(self) -> int:
        """Decides start, order of batches and training set; no two victims share it."""
        return 2 * self.index + ROLES.index(self.role)

    def build(self) -> nn.Sequential:
        """The untrained net, on the victim's device, with PyTorch's usual start.

        "mlp": one hidden layer. "cnn": 20 and 50 channels (5x5, without padding), each halved by
        max-pooling, then one hidden layer.
        """
        everything = points(self.dataset)
        _, channels, height, width = everything.x.shape
        net = nets.cnn(
            [(20, 5, 1), (50, 5, 1)] if self.net == "cnn" else [],
            [self.width],
            "relu",
            (channels, height, width),
            int(everything.y.max()) + 1,
            torch.Generator().manual_seed(self.seed),
            padding=0,
            pool=2,
            start=nets.uniform,
        )
        return net.to(self.device)

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train by SGD with momentum, privately where there is a budget."""
        net, everything = self.build(), points(self.dataset)
        found = game(len(everything), self.n)
        part = found.universe if self.role == "target" else found.pool
        chosen = torch.from_numpy(part[members(self, found)])
        mine = Split(everything.x[chosen], everything.y[chosen])
        if self.epsilon:
            return net, private.fit(
                net,
                mine,
                self.epsilon,
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                seed=self.seed,
            )
        how = training.TrainConfig(
            self.epochs,
            self.batch_size,
            self.seed,
            optimizer="sgd",
            weight_decay=self.weight_decay,
            channels_last=self.net == "cnn",
        )
        about = (loss(self.smoothing), mine, how, training.cosine(self.lr))
        return net, training.fit(net, *about, checkpoint=checkpoint)


@cache
def points(dataset: str) -> Split:
    """All points of a data set, in its order: training points first."""
    found = data.lfw(PEOPLE) if dataset == "lfw" else data.load(dataset)
    return Split(torch.cat([found.train.x, found.test.x]), torch.cat([found.train.y, found.test.y]))


@dataclass(frozen=True)
class Game:
    """Indices of two disjoint parts of a data set, each of 2n points, sorted.

    universe : where targets train and are judged
    pool : where the adversary trains

    Examples
    --------
    >>> found = game(total=10, n=2)
    >>> len(found.universe), len(found.pool), set(found.universe) & set(found.pool)
    (4, 4, set())
    """

    universe: Indices
    pool: Indices


def game(total: int, n: int) -> Game:
    """Cut `total` points into universe and pool; the cut is the same for every victim.

    Raises
    ------
    ValueError
        If there are fewer than 4n points.

    Examples
    --------
    >>> len(game(total=8, n=2).pool)
    4
    """
    if n < 1 or 4 * n > total:
        raise ValueError(f"a game with n={n} needs 4n = {4 * n} points, got {total}")
    order = np.random.default_rng(0).permutation(total)
    return Game(np.sort(order[: 2 * n]), np.sort(order[2 * n : 4 * n]))


def members(victim: Victim, found: Game) -> NDArray[np.bool_]:
    """Which points of its half of the game a victim trains on, (2n,) with n True.

    Examples
    --------
    >>> victim = Victim("mnist-5k", "mlp", n=2, epochs=10, lr=0.1)
    >>> int(members(victim, game(total=8, n=2)).sum())  # of the universe's 4 points
    2
    """
    part = found.universe if victim.role == "target" else found.pool
    chosen = np.zeros(len(part), bool)
    order = np.random.default_rng([1, victim.seed]).permutation(len(part))
    chosen[order[: victim.n]] = True
    return chosen


def loss(smoothing: float) -> training.Loss:
    """Cross-entropy with label smoothing.

    Examples
    --------
    >>> value = loss(smoothing=0.1)(nn.Flatten(), torch.zeros(1, 2), torch.tensor([0]), 0.0)
    >>> round(value.item(), 3)  # log 2, in nats
    0.693
    """

    def value(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return nn.functional.cross_entropy(model(x), y, label_smoothing=smoothing)

    return value


def other(victim: Victim, role: str, index: int) -> Victim:
    """The same training for another target or shadow.

    Examples
    --------
    >>> other(Victim("mnist-5k", "mlp", n=1000, epochs=10, lr=0.1), "shadow", 3).role
    'shadow'
    """
    return replace(victim, role=role, index=index)
