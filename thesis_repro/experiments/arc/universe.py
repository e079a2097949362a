"""One net, trained in six ways on half of a universe, so that all signs of soundness are defined.

Nets of one number share everything but the training: members, first weights, order of batches.
Numbers come in pairs that train on opposite halves, so each point is in half of the nets.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import data, training
from thesis_repro.data import Dataset, Split
from thesis_repro.lab.cells import Cell, Result, compute, current_workdir
from thesis_repro.robustness import GloroNet, recipes
from thesis_repro.robustness.recipes import Recipe
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

    def recipe(self) -> Recipe:
        """How it is trained; of DP-SGD and label smoothing, all but the loss."""
        return Recipe(
            net="2c2f",
            epsilon=EPSILON,
            train_epsilon=EPSILON,
            epochs=self.epochs,
            epochs_paper=0,
            batch_size=self.batch_size,
            seed=self.number,
            method={ADVERSARIAL: "adversarial", GLORO: "gloro", EMMA: "gloro"}.get(
                self.training, "standard"
            ),
            objective="emma" if self.training == EMMA else "trades",
            trades=(0.0, 2.0),
            power_steps=2,
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


def smoothed(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """Cross-entropy of a body with label smoothing: a training loss."""
    return victims.loss(SMOOTHING)(cast(nn.Module, model.body), x, y, progress)


def train_cell(config: Trained) -> Result:
    """Cell: train one net; arrays are its weights."""
    universe, test = parts(config.dataset, config.n)
    mine = torch.from_numpy(members(config))
    points = Split(universe.x[mine], universe.y[mine])
    if config.marked:
        points, _ = leakage.mark(points, WATERMARK, MARKED, config.number)
    recipe, net = config.recipe(), untrained(config)
    if config.training == PRIVATE:
        history = private.fit(
            net.body, points, BUDGET, epochs=max(1, config.epochs // 3), batch_size=250, lr=0.3,
            seed=config.number,
        )  # fmt: skip
    else:
        checkpoint = current_workdir() / "checkpoint.safetensors"
        dataset = Dataset(config.dataset, points, test, tuple(map(str, range(10))))
        if config.training == SMOOTHED:
            how = training.TrainConfig(config.epochs, config.batch_size, config.number)
            rate = training.decay_after(recipe.lr, recipe.lr_end)
            history = training.fit(net, smoothed, points, how, rate, checkpoint=checkpoint)
        else:
            history = recipes.fit(net, recipe, dataset, checkpoint=checkpoint)
    weights = {name: value.cpu().numpy() for name, value in net.body.state_dict().items()}
    return Result({"history": history}, weights)


def untrained(config: Trained) -> GloroNet:
    """The net before training."""
    return recipes.build(config.recipe(), (1, 28, 28), 10)


def cell(config: Trained) -> Cell:
    """The training cell of a net."""
    return Cell(train_cell, config, ((config.dataset, data.fingerprint(config.dataset)),))


def trained(config: Trained) -> GloroNet:
    """The trained net, from the store or trained now; eval mode, on the CPU."""
    net = untrained(replace(config, device="cpu"))
    found = compute(cell(config)).arrays
    net.body.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    return net.eval().requires_grad_(False)
