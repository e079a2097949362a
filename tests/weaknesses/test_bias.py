import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from thesis_repro.weaknesses import bias
from thesis_repro.weaknesses.bias.masks import counts


def drawn(n=600, weak=40, seed=0, **options):
    return bias.Mixture(weak, **options).sample(n, np.random.default_rng(seed))


# the bias itself


def test_bias_is_the_share_said_less_the_share_true():
    assert bias.measure([0, 0, 1, 1], [1, 0, 1, 1]) == 0.25
    assert bias.measure([1, 1, 1, 0], [0, 0, 1, 0]) == -0.5
    assert bias.measure([0, 1], [1, 0]) == 0.0  # two errors that cancel


@pytest.mark.parametrize(
    ("labels", "said", "words"),
    [
        ([0, 1, 2], [0, 1, 1], r"labels of two classes, 0 and 1, got \[0, 1, 2\]"),
        ([0, 1, 1], [0, 1, -1], "predictions of two classes"),
        ([0, 1], [0, 1, 1], "one length"),
        ([], [], "length >= 1"),
        ([0.0, float("nan")], [0, 1], "labels of two classes"),
    ],
)
def test_bias_refuses_what_is_not_two_classes(labels, said, words):
    with pytest.raises(ValueError, match=words):
        bias.measure(labels, said)


# the closed form


@pytest.mark.parametrize("prior", [0.1, 0.5, 0.6, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("separation", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_the_closed_form_agrees_with_simulation_within_0_3_points(separation, prior):
    seed = int(1000 * separation + 100 * prior)
    simulated = bias.simulated_bias(separation, prior, 400_000, seed)
    assert abs(bias.bayes_bias(separation, prior) - simulated) < 0.003


@settings(max_examples=100, deadline=None)
@given(st.floats(0.05, 6), st.floats(0.01, 0.99))
def test_the_closed_form_is_the_integral_over_the_best_decision(separation, prior):
    threshold = separation / 2 - np.log(prior / (1 - prior)) / separation

    def density(x):
        return (1 - prior) * norm.pdf(x) + prior * norm.pdf(x - separation)

    share = quad(density, threshold, max(threshold, separation) + 12, epsabs=1e-12)[0]
    far = quad(density, min(threshold, 0) - 12, threshold, epsabs=1e-12)[0]
    assert share + far == pytest.approx(1, abs=1e-6)
    assert bias.bayes_bias(separation, prior) == pytest.approx(share - prior, abs=1e-6)


def test_the_limits_of_the_closed_form():
    assert bias.bayes_bias(2.0, 0.5) == pytest.approx(0, abs=1e-15)
    assert bias.bayes_bias(30.0, 0.8) == pytest.approx(0, abs=1e-12)
    assert bias.bayes_bias(1e-3, 0.8) == pytest.approx(0.2, abs=1e-12)
    assert bias.bayes_bias(0, 0.8) == pytest.approx(0.2)
    assert bias.bayes_bias(0, 0.3) == pytest.approx(-0.3)
    assert bias.bayes_bias(0, 0.5) == 0


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 10), st.floats(0.01, 0.99))
def test_the_frequent_class_gains_and_renaming_classes_turns_the_sign(separation, prior):
    value = bias.bayes_bias(separation, prior)
    assert value == pytest.approx(-bias.bayes_bias(separation, 1 - prior), abs=1e-12)
    assert value * (prior - 0.5) >= -1e-15
    assert abs(value) <= min(prior, 1 - prior) + 1e-12


@pytest.mark.parametrize(("separation", "prior"), [(-1, 0.5), (1, 0), (1, 1), (float("nan"), 0.5)])
def test_the_closed_form_refuses_other_values(separation, prior):
    with pytest.raises(ValueError, match="separation >= 0 and 0 < prior < 1"):
        bias.bayes_bias(separation, prior)
    with pytest.raises(ValueError, match="n >= 1"):
        bias.simulated_bias(1, 0.5, 0)


# the mixture


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_exact_evaluation_agrees_with_counting(symmetric):
    mixture = bias.Mixture(weak=30, prior=0.7, symmetric=symmetric)
    rng = np.random.default_rng(3)
    coef = rng.standard_normal(50) / mixture.scales
    exact = mixture.evaluate(coef, 0.4)
    x, y = mixture.sample(200_000, rng)
    said = (x @ coef + 0.4 > 0).astype(int)
    assert bias.measure(y, said) == pytest.approx(exact[0], abs=0.004)
    assert (said == y).mean() == pytest.approx(exact[1], abs=0.004)


def test_the_bayes_rule_of_the_mixture_has_the_closed_form_bias():
    for prior in (0.5, 0.8):
        mixture = bias.Mixture(weak=50, strong=4, prior=prior)
        found, accuracy = mixture.evaluate(*mixture.bayes_rule())
        assert found == pytest.approx(bias.bayes_bias(mixture.separation, prior), abs=1e-12)
        coef, intercept = mixture.bayes_rule()
        for change in (0.1, -0.1):
            assert mixture.evaluate(coef, intercept + change)[1] < accuracy


def test_the_bayes_rule_is_what_linear_discriminant_analysis_converges_to():
    mixture = bias.Mixture(weak=6, strong=4, prior=0.7, sigma=2.0)
    x, y = mixture.sample(200_000, np.random.default_rng(0))
    fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    coef, intercept = mixture.bayes_rule()
    np.testing.assert_allclose(fitted.coef_[0], coef, atol=0.02)
    assert fitted.intercept_[0] == pytest.approx(intercept, abs=0.03)


def test_weak_features_all_point_to_class_1_unless_symmetric():
    low, high = bias.Mixture(weak=6, strong=4).means
    assert (np.sign(high - low)[4:] == 1).all() and (high - low)[:4].sum() == 0
    low, high = bias.Mixture(weak=6, strong=4, symmetric=True).means
    assert (high - low).sum() == 0
    x, y = bias.Mixture(weak=6, prior=0.7).sample(50_000, np.random.default_rng(0))
    assert y.mean() == pytest.approx(0.7, abs=0.01)
    assert x[:, 20:].std(0) == pytest.approx(np.full(6, 10.0), rel=0.02)


def test_a_rule_without_weights_answers_by_its_intercept():
    mixture = bias.Mixture(weak=2, prior=0.6)
    assert mixture.evaluate(np.zeros(22), 1.0) == pytest.approx((0.4, 0.6))
    assert mixture.evaluate(np.zeros(22), -1.0) == pytest.approx((-0.6, 0.4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weak": -1}, "weak >= 0"),
        ({"weak": 1, "strong": 3}, "even number"),
        ({"weak": 1, "sigma": 0}, "sigma > 0"),
        ({"weak": 1, "prior": 1.0}, "0 < prior < 1"),
    ],
)
def test_a_mixture_refuses_other_parameters(options, words):
    with pytest.raises(ValueError, match=words):
        bias.Mixture(**options)


def test_sgd_is_biased_by_asymmetric_weak_features_and_not_by_symmetric_ones():
    def mean_bias(symmetric):
        mixture, found = bias.Mixture(400, symmetric=symmetric), []
        for seed in range(5):
            x, y = mixture.sample(1000, np.random.default_rng(seed))
            model = SGDClassifier(
                loss="log_loss", learning_rate="constant", eta0=1e-4, random_state=seed
            ).fit(x, y)
            found.append(mixture.evaluate(model.coef_[0], model.intercept_[0])[0])
        return np.mean(found)

    assert mean_bias(False) > 0.08
    assert abs(mean_bias(True)) < 0.02


# masks


def test_parity_keeps_the_strongest_of_the_larger_side():
    mask = bias.parity_mask([0.1, 3.0, -0.5, 2.0, 0.0, 0.2, -4.0])
    assert mask.tolist() == [False, True, True, True, False, False, True]
    assert bias.parity_mask([1.0, 2.0]).sum() == 0  # nothing on the other side


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_parity_is_even_keeps_the_smaller_side_and_ignores_scale(values):
    influence = np.array(values, float)
    mask = bias.parity_mask(influence)
    up, down = (influence > 0).sum(), (influence < 0).sum()
    assert (influence[mask] > 0).sum() == (influence[mask] < 0).sum() == min(up, down)
    assert (mask == bias.parity_mask(1e-9 * influence)).all()
    dropped = np.abs(influence[~mask & ((influence > 0) == (up > down)) & (influence != 0)])
    larger = influence[mask & ((influence > 0) == (up > down))]
    if len(dropped) and len(larger):
        assert dropped.max() <= np.abs(larger).min()


def test_experts_are_counted_from_the_strongest_on_each_side():
    influence = [0.1, 3.0, -0.5, 2.0, 0.0, 0.2, -4.0]
    assert np.flatnonzero(bias.expert_mask(influence, 1, 2)).tolist() == [1, 2, 6]
    assert bias.expert_mask(influence, 0, 0).sum() == 0
    assert bias.expert_mask(influence, 6, 1).sum() == 5  # four positive ones are all there are


@pytest.mark.parametrize(("alpha", "beta"), [(5, 3), (8, 0), (-1, 2)])
def test_more_experts_than_features_are_refused(alpha, beta):
    with pytest.raises(ValueError, match=f"alpha={alpha} and beta={beta}.*at most the 7 features"):
        bias.expert_mask([1, 2, 3, 4, -1, -2, -3], alpha, beta)


@pytest.mark.parametrize("bad", [[], [[1.0]], [float("nan")]])
def test_influence_is_one_finite_number_per_feature(bad):
    with pytest.raises(ValueError, match="influence(: got nan in row 0| needs shape)"):
        bias.parity_mask(bad)


def test_counts_begin_with_none_and_end_with_all():
    assert counts(4, 32).tolist() == counts(4, None).tolist() == [0, 1, 2, 3, 4]
    spaced = counts(1000, 16)
    assert spaced[0] == 0 and spaced[-1] == 1000 and len(spaced) <= 16
    with pytest.raises(ValueError, match="at least 2"):
        counts(5, 1)


def test_the_search_finds_what_trying_every_pair_finds():
    rng = np.random.default_rng(5)
    influence = rng.standard_normal(9)
    x = rng.standard_normal((60, 9)) + 0.6
    y = (x @ influence + rng.standard_normal(60) > 1.0).astype(int)
    weighed = x * influence

    def scores(masks):
        return masks.astype(float) @ weighed.T

    def quality(alpha, beta):
        s = scores(bias.expert_mask(influence, alpha, beta)[None])[0]
        return ((s > 0) != y).sum(), abs((s > 0).sum() - y.sum())

    up, down = (influence > 0).sum(), (influence < 0).sum()
    allowed = quality(up, down)[0]
    pairs = [(a, b) for a in range(up + 1) for b in range(down + 1)]
    best = min(quality(*p)[1] for p in pairs if quality(*p)[0] <= allowed)
    found = bias.search_experts(influence, y, scores)
    assert quality(*found)[0] <= allowed and quality(*found)[1] == best
    assert best < quality(up, down)[1]  # there was something to find
    assert bias.search_linear_experts(influence, y, weighed) == found
    shifted = bias.search_experts(influence, y, lambda masks: scores(masks) + 0.7, grid=4)
    assert bias.search_linear_experts(influence, y, weighed, 0.7, grid=4) == shifted


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 25))
def test_prefix_sums_choose_what_masks_choose(seed, features, n):
    """Of scores that a bias and a loss tell apart; integers, so that sums are exact."""
    rng = np.random.default_rng(seed)
    influence = rng.permutation(np.arange(features) + 1) * rng.choice([-1, 0, 1], features)
    parts = rng.integers(-4, 5, (n, features)) * (influence != 0)
    y = rng.integers(0, 2, n)
    slow = bias.search_experts(influence, y, lambda masks: masks.astype(float) @ parts.T + 0.5)
    assert bias.search_linear_experts(influence, y, parts, 0.5) == slow


@pytest.mark.parametrize("seed", range(60))
def test_the_choice_is_the_least_of_all_pairs_with_no_more_errors(seed):
    rng = np.random.default_rng(seed)
    influence, x = rng.standard_normal(5), rng.standard_normal((14, 5)) + 0.3
    y, offset = rng.integers(0, 2, 14), rng.normal()
    up, down = ((influence > 0).sum(), (influence < 0).sum())
    judged = {}
    for pair in ((a, b) for a in range(up + 1) for b in range(down + 1)):
        scores = x @ (influence * bias.expert_mask(influence, *pair)) + offset
        loss = np.logaddexp(0, -(2 * y - 1) * scores).mean()
        judged[pair] = ((scores > 0) != y).sum(), abs((scores > 0).sum() - y.sum()), loss
    allowed = judged[up, down][0]
    best = min(found[1:] for found in judged.values() if found[0] <= allowed)
    errors, lean, loss = judged[bias.search_linear_experts(influence, y, x * influence, offset)]
    assert errors <= allowed and (lean, loss) == (best[0], pytest.approx(best[1]))


def test_contributions_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"contributions need shape \(2, 3\).*got \(3, 2\)"):
        bias.search_linear_experts([1.0, -1.0, 2.0], [0, 1], np.ones((3, 2)))
    with pytest.raises(ValueError, match="labels need shape"):
        bias.search_linear_experts([1.0, -1.0], [0, 2], np.ones((2, 2)))


def test_chance_is_what_an_unbiased_rule_shows():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 0, 1], (20_000, 383), p=[0.05, 0.9, 0.05])
    assert np.abs(signs.mean(1)).mean() == pytest.approx(bias.chance(0.1, 383), rel=0.02)
    for error, n in ((-0.1, 10), (1.1, 10), (0.1, 0), (float("nan"), 10)):
        with pytest.raises(ValueError, match="chance needs 0 <= error <= 1 and n >= 1"):
            bias.chance(error, n)


# estimators

REMEDIES = [bias.FeatureParity, bias.Experts, bias.ThresholdShift, bias.L1]


@parametrize_with_checks([remedy(LogisticRegression()) for remedy in REMEDIES])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_the_same_seed_gives_the_same_model(remedy):
    x, y = drawn()
    first, second = (remedy(random_state=3).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(first.coef_, second.coef_)
    np.testing.assert_array_equal(first.intercept_, second.intercept_)
    other = remedy(random_state=4).fit(x, y)
    assert not np.array_equal(first.coef_, other.coef_)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_string_labels_and_the_score(remedy):
    x, y = drawn()
    names = np.array(["frog", "bird"])[y]
    model = remedy(random_state=0).fit(x, names)
    assert model.classes_.tolist() == ["bird", "frog"]
    assert set(model.predict(x)) <= {"bird", "frog"}
    assert model.score(x, names) > 0.85


@pytest.mark.parametrize("remedy", REMEDIES)
def test_bad_training_data_is_named(remedy):
    x, y = drawn()
    with pytest.raises(ValueError, match=r"Only binary classification.*got 3 class"):
        remedy().fit(x, np.arange(len(y)) % 3)
    with pytest.raises(ValueError, match=r"got 1 class"):
        remedy().fit(x, np.zeros(len(y), int))
    flat = x.copy()
    flat[:, 7] = 2.5
    with pytest.raises(ValueError, match="feature 7 is constant"):
        remedy().fit(flat, y)
    lonely = np.zeros(len(y), int)
    lonely[0] = 1
    with pytest.raises(ValueError, match="class 1 has 1 point"):
        remedy().fit(x, lonely)
    with pytest.raises(ValueError, match="validation_fraction"):
        remedy(validation_fraction=1.5).fit(x, y)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_an_estimator_without_one_weight_per_feature_is_named(remedy):
    x, y = drawn()
    for estimator in (DecisionTreeClassifier(max_depth=2), make_pipeline(LogisticRegression())):
        name = type(estimator).__name__
        with pytest.raises(ValueError, match=rf"{name} has no coef_ of shape \(1, \d+\)"):
            remedy(estimator).fit(x, y)


def test_a_class_absent_from_one_part_is_named():
    x, _ = drawn(100)
    rare = np.zeros(100, int)
    rare[:2] = 1
    with pytest.raises(ValueError, match="class 1 is absent from the part that is validated on"):
        bias.Experts(validation_fraction=0.05, random_state=0).fit(x, rare)


def shared(x, y, seed):
    """The parts that a remedy fits and validates on."""
    return train_test_split(
        x, y, test_size=0.4, stratify=y, random_state=np.random.RandomState(seed)
    )


def test_both_parts_have_the_share_of_each_class(monkeypatch):
    seen = []
    monkeypatch.setattr(
        bias.FeatureParity, "_choose", lambda self, *parts: seen.append(parts[3].sum())
    )
    x, _ = drawn(100)
    for seed in range(4):
        bias.FeatureParity(random_state=seed).fit(x, (np.arange(100) < 20).astype(int))
    assert seen == [8] * 4


def test_parity_zeroes_features_and_leaves_the_rest_and_the_intercept():
    x, y = drawn(weak=80)
    model = bias.FeatureParity(random_state=0).fit(x, y)
    before = model.estimator_.coef_[0]
    assert (model.coef_[0] > 0).sum() == (model.coef_[0] < 0).sum()
    np.testing.assert_array_equal(model.coef_[0][model.mask_], before[model.mask_])
    assert not model.coef_[0][~model.mask_].any() and (~model.mask_).any()
    np.testing.assert_array_equal(model.intercept_, model.estimator_.intercept_)


def test_experts_keep_what_they_say():
    x, y = drawn(weak=80)
    model = bias.Experts(random_state=0).fit(x, y)
    assert (model.coef_[0] > 0).sum() == model.alpha_
    assert (model.coef_[0] < 0).sum() == model.beta_


@pytest.mark.parametrize("seed", range(4))
def test_each_remedy_is_chosen_on_the_points_that_were_left_out(seed):
    x, y = drawn(200, weak=20, seed=seed, prior=0.7)
    x_fit, x_val, y_fit, y_val = shared(x, y, seed)
    shifted = bias.ThresholdShift(LogisticRegression(C=0.01), random_state=seed).fit(x, y)
    assert bias.measure(y_val, shifted.predict(x_val)) == 0
    experts = bias.Experts(LogisticRegression(), random_state=seed).fit(x, y)
    weight, offset = experts.estimator_.coef_[0], experts.estimator_.intercept_[0]
    assert (experts.alpha_, experts.beta_) == bias.search_experts(
        weight, y_val, lambda masks: (masks * weight) @ x_val.T + offset
    )
    l1, errors = bias.L1(random_state=seed).fit(x, y), {}
    for strength in l1.Cs:
        model = LogisticRegression(
            l1_ratio=1.0, solver="liblinear", C=strength, max_iter=1000, random_state=0
        ).fit(x_fit, y_fit)
        errors[strength] = (model.predict(x_val) != y_val).sum()
    assert min(sorted(errors), key=errors.get) == l1.C_


def test_of_penalties_that_do_as_well_the_stronger_is_taken():
    x, y = drawn(200, weak=20)
    assert bias.L1(Cs=(0.1 + 1e-9, 0.1, 0.1 + 2e-9), random_state=0).fit(x, y).C_ == 0.1


def test_experts_and_parity_halve_the_bias_of_the_mixture():
    mixture = bias.Mixture(200)
    sgd = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=1e-4)
    found = {name: [] for name in ("none", "parity", "experts")}
    for run in range(5):
        x, y = mixture.sample(1667, np.random.default_rng(run))
        for name, remedy in (("parity", bias.FeatureParity), ("experts", bias.Experts)):
            model = remedy(sgd, random_state=run).fit(x, y)
            found[name].append(mixture.evaluate(model.coef_[0], model.intercept_[0]))
        full = model.estimator_
        found["none"].append(mixture.evaluate(full.coef_[0], full.intercept_[0]))
    mean = {name: np.abs(values).mean(0) for name, values in found.items()}
    for name in ("parity", "experts"):
        assert mean[name][0] <= mean["none"][0] / 2
        assert mean[name][1] >= mean["none"][1] - 0.005


def test_the_shift_balances_its_validation_points():
    scores, labels = np.array([-2.0, -1.0, 0.5, 1.0, 3.0]), np.array([0, 0, 0, 1, 1])
    shift = bias.balancing_shift(scores, labels)
    assert shift == -0.75
    assert bias.measure(labels, (scores + shift > 0).astype(int)) == 0
    with pytest.raises(ValueError, match="both classes"):
        bias.balancing_shift(scores, np.zeros(5, int))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_shift_balances_scores_that_no_number_lies_between(kind):
    for low in np.random.default_rng(0).random(100).astype(kind):
        scores = np.array([low, np.nextafter(low, kind(9))])
        shift = bias.balancing_shift(scores, [0, 1])
        assert (scores + shift > 0).tolist() == [False, True]
    assert bias.balancing_shift([1e308, 1.5e308], [0, 1]) == -1.25e308  # their sum is infinite


def test_l1_keeps_fewer_features_and_none_that_are_zero():
    x, y = drawn(300, weak=100)
    model = bias.L1(random_state=0).fit(x, y)
    assert model.mask_.sum() < 120
    assert (model.coef_[0] != 0).tolist() == model.mask_.tolist()
    assert model.C_ in model.Cs


# hidden layers


def two_layers(seed=0, outputs=2):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, outputs)
    ).eval()


def images(n=40, seed=1):
    return torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed))


class OnACard(torch.Tensor):
    """As a tensor of a GPU: numpy takes it after `cpu` alone."""

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_scores_and_influence_of_a_net_on_a_card_are_arrays(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
    x = torch.rand(5, 1, 4, 4)
    here = [bias.unit_influence(net, x, name) for name in ("1", "2")]
    scores = bias.HiddenLayer(net, "1", x).scores()
    inner = bias.deep.internal_influence
    monkeypatch.setattr(
        bias.deep,
        "internal_influence",
        lambda *a, **k: inner(*a, **k).as_subclass(OnACard),
    )
    for name, expected in zip(("1", "2"), here, strict=True):
        np.testing.assert_array_equal(bias.unit_influence(net, x, name), expected)
    layer = bias.HiddenLayer(net, "1", x)
    output = layer.cut.output
    monkeypatch.setattr(layer.cut, "output", lambda *a: output(*a).as_subclass(OnACard))
    np.testing.assert_array_equal(layer.scores(), scores)


def test_influence_of_the_last_hidden_layer_is_the_difference_of_its_weights():
    net = two_layers()
    expected = (net[5].weight[1] - net[5].weight[0]).detach().double()
    found = bias.unit_influence(net, images(), "4")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_influence_deeper_down_is_a_mean_of_gradients():
    net, x = two_layers(), images()
    z = net[:3](x).detach().requires_grad_()
    logits = net[3:](z)
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), z)
    found = bias.unit_influence(net, x, "2", batch_size=7)
    np.testing.assert_allclose(found, gradient.mean(0), rtol=1e-5, atol=1e-7)


def test_a_feature_map_is_one_unit():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    found = bias.unit_influence(net, images(), "1")
    expected = (net[3].weight[1] - net[3].weight[0]).view(4, 4).mean(1).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    mask = np.array([True, False, True, False])
    zeroed = net[1](net[0](images())) * torch.tensor([1.0, 0, 1, 0]).view(1, 4, 1, 1)
    logits = net[3](zeroed.flatten(1)).detach()
    scores = bias.HiddenLayer(net, "1", images()).scores(mask)
    np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-6)


def test_masks_do_not_accumulate_and_the_whole_layer_is_the_net():
    net, x = two_layers(), images()
    layer = bias.HiddenLayer(net, "2", x, batch_size=16)
    none, half = np.zeros(6, bool), np.arange(6) < 3
    first = layer.scores(half)
    stacked = layer.all_scores(np.stack([none, half]))
    np.testing.assert_array_equal(stacked[1], first)
    logits = net(x).detach()
    np.testing.assert_allclose(layer.scores(), logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-6)
    assert np.ptp(stacked[0]) < 1e-6  # nothing of the image is left


def test_experts_of_a_layer_are_the_best_of_all_pairs_linear_or_not():
    net, x = two_layers(seed=3), images(60)
    y = (torch.rand(60, generator=torch.Generator().manual_seed(5)) > 0.4).numpy().astype(int)
    for name in ("2", "4"):
        layer, influence = bias.HiddenLayer(net, name, x), bias.unit_influence(net, x, name)
        scores = layer.scores()
        layer_y = (scores > np.median(scores) + 0.02).astype(int) ^ (y & (np.arange(60) % 9 == 0))
        assert layer.experts(influence, layer_y) == bias.search_experts(
            influence, layer_y, layer.all_scores
        )


@pytest.mark.parametrize("offset", [-0.4, 0.4])
def test_the_bias_of_the_last_layer_counts_in_the_search(offset):
    net, x = two_layers(seed=3), images(60)
    with torch.no_grad():
        net[5].bias.copy_(torch.tensor([-offset, offset]))
    layer, influence = bias.HiddenLayer(net, "4", x), bias.unit_influence(net, x, "4")
    for seed in range(5):
        y = np.random.default_rng(seed).integers(0, 2, 60)
        expected = bias.search_experts(influence, y, layer.all_scores)
        assert layer.experts(influence, y) == expected


def test_prefix_sums_are_used_where_one_linear_layer_follows(monkeypatch):
    net, x = two_layers(), images()
    y = np.arange(40) % 2
    layer, influence = bias.HiddenLayer(net, "4", x), bias.unit_influence(net, x, "4")
    monkeypatch.setattr(layer, "all_scores", None)  # no mask is tried
    layer.experts(influence, y)
    deeper = bias.HiddenLayer(net, "2", x)
    net[5].register_forward_hook(lambda module, given, z: -z)  # what follows is more than linear
    for other, units in ((deeper, 6), (bias.HiddenLayer(net, "4", x), 5)):
        monkeypatch.setattr(other, "all_scores", None)
        with pytest.raises(TypeError):
            other.experts(np.arange(units) - 2.0, y)


def test_bad_nets_layers_and_masks_are_named():
    with pytest.raises(ValueError, match=r"two logits, got outputs of shape \(3,\)"):
        bias.unit_influence(two_layers(outputs=3), images(), "2")
    with pytest.raises(ValueError, match="two logits"):
        bias.HiddenLayer(two_layers(outputs=3), "2", images())
    with pytest.raises(ValueError, match="no images"):
        bias.unit_influence(two_layers(), images()[:0], "2")
    with pytest.raises(ValueError, match="9"):
        bias.HiddenLayer(two_layers(), "9", images())
    with pytest.raises(ValueError, match=r"mask of shape .*6 units"):
        bias.HiddenLayer(two_layers(), "2", images()).scores(np.ones(5, bool))
    with pytest.raises(ValueError, match="float64, does not fit 6 units"):
        bias.HiddenLayer(two_layers(), "2", images()).scores(np.full(6, 0.5))
