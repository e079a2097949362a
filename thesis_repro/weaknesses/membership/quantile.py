"""The attack by quantile regression: what confidence does a point like this have unseen?"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from thesis_repro.lab import checks

Floats = NDArray[np.float64]

COMPONENTS, FOLDS = 50, 3
TINY = 1e-9


class QuantileAttack(BaseEstimator):  # type: ignore[misc]
    """Regress the target's confidence on the point, over points that it did not see.

    In its Gaussian form: one regression of the mean, one of the logarithm of the distance from
    it. A point's score is its standardised confidence, so a threshold z calls points that lie
    above the quantile Phi(z) of unseen points like them. It trains no reference model.

    Parameters
    ----------
    estimator : regressor; gradient boosting on 50 principal components by default

    Attributes
    ----------
    mean_, spread_ : the fitted regressors
    scale_ : float, which makes the standardised confidences of unseen points of unit size

    References
    ----------
    Bertran et al. 2023, section 3; the spread is regressed apart here.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features, confidences = rng.standard_normal((30, 4)), rng.standard_normal(30)
    >>> attack = QuantileAttack().fit(features, confidences)
    >>> bool(attack.score_samples(features, confidences + 9).min() > 0)
    True
    """

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from unseen points: X (n, features) of the points, y (n,) confidences.

        Their order needs to be random: each third of it is judged by what the others teach.

        Raises
        ------
        ValueError
            On shapes that do not fit, fewer than two points a fold, or a value not finite.
        """
        x, confidence = self._checked(X, y)
        if len(x) < 2 * FOLDS:
            raise ValueError(f"the regression needs at least {2 * FOLDS} points, got {len(x)}")
        base = self.estimator
        if base is None:
            some = min(COMPONENTS, x.shape[1], len(x) * (FOLDS - 1) // FOLDS)
            base = make_pipeline(
                PCA(some, random_state=0),
                HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=8, random_state=0),
            )
        # how far off it is on points that it did not learn from
        off = np.abs(confidence - cross_val_predict(base, x, confidence, cv=FOLDS))
        far = np.log(off + TINY)
        usual = np.exp(cross_val_predict(base, x, far, cv=FOLDS))
        self.scale_ = max(float(np.sqrt(np.mean((off / usual) ** 2))), TINY)
        self.mean_ = clone(base).fit(x, confidence)
        self.spread_ = clone(base).fit(x, far)
        return self

    def score_samples(self, X: ArrayLike, y: ArrayLike) -> Floats:
        """Standardised confidence of points X (n, features) with confidences y: (n,).

        Raises
        ------
        ValueError
            On shapes that do not fit, or a value that is not finite.
        """
        check_is_fitted(self)
        x, confidence = self._checked(X, y)
        spread = self.scale_ * np.exp(self.spread_.predict(x))
        return np.asarray((confidence - self.mean_.predict(x)) / spread)

    @staticmethod
    def _checked(X: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        x, confidence = np.asarray(X, float), np.asarray(y, float)
        if x.ndim != 2 or confidence.shape != x.shape[:1]:
            raise ValueError(
                f"the regression needs X (n, features) and confidences (n,), got {x.shape} and "
                f"{confidence.shape}"
            )
        checks.finite("X", x)
        checks.finite("y", confidence)
        return x, confidence
