import numpy as np
import pytest

from thesis_repro.experiments.membership import sets


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(sets.TABLE)


def test_the_gaussian_rows_stay_within_a_point_of_the_optimum():
    config = sets.GaussianConfig(100, 100, 5, 40, 10, 0)
    result = sets.gaussians(config)
    found = {name: result.arrays[f"{name}.accuracy"].mean() for name in sets.GAUSSIAN_ATTACKS}
    optimum = result.values["optimum"]
    assert found[sets.TRUE_MEANS] == pytest.approx(optimum, abs=0.01)
    assert found["naive"] < found[sets.PROXIES] < optimum
    # the deviations of target and proxies add up, and members lie on the side of the target
    assert found[sets.PROXIES] == pytest.approx(optimum, abs=0.015)
    half = 0.5 + result.arrays["gap"] / 2
    np.testing.assert_allclose(result.arrays["naive.accuracy"], half, atol=1e-12)
