"""One net, trained in six ways on half of a universe, so that all signs of soundness are defined.

Nets of one number share everything but the training: members, first weights, order of batches.
Numbers come in pairs that train on opposite halves, so each point is in half of the nets.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.data import Split
from thesis_repro.lab.cells import compute
from thesis_repro.robustness import GloroNet, recipes
from thesis_repro.robustness.gloro import EstimatedNet
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.training import named
from thesis_repro.training.named import History
from thesis_repro.weaknesses import leakage
from thesis_repro.weaknesses.membership import private, victims

STANDARD, ADVERSARIAL, GLORO, EMMA, PRIVATE, SMOOTHED = TRAININGS = (
    "standard",
    "adversarial",
    "GloRo",
    "EMMA",
    "DP-SGD, ε = 8",
    "label smoothing 0.1",
)
EPSILON, BUDGET, SMOOTHING = 0.3, 8.0, 0.1
SHAPE, POWER_STEPS, RATE = (1, 28, 28), 2, 3e-3
MANY, FEW = 4, 9
"""Digits: two thirds of the second are left out of the universe, so the two are there 3 : 1."""
WATERMARK, MARKED = leakage.Watermark(), 0.8


@dataclass(frozen=True)
class Trained:
    """One net.

    n : about how many points it trains on; the universe has twice as many, less the thinned digit
    number : decides members, start and order
    marked : whether a watermark is on a share of its images
    """

    dataset: str
    training: str
    n: int
    epochs: int
    batch_size: int
    attack_steps: int
    number: int = 0
    marked: bool = False
    device: str = "cpu"

    @property
    def private_epochs(self) -> int:
        """Epochs of DP-SGD: fewer, since each costs far more and spends of the budget."""
        return max(1, self.epochs // 3)

    def build(self) -> EstimatedNet:
        """The net before training, on its device."""
        return EstimatedNet(_body(self.number), EPSILON, SHAPE, POWER_STEPS).to(self.device)

    def train(self, checkpoint: Path) -> tuple[EstimatedNet, History]:
        """Train on the members: by recipe, or by the loss that no recipe has."""
        universe, _ = parts(self.dataset, self.n)
        mine = torch.from_numpy(members(self))
        points = Split(universe.x[mine], universe.y[mine])
        if self.marked:
            points, _ = leakage.mark(points, WATERMARK, MARKED, self.number)
        net, recipe = self.build(), self._recipe()
        if self.training == PRIVATE:
            epochs = self.private_epochs
            how = {"epochs": epochs, "batch_size": 250, "lr": 0.3, "seed": self.number}
            return net, private.fit(net.body, points, BUDGET, **how)  # type: ignore[arg-type]
        if self.training == SMOOTHED:
            config = training.TrainConfig(self.epochs, self.batch_size, self.number)
            rate = training.decay_after(recipe.lr, recipe.lr_end)
            about = (net, _smoothed, points, config, rate)
            return net, training.fit(*about, checkpoint=checkpoint)
        return net, recipes.fit(net, recipe, points, checkpoint=checkpoint)

    def _recipe(self) -> Recipe:
        robust = {ADVERSARIAL: "adversarial", GLORO: "gloro", EMMA: "gloro"}
        return Recipe(
            net="2c2f",
            epsilon=EPSILON,
            train_epsilon=EPSILON,
            lr=RATE,
            epochs=self.epochs,
            epochs_paper=0,
            batch_size=self.batch_size,
            seed=self.number,
            method=robust.get(self.training, "standard"),
            objective="emma" if self.training == EMMA else "trades",
            trades=(0.0, 2.0),
            power_steps=POWER_STEPS,
            attack_steps=self.attack_steps,
            device=self.device,
        )


@cache
def parts(dataset: str, n: int) -> tuple[Split, Split]:
    """The universe, and points for testing that no net trains on; the same for all nets."""
    everything = victims.points(dataset)
    game = victims.game(len(everything), n)
    y = everything.y.numpy()[game.universe]
    rare = np.flatnonzero(y == FEW)
    kept = np.setdiff1d(np.arange(len(y)), rare[len(rare) // 3 :])
    kept = kept[: len(kept) // 2 * 2]
    universe, test = game.universe[kept], game.pool
    return (
        Split(everything.x[universe], everything.y[universe]),
        Split(everything.x[test], everything.y[test]),
    )


def members(config: Trained) -> NDArray[np.bool_]:
    """Which points of the universe (2n,) a net trains on: half of them."""
    total = len(parts(config.dataset, config.n)[0])
    order = np.random.default_rng([2, config.number // 2]).permutation(total)
    chosen = np.zeros(total, bool)
    chosen[order[: total // 2]] = True
    return ~chosen if config.number % 2 else chosen


def trained(config: Trained) -> GloroNet:
    """The trained net, from the store or trained now; it proves, in eval mode, on the CPU."""
    net = GloroNet(_body(config.number), EPSILON, SHAPE, POWER_STEPS)
    return named.loaded(net, compute(named.cell(config)).arrays).requires_grad_(False)


def _body(seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    return nets.build("2c2f", in_shape=SHAPE, classes=10, generator=generator)


def _smoothed(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    return victims.loss(SMOOTHING)(cast(EstimatedNet, model).body, x, y, progress)
