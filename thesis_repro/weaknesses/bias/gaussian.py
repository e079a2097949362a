"""Bias where it can be computed: two Gaussian classes, with strong and weak features."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from thesis_repro.lab.checks import finite

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def measure(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of class 1 among the predictions, less its share among the labels.

    Parameters
    ----------
    labels, predictions : (n,) of 0 and 1

    Returns
    -------
    float in [-1, 1]; positive when class 1 is predicted too often

    Raises
    ------
    ValueError
        If the two differ in length, are empty, or hold something besides 0 and 1.

    References
    ----------
    Leino et al. 2019, section 2.

    Examples
    --------
    >>> measure([0, 0, 1, 1], [0, 1, 1, 1])
    0.25
    """
    true, said = np.asarray(labels), np.asarray(predictions)
    if true.shape != said.shape or true.ndim != 1 or not len(true):
        raise ValueError(
            f"bias needs labels and predictions of one length >= 1, got shapes {true.shape} and "
            f"{said.shape}"
        )
    for name, values in (("labels", true), ("predictions", said)):
        found = np.unique(values)
        if not np.isin(found, (0, 1)).all():
            raise ValueError(f"bias needs {name} of two classes, 0 and 1, got {found[:5].tolist()}")
    return float(said.astype(float).mean() - true.astype(float).mean())


def chance(error: float, n: int) -> float:
    """Mean absolute bias of an unbiased rule with this error on n points, which chance alone makes.

    Each point adds +1, -1 or 0 to n times the bias: a sum of variance n x error, nearly normal.

    Parameters
    ----------
    error : share of wrong answers, in [0, 1]
    n : test points, >= 1

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    ValueError
        If the error or n is out of its range.

    Examples
    --------
    >>> round(chance(0.1, 1000), 5)  # 0.8 points, by chance alone
    0.00798
    """
    if not (0 <= error <= 1 and n >= 1):
        raise ValueError(f"chance needs 0 <= error <= 1 and n >= 1 points, got {error} and {n}")
    return math.sqrt(2 * error / (math.pi * n))


def bayes_bias(separation: float, prior: float) -> float:
    r"""Bias of the best possible rule for two Gaussian classes of one covariance.

    With D the separation, p the prior and a = log(p / (1 - p)) it is
    (1 - p) Phi(a/D - D/2) - p Phi(-a/D - D/2): false answers "1" less false answers "0". This is
    the systematic part of bias: no learning rule removes it without losing accuracy.

    Parameters
    ----------
    separation : Mahalanobis distance of the two means, >= 0 and finite; at 0 the more frequent
        class wins
    prior : probability of class 1, in (0, 1)

    Returns
    -------
    float in (-1, 1)

    Raises
    ------
    ValueError
        On a separation that is negative or not finite, or a prior outside (0, 1).

    Examples
    --------
    >>> round(bayes_bias(2.0, 0.7), 3), bayes_bias(2.0, 0.5)
    (0.031, 0.0)
    """
    _check(separation, prior)
    log_odds = math.log(prior / (1 - prior))
    if separation == 0:
        return 0.0 if log_odds == 0 else (1 - prior if log_odds > 0 else -prior)
    shift, half = log_odds / separation, separation / 2
    return float((1 - prior) * ndtr(shift - half) - prior * ndtr(-shift - half))


def simulated_bias(separation: float, prior: float, n: int, seed: int = 0) -> float:
    """The same bias by drawing n points and applying the best rule to each.

    Raises
    ------
    ValueError
        As :func:`bayes_bias`, and if n < 1.

    Examples
    --------
    >>> abs(simulated_bias(2.0, 0.7, 100_000) - bayes_bias(2.0, 0.7)) < 0.003
    True
    """
    _check(separation, prior)
    if n < 1:
        raise ValueError(f"a simulation needs n >= 1 points, got {n}")
    rng = np.random.default_rng(seed)
    y = rng.random(n) < prior
    x = np.where(y, separation / 2, -separation / 2) + rng.standard_normal(n)
    said = separation * x + math.log(prior / (1 - prior)) > 0
    return measure(y.astype(int), said.astype(int))


def _check(separation: float, prior: float) -> None:
    if not (0 <= separation < math.inf and 0 < prior < 1):
        raise ValueError(
            f"two Gaussian classes need a finite separation >= 0 and 0 < prior < 1, got "
            f"{separation} and {prior}"
        )


@dataclass(frozen=True)
class Mixture:
    """Two classes with independent Gaussian features, some strong and many weak.

    Strong features have means -strength and +strength, half of them the other way round, and
    standard deviation 1. A weak feature has mean 1 in one class and 0 in the other, and standard
    deviation sigma. Asymmetric weak features all have their mean 1 in class 1; symmetric ones
    take turns.

    Parameters
    ----------
    weak : number of weak features, >= 0
    strong : number of strong features, even, >= 2
    strength, sigma : > 0, finite
    prior : probability of class 1, in (0, 1)
    symmetric : whether half of the weak features point to class 0

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    References
    ----------
    After Leino et al. 2019, section 3; the parameters are ours, theirs could not be read.

    Examples
    --------
    >>> world = Mixture(weak=40)
    >>> x, y = world.sample(100, np.random.default_rng(0))
    >>> x.shape, y.shape
    ((100, 60), (100,))
    >>> bias, accuracy = world.evaluate(*world.bayes_rule())
    >>> abs(bias) < 1e-12, round(accuracy, 3)  # of equal classes the best rule favours none
    (True, 0.988)
    """

    weak: int
    strong: int = 20
    strength: float = 0.5
    sigma: float = 10.0
    prior: float = 0.5
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.weak < 0 or self.strong < 2 or self.strong % 2:
            raise ValueError(
                f"a mixture needs weak >= 0 and an even number of strong features >= 2, got "
                f"weak={self.weak} and strong={self.strong}"
            )
        if not (0 < self.strength < math.inf and 0 < self.sigma < math.inf):
            raise ValueError(
                f"a mixture needs strength > 0 and sigma > 0, both finite, got "
                f"strength={self.strength} and sigma={self.sigma}"
            )
        _check(1.0, self.prior)

    @property
    def means(self) -> Floats:
        """Means of class 0 and class 1, (2, features); strong features first."""
        side = np.where(np.arange(self.strong) % 2, -self.strength, self.strength)
        turned = (np.arange(self.weak) % 2 == 1) & self.symmetric
        zero, one = turned.astype(float), (~turned).astype(float)
        return np.stack([np.concatenate([-side, zero]), np.concatenate([side, one])])

    @property
    def scales(self) -> Floats:
        """Standard deviations, (features,)."""
        return np.concatenate([np.ones(self.strong), np.full(self.weak, self.sigma)])

    @property
    def separation(self) -> float:
        """Mahalanobis distance between the two means."""
        low, high = self.means
        return float(np.linalg.norm((high - low) / self.scales))

    def bayes_rule(self) -> tuple[Floats, float]:
        """Coefficients (features,) and intercept of the best rule, which is linear."""
        low, high = self.means
        coef = (high - low) / self.scales**2
        middle = float(coef @ (low + high)) / 2
        return coef, math.log(self.prior / (1 - self.prior)) - middle

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Draw n points: x (n, features) and y (n,) of 0 and 1."""
        y = (rng.random(n) < self.prior).astype(np.int64)
        x = rng.standard_normal((n, self.strong + self.weak))
        return self.means[y] + self.scales * x, y

    def evaluate(self, coef: ArrayLike, intercept: float) -> tuple[float, float]:
        """Bias and accuracy of the rule coef . x + intercept > 0, exact: no test set is drawn.

        A rule without any weight gives the class of its intercept's sign.

        Raises
        ------
        ValueError
            If a coefficient or the intercept is not finite.
        """
        finite("coef", coef)
        finite("intercept", intercept)
        weights = np.asarray(coef, float)
        spread = float(np.linalg.norm(weights * self.scales))
        scores = self.means @ weights + intercept
        said = ndtr(scores / spread) if spread > 0 else (scores > 0).astype(float)
        p = self.prior
        share = (1 - p) * said[0] + p * said[1]
        return float(share - p), float((1 - p) * (1 - said[0]) + p * said[1])
