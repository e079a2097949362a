"""Victims that another optimizer trains than SGD: Adam, or RMSprop."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro import training
from thesis_repro.data import Split
from thesis_repro.training.named import History
from thesis_repro.weaknesses.membership import victims
from thesis_repro.weaknesses.membership.victims import Victim

ADAM, RMSPROP = OPTIMIZERS = "adam", "rmsprop"
DECAY, LEAST = 0.9, 1e-7
"""Of RMSprop, as Keras has them: how much of the mean square is kept at a step, and what is added
to its root."""


@dataclass(frozen=True)
class Optimized(Victim):
    """A victim of the same nets, points, batches and decay of the rate, with another optimizer.

    optimizer : "adam" or "rmsprop"; SGD with momentum trains a plain Victim

    Raises
    ------
    ValueError
        As for a Victim; for another optimizer, a rate that is not above 0, or a budget or weight
        decay, which it has not.

    Examples
    --------
    >>> how = dict(n=100, epochs=10, lr=1e-3, width=16)
    >>> Optimized("mnist-5k", "mlp", **how, optimizer="rmsprop").seed
    0
    """

    optimizer: str = ADAM

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)} (SGD "
                f"trains a plain Victim)"
            )
        if not 0 < self.lr < math.inf or self.epsilon or self.weight_decay:
            raise ValueError(
                f"{self.optimizer} needs lr > 0, and no privacy budget and no weight decay here, "
                f"got lr={self.lr}, epsilon={self.epsilon}, weight_decay={self.weight_decay}"
            )

    def train(self, checkpoint: Path) -> tuple[nn.Sequential, History]:
        """Train on the points of a Victim with the same role and index, in its batches."""
        net, everything = self.build(), victims.points(self.dataset)
        found = victims.game(len(everything), self.n)
        part = found.universe if self.role == "target" else found.pool
        chosen = torch.from_numpy(part[victims.members(self, found)])
        mine = Split(everything.x[chosen], everything.y[chosen])
        how = training.TrainConfig(
            self.epochs,
            self.batch_size,
            self.seed,
            optimizer="adam" if self.optimizer == ADAM else "sgd",
            momentum=0.0,
            channels_last=self.net == "cnn",
        )
        about = (victims.loss(self.smoothing), mine, how, training.cosine(self.lr))
        if self.optimizer == ADAM:
            return net, training.fit(net, *about, checkpoint=checkpoint)
        scaled = _Scaled(net)
        history = training.fit(scaled, *about, checkpoint=checkpoint)
        scaled.release()
        return net, history


class _Scaled(nn.Module):
    """A net whose gradients are divided by the root of their running mean square.

    A step of SGD on it is one of RMSprop (Tieleman and Hinton 2012). The mean squares are buffers,
    so that a checkpoint keeps them.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._hooks = []
        for number, weight in enumerate(net.parameters()):
            self.register_buffer(f"square{number}", torch.zeros_like(weight))
            self._hooks.append(weight.register_hook(self._scaling(f"square{number}")))

    def _scaling(self, name: str) -> Callable[[Tensor], Tensor]:
        def scaled(gradient: Tensor) -> Tensor:
            square = self.get_buffer(name)
            square.mul_(DECAY).addcmul_(gradient, gradient, value=1 - DECAY)
            return gradient / (square.sqrt() + LEAST)

        return scaled

    def forward(self, x: Tensor) -> Tensor:
        """The net's logits."""
        logits: Tensor = self.net(x)
        return logits

    def release(self) -> None:
        """Let the gradients of the net be as they are again."""
        for hook in self._hooks:
            hook.remove()


def optimized(victim: Victim, optimizer: str, lr: float) -> Optimized:
    """The same training by another optimizer, with a rate of its own.

    Raises
    ------
    ValueError
        As :class:`Optimized`.

    Examples
    --------
    >>> plain = Victim("mnist-5k", "mlp", n=100, epochs=10, lr=0.1)
    >>> optimized(plain, "adam", lr=1e-3).epochs
    10
    """
    known = {one.name: getattr(victim, one.name) for one in fields(victim)}
    return Optimized(**(known | {"lr": lr, "optimizer": optimizer}))
