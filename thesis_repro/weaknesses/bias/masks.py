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


def counts(available: int, grid: int) -> NDArray[np.int64]:
    """The numbers of features to try on one side: all, or `grid` spaced by ratio, with 0 and all.

    Raises
    ------
    ValueError
        If grid < 2.
    """
    if grid < 2:
        raise ValueError(f"grid={grid}: need at least 2 values, none and all")
    if available < grid:
        return np.arange(available + 1)
    spaced = np.round(np.geomspace(1, available + 1, grid)).astype(np.int64) - 1
    return np.asarray(np.unique(spaced))


def search_experts(
    influence: ArrayLike, labels: ArrayLike, scores: Scores, grid: int = 32
) -> tuple[int, int]:
    """The pair (alpha, beta) with the least absolute bias on validation points.

    Only pairs whose validation error is at most that of the full model are allowed, so the full
    model itself is one. Ties go to the lower logistic loss.

    Parameters
    ----------
    influence : (features,) float
    labels : (n,) of 0 and 1, of the validation points
    scores : from masks (k, features) to the scores (k, n) of these points
    grid : at most so many values of alpha, and of beta, are tried

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
    """
    values, up, down = _sides(influence)
    y = np.asarray(labels)
    if y.ndim != 1 or not len(y) or not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels need shape (n,), n >= 1, of 0 and 1, got {y.shape}: {y[:5]}")
    sign = 2.0 * y - 1.0
    # both end with all features of their side: the last pair is the full model
    alphas, betas = counts(int(up.sum()), grid), counts(int(down.sum()), grid)
    tried: list[tuple[int, float, int, int, int]] = []
    for alpha in alphas:
        masks = np.stack([expert_mask(values, int(alpha), int(beta)) for beta in betas])
        found = scores(masks)
        if found.shape != (len(masks), len(y)):
            raise ValueError(f"scores needs to give ({len(masks)}, {len(y)}), got {found.shape}")
        finite("the scores of the points, by mask", found.T)
        ones = found > 0
        errors = (ones != y).sum(1)
        biases = np.abs(ones.sum(1) - y.sum())
        losses = np.logaddexp(0, -sign * found).mean(1)
        tried += [
            (int(bias), float(loss), int(alpha), int(beta), int(error))
            for bias, loss, beta, error in zip(biases, losses, betas, errors, strict=True)
        ]
    allowed = tried[-1][4]
    alpha, beta = min(t for t in tried if t[4] <= allowed)[2:4]
    return alpha, beta
