"""Moving figure of the chapter robustness/certifiers: what randomized smoothing can certify."""

import math

from scipy.stats import norm

from thesis_repro.figures.moving import Moving
from thesis_repro.robustness.certifiers.smoothing import certified_radius

SHARES = (1.0, 0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6)
"""Shares of the noisy copies that get the class."""
COPIES = tuple(round(10 ** (1 + step / 4)) for step in range(21))


def of_smoothing(alpha: float = 0.001) -> Moving:
    """The radius over sigma, copies and the share that agrees; all of it in closed form."""
    hits = [[math.floor(share * n) for n in COPIES] for share in SHARES]
    data = {
        "alpha": alpha,
        "copies": COPIES,
        "shares": SHARES,
        "hits": hits,
        # for sigma = 1, of which the radius is a multiple; rounded down: no more than is certified
        "radii": [
            [
                math.floor(1000 * certified_radius(h, n, alpha, 1.0))
                for h, n in zip(row, COPIES, strict=True)
            ]
            for row in hits
        ],
        "limits": [math.ceil(1000 * norm.ppf(share)) if share < 1 else None for share in SHARES],
    }
    return Moving("smoothing", "change the noise, the copies, and how many of them agree", data)
