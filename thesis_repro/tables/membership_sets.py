"""Smaller cells of the chapter weaknesses/membership: the Gaussian set, defences, pink paper."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thesis_repro import data
from thesis_repro.data import Split
from thesis_repro.explanations import subjects
from thesis_repro.explanations.influence import Cut
from thesis_repro.lab.engine import Cell, Result, compute
from thesis_repro.tables.membership_cells import (
    RIDGE,
    SLICES,
    Observation,
    Parts,
    observe,
    parts,
    probabilities,
)
from thesis_repro.weaknesses.membership import (
    black_box,
    calibration,
    gaussian,
    victims,
    white_box,
)
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.victims import Victim

Floats = NDArray[np.float64]

TRUE_MEANS, PROXIES = "bayes_wb, true means", "bayes_wb, 10 proxies"


@dataclass(frozen=True)
class GaussianConfig:
    """Random Gaussian games: one model fitted to members, attacked with proxies and with truth."""

    d: int
    n: int
    classes: int
    runs: int
    proxies: int
    seed: int


def gaussians(config: GaussianConfig) -> Result:
    """Cell: accuracy of each attack in each run, and the model's train and test accuracy."""
    found: dict[str, list[float]] = {}
    game = gaussian.GaussianGame(config.d, config.n, config.classes)
    for run in range(config.runs):
        rng = np.random.default_rng([config.seed, run])
        means = game.means(rng)
        members, y = game.sample(means, rng)
        others, _ = game.sample(means, rng)
        target = game.fit(members, y)
        proxies = [game.fit(*game.sample(means, rng)) for _ in range(config.proxies)]
        x, labels = np.concatenate([members, others]), np.concatenate([y, y])
        member = np.arange(len(x)) < len(members)
        right = black_box.naive(x @ target[0].T + target[1], labels)
        against = {
            TRUE_MEANS: gaussian.linear(means),
            PROXIES: (np.stack([p[0] for p in proxies]), np.stack([p[1] for p in proxies])),
        }
        claims = {"naive": right} | {
            name: white_box.bayes_wb(*target, *known, x, labels) > 0
            for name, known in against.items()
        }
        for name, claimed in claims.items():
            outcome = games.judge(claimed, member)
            found.setdefault(f"{name}.accuracy", []).append(outcome.accuracy)
            found.setdefault(f"{name}.precision", []).append(outcome.precision)
        found.setdefault("gap", []).append(float(right[member].mean() - right[~member].mean()))
    optimum = gaussian.optimum(config.d, config.n)
    return Result({"optimum": optimum}, {name: np.array(v) for name, v in found.items()})


@dataclass(frozen=True)
class Defended:
    """A target and a shadow that were trained with some defence, and the attack on one layer."""

    victim: Victim
    targets: tuple[int, ...]

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.victim.device


def defended(config: Defended) -> Result:
    """Cell: accuracy of the models, of the naive attack, and of the displacement in one layer.

    The adversary trains one shadow by the same recipe, defence included, and takes its threshold
    from there.
    """
    everything = victims.points(config.victim.dataset)
    part = parts(len(everything), config.victim.n)
    threshold = calibration.best_accuracy(*_displaced(config.victim, "shadow", 0, part, everything))
    targets = []
    for index in config.targets:
        scores, member = _displaced(config.victim, "target", index, part, everything)
        right = _logits(config.victim, index, part).argmax(1)
        right = right == everything.y.numpy()[part.universe]
        outcome = games.judge(scores > threshold, member)
        targets.append(
            {
                "train": {"k": int(right[member].sum()), "n": int(member.sum())},
                "test": {"k": int(right[~member].sum()), "n": int((~member).sum())},
                "naive": {"k": games.judge(right, member).right, "n": len(member)},
                "accuracy": {"k": outcome.right, "n": len(member)},
                "auc": games.auc(scores, member),
            }
        )
    return Result({"targets": targets})


def _observed(victim: Victim, role: str, index: int) -> Any:
    one = victims.other(victim, role, index)
    return compute(Cell(observe, Observation(one), victims.cell(one).data)).arrays


def _logits(victim: Victim, index: int, part: Parts) -> Floats:
    return np.asarray(_observed(victim, "target", index)["logits"][: len(part.universe)], float)


def _displaced(
    victim: Victim, role: str, index: int, part: Parts, everything: Split
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores from one net alone: its own probabilities stand for the expected ones."""
    n = len(part.universe)
    where = slice(0, n) if role == "target" else slice(n, 2 * n)
    seen = {k: v[where].astype(float) for k, v in _observed(victim, role, index).items()}
    labels = everything.y.numpy()[part.all[where]]
    weights = white_box.expected_margin(labels, probabilities(seen["logits"]))
    member = victims.members(
        victims.other(victim, role, index), victims.game(len(everything), victim.n)
    )
    return (seen[SLICES[victim.net][0]] * weights).sum(1), member


def salience(seed: int = 0) -> dict[str, tuple[Floats, Floats]]:
    """Displacement of pink threes and of test threes, in a net that trained with pink and one not.

    The pink threes are members of the first net and of no other training set. All nets are those
    of the chapter explanations/influence, so the question to the paper and to the weights is put
    to the same two nets.
    """
    digits = data.load("mnist-5k")
    three = subjects.PINK_CLASS
    both = [subjects.coloured(digits.train, pink) for pink in (True, False)]
    moved = (both[0].x != both[1].x).flatten(1).any(1)
    rest = subjects.coloured(digits.test, False)
    marked, others = both[0].x[moved], rest.x[rest.y == three]
    found = {}
    for pink in (True, False):
        net = subjects.trained(replace(subjects.COLOURED, pink=pink, seed=seed))
        features = Cut(net, FLAT).activations(rest.x)
        whitening = white_box.Whitening(RIDGE).fit(features, rest.y, 5)
        scores = []
        for x in (marked, others):
            y = torch.full((len(x),), three)
            with torch.no_grad():
                expected = probabilities(net(x).numpy())
            weights = white_box.expected_margin(y.numpy(), expected)
            moved_by = white_box.displacement(net, FLAT, x, y, whitening).numpy()
            scores.append((moved_by * weights).sum(1))
        found[f"{'with' if pink else 'without'} pink"] = (scores[0], scores[1])
    return found


FLAT = "4"
"""The input of the dense layer of those nets."""
