"""Numbers that cannot be ranked, and labels that are none, are named."""

import numpy as np
import pytest
import torch

from thesis_repro.lab import checks


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_first_row_that_is_not_finite_is_named(kind):
    values = kind([[0.0, 1.0], [2.0, float("nan")], [float("inf"), 3.0]])
    with pytest.raises(ValueError, match="scores") as caught:
        checks.finite("scores", values)
    assert str(caught.value) == (
        "scores: got nan in row 1 (at [1, 1]), finite numbers are needed; 2 of 6 are not"
    )
    checks.finite("scores", kind([[0.0, 1.0]]))
    checks.finite("scores", kind([]))


@pytest.mark.parametrize("value", [float("inf"), np.float64("inf"), torch.tensor(float("inf"))])
def test_a_number_has_no_row(value):
    with pytest.raises(ValueError, match="^the threshold: got inf, a finite number is needed$"):
        checks.finite("the threshold", value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_types_of_tensors(dtype):
    values = torch.ones(3).to(dtype).requires_grad_(dtype.is_floating_point)
    checks.finite("x", values)
    if dtype.is_floating_point:
        with torch.no_grad():
            values[2] = -torch.inf
        with pytest.raises(ValueError, match="got -inf in row 2, .*; 1 of 3"):
            checks.finite("x", values)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, -1], r"labels need to lie in \[0, 3\), got -1 in row 2; 1 of 3 do not"),
        ([3, 1, 0], r"labels need to lie in \[0, 3\), got 3 in row 0"),
        ([0.0, 1.0], "labels need to be whole numbers, got float"),
        ([[0, 1]], r"labels need shape \(n,\) with n >= 1, got \(1, 2\)"),
        ([], r"labels need shape \(n,\) with n >= 1, got \(0,\)"),
    ],
)
def test_what_is_no_label_is_named(kind, values, words):
    with pytest.raises(ValueError, match=words):
        checks.labels("labels", kind(values), 3)


def test_labels_without_a_number_of_classes():
    checks.labels("labels", [0, 99])
    with pytest.raises(ValueError, match=r"\[0, \.\.\.\), got -2 in row 1"):
        checks.labels("labels", np.array([0, -2], np.int8))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_yes_and_no_are_bools_or_ones_and_zeros(kind):
    for given in ([True, False, True], [1, 0, 1], [1.0, 0.0, 1.0]):
        found = checks.truth("member", kind(given))
        assert found.dtype == bool
        assert found.tolist() == [True, False, True]
    assert checks.truth("member", kind([])).dtype == bool
    for odd in ([1, -1], [0.3, 0.9], [float("nan"), 1.0], [2, 0]):
        with pytest.raises(ValueError, match="^member: got (nan in row|.*, only True and False)"):
            checks.truth("member", kind(odd))


def test_text_says_neither_yes_nor_no():
    for odd in (["yes", "no"], np.array([True, None], object)):
        with pytest.raises(ValueError, match="^member: got .*, only True and False"):
            checks.truth("member", odd)


def test_what_is_no_probability_is_refused_and_rounding_is_none():
    checks.shares("p", [0.0, 1.0 + 1e-9])
    checks.shares("p", [])
    for odd in ([5.0, -3.0], [1.01], torch.tensor([-0.1])):
        with pytest.raises(ValueError, match=r"^p need to lie in \[0, 1\], got values from"):
            checks.shares("p", odd)
    with pytest.raises(ValueError, match="got nan in row 0"):
        checks.shares("p", [float("nan")])


@pytest.mark.parametrize("value", [0, -1, 2.5, 3.0, "3", None, True, np.array([3, 3])])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(
        ValueError, match="batch_size needs to be a whole number of at least 1, got"
    ):
        checks.whole("batch_size", value)


@pytest.mark.parametrize("value", [3, np.int8(3), torch.tensor(3)])
def test_a_whole_number_of_any_kind_is_an_int(value):
    assert type(checks.whole("n", value)) is int and checks.whole("n", value, 3) == 3
    with pytest.raises(ValueError, match="n needs to be a whole number of at least 4, got"):
        checks.whole("n", value, 4)
