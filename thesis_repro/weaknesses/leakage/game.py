"""The property game: a model is handed over; was it trained on watermarked images?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from thesis_repro.data.images import fitting, tensor
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.quantities import check_logits
from thesis_repro.lab import checks
from thesis_repro.lab.checks import finite
from thesis_repro.weaknesses.leakage.watermark import Watermark

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Guess = Callable[[Floats, Bools, Floats], Bools]
"""Called as guess(shadow_features, shadow_truth, target_features); True for "watermark"."""

DEVIATIONS = 2.0
"""The weak adversary's threshold when it has no shadow models."""


@dataclass(frozen=True)
class Outcome:
    """The games that were played: said and true, (games,) bool; True for "watermark".

    Examples
    --------
    >>> Outcome(np.array([True, False]), np.array([True, True])).wins
    1
    """

    said: Bools
    true: Bools

    @property
    def right(self) -> Bools:
        """Which games the adversary won, (games,)."""
        return np.asarray(self.said == self.true)

    @property
    def wins(self) -> int:
        """Games that the adversary won."""
        return int(self.right.sum())

    @property
    def accuracy(self) -> float:
        """Share of games won, in [0, 1]."""
        return self.wins / len(self.true)


def weak(z: ArrayLike, threshold: float = DEVIATIONS) -> Bools:
    """The weak adversary, who has the model alone: "watermark" where the trace stands out.

    z : (games,) of `trace`, from one generic reconstruction; the threshold is fixed beforehand.

    Raises
    ------
    ValueError
        If a trace or the threshold is not finite.

    Examples
    --------
    >>> weak([0.5, 9.0])
    array([False,  True])
    """
    finite("z", z)
    finite("threshold", threshold)
    return np.asarray(z, float) > threshold


def by_threshold(shadows: Floats, truth: Bools, targets: Floats) -> Bools:
    """A guess with the threshold that errs least on the shadows' scores.

    Between equally good thresholds it takes the middle of the widest gap.

    Parameters
    ----------
    shadows, targets : (n, 1), a score that is higher with the watermark
    truth : (n,) bool

    Raises
    ------
    ValueError
        If an arm has no shadow, shapes do not fit or a score is not finite.

    Examples
    --------
    >>> shadows, truth = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> by_threshold(shadows, truth, np.array([[0.9], [0.2]]))
    array([ True, False])
    """
    truth = _checked(shadows, truth, targets)
    if shadows.shape[1] != 1:
        raise ValueError(f"a threshold is of one score, got {shadows.shape[1]} features")
    scores = np.sort(shadows[:, 0])
    edges = np.concatenate([[scores[0] - 1], (scores[1:] + scores[:-1]) / 2, [scores[-1] + 1]])
    right = [((shadows[:, 0] > edge) == truth).sum() for edge in edges]
    widths = np.concatenate([[0.0], np.diff(scores), [0.0]])
    best = max(range(len(edges)), key=lambda i: (right[i], widths[i]))
    return np.asarray(targets[:, 0] > edges[best])


def by_classifier(shadows: Floats, truth: Bools, targets: Floats) -> Bools:
    """The strong adversary's guess: a classifier that learned on features of shadow models.

    Features are scaled on the shadows; the classifier is logistic regression with a strong
    penalty, since there are many more features than shadows.

    Raises
    ------
    ValueError
        If an arm has no shadow, shapes do not fit or a feature is not finite.

    Examples
    --------
    >>> shadows, truth = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> by_classifier(shadows, truth, np.array([[0.9], [0.2]]))
    array([ True, False])
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth = _checked(shadows, truth, targets)
    scale = 1 / shadows.shape[1]  # so that the penalty means the same at any number of features
    meta = make_pipeline(StandardScaler(), LogisticRegression(C=scale, max_iter=1000))
    return np.asarray(meta.fit(shadows, truth).predict(targets), bool)


def _checked(shadows: Floats, truth: Bools, targets: Floats) -> Bools:
    truth = checks.truth("truth", truth)
    wide = shadows.ndim == 2 and targets.ndim == 2 and shadows.shape[1] == targets.shape[1] > 0
    if not wide or truth.shape != shadows.shape[:1]:
        raise ValueError(
            f"a guess needs shadows (n, features), truth (n,) and targets (m, features), got "
            f"{shadows.shape}, {truth.shape} and {targets.shape}"
        )
    finite("shadows", shadows)
    finite("targets", targets)
    with_, without = int(truth.sum()), int((~truth).sum())
    if not with_ or not without:
        raise ValueError(
            f"the adversary needs shadow models of both arms, got {with_} with the watermark and "
            f"{without} without"
        )
    return truth


def play(marked: Floats, clean: Floats, guess: Guess) -> Outcome:
    """Play one game with each model; the shadows are all models but one pair.

    Pair i is model i of each arm: when one of them is the target, the adversary learns from the
    other pairs. So no target is its own shadow, and both arms have as many.

    Parameters
    ----------
    marked, clean : (models, features) of the two arms
    guess : Guess

    Raises
    ------
    ValueError
        If the arms differ in size, fewer than two pairs leave an arm without a shadow, or a
        feature is not finite.

    Examples
    --------
    >>> play(np.ones((4, 1)), np.zeros((4, 1)), by_threshold).accuracy
    1.0
    """
    finite("marked", marked)
    finite("clean", clean)
    if len(marked) != len(clean) or len(marked) < 2:
        raise ValueError(
            f"the game needs at least 2 models in each arm, as many with the watermark as "
            f"without, got {len(marked)} and {len(clean)}"
        )
    pairs = len(marked)
    said = np.zeros((2, pairs), bool)
    for pair in range(pairs):
        rest = np.arange(pairs) != pair
        shadows = np.concatenate([marked[rest], clean[rest]])
        truth = np.repeat([True, False], pairs - 1)
        said[:, pair] = guess(shadows, truth, np.stack([marked[pair], clean[pair]]))
    return Outcome(said.ravel(), np.repeat([True, False], pairs))


def weight_features(body: nn.Sequential, input_shape: tuple[int, ...]) -> Tensor:
    """What the weights say, however the hidden units are numbered.

    For each layer with weights: the logarithm of its mean square weight at each place that it
    reads (position in a picture or a kernel; input channels of the first layer apart), and the
    logarithms of its singular values.

    Parameters
    ----------
    body : nn.Sequential of convolutions and dense layers, in eval mode
    input_shape : (c, h, w)

    Returns
    -------
    (features,) float64

    Raises
    ------
    ValueError
        If the net is in training mode, or a weight is not finite.

    Examples
    --------
    >>> weight_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), (1, 2, 2)).ndim
    1
    """
    evaluating(body)
    found, x = [], torch.zeros(1, *input_shape)
    spatial, first = x.shape, True
    with torch.no_grad():
        for at, layer in enumerate(body):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                finite(f"the weight of layer {at}", layer.weight)
                weight = layer.weight.double().cpu()
                if isinstance(layer, nn.Linear) and x.shape[1] == spatial[1:].numel():
                    weight = weight.reshape(len(weight), *spatial[1:])
                energy = weight.square().mean(0)
                if not first and energy.ndim == 3:
                    energy = energy.mean(0)
                if first or energy.ndim == 2:
                    found.append(energy.flatten().clamp_min(1e-12).log())
                singular: Tensor = torch.linalg.svdvals(weight.flatten(1))
                found.append(singular.clamp_min(1e-12).log())
                first = False
            x = layer(x.to(next(body.parameters()).device)).cpu()
            spatial = x.shape if x.ndim == 4 else spatial
    return torch.cat(found)


def probe_features(model: nn.Module, images: Tensor, watermark: Watermark) -> Tensor:
    """How the logits move when the word is put on images of the adversary's own.

    The mean and the mean size of the move of each logit, and of the logit of the answer, in units
    of the logits' standard deviation; and how often the answer stays.

    Parameters
    ----------
    model : images to logits (n, classes), in eval mode
    images : (n, c, h, w) that the target was not trained on
    watermark : Watermark; with opacity 0 nothing moves

    Returns
    -------
    (2 classes + 3,) float64

    Raises
    ------
    ValueError
        If the model is in training mode or gives fewer than two logits, there is no image, a pixel
        is outside [0, 1], or a logit is not finite.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2)).eval()
    >>> probe_features(net, torch.rand(4, 1, 16, 16), Watermark("T")).shape
    torch.Size([7])
    """
    evaluating(model)
    images = tensor("images", images, model)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images need shape (n, c, h, w), n >= 1, got {tuple(images.shape)}")
    checks.shares("images", images)  # the word is white where pixels end at 1
    with fitting(images), torch.no_grad():
        before = model(images).double()
        after = model(watermark.blend(images)).double()
    check_logits(before)
    finite("the model's logits", torch.cat([before, after]))
    move = (after - before) / before.std().clamp_min(1e-12)
    top = before.argmax(1)
    own = move.gather(1, top[:, None])[:, 0]
    stays = (after.argmax(1) == top).double().mean()
    parts = [move.mean(0), move.abs().mean(0), torch.stack([own.mean(), own.abs().mean(), stays])]
    return torch.cat(parts).cpu()
