"""Calibration and rejection: does a net know how often it is right, and where it is wrong?

Defined in the chapter arc/arc. Confidence is the softmax of the label that the net gives.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from thesis_repro.lab import checks

Array = NDArray[np.float64]

BINS = 15
"""Equally full bins of confidence, as is usual."""


def squared_errors(confidence: Array, right: Array, bins: int = BINS) -> tuple[float, float]:
    """The squared calibration error over equally full bins: as it stands, and debiased.

    As it stands it is the mean over points of (share right - mean confidence)^2 of their bin, and
    too large by the variance of each bin's share. The second value takes an unbiased estimate of
    that variance off, so it may be below zero.

    Parameters
    ----------
    confidence : (n,), in [0, 1]
    right : (n,), 1 where the label is right, else 0
    bins : of n // bins or one more points each, at least two

    Returns
    -------
    plain, debiased : in [0, 1], and at most that

    Raises
    ------
    ValueError
        On fewer than two points a bin, other lengths, or values out of their range.

    References
    ----------
    Kumar, Liang and Ma 2019, "Verified uncertainty calibration", definitions 2.2 and 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> squared_errors(np.full(4, 0.5), np.array([1, 0, 1, 1]), bins=1)
    (0.0625, 0.0)
    """
    checks.shares("confidence", confidence)
    checks.truth("right", right)
    n = len(confidence)
    if len(right) != n or bins < 1 or n < 2 * bins:
        raise ValueError(
            f"{bins} bins need {2 * bins} points or more, each with one answer: got {n} and "
            f"{len(right)}"
        )
    plain = noise = 0.0
    for part in np.array_split(np.argsort(confidence, kind="stable"), bins):
        share = right[part].mean()
        plain += len(part) / n * (share - confidence[part].mean()) ** 2
        noise += len(part) / n * share * (1 - share) / (len(part) - 1)
    return float(plain), float(plain - noise)


def temperature(logits: Array, y: NDArray[np.int64]) -> float:
    """The T > 0 at which softmax(logits / T) has the least negative log-likelihood.

    logits (n, classes), y (n,). Between 1/100 and 100; the loss is convex in 1 / T.

    Source: Guo et al. 2017, section 4.2.

    Raises
    ------
    ValueError
        As :func:`losses`.

    Examples
    --------
    >>> import numpy as np
    >>> logits, y = np.array([[4.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    >>> round(temperature(logits, y), 2)  # softmax of 4 / T is 3/4 at T = 4 / log 3
    3.64
    """
    _check_logits(logits, y)
    found = minimize_scalar(
        lambda t: losses(logits / np.exp(t), y)[0].mean(),
        bounds=(-np.log(100), np.log(100)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def losses(logits: Array, y: NDArray[np.int64]) -> tuple[Array, Array]:
    """Negative log-likelihood (n,), in nats, and Brier score (n,), in [0, 2], of each point.

    Source: Brier 1950, with the sum over all classes.

    Raises
    ------
    ValueError
        On logits that are not finite or of fewer than two classes, or labels that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> nats, brier = losses(np.zeros((1, 2)), np.array([0]))
    >>> nats.round(3), brier
    (array([0.693]), array([0.5]))
    """
    _check_logits(logits, y)
    logarithms = log_softmax(logits.astype(np.float64), axis=1)
    each = np.arange(len(y))
    brier = (np.exp(logarithms) ** 2).sum(1) - 2 * np.exp(logarithms[each, y]) + 1
    return -logarithms[each, y], brier


def _check_logits(logits: Array, y: NDArray[np.int64]) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2 or np.shape(y) != logits.shape[:1]:
        raise ValueError(
            f"need logits (n, classes) of two classes or more and a label for each, got "
            f"{logits.shape} and {np.shape(y)}"
        )
    checks.finite("logits", logits)
    checks.labels("y", y, logits.shape[1])


def risk(score: Array, wrong: Array, coverage: float) -> float:
    """The share of wrong points among those that are kept when the lowest scores are rejected.

    Of points with one score all are as good: they count by their mean.

    Parameters
    ----------
    score : (n,), higher is safer
    wrong : (n,), 1 where the label is wrong, else 0
    coverage : share of points that are kept, in (0, 1]; n times it is rounded to the nearest number

    Raises
    ------
    ValueError
        If no point is kept, or more than there are, or a value is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> risk(np.array([3.0, 2.0, 1.0, 1.0]), np.array([0, 1, 1, 0]), 0.75)
    0.5
    """
    checks.finite("score", score)
    checks.finite("coverage", coverage)
    missed = checks.truth("wrong", wrong)
    kept = round(coverage * len(score))
    if not 1 <= kept <= len(score):
        raise ValueError(f"coverage {coverage} keeps {kept} of {len(score)} points; keep 1 or more")
    values, group = np.unique(-np.asarray(score, float), return_inverse=True)
    mean = np.bincount(group, missed, len(values)) / np.bincount(group, minlength=len(values))
    return float(mean[np.sort(group)[:kept]].mean())


def ranking(score: Array, wrong: Array) -> float:
    """How often a wrong point has a lower score than a right one (AUROC); NaN if none is wrong.

    score, wrong as for :func:`risk`. In [0, 1]; ties count half.

    Raises
    ------
    ValueError
        On scores that are not finite, or answers besides 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> ranking(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1]))
    1.0
    """
    checks.finite("score", score)
    missed = checks.truth("wrong", wrong)
    if missed.all() or not missed.any():
        return float("nan")
    return float(roc_auc_score(missed, -np.asarray(score, float)))


def ends(resampled: Array) -> tuple[float, float]:
    """The ends of the 95% percentile interval of bootstrap replicates (m,); NaN are left out.

    Examples
    --------
    >>> import numpy as np
    >>> ends(np.arange(41.0))
    (1.0, 39.0)
    """
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def error_interval(
    confidence: Array, right: Array, resamples: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The debiased calibration error, and its 95% interval by the bootstrap; all in [0, 1].

    A replicate's truth is the plain error of the points at hand, which the replicates are compared
    with; comparing them with the debiased one would count the bins' noise twice.

    Parameters
    ----------
    confidence, right : as for :func:`squared_errors`
    resamples : bootstrap replicates
    rng : numpy Generator

    Returns
    -------
    value, low, high

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sure = rng.uniform(0.5, 1.0, 600)
    >>> right = (rng.random(600) < sure - 0.1).astype(int)  # too sure by 10 points
    >>> value, low, high = error_interval(sure, right, 100, rng)
    >>> low < 0.1 < high
    True
    """
    plain, debiased = squared_errors(confidence, right)
    picks = rng.integers(len(right), size=(resamples, len(right)))
    found = np.array([squared_errors(confidence[i], right[i])[1] for i in picks])
    low, high = ends(found)
    squares = debiased, debiased - (high - plain), debiased - (low - plain)
    value, low, high = (float(np.sqrt(max(s, 0.0))) for s in squares)
    return value, low, high
