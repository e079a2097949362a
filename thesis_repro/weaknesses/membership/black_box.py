"""Attacks that see the target's outputs alone: naive, loss threshold, shadow models."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from thesis_repro.lab import checks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def log_probabilities(logits: ArrayLike) -> Floats:
    """Log-softmax of logits (n, classes), in float64.

    Raises
    ------
    ValueError
        On another shape, or a logit that is not finite.

    Examples
    --------
    >>> log_probabilities([[0.0, 0.0]]).round(3)  # log 1/2 in nats
    array([[-0.693, -0.693]])
    """
    from scipy.special import log_softmax

    return np.asarray(log_softmax(_outputs("logits", logits), axis=1))


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

    Raises
    ------
    ValueError
        On shapes that do not fit, a logit that is not finite, or a label that is none.

    References
    ----------
    Yeom et al. 2018, section 3.

    Examples
    --------
    >>> naive([[2.0, 1.0], [0.0, 3.0]], [0, 0])
    array([ True, False])
    """
    z, y = _checked("logits", logits, labels)
    return np.asarray(z.argmax(1) == y)


def losses(logits: ArrayLike, labels: ArrayLike, smoothing: float = 0.0) -> Floats:
    """Cross-entropy of each point, with label smoothing as in training, (n,).

    Raises
    ------
    ValueError
        As :func:`naive`, and on a smoothing outside [0, 1].

    Examples
    --------
    >>> losses([[0.0, 0.0]], [1]).round(4)
    array([0.6931])
    """
    z, y = _checked("logits", logits, labels)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing needs to lie in [0, 1], got {smoothing}")
    log_p = log_probabilities(z)
    own = log_p[np.arange(len(y)), y]
    return np.asarray(-(1 - smoothing) * own - smoothing * log_p.mean(1))


def loss_threshold(loss: ArrayLike, mean_training_loss: float) -> Bools:
    """Call a point a member when its loss is below the mean loss on training points.

    Parameters
    ----------
    loss : (n,) float
    mean_training_loss : what the adversary knows, or found on shadow models

    Raises
    ------
    ValueError
        If a loss is not finite.

    References
    ----------
    Yeom et al. 2018, section 3 (the adversary that knows the training loss).

    Examples
    --------
    >>> loss_threshold([0.1, 2.0], mean_training_loss=0.5)
    array([ True, False])
    """
    checks.finite("loss", loss)
    checks.finite("mean_training_loss", mean_training_loss)
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

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> member, labels = np.arange(40) < 20, np.arange(40) % 2
    >>> logits = rng.standard_normal((40, 2)) * np.where(member, 5.0, 1.0)[:, None]
    >>> ShadowAttack().fit(logits, member, labels).score_samples(logits, labels).shape
    (40,)
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
            If a class has no member or no non-member among the shadows' points; else as
            :func:`naive`.
        """
        x, label = _checked("X", X, labels)
        member = checks.truth("y", y)
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
        """Probability of membership, (n,).

        Raises
        ------
        ValueError
            As :func:`naive`, or with other classes than it was fitted on.
        """
        check_is_fitted(self)
        x, label = _checked("X", X, labels)
        if x.shape[1] != len(self.estimators_):
            raise ValueError(f"X has {x.shape[1]} classes, fitted were {len(self.estimators_)}")
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
        return float((self.predict(X, labels) == checks.truth("y", y)).mean())


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

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> logits, labels = rng.standard_normal((40, 2)), np.arange(40) % 2
    >>> shadow(logits, labels, [logits], [labels], [np.arange(40) < 20]).shape
    (40,)
    """
    if not len(shadow_logits):
        raise ValueError("the shadow attack needs at least one shadow model, got none")
    attack = ShadowAttack(random_state=random_state).fit(
        np.exp(np.concatenate([log_probabilities(z) for z in shadow_logits])),
        np.concatenate([checks.truth("shadow_members", m) for m in shadow_members]),
        np.concatenate([np.asarray(y) for y in shadow_labels]),
    )
    return attack.score_samples(np.exp(log_probabilities(logits)), labels)


def _outputs(name: str, values: ArrayLike) -> Floats:
    found = np.asarray(values, float)
    if found.ndim != 2 or not len(found) or found.shape[1] < 2:
        raise ValueError(f"an attack needs {name} (n, classes >= 2), n >= 1, got {found.shape}")
    checks.finite(name, found)
    return found


def _checked(name: str, values: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    z, y = _outputs(name, values), np.asarray(labels)
    if y.shape != z.shape[:1]:
        raise ValueError(
            f"an attack needs {name} (n, classes) and labels (n,), got {z.shape} and {y.shape}"
        )
    checks.labels("labels", y, z.shape[1])
    return z, y.astype(np.int64)
