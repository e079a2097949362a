"""Calibration and rejection: against closed forms, scikit-learn, and planted miscalibration."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from thesis_repro.weaknesses import reliability


def answers(n: int, power: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and answers that are right with probability confidence ** power."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, (rng.random(n) < confidence**power).astype(float)


def test_the_plain_error_is_that_of_scikit_learns_quantile_bins():
    confidence, right = answers(3000, 2.0)
    shares, means = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    plain, _ = reliability.squared_errors(confidence, right)
    assert plain == pytest.approx(np.mean((shares - means) ** 2), rel=1e-6)


def test_the_debiased_error_is_zero_on_average_where_nothing_is_wrong_and_the_plain_is_not():
    found = np.array([reliability.squared_errors(*answers(300, 1.0, s)) for s in range(300)])
    plain, debiased = found.mean(0)
    error = found[:, 1].std() / 300**0.5
    assert abs(debiased) < 3 * error < plain / 5


def test_the_debiased_error_finds_what_was_planted():
    confidence, right = answers(200_000, 2.0)
    _, debiased = reliability.squared_errors(confidence, right)
    truth = np.mean((confidence - confidence**2) ** 2)
    assert debiased == pytest.approx(truth, rel=0.03)


def test_the_interval_covers_the_truth_and_misses_another():
    covered = 0
    for seed in range(20):
        value, low, high = reliability.error_interval(
            *answers(600, 2.0, seed), 50, np.random.default_rng(seed)
        )
        assert low <= value <= high
        covered += low**2 <= 1 / 30 <= high**2  # the mean over [1/2, 1], up to the bins
    assert covered >= 16


@pytest.mark.parametrize(("n", "bins"), [(29, 15), (3, 0), (0, 1)])
def test_too_few_points_for_the_bins_are_refused(n, bins):
    with pytest.raises(ValueError, match=rf"{bins} bins need {2 * bins} points.*got {n}"):
        reliability.squared_errors(np.zeros(n), np.zeros(n), bins)


@pytest.fixture(scope="module")
def fitted():
    x, y = make_classification(800, 6, n_informative=4, n_classes=3, random_state=0)
    model = LogisticRegression().fit(x[:200], y[:200])
    return model, x[200:], y[200:]


def test_the_temperature_is_that_of_scikit_learn(fitted):
    model, x, y = fitted
    other = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(x, y)
    logits = model.decision_function(x)
    t = reliability.temperature(logits, y)
    ours, theirs = (
        np.exp(logits / t) / np.exp(logits / t).sum(1, keepdims=True),
        other.predict_proba(x),
    )
    assert np.abs(ours - theirs).max() < 1e-3
    assert reliability.temperature(7 * logits, y) == pytest.approx(7 * t, rel=1e-4)


def test_losses_are_those_of_scikit_learn(fitted):
    model, x, y = fitted
    nll, brier = reliability.losses(model.decision_function(x), y)
    assert nll.mean() == pytest.approx(log_loss(y, model.predict_proba(x)), rel=1e-6)
    theirs = brier_score_loss(y, model.predict_proba(x), scale_by_half=False)
    assert brier.mean() == pytest.approx(theirs, rel=1e-6)


def test_risk_counts_ties_by_their_mean_in_any_order():
    score, wrong = np.array([3.0, 2, 1, 1, 1, 0]), np.array([0.0, 1, 1, 0, 0, 1])
    assert reliability.risk(score, wrong, 1.0) == pytest.approx(0.5)
    assert reliability.risk(score, wrong, 0.5) == pytest.approx((0 + 1 + 1 / 3) / 3)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        assert reliability.risk(score[order], wrong[order], 0.5) == pytest.approx(4 / 9)


@pytest.mark.parametrize("coverage", [0.0, 1.2])
def test_a_coverage_that_keeps_nothing_or_too_much_is_refused(coverage):
    with pytest.raises(ValueError, match=f"coverage {coverage} keeps"):
        reliability.risk(np.zeros(4), np.zeros(4), coverage)


def test_ranking_is_one_for_an_oracle_a_half_for_a_constant_and_nothing_without_errors():
    wrong = np.array([1.0, 0, 0, 1, 0])
    assert reliability.ranking(-wrong, wrong) == 1
    assert reliability.ranking(wrong, wrong) == 0
    assert reliability.ranking(np.zeros(5), wrong) == 0.5
    assert np.isnan(reliability.ranking(np.arange(5.0), np.zeros(5)))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float16, np.float32])
def test_scores_of_any_type_are_ranked_alike(kind):
    score, wrong = np.array([3, 2, 1, 0]).astype(kind), np.array([False, False, False, True])
    assert reliability.risk(score, wrong, 0.25) == 0
    assert reliability.ranking(score, wrong) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda z: reliability.losses(z, np.full(5, -1)), r"y need to lie in \[0, 3\), got -1"),
        (lambda z: reliability.losses(z, np.zeros((5, 1), int)), r"got \(5, 3\) and \(5, 1\)"),
        (lambda z: reliability.temperature(z, np.full(5, 3)), r"in \[0, 3\), got 3"),
        (lambda z: reliability.temperature(z[:, :1], np.zeros(5, int)), "two classes or more"),
        (lambda z: reliability.risk(z[:, 0], np.arange(5), 1.0), "wrong: got 2, only True"),
        (lambda z: reliability.ranking(z[:, 0], np.arange(5)), "wrong: got 2, only True"),
        (lambda z: reliability.squared_errors(90 + z[:, 0], z[:, 0] > 0, 1), r"in \[0, 1\]"),
        (lambda z: reliability.squared_errors(z[:, 0] * 0, np.arange(5), 1), "right: got 2"),
    ],
)
def test_what_is_no_label_answer_or_confidence_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(np.random.default_rng(0).normal(size=(5, 3)))
