"""Membership where it can be computed: classes that are Gaussian, and the best attack on them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, ncx2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def optimum(d: int, n: int, nodes: int = 2000) -> float:
    """Accuracy of the best attack on one class of d independent features, fitted to n members.

    The adversary knows the true mean, the true variance, n and the fitted mean. With q = n times
    the squared distance of the two means in standard deviations, which is chi-squared with d
    degrees of freedom, the likelihood ratio decides by the distance of the point from a centre
    beyond the fitted mean; both error rates are non-central chi-squared. The mean over q is taken
    at quantiles.

    Parameters
    ----------
    d : features, >= 1
    n : members of the class, >= 2
    nodes : quantiles of q

    Returns
    -------
    float in (1/2, 1)

    Raises
    ------
    ValueError
        If d < 1 or n < 2.

    Examples
    --------
    >>> 0.5 < optimum(10, 20) < optimum(100, 20) < 1
    True
    """
    if d < 1 or n < 2:
        raise ValueError(f"the optimum needs d >= 1 and n >= 2, got d={d} and n={n}")
    q = chi2.ppf((np.arange(nodes) + 0.5) / nodes, d)
    # member iff |e - n m|^2 < limit, where e and m are the point's and the fit's deviation
    limit = (n - 1) * (q - d * np.log1p(-1 / n))
    hit = ncx2.cdf(limit * n / (n - 1), d, (n - 1) * q)
    alarm = ncx2.cdf(limit, d, n * q)
    return float(0.5 + (hit - alarm).mean() / 2)


@dataclass(frozen=True)
class GaussianGame:
    """Classes with independent features of known variance, and a linear model fitted to them.

    d : features; n : members per class; classes : number of classes
    spread : standard deviation of the classes' true means

    Examples
    --------
    >>> game, rng = GaussianGame(d=3, n=10, classes=2), np.random.default_rng(0)
    >>> x, y = game.sample(game.means(rng), rng)
    >>> x.shape, game.fit(x, y)[0].shape
    ((20, 3), (2, 3))
    """

    d: int = 100
    n: int = 100
    classes: int = 5
    spread: float = 0.3

    def __post_init__(self) -> None:
        if min(self.d, self.classes) < 1 or self.n < 2 or not 0 <= self.spread < math.inf:
            raise ValueError(
                f"a Gaussian game needs d, classes >= 1, n >= 2 and a finite spread >= 0: {self}"
            )

    def means(self, rng: np.random.Generator) -> Floats:
        """True means (classes, d)."""
        return np.asarray(self.spread * rng.standard_normal((self.classes, self.d)))

    def sample(self, means: Floats, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """n points of each class: x (n * classes, d) and y."""
        y = np.repeat(np.arange(self.classes), self.n)
        return means[y] + rng.standard_normal((len(y), self.d)), y

    def fit(self, x: Floats, y: Ints) -> tuple[Floats, Floats]:
        """The most likely model with equal priors and unit variance: weights and biases.

        Its class scores are m.x - |m|^2/2 with m the mean of the class.
        """
        fitted = np.stack([x[y == c].mean(0) for c in range(self.classes)])
        return linear(fitted)


def linear(means: Floats) -> tuple[Floats, Floats]:
    """Weights (classes, d) and biases (classes,) of the best rule for these class means.

    Examples
    --------
    >>> linear(np.array([[1.0, 0.0], [0.0, 2.0]]))[1]
    array([-0.5, -2. ])
    """
    return means, -0.5 * (means**2).sum(1)
