"""Remedies for linear models, as scikit-learn estimators around SGDClassifier.

Each fits the wrapped model on one part of its training data and decides what to change on the
other part, so no test point is seen. `estimator_` is the model before the remedy.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from thesis_repro.lab.checks import finite
from thesis_repro.weaknesses.bias.masks import (
    Mask,
    expert_mask,
    parity_mask,
    search_linear_experts,
)

Floats = NDArray[np.float64]


def balancing_shift(scores: ArrayLike, labels: ArrayLike) -> float:
    """The number to add to all scores so that class 1 is predicted as often as it occurs.

    Its negative lies halfway between the two neighbouring scores, or on the lower if rounding took
    it to the upper. What it removes is bias that a feature need not be blamed for.

    Parameters
    ----------
    scores : (n,) float, positive means class 1
    labels : (n,) of 0 and 1, both present

    Raises
    ------
    ValueError
        If a class is absent, there is another label, lengths differ or a score is not finite.

    Examples
    --------
    >>> balancing_shift([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1])
    -3.5
    """
    finite("scores", scores)
    ranked = np.sort(np.asarray(scores) * 1.0)  # in their own type, if they are no whole numbers
    if ranked.shape != np.shape(labels) or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"a shift needs a label 0 or 1 for each score (n,), got {np.shape(labels)} labels "
            f"{np.unique(labels)[:5].tolist()} for {ranked.shape}"
        )
    ones = int(np.sum(labels))
    if not 0 < ones < len(ranked):
        raise ValueError(f"a shift needs points of both classes, got {ones} of {len(ranked)} ones")
    shift = -(float(ranked[-ones - 1]) / 2 + float(ranked[-ones]) / 2)  # their sum may overflow
    return shift if ranked[-ones] + shift > 0 else -float(ranked[-ones - 1])


class Remedy(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What the remedies share: the split, the wrapped model and the linear rule that results.

    Parameters
    ----------
    estimator : linear binary classifier with `coef_`, default SGDClassifier with log loss
    validation_fraction : float in (0, 1)
        Part of the training data on which the remedy is chosen.
    random_state : int, RandomState or None
        Decides the split and, where it has such a parameter, the wrapped model.

    Attributes
    ----------
    estimator_ : the fitted model before the remedy
    coef_ : (1, n_features), after the remedy
    intercept_ : (1,)
    mask_ : (n_features,) bool, the features kept
    classes_ : (2,)

    Examples
    --------
    Every remedy is used as a classifier of scikit-learn is:

    >>> from thesis_repro.weaknesses.bias import Mixture, ThresholdShift
    >>> x, y = Mixture(weak=40).sample(500, np.random.default_rng(0))
    >>> remedies = [kind(random_state=0).fit(x, y) for kind in (ThresholdShift, FeatureParity)]
    >>> [isinstance(model, Remedy) and int(model.mask_.sum()) for model in remedies]
    [60, 52]
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        validation_fraction: float = 0.4,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the model on one part of the data and choose the remedy on the other.

        Parameters
        ----------
        X : (n_samples, n_features)
        y : (n_samples,), two classes

        Raises
        ------
        ValueError
            On other than two classes, a class too rare to be in both parts, a constant feature, or
            a model that is not linear.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._check(x, codes)
        random = check_random_state(self.random_state)
        x_fit, x_val, y_fit, y_val = train_test_split(
            x, codes, test_size=self.validation_fraction, stratify=codes, random_state=random
        )
        for part, found in (("fitted on", y_fit), ("validated on", y_val)):
            for code in {0, 1}.difference(found):
                raise ValueError(
                    f"class {self.classes_[code]} is absent from the part that is {part}; "
                    f"give more points of it or another validation_fraction"
                )
        default = SGDClassifier(loss="log_loss")
        self.estimator_ = clone(default if self.estimator is None else self.estimator)
        if "random_state" in self.estimator_.get_params():
            self.estimator_.set_params(random_state=random.randint(2**31))
        self.estimator_.fit(x_fit, y_fit)
        if np.shape(getattr(self.estimator_, "coef_", 0)) != (needed := (1, x.shape[1])):
            name = type(self.estimator_).__name__
            raise ValueError(f"{name} has no coef_ of shape {needed}, as a linear model has")
        self._choose(x_fit, y_fit, x_val, y_val)
        return self

    def _check(self, x: Floats, codes: NDArray[np.int64]) -> None:
        if len(self.classes_) != 2:
            raise ValueError(
                f"{type(self).__name__}: Only binary classification is supported; got "
                f"{len(self.classes_)} class(es): {self.classes_[:5].tolist()}"
            )
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction={self.validation_fraction}: need (0, 1)")
        fewest = np.bincount(codes).min()
        if fewest < 2:
            rare = self.classes_[np.bincount(codes).argmin()]
            raise ValueError(
                f"class {rare} has {fewest} point: both parts of the data need at least one"
            )
        constant = np.flatnonzero(x.max(0) == x.min(0))
        if len(constant):
            raise ValueError(
                f"feature {constant[0]} is constant ({len(constant)} such): drop it, it has no "
                f"influence to compare"
            )

    def _choose(self, x_fit: Floats, y_fit: Any, x_val: Floats, y_val: Any) -> None:
        """Set coef_, intercept_ and mask_."""
        raise NotImplementedError

    def _keep(self, mask: Mask) -> None:
        self.mask_ = mask
        self.coef_ = self.estimator_.coef_ * mask
        self.intercept_ = np.array(self.estimator_.intercept_, copy=True)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Scores (n_samples,); positive means `classes_[1]`."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(x @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of each point, (n_samples,)."""
        scores = self.decision_function(X)
        return np.asarray(self.classes_[(scores > 0).astype(int)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class FeatureParity(Remedy):
    """Keep as many features for one class as for the other; see :func:`parity_mask`.

    Nothing is chosen on validation points; they are left out so that all remedies start from the
    same model.

    Examples
    --------
    >>> from thesis_repro.weaknesses.bias import FeatureParity, Mixture
    >>> x, y = Mixture(weak=40).sample(500, np.random.default_rng(0))
    >>> model = FeatureParity(random_state=0).fit(x, y)
    >>> bool((model.coef_ > 0).sum() == (model.coef_ < 0).sum())
    True
    """

    def _choose(self, x_fit: Floats, y_fit: Any, x_val: Floats, y_val: Any) -> None:
        self._keep(parity_mask(self.estimator_.coef_[0]))


class Experts(Remedy):
    """Keep the strongest features of each side, as many as give the least validation bias.

    `alpha_` and `beta_` are the numbers kept; see :func:`search_linear_experts`. `grid` bounds how
    many numbers are tried on each side: with as many features on a side, or fewer, all pairs are.

    Examples
    --------
    >>> from thesis_repro.weaknesses.bias import Mixture
    >>> x, y = Mixture(weak=40).sample(500, np.random.default_rng(0))
    >>> model = Experts(random_state=0).fit(x, y)
    >>> int(model.mask_.sum()) == model.alpha_ + model.beta_
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        validation_fraction: float = 0.4,
        grid: int = 512,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            estimator, validation_fraction=validation_fraction, random_state=random_state
        )
        self.grid = grid

    def _choose(self, x_fit: Floats, y_fit: Any, x_val: Floats, y_val: Any) -> None:
        coef, offset = self.estimator_.coef_[0], float(self.estimator_.intercept_[0])
        self.alpha_, self.beta_ = search_linear_experts(
            coef, y_val, x_val * coef, offset, self.grid
        )
        self._keep(expert_mask(coef, self.alpha_, self.beta_))


class ThresholdShift(Remedy):
    """Keep every feature and move the threshold; see :func:`balancing_shift`.

    Examples
    --------
    >>> from thesis_repro.weaknesses.bias import Mixture
    >>> x, y = Mixture(weak=40).sample(500, np.random.default_rng(0))
    >>> model = ThresholdShift(random_state=0).fit(x, y)
    >>> bool((model.coef_ == model.estimator_.coef_).all()), model.predict(x).shape
    (True, (500,))
    """

    def _choose(self, x_fit: Floats, y_fit: Any, x_val: Floats, y_val: Any) -> None:
        self._keep(np.ones(x_val.shape[1], bool))
        self.intercept_ += balancing_shift(self.estimator_.decision_function(x_val), y_val)


class L1(Remedy):
    """Fit again with an L1 penalty; its strength has the least validation error.

    Ties go to the stronger penalty. `C_` is the inverse strength that was chosen from `Cs`.

    Examples
    --------
    >>> from thesis_repro.weaknesses.bias import Mixture
    >>> x, y = Mixture(weak=40).sample(500, np.random.default_rng(0))
    >>> model = L1(random_state=0).fit(x, y)
    >>> model.C_ in model.Cs, bool((model.coef_[0, ~model.mask_] == 0).all())
    (True, True)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        validation_fraction: float = 0.4,
        Cs: tuple[float, ...] = (0.01, 0.1, 1.0),
        random_state: Any = None,
    ) -> None:
        super().__init__(
            estimator, validation_fraction=validation_fraction, random_state=random_state
        )
        self.Cs = Cs

    def _choose(self, x_fit: Floats, y_fit: Any, x_val: Floats, y_val: Any) -> None:
        errors = {}
        for strength in sorted(self.Cs):
            model = LogisticRegression(
                l1_ratio=1.0, solver="liblinear", C=strength, max_iter=1000, random_state=0
            ).fit(x_fit, y_fit)
            errors[strength] = (int((model.predict(x_val) != y_val).sum()), model)
        self.C_ = min(errors, key=lambda c: (errors[c][0], c))
        chosen = errors[self.C_][1]
        self.mask_ = chosen.coef_[0] != 0
        self.coef_, self.intercept_ = chosen.coef_, chosen.intercept_
