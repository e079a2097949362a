"""What nets say of images that they were not made for: one cell for two tables of the chapter.

Temperatures are fitted on every fifth held-out image, upright and clean; the others are judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thesis_repro import data
from thesis_repro.data import Split
from thesis_repro.experiments import nets
from thesis_repro.experiments.nets import TITLES
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, models
from thesis_repro.robustness.outputs import ask
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.estimate import Estimate
from thesis_repro.tables.spec import Column, Row
from thesis_repro.weaknesses import reliability

TEST, ROTATED, NOISY = IMAGES = ("test", "rotated by 15°", "noise 0.1")
"""Held-out images: as they are, turned counter-clockwise, with Gaussian noise of that deviation."""
SOFTMAX, SCALED, RADIUS, BOTTOM = SCORES = (
    "softmax",
    "softmax, temperature fitted",
    "certified radius",
    "bottom class",
)
"""What points are ranked by: confidence; the radius; less probability of the bottom class."""
COVERAGE = 0.8
FITTED = 5
"""One point in so many fits the temperature, and is not judged."""

NET = Column("net", "net", kind="key")
SHIFT = Column("images", "images", kind="key")


@dataclass(frozen=True)
class JudgedConfig:
    """A net on one kind of images; `resamples` bootstrap replicates."""

    training: Training
    images: str
    resamples: int


def subjects(profile: Profile) -> list[tuple[str, Training]]:
    """Titled nets: a minute's training on MNIST-5k, or the committed ones whose data is here."""
    if profile.name == "quick":
        trainings = (nets.quick_training("1.58", seed) for seed in profile.seeds)
        return [("MNIST-5k, 2C2F at 1.58", training) for training in trainings]
    found = []
    for radius, (dataset, _) in nets.DATASETS.items():
        if not data.available(dataset):
            continue
        training = nets.at_hand(radius, 0, "cpu")
        if models.standing_for(training):
            title = f"{TITLES[dataset]}, {training.recipe.net.upper()} at {radius}"
            found.append((title, training))
    return found


PAPER = ("MNIST, 2C2F at 0.3", "CIFAR-10, 6C2F at 36/255")
"""The committed nets that a paper run is about, at least."""


def plan(profile: Profile) -> list[tuple[Row, Cell]]:
    """A cell for each net and kind of images."""
    resamples = 200 if profile.name == "quick" else 1000
    return [
        (
            (title, images),
            Cell(judged, JudgedConfig(training, images, resamples), models.fingerprints(training)),
        )
        for title, training in subjects(profile)
        for images in IMAGES
    ]


def with_ends(found: Sequence[float], how: str) -> Estimate:
    """A value and the ends of its interval, as a cell gives them."""
    value, low, high = found
    return Estimate(value, low, high, how)


def split(training: Training) -> tuple[Split, Split]:
    """A net's held-out points: those that fit its temperature, and those that are judged."""
    test = data.held_out(training.dataset)
    fits = torch.arange(len(test)) % FITTED == 0
    return Split(test.x[fits], test.y[fits]), Split(test.x[~fits], test.y[~fits])


def temperature(net: GloroNet, fits: Split) -> float:
    """The temperature that fits a net's logits at these points."""
    return reliability.temperature(_logits(net.body, fits.x), fits.y.numpy())


def shown(x: Tensor, images: str) -> Tensor:
    """The images (n, c, h, w) as a kind of `IMAGES` has them, in [0, 1]."""
    if images == ROTATED:
        from torchvision.transforms.functional import InterpolationMode, rotate

        turned: Tensor = rotate(x, 15.0, InterpolationMode.BILINEAR)
        return turned
    if images == NOISY:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        return (x + 0.1 * noise).clamp(0, 1)
    return x


def judged(config: JudgedConfig) -> Result:
    """Cell: calibration errors before and after temperature, and how scores rank wrong points."""
    net = models.trained(config.training).cpu()
    fits, test = split(config.training)
    t = temperature(net, fits)
    x, y = shown(test.x, config.images), test.y.numpy()
    logits, certificate = _logits(net.body, x), certify(net, x)
    right = (logits.argmax(1) == y).astype(np.float64)
    certified = certificate.certified.numpy()
    rng = np.random.default_rng(0)
    values = {
        "temperature": t,
        "accuracy": _counted(right),
        "as trained": _calibrated(logits, y, right, config.resamples, rng),
        "temperature fitted": _calibrated(logits / t, y, right, config.resamples, rng),
        "scores": _ranked(scores(net, x, t), 1 - right, config.resamples, rng),
        "rejected": _counted(~certified),
        "risk_kept": _counted(1 - right[certified]),
        "risk_rejected": _counted(1 - right[~certified]),
    }
    return Result(values)


def scores(net: GloroNet, x: Tensor, t: float) -> dict[str, np.ndarray]:
    """How safe each of `SCORES` finds the images (n, c, h, w): (n,) each, higher is safer.

    t : the fitted temperature
    """
    logits, with_bottom = _logits(net.body, x), _probabilities(_logits(net, x))
    return {
        SOFTMAX: _probabilities(logits).max(1),
        SCALED: _probabilities(logits / t).max(1),
        RADIUS: certify(net, x).radius.numpy(),
        BOTTOM: -with_bottom[:, -1],
    }


def _logits(model: Any, x: Tensor) -> np.ndarray:
    return ask(model, x).double().numpy()


def _probabilities(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(found / found.sum(1, keepdims=True))


def _counted(which: np.ndarray) -> dict[str, int]:
    return {"k": int(which.sum()), "n": len(which)}


def _calibrated(
    logits: np.ndarray, y: np.ndarray, right: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Calibration error in percent with its interval; mean losses with two standard errors."""
    confidence = _probabilities(logits).max(1)
    found = reliability.error_interval(confidence, right, resamples, rng)
    nll, brier = reliability.losses(logits, y)
    return {
        "error": [100 * value for value in found],
        "confidence": 100 * float(confidence.mean()),
        "nll": _mean(nll),
        "brier": _mean(brier),
    }


def _mean(values: np.ndarray) -> list[float]:
    """The mean and its 95% interval; so many points need no Student's t."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return [mean, mean - half, mean + half]


def _ranked(
    by_score: dict[str, np.ndarray], wrong: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Risk and ranking by score, and how far a ranking is ahead of softmax's; all in percent.

    Each is its value with the ends of its interval. The replicates are the same points for every
    score, so the differences are paired.
    """
    picks = rng.integers(len(wrong), size=(resamples, len(wrong)))

    def measured(rows: np.ndarray) -> np.ndarray:
        """(scores, 3) on some points: risk, ranking, ranking less that of softmax."""
        found = [
            (
                reliability.risk(s[rows], wrong[rows], COVERAGE),
                reliability.ranking(s[rows], wrong[rows]),
            )
            for s in by_score.values()
        ]
        return 100 * np.array([(risk, rank, rank - found[0][1]) for risk, rank in found])

    whole = measured(np.arange(len(wrong)))
    again = np.stack([measured(rows) for rows in picks])
    return {
        score: {
            name: [float(whole[i, j]), *reliability.ends(again[:, i, j])]
            for j, name in enumerate(("risk", "ranking", "ahead"))
        }
        for i, score in enumerate(by_score)
    }
