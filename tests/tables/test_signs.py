"""All signs counted: against the library's exact test, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from thesis_repro.tables import signs


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=3, max_size=9))
def test_the_share_is_that_of_the_exact_test_of_the_library(apart: list[float]) -> None:
    test = permutation_test(
        (np.array(apart),), np.mean, permutation_type="samples", alternative="greater"
    )
    assert signs.p_value(apart) == pytest.approx(float(test.pvalue), abs=1e-12)


def test_ties_by_rounding_count_and_an_effect_has_one_pattern_in_all() -> None:
    assert signs.p_value([0.1, 0.2, -0.3]) == 5 / 8  # its own sum is 0; by hand
    assert signs.p_value([0.5] * 21) == 2.0**-21
    assert signs.p_value([0.0] * 4) == 1.0


@pytest.mark.parametrize("apart", [[], [1.0] * 25, [1.0, np.nan], [[1.0, 2.0]]])
def test_what_cannot_be_counted_is_refused(apart: list[float]) -> None:
    with pytest.raises(ValueError, match="1 to 24 finite differences are needed"):
        signs.p_value(apart)
