"""Attacks that see the target's outputs alone: naive, loss threshold, shadow models."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def log_probabilities(logits: ArrayLike) -> Floats:
    """Log-softmax of logits (n, classes), in float64."""
    from scipy.special import log_softmax

    return np.asarray(log_softmax(np.asarray(logits, float), axis=1))


def naive(logits: ArrayLike, labels: ArrayLike) -> Bools:
    """Call a point a member exactly when the model classifies it correctly.

    On a balanced sample the accuracy is 1/2 + gap/2, where gap is train minus test accuracy.

    Parameters
    ----------
    logits : (n, classes) float
    labels : (n,) int, in [0, classes)

    Returns
    -------
    (n,) bool, True for "member"

    References
    ----------
    Yeom et al. 2018, section 3.
    """
    z, y = _checked(logits, labels)
    return np.asarray(z.argmax(1) == y)


def losses(logits: ArrayLike, labels: ArrayLike, smoothing: float = 0.0) -> Floats:
    """Cross-entropy of each point, with label smoothing as in training, (n,)."""
    z, y = _checked(logits, labels)
    log_p = log_probabilities(z)
    own = log_p[np.arange(len(y)), y]
    return np.asarray(-(1 - smoothing) * own - smoothing * log_p.mean(1))


def loss_threshold(loss: ArrayLike, mean_training_loss: float) -> Bools:
    """Call a point a member when its loss is below the mean loss on training points.

    Parameters
    ----------
    loss : (n,) float
    mean_training_loss : what the adversary knows, or found on shadow models

    References
    ----------
    Yeom et al. 2018, section 3 (the adversary that knows the training loss).
    """
    return np.asarray(np.asarray(loss, float) < mean_training_loss)


class ShadowAttack(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One classifier per class tells members from non-members by the vector of probabilities.

    It learns from shadow models, whose members are known.

    Parameters
    ----------
    estimator : classifier with `predict_proba`, default LogisticRegression
    random_state : int or None, handed to the estimator where it has such a parameter

    Attributes
    ----------
    estimators_ : dict from class to fitted estimator
    classes_ : (2,) bool

    References
    ----------
    Shokri et al. 2017, section V.
    """

    def __init__(self, estimator: Any = None, *, random_state: Any = None) -> None:
        self.estimator = estimator
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, labels: ArrayLike) -> Self:
        """Learn from the outputs of shadow models.

        Parameters
        ----------
        X : (n, classes) float, probabilities
        y : (n,) bool, whether the shadow trained on the point
        labels : (n,) int

        Raises
        ------
        ValueError
            If a class has no member or no non-member among the shadows' points.
        """
        x, label = _checked(X, labels)
        member = np.asarray(y, bool)
        if member.shape != label.shape:
            raise ValueError(f"{len(member)} memberships were given for {len(label)} points")
        self.classes_ = np.array([False, True])
        self.estimators_: dict[int, Any] = {}
        base = LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator
        for c in range(x.shape[1]):
            mine = label == c
            counts = int(member[mine].sum()), int((~member[mine]).sum())
            if min(counts) < 1:
                raise ValueError(
                    f"class {c} has {counts[0]} members and {counts[1]} non-members among the "
                    f"shadows' points; the attack on it needs both"
                )
            model = clone(base)
            if "random_state" in model.get_params():
                model.set_params(random_state=self.random_state)
            self.estimators_[c] = model.fit(x[mine], member[mine])
        return self

    def score_samples(self, X: ArrayLike, labels: ArrayLike) -> Floats:
        """Probability of membership, (n,)."""
        check_is_fitted(self)
        x, label = _checked(X, labels)
        scores = np.zeros(len(label))
        for c, model in self.estimators_.items():
            mine = label == c
            if mine.any():
                scores[mine] = model.predict_proba(x[mine])[:, 1]
        return scores

    def predict(self, X: ArrayLike, labels: ArrayLike) -> Bools:
        """Whether membership is more likely than not, (n,) bool."""
        return np.asarray(self.score_samples(X, labels) > 0.5)

    def score(self, X: ArrayLike, y: ArrayLike, labels: ArrayLike) -> float:
        """Share of right answers."""
        return float((self.predict(X, labels) == np.asarray(y, bool)).mean())


def shadow(
    logits: ArrayLike,
    labels: ArrayLike,
    shadow_logits: Sequence[ArrayLike],
    shadow_labels: Sequence[ArrayLike],
    shadow_members: Sequence[ArrayLike],
    random_state: int = 0,
) -> Floats:
    """Fit a :class:`ShadowAttack` on shadow models and score the target's points.

    Parameters
    ----------
    logits, labels : (n, classes) and (n,), of the target
    shadow_logits, shadow_labels, shadow_members : one (m, classes), (m,) and (m,) per shadow

    Returns
    -------
    (n,) probability of membership

    Raises
    ------
    ValueError
        Without a shadow, or as :meth:`ShadowAttack.fit`.
    """
    if not len(shadow_logits):
        raise ValueError("the shadow attack needs at least one shadow model, got none")
    attack = ShadowAttack(random_state=random_state).fit(
        np.exp(np.concatenate([log_probabilities(z) for z in shadow_logits])),
        np.concatenate([np.asarray(m, bool) for m in shadow_members]),
        np.concatenate([np.asarray(y) for y in shadow_labels]),
    )
    return attack.score_samples(np.exp(log_probabilities(logits)), labels)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    z, y = np.asarray(logits, float), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1] or not len(y):
        raise ValueError(
            f"an attack needs outputs (n, classes) and labels (n,), got {z.shape} and {y.shape}"
        )
    if y.min() < 0 or y.max() >= z.shape[1]:
        raise ValueError(f"labels need to lie in [0, {z.shape[1]}), got {y.min()} to {y.max()}")
    return z, y.astype(np.int64)
