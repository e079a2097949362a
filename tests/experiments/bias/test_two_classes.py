"""What the cells of the chapter share: data sets of two classes, and subsamples of them."""

import numpy as np
import pytest

from thesis_repro.experiments.bias import two_classes


def test_an_imbalanced_subsample_has_its_prior_and_is_as_large_as_can_be():
    y = np.repeat([0, 1], [100, 60])
    index = two_classes.imbalanced(y, 0.75, np.random.default_rng(0))
    assert len(set(index)) == len(index) == 80 and y[index].mean() == 0.75
    index = two_classes.imbalanced(y, 0.25, np.random.default_rng(0))
    assert (y[index] == 0).sum() == 100 and y[index].mean() == pytest.approx(0.25, abs=0.01)
    with pytest.raises(ValueError, match="both classes"):
        two_classes.imbalanced(np.ones(5, int), 0.75, np.random.default_rng(0))


@pytest.mark.parametrize("name", [*two_classes.TABULAR, *two_classes.DIGITS, *two_classes.MNIST])
def test_every_real_set_has_two_classes(name):
    x, y = two_classes.features(name)
    assert x.shape[0] == len(y) and x.dtype == np.float64 and set(y) == {0, 1}
    if name in two_classes.MNIST:
        assert x.min() >= 0 and x.max() == 1
        assert set(np.bincount(y)) == {500 if "–" not in name else 2500}
