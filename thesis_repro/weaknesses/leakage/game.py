"""The property game: a model is handed over; was it trained on watermarked images?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro.data.images import fitting, tensor
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.quantities import check_logits
from thesis_repro.lab import checks
from thesis_repro.lab.checks import finite
from thesis_repro.weaknesses.leakage.watermark import Watermark

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Guess = Callable[[Floats, Bools, Floats], Floats]
"""Called as guess(shadow_features, shadow_truth, target_features); above 0 for "watermark"."""


@dataclass(frozen=True)
class Outcome:
    """The games that were played.

    Parameters
    ----------
    scores : (games,) float, the adversary's evidence for the watermark: above 0 where it says so
    true : (games,) bool, True for "watermark"

    Examples
    --------
    >>> Outcome(np.array([0.7, -0.2]), np.array([True, True])).wins
    1
    """

    scores: Floats
    true: Bools

    @property
    def said(self) -> Bools:
        """Where the adversary said "watermark", (games,)."""
        return np.asarray(self.scores > 0)

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


def play(marked: Floats, clean: Floats, guess: Guess) -> Outcome:
    """Play one game with each model; the shadows are all models but one pair.

    Pair i is model i of each arm: when one of them is the target, the adversary learns from the
    other pairs. So no target is its own shadow, and both arms have as many.

    Parameters
    ----------
    marked, clean : (models, features) of the two arms
    guess : Guess; one of `adversaries` or your own. Answers of True and False do as well.

    Raises
    ------
    ValueError
        If the arms differ in size, fewer than two pairs leave an arm without a shadow, or a
        feature or a guess is not finite.

    Examples
    --------
    >>> play(np.ones((4, 1)), np.zeros((4, 1)), lambda _, __, target: target[:, 0] - 0.5).accuracy
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
    scores = np.zeros((2, pairs))
    for pair in range(pairs):
        rest = np.arange(pairs) != pair
        shadows = np.concatenate([marked[rest], clean[rest]])
        truth = np.repeat([True, False], pairs - 1)
        scores[:, pair] = guess(shadows, truth, np.stack([marked[pair], clean[pair]]))
    finite("the adversary's scores", scores)
    return Outcome(scores.ravel(), np.repeat([True, False], pairs))


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
