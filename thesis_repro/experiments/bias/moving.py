"""Moving figure of the chapter weaknesses/bias: weak features, their weight, and what they add."""

import numpy as np

from thesis_repro.figures.moving import Moving
from thesis_repro.weaknesses.bias import Mixture

COUNTS = tuple(range(0, 1001, 50))
"""Numbers of weak features."""
WEIGHTS = (1, 2, 5, 10, 20)
"""Weight of a weak feature, over what the best rule gives it."""
LEARNED = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Share of the intercept that takes back what the weights push towards class 1."""


def of_weak() -> Moving:
    """Bias and accuracy over the number of weak features, exact; both classes are as frequent."""
    rules = [
        [[_over(weight, learned, symmetric) for learned in LEARNED] for weight in WEIGHTS]
        for symmetric in (False, True)
    ]
    data = {"counts": COUNTS, "weights": WEIGHTS, "learned": LEARNED, "rules": rules}
    return Moving("weak", "add weak features, and weigh them too much", data)


def _over(weight: float, learned: float, symmetric: bool) -> list[list[int]]:
    """Bias and accuracy in thousandths, over `COUNTS`."""
    found = []
    for count in COUNTS:
        mixture = Mixture(count, symmetric=symmetric)
        coef, _ = mixture.bayes_rule()
        coef[mixture.strong :] *= weight
        balanced = -float(coef @ mixture.means.mean(0))
        found.append(mixture.evaluate(coef, learned * balanced))
    thousandths: list[list[int]] = np.rint(1000 * np.array(found).T).astype(int).tolist()
    return thousandths
