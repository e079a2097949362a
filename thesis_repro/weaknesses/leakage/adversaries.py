"""Adversaries of the property game: how they guess from a score or from features.

A guess is evidence for the watermark, above 0 where the adversary says that it was there. It says
more than the answer: :class:`~thesis_repro.weaknesses.leakage.game.Outcome` keeps it.
"""

import numpy as np
from numpy.typing import ArrayLike

from thesis_repro.lab import checks
from thesis_repro.lab.checks import finite
from thesis_repro.weaknesses.leakage.game import Bools, Floats, play

DEVIATIONS = 2.0
"""The weak adversary's threshold when it has no shadow models."""


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


def by_fixed_threshold(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    """The weak adversary as a guess, which no shadow can change.

    Parameters
    ----------
    shadows, truth : not looked at
    targets : (m, 1 or more); first z of `trace`

    Returns
    -------
    (m,) float64, how far z lies above the threshold of :func:`weak`

    Raises
    ------
    ValueError
        If a number of the targets is not finite.

    Examples
    --------
    >>> shadows, truth = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> by_fixed_threshold(shadows, truth, np.array([[3.0], [0.5]])).tolist()
    [1.0, -1.5]
    """
    finite("targets", targets)
    return np.asarray(targets[:, 0] - DEVIATIONS)


def by_threshold(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    """A guess with the threshold that errs least on the shadows' scores.

    Between equally good thresholds it takes the middle of the widest gap.

    Parameters
    ----------
    shadows, targets : (n, 1) and (m, 1), a score that is higher with the watermark
    truth : (n,) bool

    Returns
    -------
    (m,) float64, how far each target lies above the threshold, in units of the score

    Raises
    ------
    ValueError
        If an arm has no shadow, shapes do not fit or a score is not finite.

    Examples
    --------
    >>> shadows, truth = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> by_threshold(shadows, truth, np.array([[0.9], [0.2]])).round(1).tolist()
    [0.4, -0.3]
    """
    truth = _checked(shadows, truth, targets)
    if shadows.shape[1] != 1:
        raise ValueError(f"a threshold is of one score, got {shadows.shape[1]} features")
    scores = np.sort(shadows[:, 0])
    edges = np.concatenate([[scores[0] - 1], (scores[1:] + scores[:-1]) / 2, [scores[-1] + 1]])
    right = [((shadows[:, 0] > edge) == truth).sum() for edge in edges]
    widths = np.concatenate([[0.0], np.diff(scores), [0.0]])
    best = max(range(len(edges)), key=lambda i: (right[i], widths[i]))
    return np.asarray(targets[:, 0] - edges[best])


def by_classifier(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    """The strong adversary's guess: a classifier that learned on features of shadow models.

    Features are scaled on the shadows; the classifier is logistic regression with a strong
    penalty, since there are many more features than shadows.

    Parameters
    ----------
    shadows, targets : (n, features) and (m, features)
    truth : (n,) bool

    Returns
    -------
    (m,) float64, log-odds of "watermark"

    Raises
    ------
    ValueError
        If an arm has no shadow, shapes do not fit or a feature is not finite.

    Examples
    --------
    >>> shadows, truth = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> by_classifier(shadows, truth, np.array([[0.9], [0.2]])) > 0
    array([ True, False])
    """
    truth = _checked(shadows, truth, targets)
    return _log_odds(shadows, truth, targets, np.ones(shadows.shape[1]))


def _log_odds(shadows: Floats, truth: Bools, targets: Floats, weights: Floats) -> Floats:
    """Log-odds of the classifier whose features, once scaled, count by their weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(shadows)
    scale = 1 / np.square(weights).sum()  # so that the penalty means the same at any number
    meta = LogisticRegression(C=scale, max_iter=1000)
    meta.fit(scaler.transform(shadows) * weights, truth)
    return np.asarray(meta.decision_function(scaler.transform(targets) * weights), float)


def by_cross_validation(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    """A guess from z, from features or from both, whichever does best among the shadows.

    Four candidates, the simplest first: :func:`by_fixed_threshold`; :func:`by_threshold` on z;
    :func:`by_classifier` on the features; the same on both, where z weighs as much as all features
    together. Each plays the game among the shadows alone, one pair left out at a time. The one
    that wins most of these games learns from all shadows and answers; of equally good ones, the
    simplest.

    So an adversary with features does as well as one with z alone, but for the luck of this
    choice. The target has no part in the choice, hence games with it are as fair as those of any
    one candidate.

    Parameters
    ----------
    shadows, targets : (n, 1 + features) and (m, 1 + features); first z of `trace`
    truth : (n,) bool, as many of each; the k-th with and the k-th without are left out together

    Returns
    -------
    (m,) float64, evidence in standard deviations of what the same candidate said of the shadows
        that were left out. So distances from a threshold and log-odds of different games compare.

    Raises
    ------
    ValueError
        If there is no feature beside z, an arm has fewer than two shadows or more than the other,
        shapes do not fit or a number is not finite.

    References
    ----------
    Choice by cross-validation: Stone, Journal of the Royal Statistical Society B 36, 1974.

    Examples
    --------
    >>> truth, noise = np.arange(8) < 4, np.resize([0.0, 1.0, 1.0], (8, 3))
    >>> shadows = np.column_stack([9.0 * truth, noise])  # z knows it, the features do not
    >>> by_cross_validation(shadows, truth, np.array([[8.0, 0, 1, 1], [1.0, 1, 1, 0]])) > 0
    array([ True, False])
    """
    truth = _checked(shadows, truth, targets)
    if shadows.shape[1] < 2:
        raise ValueError("a choice needs z and at least one feature, got 1 column")
    if 2 * truth.sum() != len(truth) or len(truth) < 4:
        raise ValueError(
            f"a choice needs at least 2 shadows in each arm, as many with the watermark as "
            f"without, got {int(truth.sum())} and {int((~truth).sum())}"
        )
    played = [play(shadows[truth], shadows[~truth], candidate) for candidate in CANDIDATES]
    best = max(range(len(played)), key=lambda i: played[i].wins)  # the first of equals
    spread = float(played[best].scores.std())
    return CANDIDATES[best](shadows, truth, targets) / (spread or 1.0)


def _on_z(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    return by_threshold(shadows[:, :1], truth, targets[:, :1])


def _on_features(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    return by_classifier(shadows[:, 1:], truth, targets[:, 1:])


def _on_both(shadows: Floats, truth: Bools, targets: Floats) -> Floats:
    features = shadows.shape[1] - 1
    return _log_odds(shadows, truth, targets, np.r_[np.sqrt(features), np.ones(features)])


CANDIDATES = (by_fixed_threshold, _on_z, _on_features, _on_both)


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
