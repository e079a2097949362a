"""Intervals and tests against closed forms and hand-made numbers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from thesis_repro.lab.store import Result
from thesis_repro.tables import statistics
from thesis_repro.tables.statistics import (
    clopper_pearson,
    gather,
    holm,
    mcnemar,
    mcnemar_range,
    over_targets_and_points,
    paired,
    ratio_in_turn,
    ratio_of_medians,
    student_t,
    summarise_number,
    summarise_rate,
)

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_clopper_pearson_without_a_success_has_a_closed_form() -> None:
    low, high = clopper_pearson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025**0.1)  # (1 - p)^10 = 0.025
    low, high = clopper_pearson(10, 10)
    assert low == pytest.approx(0.025**0.1)
    assert high == 1.0


@given(counts)
def test_clopper_pearson_inverts_the_binomial_tails(kn: tuple[int, int]) -> None:
    k, n = kn
    low, high = clopper_pearson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    if k > 0:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025, rel=1e-6)
        assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1))
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025, rel=1e-6)
    flipped = clopper_pearson(n - k, n)
    assert flipped == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got k={k}, n={n}"):
        clopper_pearson(k, n)


def test_student_t_by_hand() -> None:
    # mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.302653
    half = 4.302653 / math.sqrt(3)
    assert student_t([1, 2, 3]) == pytest.approx((2 - half, 2 + half))
    assert student_t([5.0, 5.0, 5.0]) == (5.0, 5.0)
    with pytest.raises(ValueError, match="at least two values, got 1"):
        student_t([1.0])


def test_mcnemar_by_hand() -> None:
    # 9 points only the first has right, 1 only the second: 2 (1 + 10) / 2^10
    first = [True] * 9 + [False] + [True] * 20 + [False] * 5
    second = [False] * 9 + [True] + [True] * 20 + [False] * 5
    assert mcnemar(first, second) == pytest.approx(22 / 1024)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0
    for wrong in ([True], [], [[True]]):
        with pytest.raises(ValueError, match="two vectors of one length"):
            mcnemar(wrong, [True, False])  # type: ignore[arg-type]


def test_a_rate_of_few_seeds_is_over_the_points_of_one() -> None:
    found = summarise_rate([{"k": 90, "n": 100}, {"k": 92, "n": 100}])
    assert found.value == pytest.approx(91)
    assert (found.low / 100, found.high / 100) == pytest.approx(clopper_pearson(91, 100))
    assert found.how == "Clopper-Pearson over 100 points"


def test_a_rate_of_three_seeds_is_over_the_seeds_and_stays_a_rate() -> None:
    cells = [{"k": k, "n": 1000} for k in (998, 999, 1000)]
    found = summarise_rate(cells)
    assert found.value == pytest.approx(99.9)
    assert found.low == pytest.approx(student_t([99.8, 99.9, 100.0])[0])
    assert found.high == 100.0
    assert found.how == "Student t over 3 seeds"
    assert summarise_rate(cells, "targets").how == "Student t over 3 targets"


def test_a_number_of_few_seeds_has_no_interval() -> None:
    found = summarise_number([1.0, 2.0])
    assert (found.value, found.how) == (1.5, "")
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    three = summarise_number([1.0, 2.0, 3.0])
    assert (three.low, three.high) == student_t([1.0, 2.0, 3.0])


def test_cells_that_lack_a_column_are_left_out() -> None:
    assert gather([Result({"a": 1}), Result({"a": None}), Result({})], "a") == [1]


def test_holm_agrees_with_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = [0.03, 0.01, 0.04, 0.5, 0.01, 0.9]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


@settings(max_examples=25)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(*[st.integers(0, n)] * 2, st.just(n))))
def test_the_range_of_mcnemar_is_that_of_all_pairings(wins: tuple[int, int, int]) -> None:
    first, second, n = wins
    ours = [True] * first + [False] * (n - first)
    found = []
    for shift in range(n):  # of wins that overlap as much, all pairings have one p-value
        theirs = [(i - shift) % n < second for i in range(n)]
        found.append(mcnemar(ours, theirs))
    low, high = mcnemar_range(first, second, n)
    assert (low, high) == pytest.approx((min(found), max(found)))


def test_the_range_of_mcnemar_can_decide_and_can_fail_to() -> None:
    assert mcnemar_range(42, 21, 42)[1] < 1e-5  # all won: the pairing is known
    low, high = mcnemar_range(27, 21, 42)
    assert low == pytest.approx(2 * 0.5**6) and high > 0.4
    with pytest.raises(ValueError, match="between 0 and n"):
        mcnemar_range(5, 1, 4)


def test_a_paired_difference_takes_out_what_pairs_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 21)
    ours, theirs = shared + 1 + rng.normal(0, 0.5, 21), shared
    found, p = paired(ours.tolist(), theirs.tolist(), "nets")
    assert 0.5 < found.low < found.value < found.high < 1.5 and p < 0.01
    assert found.how == "bootstrap over 21 pairs of nets"
    assert paired(theirs.tolist(), ours.tolist(), "nets")[1] > 0.99
    half = paired([1.0] * 5, [0.5] * 5, "nets")
    assert (half[0].low, half[0].high) == (0.5, 0.5)
    assert half[1] == pytest.approx(1 / 2**5)  # of all signs, one has as large a mean
    with pytest.raises(ValueError, match="at least 3 pairs"):
        paired([1.0, 2.0], [0.0, 0.0], "nets")


def test_a_ratio_of_times_has_an_interval_that_covers_it() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        first, second = rng.lognormal(np.log(6), 0.1, 15), rng.lognormal(np.log(2), 0.1, 15)
        found = ratio_of_medians(first.tolist(), second.tolist())
        hits += found.low <= 3 <= found.high
    assert hits >= 34  # of 40, at 95%
    assert found.value == pytest.approx(np.median(first) / np.median(second))
    for wrong in ([1.0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="two calls or more"):
            ratio_of_medians(wrong, [1.0, 2.0])


def test_what_a_round_does_to_both_calls_is_left_out_of_their_ratio() -> None:
    rng = np.random.default_rng(0)
    hits, widths = 0, []
    for _ in range(40):
        moment = rng.lognormal(0, 0.4, 15)  # the machine is slow, for all calls of a round
        first = 3 * moment * rng.lognormal(0, 0.05, 15)
        second = moment * rng.lognormal(0, 0.05, 15)
        found = ratio_in_turn(first.tolist(), second.tolist())
        alone = ratio_of_medians(first.tolist(), second.tolist())
        hits += found.low <= 3 <= found.high
        widths.append((found.high - found.low) / (alone.high - alone.low))
    assert hits >= 34 and np.median(widths) < 0.3
    assert found.how == "bootstrap over 15 rounds"
    for wrong, message in (
        (([1.0], [1.0]), "two rounds"),
        (([0.0, 1.0], [1.0, 1.0]), "above 0 s"),
        (([1.0, 1.0, 1.0], [1.0, 1.0]), "got 3 and 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ratio_in_turn(*wrong)


def test_points_that_are_hard_for_every_target_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    shared = np.tile(rng.random(200) < 0.5, (20, 1))
    apart = rng.random((20, 200)) < 0.5
    wide, narrow = over_targets_and_points(shared), over_targets_and_points(apart)
    # of one factor alone: 200 points, each 20 times the same
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 100 * 0.5 / 200**0.5, rel=0.1)
    assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)
    assert wide.how == "bootstrap over 20 targets and their 200 points"
    of = np.zeros((20, 200), bool)
    of[:, :50] = True
    assert over_targets_and_points(shared & of, of).value == pytest.approx(
        100 * shared[0, :50].mean()
    )
    with pytest.raises(ValueError, match=r"\(targets, points\)"):
        over_targets_and_points(shared[0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ratio_of_medians([1, math.nan], [1, 1]), "first: got nan in row 1"),
        (lambda: ratio_of_medians([1, 1], [math.inf, 1]), "second: got inf in row 0"),
        (lambda: ratio_in_turn([math.nan, 1], [1, 1]), "first: got nan in row 0"),
        (lambda: ratio_in_turn([1, 1], [1, math.nan]), "second: got nan in row 1"),
        (lambda: statistics.paired([1, 2, math.nan], [0, 0, 0], "nets"), "first: got nan in row 2"),
        (lambda: statistics.paired([1, 2, 3], [0, math.inf, 0], "nets"), "second: got inf"),
        (lambda: statistics.paired([1, 2, 3], [1], "nets"), r"one length, got \(3,\) and \(1,\)"),
        (lambda: statistics.more_points([[1, 0, 1]], [[1]]), r"got \(3,\) and \(1,\)"),
        (lambda: statistics.more_points([[1, 0]], [[[1], [0]]]), r"got \(2,\) and \(2, 1\)"),
        (lambda: statistics.over_targets_and_points([[1, math.nan]]), "hits: got nan in row 0"),
        (lambda: statistics.holm([0.04, math.nan, 0.01]), "p_values: got nan in row 1"),
        (lambda: statistics.holm([0.04, 5]), r"p_values need to lie in \[0, 1\]"),
        (lambda: statistics.mcnemar([3, 0, 7], [3, 1, 0]), "first: got 3, only True and False"),
    ],
)
def test_what_no_test_can_be_made_of_is_named(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
