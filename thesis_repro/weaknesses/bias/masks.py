"""Which features to keep: parity and experts, from the influence of each feature.

The influence of a feature is signed: positive speaks for class 1. In a linear model it is the
coefficient; in a hidden layer it is the internal influence on the difference of the two logits.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_repro.lab.checks import finite

Mask = NDArray[np.bool_]
Scores = Callable[[Mask], NDArray[np.floating]]
"""From masks (k, features) to scores (k, n) of the validation points; positive means class 1."""


def _sides(influence: ArrayLike) -> tuple[NDArray[np.float64], Mask, Mask]:
    values = np.asarray(influence, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"influence needs shape (features,) with finite values, got shape {values.shape}"
        )
    finite("influence", values)
    return values, values > 0, values < 0


def _strongest(values: NDArray[np.float64], side: Mask, count: int) -> NDArray[np.intp]:
    """Indices of the `count` features of one side with the largest influence."""
    members = np.flatnonzero(side)
    order = np.argsort(-np.abs(values[members]), kind="stable")
    return np.asarray(members[order[:count]])


def parity_mask(influence: ArrayLike) -> Mask:
    """Keep as many features for class 1 as for class 0: of the larger side only the strongest.

    Features without influence are dropped. Where one side is empty, nothing is kept.

    Parameters
    ----------
    influence : (features,) float

    Returns
    -------
    (features,) bool

    References
    ----------
    Leino et al. 2019, section 4, "feature parity".

    Examples
    --------
    >>> parity_mask([3.0, 1.0, 2.0, -1.0])
    array([ True, False, False,  True])
    """
    values, up, down = _sides(influence)
    count = int(min(up.sum(), down.sum()))
    return expert_mask(values, count, count)


def expert_mask(influence: ArrayLike, alpha: int, beta: int) -> Mask:
    """Keep the alpha strongest features for class 1 and the beta strongest for class 0.

    Parameters
    ----------
    influence : (features,) float
    alpha, beta : >= 0; a side that has fewer features is kept whole

    Returns
    -------
    (features,) bool

    Raises
    ------
    ValueError
        If alpha or beta is negative, or alpha + beta is above the number of features.

    References
    ----------
    Leino et al. 2019, section 4, "experts".

    Examples
    --------
    >>> expert_mask([3.0, 1.0, 2.0, -1.0], alpha=2, beta=1)
    array([ True, False,  True,  True])
    """
    values, up, down = _sides(influence)
    if alpha < 0 or beta < 0 or alpha + beta > len(values):
        raise ValueError(
            f"alpha={alpha} and beta={beta}: need both >= 0 and a sum of at most the "
            f"{len(values)} features"
        )
    mask = np.zeros(len(values), bool)
    mask[_strongest(values, up, alpha)] = True
    mask[_strongest(values, down, beta)] = True
    return mask


def counts(available: int, grid: int | None) -> NDArray[np.int64]:
    """The numbers of features to try on one side: all, or `grid` spaced by ratio, with 0 and all.

    None tries all.

    Raises
    ------
    ValueError
        If grid < 2.

    Examples
    --------
    >>> counts(4, None), counts(1000, 4)
    (array([0, 1, 2, 3, 4]), array([   0,    9,   99, 1000]))
    """
    if grid is not None and grid < 2:
        raise ValueError(f"grid={grid}: need at least 2 values, none and all")
    if grid is None or available < grid:
        return np.arange(available + 1)
    spaced = np.round(np.geomspace(1, available + 1, grid)).astype(np.int64) - 1
    return np.asarray(np.unique(spaced))


def search_experts(
    influence: ArrayLike, labels: ArrayLike, scores: Scores, grid: int | None = None
) -> tuple[int, int]:
    """The pair (alpha, beta) with the least absolute bias on validation points.

    Only pairs whose validation error is at most that of the full model are allowed, so the full
    model itself is one. Ties go to the lower logistic loss.

    Parameters
    ----------
    influence : (features,) float
    labels : (n,) of 0 and 1, of the validation points
    scores : from masks (k, features) to the scores (k, n) of these points
    grid : at most so many values of alpha, and of beta, are tried; None tries all

    Returns
    -------
    (alpha, beta)

    Raises
    ------
    ValueError
        As :func:`expert_mask`, on a label besides 0 and 1, scores of another number of points, or
        a score that is not finite.

    References
    ----------
    Leino et al. 2019, section 4; their rule bounds the loss in the same way.

    Examples
    --------
    >>> x, y = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), [1, 0]
    >>> weights = np.array([2.0, -1.0, 1.5])
    >>> search_experts(weights, y, lambda masks: (masks * weights) @ x.T)
    (1, 1)
    """
    values, up, down = _sides(influence)

    def kept(alpha: int, betas: NDArray[np.int64]) -> NDArray[np.floating]:
        return scores(np.stack([expert_mask(values, alpha, int(beta)) for beta in betas]))

    return _least_bias(int(up.sum()), int(down.sum()), labels, kept, grid)


def search_linear_experts(
    influence: ArrayLike,
    labels: ArrayLike,
    contributions: ArrayLike,
    offset: float = 0.0,
    grid: int | None = None,
) -> tuple[int, int]:
    """As :func:`search_experts`, where the score is a sum over features: by prefix sums.

    The score of (alpha, beta) is the offset, the sum of the alpha strongest contributions of one
    side and that of the beta strongest of the other, so all pairs cost what their scores cost.

    Parameters
    ----------
    influence : (features,) float
    labels : (n,) of 0 and 1
    contributions : (n, features), what each feature adds to the score of each point; a feature
        without influence adds nothing, whatever stands here
    offset : the score without any feature
    grid : as there

    Raises
    ------
    ValueError
        As :func:`search_experts`, and where `contributions` has another shape.

    Examples
    --------
    >>> x, y = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), [1, 0]
    >>> weights = np.array([2.0, -1.0, 1.5])
    >>> search_linear_experts(weights, y, x * weights)
    (1, 1)
    """
    values, up, down = _sides(influence)
    finite("contributions", contributions)
    parts = np.asarray(contributions, float)
    if parts.shape != (len(np.asarray(labels)), len(values)):
        raise ValueError(
            f"contributions need shape ({len(np.asarray(labels))}, {len(values)}), one for each "
            f"label and feature, got {parts.shape}"
        )
    first, second = (
        np.pad(np.cumsum(parts[:, _strongest(values, side, len(values))], 1), ((0, 0), (1, 0))).T
        for side in (up, down)
    )

    def kept(alpha: int, betas: NDArray[np.int64]) -> NDArray[np.floating]:
        return np.asarray(first[alpha] + second[betas] + offset)

    return _least_bias(int(up.sum()), int(down.sum()), labels, kept, grid)


def _least_bias(
    up: int,
    down: int,
    labels: ArrayLike,
    scores: Callable[[int, NDArray[np.int64]], NDArray[np.floating]],
    grid: int | None,
) -> tuple[int, int]:
    """Search all pairs; `scores` gives (betas, n) for one alpha and many betas."""
    y = np.asarray(labels)
    if y.ndim != 1 or not len(y) or not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels need shape (n,), n >= 1, of 0 and 1, got {y.shape}: {y[:5]}")
    sign = 2.0 * y - 1.0
    alphas, betas = counts(up, grid), counts(down, grid)

    def scored(alpha: int, betas: NDArray[np.int64]) -> NDArray[np.floating]:
        found = scores(alpha, betas)
        if found.shape != (len(betas), len(y)):
            raise ValueError(f"scores needs to give ({len(betas)}, {len(y)}), got {found.shape}")
        finite("the scores of the points, by mask", found.T)
        return found

    full = scored(up, betas[-1:])[0]
    allowed = int(((full > 0) != y).sum())
    best = (int(abs((full > 0).sum() - y.sum())), float(np.logaddexp(0, -sign * full).mean()))
    pair = (up, down)
    for alpha in map(int, alphas):
        found = scored(alpha, betas)
        ones = found > 0
        biases = np.abs(ones.sum(1) - y.sum())
        good = ((ones != y).sum(1) <= allowed) & (biases <= best[0])
        losses = np.logaddexp(0, -sign * found[good]).mean(1)  # of those that may be best
        for bias, loss, beta in zip(biases[good], losses, betas[good], strict=True):
            if (int(bias), float(loss)) < best:
                best, pair = (int(bias), float(loss)), (alpha, int(beta))
    return pair
