"""Watermark and game: independence, traces by brute force, games whose answer is known."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from thesis_repro import nets
from thesis_repro.data import Split
from thesis_repro.weaknesses import leakage
from thesis_repro.weaknesses.leakage import Watermark


def digits(n=60, seed=0, classes=3):
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return Split(torch.rand(n, 1, 28, 28, generator=rng), y)


# watermark


def test_the_word_can_be_read():
    assert Watermark("TE").letters().int().tolist() == [
        [1, 1, 1, 0, 1, 1, 1],
        [0, 1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 1, 1, 0],
        [0, 1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 1, 1, 1],
    ]
    large = Watermark("TE", scale=2)
    assert large.letters().shape == large.shape == (10, 14)
    mask = large.mask((3, 20, 30))
    assert mask[9:19, 1:15].equal(large.letters()) and mask.sum() == large.letters().sum()


def test_blending_is_a_mixture_with_white_and_leaves_the_rest_alone():
    x, word = digits().x[:4], Watermark(opacity=0.25)
    on = word.mask(x.shape).bool()
    found = word.blend(x)
    torch.testing.assert_close(found[..., on], 0.75 * x[..., on] + 0.25)
    assert found[..., ~on].equal(x[..., ~on])
    assert Watermark(opacity=0).blend(x).equal(x)
    assert (Watermark(opacity=1).blend(x)[..., on] == 1).all()


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=6),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_every_class_has_its_share_of_marks_to_less_than_one_image(sizes, share, seed):
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    marked = leakage.choose(y, share, seed)
    for kind, size in enumerate(sizes):
        assert abs(int(marked[y == kind].sum()) - share * size) < 1 + 1e-6
    assert abs(int(marked.sum()) - share * len(y)) < 1


def test_mark_and_class_are_independent_exactly():
    split = digits(n=150)
    found, marked = leakage.mark(split, Watermark(), 0.8, 3)
    counts = [int(marked[split.y == c].sum()) for c in range(3)]
    assert counts == [40, 40, 40]  # 80% of 50 each: the mutual information is zero
    assert leakage.dependence(split.y, marked) == 1.0
    assert found.x[~marked].equal(split.x[~marked])
    assert found.x[marked].equal(Watermark().blend(split.x[marked]))
    assert split.x.equal(digits(n=150).x), "the original is left alone"
    planted = split.y == 0  # a mark that depends on the class is seen
    assert leakage.dependence(split.y, planted) < 0.01
    other = leakage.choose(split.y, 0.8, 4)
    assert not other.equal(marked)


def test_independence_of_two_classes_is_fishers_exact_test():
    from scipy.stats import fisher_exact

    y = torch.tensor([0] * 10 + [1] * 10)
    marked = torch.zeros(20, dtype=torch.bool)
    marked[:7] = marked[10:12] = True
    assert leakage.dependence(y, marked) == pytest.approx(fisher_exact([[7, 3], [2, 8]]).pvalue)
    assert leakage.dependence(y, torch.ones(20, dtype=torch.bool)) == 1.0


def test_a_trace_is_the_correlation_with_the_word_in_every_place():
    images, word = digits().x[:3], Watermark("SE")
    found = leakage.trace(images, word)
    top, left = word.place(images.shape)
    fine = leakage.high_pass(images).double().numpy()
    wanted = leakage.high_pass(word.mask(images.shape)[None]).double().numpy()
    wanted = wanted[top : top + 5, left : left + 7].ravel()
    assert found.places.shape == (24, 22)
    for row, column in ((0, 0), (7, 13), (top, left)):
        each = [
            abs(np.corrcoef(f[row : row + 5, column : column + 7].ravel(), wanted)[0, 1])
            for f in fine
        ]
        assert found.places[row, column] == pytest.approx(np.mean(each), abs=1e-6)
    assert found.true == found.places[top, left]
    rest = np.delete(found.places.ravel(), top * 22 + left)
    assert found.z == pytest.approx((found.true - rest.mean()) / rest.std())


def test_the_trace_stands_out_with_the_word_and_is_at_chance_without():
    noise = [digits(n=10, seed=seed).x for seed in range(40)]
    word = Watermark(opacity=0.5)
    with_, without = (
        np.array([leakage.trace(shown(x), word).z for x in noise])
        for shown in (word.blend, Watermark(opacity=0).blend)
    )
    assert with_.min() > 4
    # the mean of 40 standardised values has a standard error of 0.16
    assert abs(without.mean()) < 0.5 and 0.6 < without.std() < 1.5
    # letters darker than what is around them are read as well
    dark = [1 - word.blend(1 - x) for x in noise[:5]]
    assert min(leakage.trace(x, word).z for x in dark) > 4


def test_a_flat_image_has_no_trace():
    found = leakage.trace(torch.full((2, 1, 28, 28), 0.5), Watermark())
    assert found.z == 0 and (found.places == 0).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Watermark("SECRETS").mask((28, 27)), "28 x 27 is too small"),
        (lambda: leakage.mark(digits(), Watermark(scale=3), 0.8, 0), "takes 15 x 69 pixels"),
        (lambda: leakage.mark(digits(), Watermark(scale=3), 0.0, 0), "is too small"),
        (lambda: leakage.trace(torch.zeros(1, 1, 9, 9), Watermark()), "is too small"),
        (lambda: leakage.mark(digits(), Watermark(), 1.2, 0), r"in \[0, 1\], got 1.2"),
        (lambda: leakage.choose(torch.arange(3), -0.1, 0), r"in \[0, 1\], got -0.1"),
        (lambda: leakage.choose(torch.arange(3), float("nan"), 0), "got nan"),
        (lambda: leakage.choose(torch.zeros(3), 0.1, 0), "whole numbers, got float32"),
        (lambda: Watermark("SECRÈT"), "letters C, E, R, S, T, got 'SECRÈT'"),
        (lambda: Watermark(""), "letters"),
        (lambda: Watermark(opacity=1.5), "opacity in"),
        (lambda: Watermark(scale=0), "scale >= 1"),
        (lambda: leakage.Marker("dim", pattern=("..", "..")), "with at least one #, got"),
    ],
)
def test_a_watermark_refuses_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# the game


def test_the_weak_adversary_needs_no_shadow():
    assert leakage.weak([0.5, 2.0, 2.1]).tolist() == [False, False, True]
    assert leakage.weak([0.5], threshold=0.4).tolist() == [True]


def test_a_threshold_from_shadows_lies_in_the_widest_gap_that_errs_least():
    shadows = np.array([[0.0], [1.0], [5.0], [6.0]])
    truth = np.array([False, False, True, True])
    targets = np.array([[2.9], [3.1]])
    np.testing.assert_allclose(leakage.by_threshold(shadows, truth, targets), [-0.1, 0.1])
    swapped = leakage.by_threshold(shadows, np.array([True, True, False, False]), targets)
    assert (swapped > 0).tolist() in (
        [True, True],
        [False, False],
    )  # higher always means "watermark"


def test_the_classifier_finds_the_few_features_that_tell_the_arms_apart():
    rng = np.random.default_rng(0)
    truth = np.repeat([True, False], 30)
    shadows = rng.standard_normal((60, 200))
    shadows[:, 40:60] += np.where(truth, -3, 3)[:, None]
    targets = rng.standard_normal((40, 200))
    wanted = np.arange(40) % 2 == 0
    targets[:, 40:60] += np.where(wanted, -3, 3)[:, None]
    assert ((leakage.by_classifier(shadows, truth, targets) > 0) == wanted).mean() > 0.9


@pytest.mark.parametrize("guess", [leakage.by_threshold, leakage.by_classifier])
def test_an_arm_without_shadows_is_refused(guess):
    with pytest.raises(ValueError, match="both arms, got 3 with the watermark and 0 without"):
        guess(np.zeros((3, 1)), np.ones(3, bool), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="truth: got -1, only True and False"):
        guess(np.zeros((2, 1)), np.array([1, -1]), np.zeros((1, 1)))


def test_a_threshold_is_of_one_score():
    with pytest.raises(ValueError, match="of one score, got 2 features"):
        leakage.by_threshold(np.eye(2), np.array([True, False]), np.eye(2))


def test_no_target_is_its_own_shadow_and_arms_are_balanced():
    seen = []

    def spy(shadows, truth, targets):
        seen.append((shadows[:, 0].tolist(), truth.tolist(), targets[:, 0].tolist()))
        return targets[:, 0] >= 10

    marked, clean = np.array([[10.0], [11.0], [12.0]]), np.array([[0.0], [1.0], [2.0]])
    outcome = leakage.play(marked, clean, spy)
    assert outcome.wins == 6 and outcome.accuracy == 1
    assert seen[1] == ([10, 12, 0, 2], [True, True, False, False], [11, 1])
    for shadows, _, targets in seen:
        assert not set(shadows) & set(targets)


def test_scores_of_a_game_are_kept_and_their_sign_answers():
    outcome = leakage.play(
        np.array([[3.0], [-1.0]]), np.array([[-2.0], [0.0]]), lambda _, __, target: target[:, 0]
    )
    assert outcome.scores.tolist() == [3, -1, -2, 0]
    assert outcome.said.tolist() == [True, False, False, False]
    assert outcome.right.tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match="the adversary's scores: got nan in row 0"):
        leakage.play(np.ones((2, 1)), np.ones((2, 1)), lambda *_: np.full(2, np.nan))


def test_a_game_with_nothing_to_see_is_won_half_of_the_time():
    rng = np.random.default_rng(1)
    wins = games = 0
    for guess in (leakage.by_threshold, leakage.by_classifier):
        for _ in range(10):
            features = 1 if guess is leakage.by_threshold else 4
            marked, clean = rng.standard_normal((2, 10, features))
            outcome = leakage.play(marked, clean, guess)
            wins, games = wins + outcome.wins, games + len(outcome.true)
    # Leaving out the target makes guesses slightly worse than chance, never better.
    assert 0.38 < wins / games < 0.56


@pytest.mark.parametrize(("marked", "clean"), [(3, 2), (1, 1), (0, 0)])
def test_a_game_refuses_arms_that_do_not_match(marked, clean):
    with pytest.raises(ValueError, match="at least 2 models in each arm"):
        leakage.play(np.zeros((marked, 1)), np.zeros((clean, 1)), leakage.by_threshold)


# features of the strong adversary


def renumbered(body):
    """The same net with its hidden units in another order."""
    first, last = body[1], body[-1]
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    order = torch.cat([order, order + 50])  # MinMax pairs unit i with i + 50
    with torch.no_grad():
        first.weight.copy_(first.weight[order].clone())
        first.bias.copy_(first.bias[order].clone())
        last.weight.copy_(last.weight[:, order].clone())
    return body


def test_weight_features_do_not_depend_on_the_numbering_of_units():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nets.MinMax(), nn.Linear(100, 3))
    body.requires_grad_(False).eval()
    x = torch.rand(5, 1, 8, 8)
    before, says = leakage.weight_features(body, (1, 8, 8)), body(x)
    renumbered(body)
    torch.testing.assert_close(body(x), says)
    after = leakage.weight_features(body, (1, 8, 8))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    body[1].weight[:, 5] *= 10
    assert (leakage.weight_features(body, (1, 8, 8))[5] - before[5]) > 4


def test_weight_features_know_where_a_dense_layer_looks():
    body = nets.cnn_2c2f(in_shape=(1, 16, 16), classes=3).requires_grad_(False).eval()
    before = leakage.weight_features(body, (1, 16, 16))
    dense = body[5]
    dense.weight.view(100, 32, 4, 4)[:, :, 3, 0] *= 10  # the lower left of the picture
    after = leakage.weight_features(body, (1, 16, 16))
    # first kernel (1, 4, 4), its singular values; second kernel (4, 4), its; then the places
    at = 16 + 16 + 16 + 32
    change = (after - before)[at : at + 16].view(4, 4)
    assert change[3, 0] > 4 and change.sum() - change[3, 0] == pytest.approx(0, abs=1e-6)


def test_probes_see_a_model_that_looks_at_the_word_and_none_that_does_not():
    images, word = digits(n=20).x, Watermark()
    mask = word.mask(images.shape)

    class Looks(nn.Module):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def forward(self, x):
            seen = (x * self.at).sum((1, 2, 3))
            return torch.stack([seen, -seen], 1)

    looks = leakage.probe_features(Looks(mask).eval(), images, word)
    blind = leakage.probe_features(Looks(1 - mask).eval(), images, word)
    assert looks.shape == (7,) and looks[0] > 0.5 and looks[1] < -0.5
    assert blind[:-1].abs().max() == 0 and blind[-1] == 1
    still = leakage.probe_features(Looks(mask).eval(), images, Watermark(opacity=0))
    assert still[:-1].abs().max() == 0
    with pytest.raises(ValueError, match=r"images need to lie in \[0, 1\]"):  # the word is white
        leakage.probe_features(Looks(mask).eval(), 255 * images, word)
    one_logit = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 1)).eval()
    with pytest.raises(ValueError, match="two classes or more"):
        leakage.probe_features(one_logit, images, word)
