"""White-box attacks: what the target's weights say about a point, beyond its outputs.

A training step moves a layer's weights along (influence of its units) x (its input). A point that
was trained on therefore meets, in the target, weights that lean towards itself. `displacement`
measures that lean, feature by feature, in units of the noise that other points leave.

Examples
--------
>>> weights, proxy, zero = np.eye(2), np.full((2, 2), 0.5), np.zeros(2)
>>> bayes_wb(weights, zero, proxy, zero, [[2.0, 0.0], [0.0, 2.0]], [0, 1])
array([1., 1.])

>>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
>>> x, y = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
>>> whitening = Whitening().fit(net[:2](x).detach(), y, 2)
>>> displacement(net, "1", x, y, whitening).shape
torch.Size([20, 2])
"""

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from thesis_repro.data.images import labels as as_labels
from thesis_repro.data.images import tensor
from thesis_repro.explanations.slicing import Cut
from thesis_repro.lab import checks
from thesis_repro.weaknesses.membership.whitening import Whitening as Whitening

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLIP = 5.0
"""Evidence farther from its mean than so many standard deviations counts as that far."""


def bayes_wb(
    weights: ArrayLike,
    bias: ArrayLike,
    proxy_weights: ArrayLike,
    proxy_bias: ArrayLike,
    x: ArrayLike,
    labels: ArrayLike,
) -> Floats:
    """Log-odds of membership for a linear model: its class score less that of the proxies.

    Where the classes are Gaussian, the model is the one that maximises likelihood and the proxy is
    the true one, this is the best attack, up to terms of order 1/n. Biases of several proxies are
    quadratic in their weights: their average lies too low, with unit variances by d / (2n). The
    weights' average with its own bias, as :func:`gaussian.linear` gives it, does not.

    Parameters
    ----------
    weights, bias : (classes, d) and (classes,), of the target
    proxy_weights, proxy_bias : the same of a proxy, or (k, classes, d) and (k, classes) of
        several, which are averaged; or the true ones of the population
    x, labels : (n, d) and (n,)

    Returns
    -------
    (n,); above 0 a member is more likely than not, where the proxy is the true model

    Raises
    ------
    ValueError
        On shapes that do not fit, a value that is not finite, or a label that is none.

    References
    ----------
    Leino and Fredrikson 2020, section 3 (Bayes-WB); derived again in the chapter.
    """
    w, b = np.asarray(weights, float), np.asarray(bias, float)
    proxies = np.asarray(proxy_weights, float), np.asarray(proxy_bias, float)
    z, y = np.asarray(x, float), np.asarray(labels)
    fits = (
        w.ndim == 2
        and b.shape == w.shape[:1]
        and proxies[0].shape[-2:] == w.shape
        and proxies[1].shape == proxies[0].shape[:-1]
        and z.shape[1:] == w.shape[1:]
        and y.shape == z.shape[:1]
    )
    if not fits:
        raise ValueError(
            f"bayes_wb needs weights (classes, d), bias (classes,), proxies alike, x (n, d) and "
            f"labels (n,), got {w.shape}, {b.shape}, {proxies[0].shape}, {proxies[1].shape}, "
            f"{z.shape} and {y.shape}"
        )
    named = {"weights": w, "bias": b, "x": z}
    named |= {"proxy_weights": proxies[0], "proxy_bias": proxies[1]}
    for name, values in named.items():
        checks.finite(name, values)
    checks.labels("labels", y, len(w))
    moved = w - proxies[0].reshape(-1, *w.shape).mean(0)
    shift = b - proxies[1].reshape(-1, *b.shape).mean(0)
    return np.asarray((z * moved[y]).sum(1) + shift[y])


def displacement(
    model: nn.Sequential,
    slice: str,
    x: Tensor,
    labels: Tensor,
    whitening: Whitening,
    *,
    batch_size: int = 500,
) -> Tensor:
    """How far the target's local linear model leans towards each point, for every class.

    For class c it is the sum over the features h of the slice of (influence of the feature on
    logit c, at the point) x (whitened deviation of the feature from its class). All classes come
    from one forward-mode derivative along the whitened deviation.

    Parameters
    ----------
    model : nn.Sequential, in eval mode
    slice : dotted name of the layer whose output is h, in sequences alone; "" for the input
    x, labels : (n, ...) and (n,)
    whitening : fitted on the same slice of the same model, on the adversary's points

    Returns
    -------
    (n, classes)

    Raises
    ------
    ValueError
        If the model is in training mode, or not sequential down to the layer, or there is no such
        layer; if an input, the whitening's deviation or the displacement is not finite.

    References
    ----------
    After Leino and Fredrikson 2020, section 4; whitening is ours.
    """
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"displacement needs an nn.Sequential, got {type(model).__name__}")
    cut = Cut(model, slice)
    if cut.after is None:
        raise ValueError(
            f"displacement needs a layer that is reached through nn.Sequential alone; {slice!r} "
            f"lies in another module"
        )
    x = tensor("x", x, model)
    labels = as_labels("labels", labels, x, len(whitening.means) or None)
    checks.finite("x", x)
    found = []
    with torch.no_grad(), warnings.catch_warnings():
        # the first use of forward mode compiles with a function that torch itself deprecates
        warnings.simplefilter("ignore", FutureWarning)
        for part, label in zip(x.split(batch_size), labels.split(batch_size), strict=True):
            h = cut.activations(part, batch_size)
            found.append(torch.func.jvp(cut.after, (h,), (whitening.transform(h, label),))[1])
    moved = torch.cat(found)
    checks.finite("the displacement", moved)
    return moved


def expected_margin(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Weights of logits, (n, classes): the label's less a mean of its likely rivals.

    probabilities : (n, classes), what models that did not see the point are expected to say

    Raises
    ------
    ValueError
        On shapes that do not fit, what is no probability, or a label that is none.

    Examples
    --------
    >>> expected_margin([0], [[0.8, 0.1, 0.1]])
    array([[ 1. , -0.5, -0.5]])
    """
    p, own = _one_hot(labels, probabilities)
    rivals = p * (1 - own)
    return np.asarray(own - rivals / np.maximum(rivals.sum(1, keepdims=True), 1e-300))


def expected_residual(
    labels: ArrayLike, probabilities: ArrayLike, smoothing: float = 0.0
) -> Floats:
    """Weights of logits, (n, classes): how training on the point would push them.

    The (smoothed) label less what models that did not see the point say: minus the gradient of
    the loss. A point that is easy anyway is hardly pushed, and leaves no trace.

    Raises
    ------
    ValueError
        As :func:`expected_margin`, and on a smoothing outside [0, 1].

    Examples
    --------
    >>> expected_residual([0], [[0.9, 0.1]]).round(6)
    array([[ 0.1, -0.1]])
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing needs to lie in [0, 1], got {smoothing}")
    p, own = _one_hot(labels, probabilities)
    return np.asarray((1 - smoothing) * own + smoothing / p.shape[1] - p)


def _one_hot(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(probabilities, float), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"needs probabilities (n, classes) and labels (n,): {p.shape}, {y.shape}")
    checks.labels("labels", y, p.shape[1])
    checks.shares("probabilities", p)
    return p, np.eye(p.shape[1])[y]


class GeneralWB(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The displacement function, learned: layers, outputs and references combined.

    Logistic regression on all products of two pieces of evidence: where the Gaussian case fixes
    the log-odds of membership to a quadratic form, this one is fitted to shadow models.

    Parameters
    ----------
    C : inverse strength of the penalty
    random_state : unused, as the fit has no randomness; there for the convention

    Attributes
    ----------
    classes_ : (2,) bool
    model_ : the fitted pipeline

    References
    ----------
    After Leino and Fredrikson 2020, section 4 (General-WB, with a neural network there).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(40) < 20
    >>> features = rng.standard_normal((40, 3)) + member[:, None]
    >>> GeneralWB().fit(features, member).score_samples(features).shape
    (40,)
    """

    def __init__(self, *, C: float = 0.1, random_state: Any = None) -> None:
        self.C = C
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from the shadows' points: X (n, features), y (n,) bool.

        Raises
        ------
        ValueError
            Unless there are members and non-members, and finite evidence for each.
        """
        x, member = np.asarray(X, float), checks.truth("y", y)
        if x.ndim != 2 or member.shape != x.shape[:1]:
            raise ValueError(
                f"general_wb needs finite evidence (n, features) and members (n,), got {x.shape} "
                f"and {member.shape}"
            )
        checks.finite("X", x)
        if not 0 < member.sum() < len(member):
            raise ValueError(
                f"general_wb learns from members and non-members, got {int(member.sum())} and "
                f"{int((~member).sum())}"
            )
        self.classes_ = np.array([False, True])
        self.model_ = make_pipeline(
            StandardScaler(),
            FunctionTransformer(np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP}),
            PolynomialFeatures(2, include_bias=False),
            StandardScaler(),
            LogisticRegression(C=self.C, max_iter=500),
        ).fit(x, member)
        return self

    def score_samples(self, X: ArrayLike) -> Floats:
        """Probability of membership, (n,).

        Raises
        ------
        ValueError
            If evidence is not finite, or has other features than it was fitted on.
        """
        check_is_fitted(self)
        x = np.asarray(X, float)
        checks.finite("X", x)
        return np.asarray(self.model_.predict_proba(x)[:, 1])

    def predict(self, X: ArrayLike) -> Bools:
        """Whether membership is more likely than not, (n,) bool."""
        return np.asarray(self.score_samples(X) > 0.5)
