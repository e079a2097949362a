import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from torch import nn

from thesis_repro import nets
from thesis_repro.explanations.influence import Cut, class_score, internal_influence, point
from thesis_repro.weaknesses import membership
from thesis_repro.weaknesses.membership import calibration, gaussian, lira_rmia, one_run, victims

HALF = np.arange(20) % 2 == 0


def tiny(classes=3, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, 7), nn.ReLU(), nn.Linear(7, classes)).double()
    for p in net.parameters():
        nn.init.normal_(p, generator=generator)
    return net.eval()


# the game


def test_outcomes_are_counted():
    member = np.array([True, True, False, False])
    found = membership.judge([True, False, True, False], member)
    assert (found.accuracy, found.precision, found.recall, found.fpr) == (0.5, 0.5, 0.5, 0.5)
    nobody = membership.judge(np.zeros(4, bool), member)
    assert nobody.accuracy == 0.5 and math.isnan(nobody.precision) and nobody.claims == 0


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (([1, 2], [3, 2]), "point 2 is in members and non-members"),
        (([1, 1], [3, 2]), "point 1 is twice in members"),
        (([1, 2], [3, 4], [5, 4]), "point 4 is in non-members and the pool"),
        (([1, 2], [3]), "got 2 and 1"),
        (([], []), "got 0 and 0"),
        (([-1], [9]), "members need to lie in .*, got -1"),
        (([0.2], [1.7]), "members need to be whole numbers, got float64"),
        (([True, False], [False, True]), "members need to be indices, got bool"),
    ],
)
def test_unfair_splits_are_named(parts, words):
    with pytest.raises(ValueError, match=words):
        membership.check_splits(*parts)


def test_a_fair_split_passes():
    membership.check_splits([1, 2], [3, 4], [5, 6, 7])


def test_an_unbalanced_game_is_refused():
    with pytest.raises(ValueError, match="2 members among 3"):
        membership.judge([True, True, True], [True, True, False])
    with pytest.raises(ValueError, match="scores: got nan in row 1"):
        membership.auc([0.0, math.nan], [True, False])


@pytest.mark.parametrize("odd", [[1, 1, -1, -1], [0.9, 0.6, 0.2, 0.1]])
@pytest.mark.parametrize(
    "call",
    [
        lambda odd: membership.judge(odd, [True, True, False, False]),
        lambda odd: membership.auc([1.0, 2.0, 3.0, 4.0], odd),
        lambda odd: membership.GeneralWB().fit(np.eye(4), odd),
        lambda odd: membership.ShadowAttack().fit(np.eye(4), odd, [0, 1, 0, 1]),
        lambda odd: membership.lira(np.ones(4), np.eye(4), np.tile(odd, (4, 1))),
        lambda odd: one_run.right_guesses(np.arange(4.0), odd, 2),
    ],
)
def test_scores_and_signs_are_no_answers(call, odd):
    with pytest.raises(ValueError, match="only True and False, or 1 and 0, say yes or no"):
        call(odd)


def test_the_parts_of_a_game_never_meet():
    found = victims.game(45, 10)
    assert len(found.universe) == len(found.pool) == 20
    assert not set(found.universe) & set(found.pool)
    base = victims.Victim("mnist-5k", "mlp", 10, 1, 0.1)
    chosen = [
        victims.members(victims.other(base, role, i), found)
        for role in victims.ROLES
        for i in range(4)
    ]
    assert all(m.sum() == 10 and len(m) == 20 for m in chosen)
    assert len({m.tobytes() for m in chosen}) == 8  # no two train on the same half
    with pytest.raises(ValueError, match="4n = 48 points, got 45"):
        victims.game(45, 12)


@pytest.mark.parametrize(
    "options", [{"net": "vgg"}, {"role": "proxy"}, {"smoothing": 1.0}, {"n": 0}, {"epsilon": -1.0}]
)
def test_a_victim_refuses_other_options(options):
    with pytest.raises(ValueError, match=r"unknown|needs"):
        victims.Victim(
            **{"dataset": "mnist-5k", "net": "mlp", "n": 5, "epochs": 1, "lr": 0.1} | options
        )


def test_low_false_positive_rates_by_hand():
    member = np.repeat([True, False], 1000)
    scores = np.concatenate([np.linspace(0, 2, 1000), np.linspace(0, 1, 1000)])
    outcome, measurable = membership.at_fpr(scores, member, 0.01)
    assert outcome.false_claims == 10 and measurable
    assert outcome.true_claims == (scores[:1000] > scores[1000:][-11]).sum()
    _, measurable = membership.at_fpr(scores, member, 0.001)
    assert not measurable  # one false alarm is too few to know a rate by


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=20, max_size=20), st.sampled_from([0.1, 0.25, 0.5]))
def test_ties_never_make_the_realised_rate_too_high(scores, fpr):
    outcome, _ = membership.at_fpr(scores, HALF, fpr)
    assert outcome.fpr <= fpr
    # the next lower threshold breaks the rate, or claims nobody new
    values = np.array(scores)
    lower = [t for t in np.unique(values) if (values[HALF] >= t).sum() > outcome.true_claims]
    if lower:
        assert (values[~HALF] >= max(lower)).mean() > fpr


def test_constant_scores_say_nothing():
    assert membership.auc(np.ones(20), HALF) == 0.5
    outcome, _ = membership.at_fpr(np.ones(20), HALF, 0.1)
    assert outcome.claims == 0
    assert membership.best_accuracy(np.ones(20), HALF) == math.inf
    assert membership.for_precision(np.ones(20), HALF, 0.9, least=1) == math.inf


# black box


def test_naive_accuracy_is_half_plus_half_the_gap():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    logits[np.flatnonzero(HALF), labels[HALF]] += 3
    right = logits.argmax(1) == labels
    gap = right[HALF].mean() - right[~HALF].mean()
    outcome = membership.judge(membership.naive(logits, labels), HALF)
    assert outcome.accuracy == pytest.approx(0.5 + gap / 2, abs=1e-15)
    train, test = right[HALF].mean(), right[~HALF].mean()
    assert outcome.precision == pytest.approx(train / (train + test))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_torch(smoothing):
    logits = torch.randn(9, 5, dtype=torch.float64)
    labels = torch.arange(9) % 5
    expected = nn.functional.cross_entropy(
        logits, labels, reduction="none", label_smoothing=smoothing
    )
    found = membership.losses(logits, labels, smoothing)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    claimed = membership.loss_threshold(found, found.mean())
    assert (claimed == (found < found.mean())).all()


def shadows(n=600, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, classes, n), np.arange(n) % 2 == 0
    logits = rng.standard_normal((n, classes))
    logits[np.arange(n), labels] += np.where(member, 4.0, 1.0)
    return logits, labels, member


def test_the_shadow_attack_finds_overconfidence_and_is_deterministic():
    logits, labels, member = shadows()
    other, their_labels, their_member = shadows(seed=1)
    scores = membership.shadow(logits, labels, [other], [their_labels], [their_member])
    assert membership.auc(scores, member) > 0.9
    again = membership.shadow(logits, labels, [other], [their_labels], [their_member])
    np.testing.assert_array_equal(scores, again)
    attack = membership.ShadowAttack(random_state=0).fit(other, their_member, their_labels)
    assert attack.score(other, their_member, their_labels) > 0.8


def test_the_shadow_attack_names_a_class_that_it_cannot_learn():
    logits, labels, member = shadows()
    with pytest.raises(ValueError, match="class 2 has 0 members"):
        membership.ShadowAttack().fit(logits, member & (labels != 2), labels)
    kept = labels != 1
    with pytest.raises(ValueError, match="class 1 has 0 members and 0 non-members"):
        membership.ShadowAttack().fit(logits[kept], member[kept], labels[kept])
    with pytest.raises(ValueError, match="at least one shadow"):
        membership.shadow(logits, labels, [], [], [])
    with pytest.raises(ValueError, match=r"labels need to lie in \[0, 3\)"):
        membership.naive(logits, labels + 1)


# the Gaussian case


def simulated_optimum(d, n, runs, seed=0):
    """Draw fits and points; answer by the likelihood ratio, written out from the densities."""
    rng = np.random.default_rng(seed)
    right = []
    for _ in range(runs):
        m = rng.standard_normal(d) / math.sqrt(n)
        inside = m + rng.standard_normal((400, d)) * math.sqrt(1 - 1 / n)
        outside = rng.standard_normal((400, d))
        for points, truth in ((inside, True), (outside, False)):
            ratio = norm.logpdf(points, m, math.sqrt(1 - 1 / n)).sum(1)
            ratio -= norm.logpdf(points).sum(1)
            right.append((ratio > 0) == truth)
    return np.concatenate(right).mean()


@pytest.mark.parametrize(("d", "n"), [(20, 5), (100, 100), (60, 400)])
def test_the_optimum_is_what_the_likelihood_ratio_reaches(d, n):
    assert membership.optimum(d, n) == pytest.approx(simulated_optimum(d, n, 200), abs=0.006)


def test_the_optimum_is_near_its_first_order_and_has_limits():
    assert membership.optimum(400, 1600) == pytest.approx(
        norm.cdf(math.sqrt(400 / 1600) / 2), abs=0.003
    )
    assert membership.optimum(1, 100_000) == pytest.approx(0.5, abs=0.002)
    with pytest.raises(ValueError, match="d >= 1 and n >= 2"):
        membership.optimum(0, 5)


def test_bayes_wb_reaches_the_optimum_with_true_means():
    game = gaussian.GaussianGame(d=100, n=100, classes=5)
    accuracies = []
    for run in range(20):
        rng = np.random.default_rng(run)
        means = game.means(rng)
        (x, y), (others, _) = game.sample(means, rng), game.sample(means, rng)
        weights, bias = game.fit(x, y)
        scores = membership.bayes_wb(
            weights, bias, *gaussian.linear(means), np.concatenate([x, others]), np.tile(y, 2)
        )
        accuracies.append(membership.judge(scores > 0, np.repeat([True, False], len(x))).accuracy)
    assert np.mean(accuracies) == pytest.approx(membership.optimum(100, 100), abs=0.01)


def test_bayes_wb_averages_proxies_and_refuses_what_does_not_fit():
    rng = np.random.default_rng(0)
    w, b, x, y = (
        rng.standard_normal((3, 4)),
        rng.standard_normal(3),
        rng.standard_normal((5, 4)),
        [0, 1, 2, 1, 0],
    )
    proxies, biases = rng.standard_normal((6, 3, 4)), rng.standard_normal((6, 3))
    found = membership.bayes_wb(w, b, proxies, biases, x, y)
    by_hand = [
        sum((w[c] - proxies[:, c].mean(0)) * p) + b[c] - biases[:, c].mean()
        for p, c in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(found, by_hand)
    with pytest.raises(ValueError, match="bayes_wb needs weights"):
        membership.bayes_wb(w, b, proxies[:, :2], biases, x, y)


# white box


def test_displacement_is_influence_times_whitened_deviation():
    net = tiny()
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(8) % 3
    whitening = membership.Whitening(0.2).fit(x, y, 3)
    for name in ("", "0", "2"):
        h = Cut(net, name).activations(x)
        whitening.fit(h, y, 3)
        found = membership.displacement(net, name, x, y, whitening, batch_size=3)
        for c in range(3):
            chi = internal_influence(net, x, name, class_score(c), point())
            expected = (chi * whitening.transform(h, y)).sum(1)
            torch.testing.assert_close(found[:, c], expected, atol=1e-9, rtol=1e-9)


def test_displacement_in_named_and_nested_layers_and_ones_used_twice():
    torch.manual_seed(4)
    act = nn.ReLU()
    flat = (
        nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 3)).double().eval()
    )
    first, _, second, _, last = flat
    inner = nn.Sequential(OrderedDict(one=second, two=act))
    nested = nn.Sequential(OrderedDict(start=first, act=act, inner=inner, last=last)).eval()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 3
    for name, place in (("start", 0), ("act", 1), ("inner.one", 2), ("inner.two", 3), ("inner", 3)):
        h = flat[: place + 1](x).detach()
        whitening = membership.Whitening(0.2).fit(h, y, 3)
        found = membership.displacement(nested, name, x, y, whitening, batch_size=3)
        moved = whitening.transform(h, y)
        after = flat[place + 1 :]
        expected = torch.func.jvp(after, (h,), (moved,))[1]
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    wrapped = nn.Sequential(OrderedDict(net=nets.Residual(first, nn.Linear(8, 6).double()))).eval()
    with pytest.raises(ValueError, match=r"'net\.branch\.0' lies in another module"):
        membership.displacement(wrapped, "net.branch.0", x, y, whitening)
    with pytest.raises(ValueError, match="no module is called '7'"):
        membership.displacement(flat, "7", x, y, whitening)


def test_whitening_is_numpy_s_inverse_of_the_pooled_covariance():
    rng = np.random.default_rng(3)
    h, y = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)), np.arange(50) % 2
    means = np.stack([h[y == c].mean(0) for c in (0, 1)])
    centred = h - means[y]
    s = centred.T @ centred / 50
    s += 0.3 * np.trace(s) / 4 * np.eye(4)
    whitening = membership.Whitening(0.3).fit(torch.from_numpy(h), torch.from_numpy(y), 2)
    found = whitening.transform(torch.from_numpy(h), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, centred @ np.linalg.inv(s), atol=1e-9)


def test_whitening_names_what_it_lacks():
    h = torch.ones(6, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="class 2 is absent"):
        membership.Whitening().fit(h, torch.tensor([0, 1, 0, 1, 3, 3]), 4)
    with pytest.raises(ValueError, match="singular"):
        membership.Whitening(0.0).fit(h, torch.tensor([0, 1, 0, 1, 0, 1]), 2)


def test_the_displacement_sees_a_planted_memory():
    """Add to the first layer what one step on each member adds, and to a twin nothing."""
    generator = torch.Generator().manual_seed(5)
    n, d = 30, 200
    x = torch.randn(2 * n + 400, d, dtype=torch.float64, generator=generator)
    y = torch.arange(len(x)) % 3
    member = np.arange(2 * n) < n
    found = {}
    for planted in (True, False):
        net = tiny(d=d)
        with torch.no_grad():
            first, last = net[1], net[3]
            push = last.weight[y[:n]] * (first(x[:n]) > 0)
            first.weight += 0.1 * planted * push.T @ x[:n]
        whitening = membership.Whitening(0.1).fit(x[2 * n :], y[2 * n :], 3)
        moved = membership.displacement(net, "0", x[: 2 * n], y[: 2 * n], whitening)
        scores = moved[torch.arange(2 * n), y[: 2 * n]].numpy()
        found[planted] = membership.auc(scores, member)
    assert found[True] > 0.8
    assert 0.3 < found[False] < 0.7


def test_a_net_in_training_mode_is_refused():
    x, y = torch.zeros(3, 6, dtype=torch.float64), torch.arange(3)
    whitening = membership.Whitening().fit(
        torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 3, 3
    )
    net = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).double()
    with pytest.raises(ValueError, match="training mode"):
        membership.displacement(net, "", x, y, whitening)
    with pytest.raises(ValueError, match=r"needs an nn\.Sequential"):
        membership.displacement(nn.Linear(6, 3), "", x, y, whitening)


def test_displacement_of_named_and_nested_layers_is_that_of_numbers():
    plain = tiny()
    parts = dict(zip(("flat", "first", "act", "last"), plain, strict=True))
    named = nn.Sequential(OrderedDict(parts)).eval()
    nested = nn.Sequential(plain[0], nn.Sequential(plain[1], plain[2]), plain[3]).eval()
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(8) % 3
    whitening = membership.Whitening(0.2).fit(Cut(plain, "1").activations(x), y, 3)
    wanted = membership.displacement(plain, "1", x, y, whitening)
    for net, name in ((named, "first"), (nested, "1.0")):
        assert torch.equal(membership.displacement(net, name, x, y, whitening), wanted)
    hidden = nn.Sequential(nets.Residual(nn.Linear(6, 6)), nn.Linear(6, 3)).double().eval()
    with pytest.raises(ValueError, match=r"through nn.Sequential alone; '0.branch' lies in"):
        membership.displacement(hidden, "0.branch", x, y, whitening)


@pytest.mark.parametrize(
    "call",
    [
        lambda z, y: membership.naive(z, y),
        lambda z, y: membership.losses(z, y),
        lambda z, y: membership.scaled(z, y),
        lambda z, y: membership.expected_margin(y, z),
        lambda z, y: membership.expected_residual(y, z),
        lambda z, y: membership.bayes_wb(z[:3], y[:3], z[:3], y[:3], z, y),
        lambda z, y: membership.ShadowAttack().fit(z, y == 0, y),
        lambda z, y: membership.Whitening().fit(torch.from_numpy(z), torch.from_numpy(y), 3),
    ],
)
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, -1, 2], r"labels need to lie in \[0, 3\), got -1 in row 2"),
        ([0, 1, 2, 3], r"labels need to lie in \[0, 3\), got 3 in row 3"),
        ([0.0, 1.0, 2.0, 0.5], "labels need to be whole numbers, got float64"),
    ],
)
def test_what_is_no_label_is_refused(call, labels, words):
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0).standard_normal((4, 3)), np.array(labels))


def test_nothing_is_one_clear_line():
    none, no_labels = np.zeros((0, 3)), np.zeros(0, int)
    cases = (
        (lambda: membership.naive(none, no_labels), "n >= 1, got"),
        (lambda: membership.scaled(none, no_labels), "labels need shape"),
        (lambda: membership.scaled(np.zeros((2, 1)), [0, 0]), "classes >= 2"),
        (lambda: membership.naive(np.zeros((2, 1)), [0, 0]), "classes >= 2"),
        (lambda: membership.lira([], np.zeros((4, 0)), np.zeros((4, 0))), "k and n >= 1"),
        (lambda: membership.rmia([], none, none, [1.0], np.ones((0, 1))), "k and n >= 1"),
        (lambda: membership.auc([], []), "as many members as non-members"),
        (lambda: membership.GeneralWB().fit(none, []), "got 0 and 0"),
        (lambda: membership.Whitening().transform(torch.zeros(1, 2), torch.zeros(1).long()), "fit"),
    )
    for call, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_expected_questions_by_hand():
    p = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(membership.expected_margin([0], p), [[1, -2 / 3, -1 / 3]])
    np.testing.assert_allclose(membership.expected_residual([0], p), [[0.3, -0.2, -0.1]])
    smooth = membership.expected_residual([0], p, 0.3)
    np.testing.assert_allclose(smooth, [[0.1, -0.1, 0.0]], atol=1e-12)
    # the residual is minus the gradient of the loss
    logits = torch.log(torch.from_numpy(p)).requires_grad_()
    loss = nn.functional.cross_entropy(logits, torch.tensor([0]), label_smoothing=0.3)
    np.testing.assert_allclose(-torch.autograd.grad(loss, logits)[0], smooth, atol=1e-12)
    for expected in (membership.expected_margin, membership.expected_residual):
        with pytest.raises(ValueError, match="probabilities need to lie in"):  # logits are none
            expected([0], [[5.0, -3.0]])


def test_general_wb_learns_a_product_and_refuses_bad_evidence():
    rng = np.random.default_rng(0)
    x, member = rng.standard_normal((2000, 3)), np.arange(2000) % 2 == 0
    x[:, 0] += np.where(member, 0.8, -0.8) * x[:, 1]  # informative through the product alone
    model = membership.GeneralWB().fit(x[:1000], member[:1000])
    assert membership.auc(model.score_samples(x[1000:]), member[1000:]) > 0.7
    assert model.score(x[1000:], member[1000:]) > 0.6
    with pytest.raises(ValueError, match="learns from members and non-members, got 0 and 5"):
        membership.GeneralWB().fit(x[:5], np.zeros(5, bool))
    with pytest.raises(ValueError, match="X: got nan in row 0"):
        membership.GeneralWB().fit(np.full((4, 2), np.nan), [True, False, True, False])


# LiRA and RMIA, each a second time as a loop


def stored(k=6, n=40, seed=0):
    rng = np.random.default_rng(seed)
    target, references = rng.standard_normal(n), rng.standard_normal((k, n))
    contains = rng.random((k, n)) < 0.5
    contains[0], contains[1] = False, True
    return target, references, contains


def lira_by_loop(target, references, contains, online):
    k, n = references.shape
    mean, pooled, free = {}, {True: 0.0, False: 0.0}, {True: 0, False: 0}
    for i in range(n):
        for inside in (True, False):
            values = [references[j, i] for j in range(k) if contains[j, i] == inside]
            mean[i, inside] = sum(values) / len(values)
            pooled[inside] += sum((v - mean[i, inside]) ** 2 for v in values)
            free[inside] += len(values) - 1
    sd = {inside: math.sqrt(pooled[inside] / free[inside]) for inside in (True, False)}
    scores = []
    for i in range(n):
        if online:
            logs = [
                -0.5 * ((target[i] - mean[i, s]) / sd[s]) ** 2 - math.log(sd[s])
                for s in (True, False)
            ]
            scores.append(logs[0] - logs[1])
        else:
            tail = 0.5 * math.erfc((target[i] - mean[i, False]) / sd[False] / math.sqrt(2))
            scores.append(-math.log(tail))
    return scores


@pytest.mark.parametrize("online", [False, True])
def test_lira_is_its_formula(online):
    target, references, contains = stored()
    found = membership.lira(target, references, contains, online=online)
    np.testing.assert_allclose(found, lira_by_loop(target, references, contains, online), atol=1e-9)


def test_lira_with_many_references_has_a_deviation_per_point():
    rng = np.random.default_rng(1)
    target, references = rng.standard_normal(5), rng.standard_normal((70, 5)) * np.arange(1, 6)
    inside = np.zeros((70, 5), bool)
    found = membership.lira(target, references, inside)
    z = (target - references.mean(0)) / references.std(0, ddof=1)
    np.testing.assert_allclose(found, -norm.logsf(z), atol=1e-9)


def test_a_point_without_in_models_gets_the_mean_shift():
    target, references, contains = stored()
    contains[:, 3] = False
    found = membership.lira(target, references, contains, online=True)
    others = np.arange(40) != 3
    means = [
        np.array([references[contains[:, i] == s, i].mean() for i in np.flatnonzero(others)])
        for s in (True, False)
    ]
    shift = (means[0] - means[1]).mean()
    sds = []
    for s in (True, False):
        parts = [references[contains[:, i] == s, i] for i in range(40)]
        parts = [p for p in parts if len(p)]
        sds.append(
            math.sqrt(
                sum(((p - p.mean()) ** 2).sum() for p in parts) / sum(len(p) - 1 for p in parts)
            )
        )
    out = references[:, 3].mean()
    expected = norm.logpdf(target[3], out + shift, sds[0]) - norm.logpdf(target[3], out, sds[1])
    assert found[3] == pytest.approx(expected, abs=1e-9)


def rmia_by_loop(target, references, contains, population, theirs, a):
    def ratio(own, out):
        return own / ((1 + a) / 2 * sum(out) / len(out) + (1 - a) / 2)

    rivals = [ratio(population[z], list(theirs[:, z])) for z in range(len(population))]
    scores = []
    for i in range(len(target)):
        mine = ratio(
            target[i], [references[j, i] for j in range(len(references)) if not contains[j, i]]
        )
        scores.append(sum(mine / rival > 1 for rival in rivals) / len(rivals))
    return scores


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_rmia_is_its_formula(a):
    rng = np.random.default_rng(2)
    _, _, contains = stored()
    target, references = rng.random(40), rng.random((6, 40))
    population, theirs = rng.random(25), rng.random((6, 25))
    found = membership.rmia(target, references, contains, population, theirs, a)
    expected = rmia_by_loop(target, references, contains, population, theirs, a)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_scaled_confidence_is_exact_where_probabilities_are_not():
    logits = np.array([[50.0, 0.0, 0.0], [0.3, 0.2, -1.0]])
    found = membership.scaled(logits, [0, 1])
    assert found[0] == pytest.approx(50 - math.log(2), abs=1e-12)
    p = np.exp(logits[1]) / np.exp(logits[1]).sum()
    assert found[1] == pytest.approx(math.log(p[1] / (1 - p[1])), abs=1e-12)


def test_lira_and_rmia_refuse_what_they_cannot_compare():
    target, references, contains = stored()
    everywhere = contains.copy()
    everywhere[:, 7] = True
    with pytest.raises(ValueError, match="point 7 has no OUT model"):
        membership.lira(target, references, everywhere)
    with pytest.raises(ValueError, match="references that contain the points"):
        membership.lira(target, references, np.zeros_like(contains), online=True)
    with pytest.raises(ValueError, match="at least two OUT"):
        membership.lira(target, references[:1], contains[:1])
    with pytest.raises(ValueError, match="no spread"):
        membership.lira(target, np.ones((6, 40)), contains)
    with pytest.raises(ValueError, match="shape"):
        membership.lira(target, references[:, :9], contains)
    with pytest.raises(ValueError, match="population needs m >= 1"):
        membership.rmia(target, references, contains, [], np.zeros((6, 0)))
    with pytest.raises(ValueError, match=r"a needs to lie in \[0, 1\]"):
        membership.rmia(target, references, contains, [0.1], np.ones((6, 1)), a=2)
    with pytest.raises(ValueError, match=r"target need to lie in \[0, 1\], got values from -3"):
        membership.rmia([5.0, -3.0], np.ones((4, 2)), np.zeros((4, 2)), [0.5], np.ones((4, 1)))
    assert lira_rmia.FEW == 64


# calibration


def surely(outcome):
    interval = binomtest(outcome.true_claims, outcome.claims, alternative="greater")
    return interval.proportion_ci(0.95, method="exact").low


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=20))
def test_thresholds_are_the_best_of_all(scores):
    values = np.array(scores, float)
    tried = [math.inf, *(v - 0.5 for v in np.unique(values))]
    outcomes = {t: membership.judge(values > t, HALF) for t in tried}
    chosen = membership.judge(values > membership.best_accuracy(values, HALF), HALF)
    assert chosen.right == max(o.right for o in outcomes.values())
    reach = [o.claims for o in outcomes.values() if o.claims >= 3 and surely(o) >= 0.6]
    threshold = membership.for_precision(values, HALF, 0.6, least=3)
    assert membership.judge(values > threshold, HALF).claims == max(reach, default=0)


def test_neighbouring_floats_stay_apart():
    low = 1.0
    high = np.nextafter(low, 2)
    member = np.array([True, False])
    threshold = membership.best_accuracy([high, low], member)
    assert low <= threshold < high


def test_calibration_transfers_to_new_points_of_the_same_game():
    rng = np.random.default_rng(0)
    member = np.arange(40_000) % 2 == 0

    def draw():
        return rng.standard_normal(40_000) + 0.8 * member

    for wanted in (0.6, 0.7, 0.8):
        threshold = membership.for_precision(draw(), member, wanted)
        outcome = membership.judge(draw() > threshold, member)
        assert outcome.claims >= calibration.ENOUGH_CLAIMS
        assert outcome.precision == pytest.approx(wanted, abs=0.05)


def test_calibration_refuses_other_wishes():
    for precision, least in ((0.5, 1), (1.0, 1), (0.9, 0)):
        with pytest.raises(ValueError, match="calibration needs"):
            membership.for_precision(np.arange(20), HALF, precision, least)
