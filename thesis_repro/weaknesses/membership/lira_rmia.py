"""LiRA and RMIA, the attacks of today. Both compare the target with reference models.

`contains[k, i]` says whether reference k trained on point i; such a reference is IN for the
point, the others are OUT.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import norm

from thesis_repro.lab import checks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEW = 64
"""With fewer references the variance is pooled over points."""
TINY = 1e-30


def scaled(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Logit-scaled confidence log p_y - log(1 - p_y), (n,), without forming p.

    It is the logit of y less the log-sum-exp of the others.

    Raises
    ------
    ValueError
        On shapes that do not fit, fewer than two classes, a logit that is not finite, or a label
        that is none.

    References
    ----------
    Carlini et al. 2022, section IV.

    Examples
    --------
    >>> scaled([[2.0, 0.0]], [0])
    array([2.])
    """
    z, y = np.asarray(logits, float), np.asarray(labels)
    if z.ndim != 2 or z.shape[1] < 2 or y.shape != z.shape[:1]:
        raise ValueError(
            f"scaled confidence needs logits (n, classes >= 2) and labels (n,), got {z.shape} and "
            f"{y.shape}"
        )
    checks.finite("logits", z)
    checks.labels("labels", y, z.shape[1])
    own = z[np.arange(len(y)), y]
    others = z.copy()
    others[np.arange(len(y)), y] = -np.inf
    return np.asarray(own - logsumexp(others, axis=1))


def lira(
    target: ArrayLike, references: ArrayLike, contains: ArrayLike, *, online: bool = False
) -> Floats:
    """Likelihood-ratio attack with a Gaussian per point.

    Offline, the score is the log-odds that an OUT model would be less confident than the target,
    as -log P(Z > z) with z the standardised confidence. Online, it is log N(target; IN) -
    log N(target; OUT). Means are per point. With fewer than 64 references the two standard
    deviations are pooled over all points. A point without an IN model gets its OUT mean plus the
    mean difference of IN and OUT over the other points.

    Parameters
    ----------
    target : (n,) scaled confidences of the target
    references : (k, n) those of the references
    contains : (k, n) bool
    online : whether IN models are used

    Returns
    -------
    (n,) float, higher for members

    Raises
    ------
    ValueError
        On shapes that do not fit, a point without an OUT model, fewer than two OUT values for
        some point (for IN: for every point), values without any spread, or a value or score that
        is not finite.

    References
    ----------
    Carlini et al. 2022, algorithm 1 and section VI.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> references, contains = rng.standard_normal((8, 5)), np.zeros((8, 5), bool)
    >>> int(lira(np.array([5.0, 0.0, 0.0, 0.0, 0.0]), references, contains).argmax())
    0
    """
    value, found, inside = _references(target, references, contains)
    mean, deviation = _gaussian(found, ~inside, "OUT")
    if not online:
        return _scores(-norm.logsf((value - mean) / deviation))
    lacking: Bools = ~np.asarray(inside.any(0))
    if lacking.all():
        raise ValueError("online LiRA needs references that contain the points, got none")
    mean_in, deviation_in = _gaussian(found, inside, "IN", lacking)
    mean_in[lacking] = mean[lacking] + (mean_in - mean)[~lacking].mean()
    return _scores(norm.logpdf(value, mean_in, deviation_in) - norm.logpdf(value, mean, deviation))


def _scores(found: ArrayLike) -> Floats:
    checks.finite("LiRA's scores", found)
    return np.asarray(found)


def _references(
    target: ArrayLike, references: ArrayLike, contains: ArrayLike
) -> tuple[Floats, Floats, Bools]:
    value, found = np.asarray(target, float), np.asarray(references, float)
    inside = checks.truth("contains", contains)
    if not found.size or found.ndim != 2 or found.shape[1:] != value.shape:
        raise ValueError(
            f"references need shape (k, n), k and n >= 1, got {found.shape} for {value.shape}"
        )
    if inside.shape != found.shape:
        raise ValueError(f"contains needs the shape {found.shape} of references: {inside.shape}")
    checks.finite("target", value)
    checks.finite("references", found)
    lonely = np.flatnonzero(inside.all(0))
    if len(lonely):
        raise ValueError(f"point {lonely[0]} has no OUT model ({len(lonely)} such): add references")
    return value, found, inside


def _gaussian(
    found: Floats, chosen: Bools, name: str, lacking: Bools | None = None
) -> tuple[Floats, Floats]:
    """Mean and deviation per point over the chosen references; the latter pooled if few."""
    count = chosen.sum(0)
    free = int(np.maximum(count - 1, 0).sum())
    if not free:
        raise ValueError(f"LiRA needs at least two {name} models for some point: add references")
    mean = np.where(chosen, found, 0).sum(0) / np.maximum(count, 1)
    squares = (np.where(chosen, found - mean, 0) ** 2).sum(0)
    if len(found) < FEW:
        deviation = np.full(len(mean), np.sqrt(squares.sum() / free))
    else:
        enough = count > 1
        deviation = np.sqrt(np.where(enough, squares / np.maximum(count - 1, 1), 0))
        deviation[~enough] = np.sqrt(squares.sum() / free)
    used = np.ones(len(mean), bool) if lacking is None else ~lacking
    if not (deviation[used] > 0).all():
        raise ValueError(f"the {name} confidences have no spread; LiRA cannot scale by it")
    return mean, deviation


def rmia(
    target: ArrayLike,
    references: ArrayLike,
    contains: ArrayLike,
    population: ArrayLike,
    population_references: ArrayLike,
    a: float = 0.3,
) -> Floats:
    """Robust membership inference: how often does x beat other points of the population?

    p(x) = (1 + a)/2 * mean OUT probability + (1 - a)/2 (offline), the ratio of x is the target's
    probability over p(x), and the score is the share of population points with a smaller ratio.

    Parameters
    ----------
    target : (n,) probability of the label under the target
    references, contains : (k, n)
    population : (m,) probabilities under the target, of points that nobody trained on
    population_references : (k, m)
    a : in [0, 1]; how an IN probability is guessed from the OUT ones

    Returns
    -------
    (n,) in [0, 1]

    Raises
    ------
    ValueError
        On shapes that do not fit, a point without an OUT model, an empty population, what is no
        probability, or a outside [0, 1].

    References
    ----------
    Zarifzadeh et al. 2024, section 3 (offline form, gamma = 1).

    Examples
    --------
    >>> references, contains = np.full((4, 2), 0.5), np.zeros((4, 2), bool)
    >>> rmia([0.9, 0.1], references, contains, [0.5, 0.6], np.full((4, 2), 0.5))
    array([1., 0.])
    """
    value, found, inside = _references(target, references, contains)
    others, theirs = np.asarray(population, float), np.asarray(population_references, float)
    if not 0 <= a <= 1:
        raise ValueError(f"a needs to lie in [0, 1], got {a}")
    if not len(others) or theirs.shape != (len(found), len(others)):
        raise ValueError(
            f"the population needs m >= 1 points and references ({len(found)}, m), got "
            f"{others.shape} and {theirs.shape}"
        )
    named = {"target": value, "references": found, "population": others}
    for name, values in (named | {"population_references": theirs}).items():
        checks.shares(name, values)
    out = np.where(inside, 0, found).sum(0) / (~inside).sum(0)
    ratio = value / np.maximum((1 + a) / 2 * out + (1 - a) / 2, TINY)
    rivals = others / np.maximum((1 + a) / 2 * theirs.mean(0) + (1 - a) / 2, TINY)
    return np.asarray(np.searchsorted(np.sort(rivals), ratio, side="left") / len(rivals))
