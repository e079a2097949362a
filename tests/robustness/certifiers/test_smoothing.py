import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from thesis_repro.robustness import certifiers
from thesis_repro.robustness.certifiers import smoothing
from thesis_repro.robustness.certifiers.smoothing import ABSTAIN, Smooth


def half_space(x):
    """Class 1 where the first coordinate is above 1/2: P(class 1) = Phi((x_0 - 1/2) / sigma)."""
    return torch.stack([torch.zeros(len(x)), x[:, 0] - 0.5], 1)


def at(distance):
    """The point so far from the border."""
    return torch.tensor([0.5 + distance])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_radius_of_a_half_space_is_nearly_the_distance():
    smooth = Smooth(half_space, 2, 0.5)
    label, radius = smooth.certify(at(0.3), 100, 100_000, 0.001, 10_000, seeded(0))
    assert label == 1
    assert 0.28 < radius < 0.3  # exactly 0.3 if the probability were known
    assert smooth.certify(at(-0.3), 100, 10_000, 0.001, 10_000, seeded(0))[0] == 0


def test_it_abstains_at_the_border():
    smooth = Smooth(half_space, 2, 0.5)
    assert smooth.certify(at(0.0), 100, 1000, 0.001, 500, seeded(0)) == (ABSTAIN, 0.0)
    assert smooth.predict(at(0.0), 1000, 0.001, 500, seeded(0)) == ABSTAIN
    assert smooth.predict(at(0.3), 1000, 0.001, 500, seeded(0)) == 1


@given(
    n=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.floats(1e-4, 0.4), sigma=st.just(0.25)
)
def test_the_radius_is_the_formula_with_a_one_sided_bound(n, share, alpha, sigma):
    hits = round(share * n)
    # the two-sided interval at 2 alpha has the one-sided bound at alpha as its lower end
    low = proportion_confint(hits, n, 2 * alpha, method="beta")[0]
    expected = sigma * norm.ppf(low) if low > 0.5 else 0.0
    assert smoothing.certified_radius(hits, n, alpha, sigma) == pytest.approx(expected, abs=1e-9)


def test_the_largest_radius_is_that_of_n_hits():
    found = smoothing.certified_radius(100_000, 100_000, 0.001, 1.0)
    assert found == pytest.approx(norm.ppf(0.001**1e-5))
    assert 3.8 < found < 3.82


def test_wrong_radii_are_rarer_than_alpha_over_2000_seeds():
    """Class 0 has probability 0.7, known; a radius is wrong if it exceeds sigma Phi^-1(0.7)."""
    alpha, n, truth = 0.05, 100, 0.7

    limit = norm.ppf(truth)

    def known(x):
        said = (x[:, 0] > limit).long()
        return nn.functional.one_hot(said, 2).float()

    smooth = Smooth(known, 2, 1.0)
    wrong, answered = 0, 0
    for seed in range(2000):
        label, radius = smooth.certify(torch.zeros(1), 10, n, alpha, n, seeded(seed))
        answered += label == 0
        wrong += label == 1 or radius > limit
    assert answered > 1800
    # at most alpha, and not absurdly careful: the bound is one-sided and nearly met at this n
    assert 0.5 * alpha < wrong / 2000 < alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)


def test_selection_and_estimation_draw_other_samples(monkeypatch):
    drawn = []
    original = Smooth.counts

    def watched(self, x, n, batch_size, generator=None):
        drawn.append((n, generator.get_state().clone()))
        return original(self, x, n, batch_size, generator)

    monkeypatch.setattr(Smooth, "counts", watched)
    Smooth(half_space, 2, 0.5).certify(torch.zeros(1), 50, 70, 0.1, 40, seeded(0))
    assert [n for n, _ in drawn] == [50, 70]
    assert not torch.equal(drawn[0][1], drawn[1][1])


def test_noise_has_sigma_is_not_clipped_and_comes_in_batches():
    sizes, values = [], []

    def seen(x):
        sizes.append(len(x))
        values.append(x.flatten())
        return half_space(x.flatten(1))

    Smooth(seen, 2, 0.7).counts(torch.full((3, 4), 0.9), 1000, 300, seeded(0))
    assert sizes == [300, 300, 300, 100]
    noise = torch.cat(values) - 0.9
    assert noise.std().item() == pytest.approx(0.7, rel=0.02) and abs(noise.mean()) < 0.02
    assert (noise + 0.9).max() > 2 and (noise + 0.9).min() < -1


def test_counts_depend_on_the_seed_alone():
    smooth = Smooth(half_space, 2, 0.5)
    first, again, other = (smooth.counts(at(0.1), 500, 100, seeded(s)).tolist() for s in (1, 1, 2))
    assert first == again != other and sum(first) == 500


def test_copies_with_a_score_that_is_no_number_count_for_no_class():
    def broken(x):
        scores = half_space(x)
        scores[::2, 0] = math.nan
        return scores

    assert Smooth(broken, 2, 0.5).counts(torch.ones(1), 100, 50, seeded(0)).sum() == 50


def test_a_module_is_asked_in_eval_mode_and_left_as_it_was():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3)).train()
    smooth = Smooth(model, 3, 1e-6)
    counts = smooth.counts(torch.rand(4), 64, 16, seeded(0))
    assert counts.max() == 64 and model.training


def full_above(limit):
    """A model that finds no memory for more than so many images."""

    def model(x):
        if len(x) > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return half_space(x)

    return model


def test_out_of_memory_halves_the_batch_loses_nothing_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        counts = Smooth(full_above(30), 2, 0.5).counts(torch.zeros(1), 1000, 200, seeded(0))
    assert counts.sum() == 1000
    assert [r.message for r in caplog.records] == [
        f"out of memory: going on with batches of {size}" for size in (100, 50, 25)
    ]
    with pytest.raises(RuntimeError, match="can't allocate"):
        Smooth(full_above(0), 2, 0.5).counts(torch.zeros(1), 10, 8, seeded(0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(certifiers.sliced(4, 2, broken))


@given(total=st.integers(0, 60), size=st.integers(1, 20), limit=st.integers(1, 20))
def test_slices_cover_everything_once_whatever_the_memory(total, size, limit):
    def work(part):
        if part.stop - part.start > limit:
            raise torch.OutOfMemoryError("no room")
        return range(part.start, part.stop)

    made = [i for part in certifiers.sliced(total, size, work) for i in part]
    assert made == list(range(total))


def test_what_makes_no_sense_is_refused():
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma needs to be positive"):
            Smooth(half_space, 2, sigma)
    with pytest.raises(ValueError, match="num_classes"):
        Smooth(half_space, 1, 0.5)
    smooth, x = Smooth(half_space, 2, 0.5), torch.zeros(1)
    with pytest.raises(ValueError, match="n0 needs to be at least 1, got 0"):
        smooth.certify(x, 0, 10, 0.1, 5)
    with pytest.raises(ValueError, match="n needs to be at least 1, got -3"):
        smooth.certify(x, 10, -3, 0.1, 5)
    for alpha in (0.0, 1.0, 2.0, math.nan):
        with pytest.raises(ValueError, match="alpha needs to lie in"):
            smooth.certify(x, 10, 10, alpha, 5)
        with pytest.raises(ValueError, match="alpha needs to lie in"):
            smooth.predict(x, 10, alpha, 5)
    with pytest.raises(ValueError, match="whole number of at least 1, got 0"):
        smooth.certify(x, 10, 10, 0.1, 0)
    for ask in (lambda image: smooth.certify(image, 5, 5, 0.1, 5), smooth_predict(smooth)):
        for image in (torch.tensor([255.0]), torch.tensor([-0.1]), torch.tensor([math.nan])):
            with pytest.raises(ValueError, match=r"pixels need to lie in \[0, 1\]"):
                ask(image)
        with pytest.raises(ValueError, match="got uint8: for pixels in 0..255"):
            ask(torch.ones(1, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r">= 3\) scores, got \(5, 2\)"):
        Smooth(half_space, 3, 0.5).certify(x, 5, 5, 0.1, 5)


def smooth_predict(smooth):
    return lambda image: smooth.predict(image, 5, 0.1, 5)
