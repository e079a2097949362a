"""The area under a ROC curve: another library, its equation, its coverage, bad input."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from thesis_repro.tables.roc import area


def test_the_area_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, true = rng.integers(0, 6, 30), rng.permutation(30) < 11
        found = area(scores.tolist(), true.tolist(), "nets")
        assert found.value == pytest.approx(100 * roc_auc_score(true, scores))
        assert found.low < found.value < found.high
    assert area([1.0] * 4, [1, 0, 1, 0], "nets").value == 50


def test_both_ends_are_as_many_standard_errors_away_as_newcombe_says():
    found = area([4.0, 3.0, 1.0, 2.0, 0.0, 0.5, 1.5], [1, 1, 1, 0, 0, 0, 0], "nets")
    m, n = 3, 4
    for end in (found.low / 100, found.high / 100):
        first, second = end / (2 - end), 2 * end**2 / (1 + end)  # Hanley and McNeil's Q1 and Q2
        spread = end * (1 - end) + ((m + n) / 2 - 1) * (first + second - 2 * end**2)
        away = (found.value / 100 - end) / np.sqrt(spread / (m * n))
        assert abs(away) == pytest.approx(norm.ppf(0.975))
    assert "over 3 and 4 nets" in found.how


def test_the_interval_has_a_width_where_all_pairs_are_in_order():
    sure = area(range(42), np.arange(42) >= 21, "nets")
    assert (sure.value, sure.high) == (100, 100) and 88 < sure.low < 92
    never = area(range(42), np.arange(42) < 21, "nets")
    assert (never.value, never.low) == (0, 0) and never.high == pytest.approx(100 - sure.low)
    assert area(range(6), np.arange(6) >= 3, "nets").low < 55  # three nets prove little


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_the_interval_covers_the_true_area(apart):
    rng, true = np.random.default_rng(1), np.arange(42) < 21
    wanted = 100 * norm.cdf(apart / np.sqrt(2))
    found = [area(rng.standard_normal(42) + apart * true, true, "nets") for _ in range(200)]
    assert np.mean([one.low <= wanted <= one.high for one in found]) > 0.9


@pytest.mark.parametrize(
    ("scores", "true", "words"),
    [
        ([1.0, np.nan], [1, 0], "scores: got nan in row 1"),
        ([1.0, 2.0], [1, 1], "some of each kind"),
        ([1.0, 2.0], [0, 0], "some of each kind"),
        ([1.0, 2.0, 3.0], [0, 1], r"got \(3,\) and \(2,\)"),
        ([1.0, 2.0], [0, 2], "only True and False"),
    ],
)
def test_bad_input_is_refused(scores, true, words):
    with pytest.raises(ValueError, match=words):
        area(scores, true, "nets")
