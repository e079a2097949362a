"""The two-sided filter against closed forms, and what it reads from nets and their trainings."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import nn

from thesis_repro import training
from thesis_repro.training import named
from thesis_repro.weaknesses import membership
from thesis_repro.weaknesses.membership import audited, pushed, victims
from thesis_repro.weaknesses.membership.contest import View
from thesis_repro.weaknesses.membership.pushed import Odds, Pushed
from thesis_repro.weaknesses.membership.two_sided import Dense, TwoSided

SMALL = victims.Victim("mnist-5k", "mlp", 60, 3, 0.1, width=8)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def correlated(n, d, seed, how=9):
    """Points (n, d) whose features lean on each other in a way of their own."""
    return normal(n, d, seed=seed) @ (torch.eye(d) + normal(d, d, seed=how) / 2).double()


def tiny(d=6, seed=0):
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    for at, value in enumerate(net.parameters()):
        nn.init.normal_(value, generator=torch.Generator().manual_seed(seed + at))
    return net.eval()


def explicit(a, d, damping):
    """The covariance of the flattened weights, (out * in, out * in)."""
    sides = []
    for side in (d, a):
        moment = (side.T @ side / len(side)).numpy()
        sides.append(moment + damping * np.trace(moment) / len(moment) * np.eye(len(moment)))
    return np.kron(*sides)


def odds(null, moved, a, d):
    return (null.reading(moved, a, d) - null.length(a, d) / 2).numpy()


# the filter


def test_it_is_the_likelihood_ratio_of_the_flattened_weights():
    a, d, moved = correlated(40, 4, 1), correlated(40, 5, 2), normal(5, 4, seed=3)
    covariance = explicit(a, d, 0.3)
    null = TwoSided.fit(a, d, 0.3)
    at = moved.flatten().numpy()
    density = multivariate_normal(np.zeros(20), covariance)
    expected = [
        density.logpdf(at - np.outer(out, into).ravel()) - density.logpdf(at)
        for out, into in zip(d.numpy(), a.numpy(), strict=True)
    ]
    np.testing.assert_allclose(odds(null, moved, a, d), expected, atol=1e-8)


def test_two_sides_that_changed_places_are_another_test():
    a, d, moved = correlated(40, 4, 1), 3 * normal(40, 4, seed=2) ** 3, normal(4, 4, seed=3)
    null = TwoSided.fit(a, d, 0.3)
    swapped = TwoSided(null.outputs, null.inputs)
    solved = np.linalg.solve(explicit(a, d, 0.3), moved.flatten().numpy())
    expected = [solved @ np.outer(*p).ravel() for p in zip(d.numpy(), a.numpy(), strict=True)]
    np.testing.assert_allclose(null.reading(moved, a, d), expected, atol=1e-8)
    assert not np.allclose(swapped.reading(moved, a, d), expected, rtol=0.1)
    with pytest.raises(
        ValueError, match=r"weights \(4, 4\), got pushes \(4, 4\) and weights \(4, 5"
    ):
        null.reading(normal(4, 5), a, d)


def test_on_weights_that_add_up_pushes_it_finds_members_as_well_as_can_be():
    """Weights are the sum of the members' pushes: Gaussian noise of Kronecker covariance."""
    k, n, runs = 5, 60, 150
    null = TwoSided.fit(correlated(4000, k, 1, how=8), correlated(4000, k, 2), 0.0)
    swapped = TwoSided(null.outputs, null.inputs)
    scores, turned, lengths = [], [], []
    for run in range(runs):
        a, d = correlated(2 * n, k, 10 + run, how=8), correlated(2 * n, k, 1000 + run)
        moved = d[:n].T @ a[:n]
        length = null.length(a, d) / n
        scores.append((null.reading(moved, a, d) / n - length / 2).numpy())
        turned.append(odds(swapped, moved / n**0.5, a, d / n**0.5))
        lengths.append(length.numpy())
    member = np.tile(np.arange(2 * n) < n, runs)
    found = membership.auc(np.concatenate(scores), member)
    # given their lengths L, members' odds are N(L/2, L) and those of others N(-L/2, L)
    rng = np.random.default_rng(0)
    one, other = rng.choice(np.concatenate(lengths), (2, 100_000))
    best = norm.cdf(np.sqrt(one + other) / 2).mean()
    assert 0.65 < best < 0.85
    assert found == pytest.approx(best, abs=0.015)
    readings = np.concatenate([s + 0.5 * w for s, w in zip(scores, lengths, strict=True)])
    assert membership.auc(readings, member) < found - 0.003  # half the length is worth something
    assert membership.auc(np.concatenate(turned), member) < found - 0.02  # so are the sides


def test_in_the_gaussian_game_it_is_bayes_wb():
    game, rng = membership.GaussianGame(d=5, n=20, classes=3), np.random.default_rng(0)
    means = game.means(rng)
    x, y = game.sample(means, rng)
    fitted, true = game.fit(x, y), membership.gaussian.linear(means)
    moved = torch.from_numpy(np.column_stack(fitted) - np.column_stack(true))
    a = torch.from_numpy(np.column_stack([x, np.ones(len(x))]))
    known = TwoSided(torch.eye(6).double(), torch.eye(3).double())
    d = torch.eye(3).double()[torch.from_numpy(y)]
    np.testing.assert_allclose(
        known.reading(moved, a, d), membership.bayes_wb(*fitted, *true, x, y), atol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a, d: TwoSided.fit(a, d[:3]), r"inputs \(n, in\) and gradients \(n, out\)"),
        (lambda a, d: TwoSided.fit(a[:0], d[:0]), "n >= 1"),
        (lambda a, d: TwoSided.fit(a, d, -1.0), "damping needs to be finite and >= 0, got -1"),
        (lambda a, d: TwoSided.fit(a, 0 * d), "second moment of gradients .* is singular"),
        (lambda a, d: TwoSided.fit(a[:2], d[:2], 0.0), "second moment of inputs .* is singular"),
        (lambda a, d: TwoSided.fit(a, d / 0), "gradients: got"),
        (lambda a, d: TwoSided.fit(a, d).length(d, a), r"weights \(3, 4\), got pushes \(4, 3\)"),
        (lambda a, d: Dense(tiny(), "2"), "'2' is ReLU"),
        (lambda a, d: Dense(tiny(), "9"), "no module is called '9'"),
        (lambda a, d: Dense(tiny().train(), "1"), "training mode"),
        (lambda a, d: Dense(tiny(), "1").null(normal(4, 6), normal(3, 3)), "for each of 4 points"),
        (lambda a, d: Dense(tiny(), "1").null(normal(4, 6), normal(4, 3) / 0), "residual: got"),
    ],
)
def test_what_is_no_push_is_one_clear_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(normal(8, 4), normal(8, 3, seed=1))
    assert "\n" not in str(error.value)


# nets


@pytest.mark.parametrize("name", ["1", "3"])
def test_pushes_are_gradients_and_readings_are_linear_in_the_residual(name):
    net, x, residual = tiny(), normal(9, 6, seed=1), normal(9, 3, seed=2)
    layer = Dense(net, name)
    null = layer.null(x, residual)
    a, d = (torch.cat(side) for side in zip(*layer.pushes(x, residual, 4), strict=True))
    linear = net.get_submodule(name)
    for i in range(9):
        score = (net(x[i : i + 1]) * residual[i]).sum()
        gradient = torch.autograd.grad(score, (linear.weight, linear.bias))
        expected = torch.cat([gradient[0], gradient[1][:, None]], 1)
        torch.testing.assert_close(torch.outer(d[i], a[i]), expected)
    readings = layer.readings(x, null, batch_size=4)
    found = (readings * residual).sum(1)
    torch.testing.assert_close(found, null.reading(layer.weights, a, d), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(layer.lengths(x, residual, null), null.length(a, d))


def test_the_filter_sees_a_planted_push_and_nothing_without():
    x, n = normal(460, 100, seed=3), 30
    residual = normal(460, 3, seed=4)
    found = {}
    for size in (0.0, 0.2):
        net = tiny(100)
        a, d = next(Dense(net, "1").pushes(x[:n], residual[:n]))
        with torch.no_grad():
            net[1].weight += size * (d.T @ a)[:, :-1]
        layer = Dense(net, "1")
        null = layer.null(x[60:], residual[60:], 0.1)
        scores = (layer.readings(x[:60], null) * residual[:60]).sum(1)
        found[size] = membership.auc(scores.numpy(), np.arange(60) < n)
    assert found[0.2] > 0.75 and 0.3 < found[0.0] < 0.7


# trainings


def test_pushes_are_added_up_over_the_very_training_of_the_victim(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    x = victims.points(SMALL.dataset).x[:5]
    fit, nets, said = training.fit, [], []

    def watched(net, *about, on_epoch, **more):
        nets.append(net)
        said.append(net(x).detach().double().softmax(1).numpy())

        def both(model, record):
            on_epoch(model, record)
            said.append(model(x).detach().double().softmax(1).numpy())

        return fit(net, *about, on_epoch=both, **more)

    monkeypatch.setattr(pushed.training, "fit", watched)
    found = pushed.through_training(SMALL, x)
    monkeypatch.undo()
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    for mine, theirs in zip(nets[0].parameters(), named.trained(SMALL).parameters(), strict=True):
        assert torch.equal(mine, theirs)
    rates = np.cos(np.pi * np.array([1, 3, 5]) / 6) + 1
    middles = [(one + other) / 2 for one, other in pairwise(said)]
    np.testing.assert_allclose(found, np.average(middles, axis=0, weights=rates))


@pytest.mark.parametrize(
    "other",
    [dataclasses.replace(SMALL, epsilon=8.0), audited.audited(SMALL, radius=0.5)],
)
def test_trainings_of_another_kind_are_not_added_up(other):
    with pytest.raises(ValueError, match="pushes are added up over plain trainings, got"):
        pushed.through_training(other, torch.zeros(1, 1, 28, 28))


def test_strength_and_noise_are_found_again():
    rng = np.random.default_rng(0)
    length, member = rng.uniform(0.5, 2, (2, 20_000)), np.arange(20_000) < 10_000
    proxies = rng.integers(1, 5, 20_000)
    noise = rng.standard_normal((2, 20_000)) * np.sqrt(length)
    strength, size = np.array([[0.5], [2.0]]), np.array([[4.0], [0.25]])
    beyond = strength * length * member + np.sqrt(size) * noise
    seen = Pushed(beyond, length, proxies)
    halves = [np.arange(20_000) % 2 == i for i in (0, 1)]
    parts = [Pushed(beyond[:, h], length[:, h], proxies[h]) for h in halves]
    odds = Odds.fit(parts, [member[h] for h in halves])
    np.testing.assert_allclose(odds.strength, strength[:, 0], rtol=0.1)
    np.testing.assert_allclose(odds.noise, size[:, 0], rtol=0.05)
    # the score is the log of the likelihood ratio, up to what the estimates are off
    ratio = sum(
        norm.logpdf(beyond[i], strength[i] * length[i], spread := np.sqrt(size[i] * length[i]))
        - norm.logpdf(beyond[i], 0, spread)
        for i in (0, 1)
    )
    np.testing.assert_allclose(Odds(strength[:, 0], size[:, 0]).score(seen), ratio)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda one: Pushed(one, one, np.array([3, 0])), "point 1: every proxy was trained on it"),
        (lambda one: Pushed(one, -one, np.array([3, 3])), "squared lengths are >= 0, got -1"),
        (lambda one: Pushed(one / 0, one, np.array([3, 3])), "beyond: got inf"),
        (lambda one: Pushed(one, one[:, :1], np.array([3, 3])), r"lengths \(layers, n\)"),
        (
            lambda one: Odds.fit([Pushed(one, one, np.array([3, 3]))], [np.ones(2, bool)]),
            "members and non-members, got 2 and 0",
        ),
        (
            lambda one: Odds.fit([Pushed(one, 0 * one, np.array([3, 3]))], [np.arange(2) < 1]),
            "none of them does",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_evidence_that_says_nothing_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(np.ones((1, 2)))


def test_what_is_usual_comes_from_proxies_that_did_not_see_the_point():
    net, x = tiny(), normal(4, 6, seed=5)
    layers = {"3": Dense(net, "3").null(normal(30, 6), normal(30, 3, seed=1))}
    rng = np.random.default_rng(0)

    def shown(size):
        return {"3": size * np.ones((4, 3)), pushed.THROUGH: rng.dirichlet(np.ones(3), 4)}

    references = [shown(1.0), shown(100.0)]
    contains = np.array([[False, False, False, False], [True, True, False, True]])
    labels = np.array([0, 1, 2, 0])
    view = View(np.arange(4) < 2, labels, shown(7.0), references, contains, ({}, [], labels[:0]))
    kept = np.array([True, True, False, True])
    seen = pushed.pushed(view, kept, net, layers, x)
    assert seen.proxies.tolist() == [1, 1, 1]
    residual = np.eye(3)[labels[kept]] - references[0][pushed.THROUGH][kept]
    np.testing.assert_allclose(seen.beyond[0], (7.0 - 1.0) * residual.sum(1), atol=1e-12)
    length = Dense(net, "3").lengths(
        x[torch.from_numpy(kept)], torch.from_numpy(residual), layers["3"]
    )
    np.testing.assert_allclose(seen.length[0], length)
    saw = dataclasses.replace(view, contains=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="point 0: every proxy was trained on it"):
        pushed.pushed(saw, kept, net, layers, x)
