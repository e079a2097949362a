"""The nets of the audit: victims that are trained robustly, or with canaries among their points."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import training
from thesis_repro.data import Split
from thesis_repro.robustness import gloro
from thesis_repro.training.named import History
from thesis_repro.weaknesses.membership import dpsgd, private, victims
from thesis_repro.weaknesses.membership.victims import Victim

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Canaries:
    """Points of a universe with wrong labels, each included in a training by a coin of its own.

    x : (m, channels, height, width); y : (m,) the wrong labels; included : (m,) bool

    Examples
    --------
    >>> victim = Audited("mnist-5k", "mlp", n=100, epochs=10, lr=0.1, canaries=4)
    >>> planted = canaries(victim)
    >>> planted.x.shape, planted.included.shape
    (torch.Size([4, 1, 28, 28]), (4,))
    """

    x: Tensor
    y: Tensor
    included: Bools


@dataclass(frozen=True)
class Audited(Victim):
    """A target of the audit.

    radius : GloRo training for this L2 radius, with the TRADES-style loss; 0 trains as a Victim
    canaries : how many points of the universe get a wrong label and a coin each; 0: none

    Raises
    ------
    ValueError
        As for a Victim; for a negative radius or number, more canaries than members, a shadow
        with canaries, or a GloRo net that is to be private or smoothed, too.

    Examples
    --------
    >>> robust = Audited("mnist-5k", "mlp", n=100, epochs=10, lr=0.1, radius=0.5)
    >>> len(robust.points_of_training())
    100
    """

    radius: float = 0.0
    canaries: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.canaries <= self.n or not 0 <= self.radius < np.inf:
            raise ValueError(
                f"an audited net needs canaries from 0 to n={self.n} and a radius >= 0, got "
                f"{self.canaries} and {self.radius}"
            )
        if self.canaries and self.role != "target":
            raise ValueError("canaries are for targets alone")
        if self.radius and (self.epsilon or self.smoothing):
            raise ValueError("a GloRo net is trained without a budget and without smoothing here")

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train by SGD with momentum on what :meth:`points_of_training` gives."""
        net, mine = self.build(), self.points_of_training()
        if self.epsilon:
            about = (net, mine, self.epsilon)
            return net, private.fit(
                *about, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, seed=self.seed
            )
        model: nn.Module = net
        loss = victims.loss(self.smoothing)
        if self.radius:
            _, channels, height, width = mine.x.shape
            model = gloro.EstimatedNet(net, self.radius, (channels, height, width))
            ramp = training.linear(0.01 * self.radius, self.radius, 0.5)
            loss = gloro.trades(ramp, training.constant(1.0))
        how = training.TrainConfig(
            self.epochs,
            self.batch_size,
            self.seed,
            optimizer="sgd",
            weight_decay=self.weight_decay,
            channels_last=self.net == "cnn" and not self.radius,
        )
        rate = training.cosine(self.lr)
        on = model.to(self.device)
        return net, training.fit(on, loss, mine, how, rate, checkpoint=checkpoint)

    def points_of_training(self) -> Split:
        """What it trains on."""
        everything = victims.points(self.dataset)
        found = victims.game(len(everything), self.n)
        if not self.canaries:
            part = found.universe if self.role == "target" else found.pool
            chosen = torch.from_numpy(part[victims.members(self, found)])
            return Split(everything.x[chosen], everything.y[chosen])
        chosen = torch.from_numpy(found.universe[self._order()[1]])
        planted = canaries(self)
        inside = torch.from_numpy(planted.included)
        return Split(
            torch.cat([everything.x[chosen], planted.x[inside]]),
            torch.cat([everything.y[chosen], planted.y[inside]]),
        )

    def unseen(self) -> Split:
        """Points of the universe that are neither trained on nor canaries."""
        everything = victims.points(self.dataset)
        universe = victims.game(len(everything), self.n).universe
        chosen = torch.from_numpy(universe[self._order()[2]])
        return Split(everything.x[chosen], everything.y[chosen])

    def _order(self) -> tuple[Any, Any, Any]:
        """Places in the universe: canaries, plain points that are trained on, and the others."""
        order = np.random.default_rng([2, self.seed]).permutation(2 * self.n)
        m = self.canaries
        return order[:m], order[m : m + self.n - m // 2], order[m + self.n - m // 2 :]


@dataclass(frozen=True)
class Private(Audited):
    """A net that DP-SGD trains as well as it can: tanh for ReLU, no momentum.

    epsilon : > 0, privacy budget
    clip : > 0, bound of each point's gradient norm

    Raises
    ------
    ValueError
        As for an Audited; without a budget, or for smoothing or weight decay, which it has not.

    Examples
    --------
    >>> how = dict(n=100, epochs=10, lr=0.1, epsilon=8.0, width=16)
    >>> Private("mnist-5k", "mlp", **how).build()[2]
    Tanh()
    """

    clip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon or self.smoothing or self.weight_decay:
            raise ValueError("a private net needs epsilon > 0, no smoothing and no weight decay")

    def build(self) -> nn.Sequential:
        """As a Victim's, with tanh for ReLU: what it passes on is bounded, and so are gradients."""
        layers = super().build()
        return nn.Sequential(*(nn.Tanh() if isinstance(one, nn.ReLU) else one for one in layers))

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train privately on what :meth:`points_of_training` gives."""
        net = self.build()
        return net, dpsgd.fit(
            net,
            self.points_of_training(),
            self.epsilon,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            clip=self.clip,
            seed=self.seed,
        )


def canaries(victim: Audited) -> Canaries:
    """The canaries of a net: who they are, their wrong labels and their coins follow its seed.

    Examples
    --------
    >>> victim = Audited("mnist-5k", "mlp", n=100, epochs=10, lr=0.1, canaries=4)
    >>> planted = canaries(victim)
    >>> len(victim.points_of_training()) == 98 + planted.included.sum()
    np.True_
    """
    everything = victims.points(victim.dataset)
    universe = victims.game(len(everything), victim.n).universe
    chosen = torch.from_numpy(universe[victim._order()[0]])
    rng = np.random.default_rng([3, victim.seed])
    classes = int(everything.y.max()) + 1
    shift = torch.from_numpy(rng.integers(1, classes, size=victim.canaries))
    wrong = (everything.y[chosen] + shift) % classes
    return Canaries(everything.x[chosen], wrong, rng.random(victim.canaries) < 0.5)


def audited(victim: Victim, **changes: Any) -> Audited:
    """The same training with a radius, or with canaries.

    Examples
    --------
    >>> plain = Victim("mnist-5k", "mlp", n=100, epochs=10, lr=0.1)
    >>> audited(plain, canaries=4).epochs
    10
    """
    if isinstance(victim, Audited):
        return replace(victim, **changes)
    return Audited(**(_known(victim) | changes))


def privately(victim: Victim, **changes: Any) -> Private:
    """The same net, to be trained by DP-SGD.

    Examples
    --------
    >>> plain = Victim("mnist-5k", "mlp", n=100, epochs=10, lr=0.1)
    >>> privately(plain, epsilon=8.0, clip=0.1).n
    100
    """
    return Private(**(_known(victim) | changes))


def _known(victim: Victim) -> dict[str, Any]:
    return {one.name: getattr(victim, one.name) for one in fields(victim)}
