"""What a remedy took away: against closed forms, and nothing where chance is as large."""

import numpy as np
import pytest

from thesis_repro.experiments.bias import removal
from thesis_repro.lab.cells import Result


def test_removed_is_of_the_signed_mean() -> None:
    found = removal.removed(np.array([3.0, 5.0, 4.0]), np.array([-1.0, 1.0, 1.2]))
    assert found.value == pytest.approx(100 * (1 - 0.4 / 4))
    assert found.low < found.value < found.high and "3 paired runs" in found.how
    turned = removal.removed(np.array([3.0, 5.0, 4.0]), np.array([-3.0, -5.0, -4.0]))
    assert turned.value == pytest.approx(0)  # a bias the other way is as large


def test_the_interval_is_of_pairs_and_covers_as_often_as_it_says() -> None:
    noise = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    paired = removal.removed(10 + noise, 0.5 * (10 + noise))
    assert paired.low == pytest.approx(50) and paired.high == pytest.approx(50)
    crossed = removal.removed(10 + noise, 0.5 * (10 - noise))
    assert crossed.high - crossed.low > 5
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        before = rng.normal(4, 1, 40)
        one = removal.removed(before, 0.25 * before + rng.normal(0, 0.3, 40))
        inside += one.low <= 75 <= one.high
    assert inside >= 52  # of 60; 57 expected


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(ValueError, match=r"two runs or more.*\(3,\) and \(2,\)"):
        removal.removed(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="two runs"):
        removal.removed(np.ones(1), np.ones(1))


def pooled(before, after, test_points):
    arrays = {}
    for name, values in (("none", before), ("experts", after)):
        arrays |= {f"{name}.bias": np.array(values) / 100, f"{name}.kept": np.ones(len(values))}
        arrays[f"{name}.accuracy"] = np.full(len(values), 0.95)
    results = [Result({"test_points": test_points} if test_points else {}, arrays)]
    return [removal.pool(results, name, "none") for name in ("none", "experts")]


def test_nothing_is_removed_where_the_bias_is_no_larger_than_chance() -> None:
    full, experts = pooled([1.0, 1.2, 1.1], [0.1, 0.0, -0.1], 383)
    assert full.estimate("chance").value == pytest.approx(0.911, abs=1e-3)  # below 1.1, above 0.85
    assert "removed" not in experts.values and experts.estimate("bias").value == pytest.approx(0)
    _, experts = pooled([4.0, 4.2, 4.1], [0.1, 0.0, -0.1], 383)
    assert experts.estimate("removed").value == pytest.approx(100)
    _, experts = pooled([-4.0, -4.2, -4.1], [2.05, 2.05, 2.05], 383)
    assert experts.estimate("removed").value == pytest.approx(50)
    full, experts = pooled([1.0, 1.2, 1.1], [0.1, 0.0, -0.1], None)  # exact: no test set, no chance
    assert full.estimate("chance").value == 0 and "removed" in experts.values
