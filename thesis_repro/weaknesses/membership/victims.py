"""The nets that are attacked and those that the adversary trains, as data: one cell each.

A :class:`Game` cuts a data set in two. Targets train on a random half of the *universe*; the
other half are their non-members. Shadows and proxies train on a random half of the *pool*, which
shares no point with the universe.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import data, training
from thesis_repro.data import Split
from thesis_repro.lab.cells import Cell, Result, compute, current_workdir
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
    """

    universe: Indices
    pool: Indices


def game(total: int, n: int) -> Game:
    """Cut `total` points into universe and pool; the cut is the same for every victim.

    Raises
    ------
    ValueError
        If there are fewer than 4n points.
    """
    if n < 1 or 4 * n > total:
        raise ValueError(f"a game with n={n} needs 4n = {4 * n} points, got {total}")
    order = np.random.default_rng(0).permutation(total)
    return Game(np.sort(order[: 2 * n]), np.sort(order[2 * n : 4 * n]))


def members(victim: Victim, found: Game) -> NDArray[np.bool_]:
    """Which points of its half of the game a victim trains on, (2n,) with n True."""
    part = found.universe if victim.role == "target" else found.pool
    chosen = np.zeros(len(part), bool)
    order = np.random.default_rng([1, victim.seed]).permutation(len(part))
    chosen[order[: victim.n]] = True
    return chosen


def build(victim: Victim, in_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The untrained net, on the victim's device, with PyTorch's usual start.

    "mlp": one hidden layer. "cnn": 20 and 50 channels (5x5, without padding), each halved by
    max-pooling, then one hidden layer of 500 units.
    """
    channels, height, width = in_shape
    body: list[nn.Module] = []
    if victim.net == "cnn":
        for out in (20, 50):
            body += [nn.Conv2d(channels, out, 5), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = out, (height - 4) // 2, (width - 4) // 2
    head = [nn.Linear(channels * height * width, victim.width), nn.ReLU()]
    net = nn.Sequential(*body, nn.Flatten(), *head, nn.Linear(victim.width, classes))
    generator = torch.Generator().manual_seed(victim.seed)
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(cast(Tensor, layer.bias), -bound, bound, generator=generator)
    return net.to(victim.device)


def loss(smoothing: float) -> training.Loss:
    """Cross-entropy with label smoothing."""

    def value(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return nn.functional.cross_entropy(model(x), y, label_smoothing=smoothing)

    return value


def train_cell(victim: Victim) -> Result:
    """Cell: train by SGD with momentum; arrays are the weights."""
    everything = points(victim.dataset)
    found = game(len(everything), victim.n)
    part = found.universe if victim.role == "target" else found.pool
    chosen = torch.from_numpy(part[members(victim, found)])
    net = build(victim, _shape(everything), int(everything.y.max()) + 1)
    mine = Split(everything.x[chosen], everything.y[chosen])
    if victim.epsilon:
        history = private.fit(
            net,
            mine,
            victim.epsilon,
            epochs=victim.epochs,
            batch_size=victim.batch_size,
            lr=victim.lr,
            seed=victim.seed,
        )
    else:
        how = training.TrainConfig(
            victim.epochs,
            victim.batch_size,
            victim.seed,
            optimizer="sgd",
            weight_decay=victim.weight_decay,
            channels_last=victim.net == "cnn",
        )
        checkpoint = current_workdir() / "checkpoint.safetensors"
        history = training.fit(
            net,
            loss(victim.smoothing),
            mine,
            how,
            training.cosine(victim.lr),
            checkpoint=checkpoint,
        )
    weights = {name: value.cpu().contiguous().numpy() for name, value in net.state_dict().items()}
    return Result({"history": history}, weights)


def _shape(split: Split) -> tuple[int, int, int]:
    _, channels, height, width = split.x.shape
    return channels, height, width


def cell(victim: Victim) -> Cell:
    """The training cell of a victim."""
    return Cell(train_cell, victim, ((victim.dataset, data.fingerprint(victim.dataset)),))


def trained(victim: Victim, everything: Split) -> nn.Sequential:
    """The trained net, from the store or trained now; eval mode, on the victim's device."""
    net = build(victim, _shape(everything), int(everything.y.max()) + 1)
    result = compute(cell(victim))
    net.load_state_dict({k: torch.from_numpy(v) for k, v in result.arrays.items()})
    return net.eval()


def other(victim: Victim, role: str, index: int) -> Victim:
    """The same training for another target or shadow."""
    return replace(victim, role=role, index=index)
