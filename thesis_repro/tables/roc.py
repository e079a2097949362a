"""The area under a ROC curve with its interval."""

from collections.abc import Sequence

import numpy as np

from thesis_repro.lab import checks
from thesis_repro.tables.estimate import Estimate
from thesis_repro.tables.statistics import CONFIDENCE


def area(scores: Sequence[float], true: Sequence[bool | int], what: str) -> Estimate:
    """The chance in percent that a true one scores above a false one, with a 95% interval.

    Ties count one half, so constant scores give 50. The interval is Newcombe's method 5: all areas
    A that are no more than 1.96 standard errors from the one that was found, with the standard
    error that Hanley and McNeil give at A itself. So it has a width where every pair is in order,
    which a bootstrap has not. Scores are taken as independent.

    Parameters
    ----------
    scores : (n,) float, higher for what should be true
    true : (n,) of 1 and 0
    what : what the scores are of, e.g. "nets"

    Returns
    -------
    Estimate in percent

    Raises
    ------
    ValueError
        If a score is not finite, lengths differ, or one of the two kinds is missing.

    References
    ----------
    Newcombe, Statistics in Medicine 25, 2006 (part 2), 559-573; Hanley and McNeil, Radiology 143,
    1982.

    Examples
    --------
    >>> found = area([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0], "nets")
    >>> round(found.value), round(found.low), round(found.high)
    (75, 23, 97)
    """
    from scipy.optimize import brentq
    from scipy.stats import mannwhitneyu, norm

    values, truth = np.asarray(scores, float), checks.truth("true", true)
    if values.shape != truth.shape or values.ndim != 1 or not 0 < truth.sum() < len(truth):
        raise ValueError(
            f"an area needs scores (n,) and as many truths, some of each kind, got "
            f"{values.shape} and {truth.shape}, {int(truth.sum())} true"
        )
    checks.finite("scores", values)
    above, below = values[truth], values[~truth]
    m, n = len(above), len(below)
    share = float(mannwhitneyu(above, below, method="asymptotic").statistic) / (m * n)
    z, others = float(norm.ppf((1 + CONFIDENCE) / 2)), (m + n) / 2 - 1

    def beyond(at: float) -> float:
        shape = 1 + others * ((1 - at) / (2 - at) + at / (1 + at))
        return float((share - at) ** 2 - z**2 * at * (1 - at) * shape / (m * n))

    # at 0 and at 1 the area itself is a root; the end that is meant lies apart from it
    low = 0.0 if share == 0 else float(brentq(beyond, 0, min(share, 1 - 1e-9)))
    high = 1.0 if share == 1 else float(brentq(beyond, max(share, 1e-9), 1))
    how = f"AUC: Newcombe over {m} and {n} {what}"
    return Estimate(100 * share, 100 * low, 100 * high, how)
