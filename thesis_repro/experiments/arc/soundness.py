"""The signs of soundness of one net, each by the chapter that it belongs to: one cell."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.data import Split
from thesis_repro.experiments.arc import universe
from thesis_repro.experiments.arc.universe import FEW, MANY, WATERMARK, Trained, members, parts
from thesis_repro.explanations import receptive
from thesis_repro.explanations.experts import Halves, halves, keep
from thesis_repro.explanations.influence import internal_influence, max_class, point
from thesis_repro.lab.cells import Result
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.outputs import ask
from thesis_repro.weaknesses import leakage, reliability
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership import lira_rmia

CLEAN, VRA, ERROR, OBJECT, UNITS, BIAS, AUC, TPR, MARK, INSTANCE = MEASURES = (
    "clean accuracy (%)",
    "VRA at 0.3 (%)",
    "calibration error (%)",
    "influence on the digit (%)",
    "units for 95% of balanced accuracy",
    "signed bias at prior 3:1 (points)",
    "membership AUC (%)",
    "members found at 1% false alarms (%)",
    "watermark, weak adversary (deviations)",
    "reconstructions nearest to a member (%)",
)
HIDDEN = "6"
"""The activations of the dense layer."""
BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
INK = 0.5
"""A pixel as bright as this is part of the digit."""
JUDGED = 2000
"""Test points for influence and experts."""


@dataclass(frozen=True)
class SoundConfig:
    """A net, and the numbers of all nets of its training: the others are references."""

    net: Trained
    numbers: tuple[int, ...]


def measured(config: SoundConfig) -> Result:
    """Cell: a value for each of `MEASURES`."""
    net = universe.trained(config.net)
    marked = universe.trained(replace(config.net, marked=True))
    inside, test = parts(config.net.dataset, config.net.n)
    certificate = certify(net, test.x)
    right = certificate.labels == test.y
    logits = ask(net.body, test.x).double()
    confidence = logits.softmax(1).amax(1).numpy()
    error = reliability.squared_errors(confidence, right.double().numpy())[1]
    few = Split(test.x[:JUDGED], test.y[:JUDGED])
    scores, member = membership(config)
    images, others = (reconstructed(one.body) for one in (net, marked))
    outcome, _ = games.at_fpr(scores, member, 0.01)
    values = {
        CLEAN: 100 * float(right.double().mean()),
        VRA: 100 * float((right & certificate.certified).double().mean()),
        ERROR: 100 * math.sqrt(max(error, 0.0)),
        OBJECT: 100 * on_object(net, few.x[:200]),
        UNITS: float(units_needed(halves(net.body, HIDDEN, few.x, few.y))),
        BIAS: 100 * signed_bias(logits, test.y),
        AUC: 100 * games.auc(scores, member),
        TPR: 100 * outcome.recall,
        MARK: leakage.trace(others, WATERMARK).z - leakage.trace(images, WATERMARK).z,
        INSTANCE: 100 * identified(images, inside, member),
    }
    return Result(values | {"number": config.net.number})


def on_object(net: GloroNet, x: Tensor) -> float:
    """Mean share of the input's influence on the top logit that lies on ink."""
    found = internal_influence(net.body, x, "", max_class(), point())
    return float(receptive.share_on(found, x[:, 0] > INK).mean())


def units_needed(sides: Halves, share: float = 0.95) -> int:
    """Fewest units of `BUDGETS`, else all, that keep a share of the mean balanced accuracy.

    Units are ranked by influence and chosen on one half; the other half judges.
    """
    whole = np.mean([sides.judging.detect(c).balanced for c in range(10)])
    ranked = [sides.choosing.influence(c) for c in range(10)]
    for budget in (b for b in BUDGETS if b < sides.judging.units):
        found = []
        for c, scores in enumerate(ranked):
            choice = sides.choosing.choose(c, scores, budget, max(1, budget // 4))
            found.append(sides.judging.detect(c, keep(scores, choice)).balanced)
        if np.mean(found) >= share * whole:
            return budget
    return sides.judging.units


def signed_bias(logits: Tensor, y: Tensor) -> float:
    """How much more often the frequent digit is said than it occurs, where it occurs 3 : 1."""
    says = (logits[:, MANY] > logits[:, FEW]).double()
    return float(0.75 * says[y == MANY].mean() + 0.25 * says[y == FEW].mean() - 0.75)


def membership(config: SoundConfig) -> tuple[np.ndarray, np.ndarray]:
    """Scores of offline LiRA on the universe (2n,), with the other nets as references; the truth.

    Of each pair of nets one lacks a point. A net's own partner is no reference where two other
    pairs are there: it lacks just the members, which would then have one reference more to take
    a mean over than other points have.
    """
    inside, _ = parts(config.net.dataset, config.net.n)
    own = config.net.number
    others = [i for i in config.numbers if i // 2 != own // 2]
    if len(others) < 4:
        others = [i for i in config.numbers if i != own]
    numbers = [own, *others]
    found, contains = [], []
    for number in numbers:
        other = replace(config.net, number=number)
        logits = ask(universe.trained(other).body, inside.x).double().numpy()
        found.append(lira_rmia.scaled(logits, inside.y.numpy()))
        contains.append(members(other))
    scores = lira_rmia.lira(found[0], np.stack(found[1:]), np.stack(contains[1:]))
    return scores, contains[0]


def reconstructed(body: nn.Module) -> Tensor:
    """One image of each class, climbed from grey."""
    start = torch.full((1, 28, 28), 0.5)
    found = leakage.reconstruct(body, range(10), start, steps=40, step=0.5, radius=7.0)
    return found.images


def identified(images: Tensor, inside: Split, member: np.ndarray) -> float:
    """Share of classes whose reconstruction is nearer to a member than to any other image."""
    found = []
    truth = torch.from_numpy(member)
    for c in range(10):
        mine, others = inside.x[truth & (inside.y == c)], inside.x[~truth & (inside.y == c)]
        n = min(len(mine), len(others))  # the nearest of more is nearer
        near = partial(leakage.distances, images[c : c + 1])
        found.append(bool(near(mine[:n]).min() < near(others[:n]).min()))
    return float(np.mean(found))
