"""The audit: its bound against closed forms and by brute force; canaries; quantile regression."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import binom
from sklearn.linear_model import LinearRegression

from thesis_repro.training import named
from thesis_repro.weaknesses.membership import dpsgd, one_run, victims
from thesis_repro.weaknesses.membership.audited import Audited, Private, audited, canaries
from thesis_repro.weaknesses.membership.quantile import QuantileAttack
from thesis_repro.weaknesses.membership.victims import Victim

SMALL = Victim("mnist-5k", "mlp", 200, 2, 0.1, width=16)


@pytest.mark.parametrize("guesses", [5, 40, 125])
def test_with_every_guess_right_the_bound_has_a_closed_form(guesses):
    share = 0.05 ** (1 / guesses)  # share ** guesses = 0.05
    expected = max(math.log(share / (1 - share)), 0)
    assert one_run.epsilon_at_least(250, guesses, guesses) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("about", "published"),
    [((1000, 100, 75, 1e-4), 0.673), ((100_000, 1510, 1439, 1e-5), 2.675)],
)
def test_the_bound_is_that_of_the_paper(about, published):
    assert one_run.epsilon_at_least(*about) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_randomised_response_is_overrated_in_one_run_of_twenty_at_most(epsilon):
    """By every outcome of the guesses: each is right with the chance that epsilon allows."""
    guesses = 60
    bounds = [one_run.epsilon_at_least(guesses, guesses, v) for v in range(guesses + 1)]
    chances = binom.pmf(np.arange(guesses + 1), guesses, expit(epsilon))
    overrated = chances[np.array(bounds) > epsilon].sum()
    assert overrated <= one_run.LEVEL
    assert overrated > 0.4 * one_run.LEVEL  # and no more careful than whole numbers make it
    assert bounds == sorted(bounds)


def test_delta_is_the_worst_that_an_adversary_can_add():
    """With delta for each of the canaries, right guesses may be moved up by so many at once."""
    m, r, v, epsilon, delta = 12, 8, 6, 0.7, 1e-3
    share = expit(epsilon)
    chances = [binom.pmf(k, r, share) for k in range(r + 1)]
    worst = max(sum(chances[v - i : v]) / i for i in range(1, v + 1))
    expected = sum(chances[v:]) + 2 * m * delta * worst
    assert one_run.p_value(m, r, v, epsilon, delta) == pytest.approx(expected)
    assert one_run.epsilon_at_least(1000, 100, 75, 1e-3) < one_run.epsilon_at_least(1000, 100, 75)


def test_guesses_are_made_at_both_ends():
    coins = np.array([False, False, True, True, False, True])
    assert one_run.right_guesses([0, 1, 2, 3, 4, 5], coins, 4) == 3
    halves = np.arange(1000) < 500  # a net that tells nothing: neither order says who is in
    for listed in (halves, ~halves):
        assert 200 < one_run.right_guesses(np.zeros(1000), listed, 600) < 400
    with pytest.raises(ValueError, match="even, 2 to 6, got 3"):
        one_run.right_guesses(np.arange(6.0), coins, 3)
    with pytest.raises(ValueError, match="one score per canary"):
        one_run.right_guesses(np.arange(5.0), coins, 2)
    with pytest.raises(ValueError, match="0 <= right <= guesses <= canaries"):
        one_run.epsilon_at_least(10, 12, 3)
    with pytest.raises(ValueError, match="delta in"):
        one_run.p_value(10, 8, 3, 1.0, 1.0)


def test_canaries_have_a_wrong_label_and_a_coin_and_meet_no_other_point():
    planted = audited(SMALL, canaries=50)
    found = canaries(planted)
    mine, others = planted.points_of_training(), planted.unseen()
    inside = int(found.included.sum())
    assert len(mine) == 200 - 25 + inside and 10 < inside < 40
    assert len(others) == 400 - 50 - 175
    everything = victims.points("mnist-5k")

    def keys(x):
        return [one.numpy().tobytes() for one in x]

    labels = dict(zip(keys(everything.x), everything.y.tolist(), strict=True))
    marked = keys(found.x)
    assert all(labels[key] != y for key, y in zip(marked, found.y.tolist(), strict=True))
    trained = set(keys(mine.x))
    np.testing.assert_array_equal([key in trained for key in marked], found.included)
    assert not trained & set(keys(others.x))
    again = canaries(replace(planted, index=1))
    assert (again.included != found.included).any()


def test_without_a_change_an_audited_net_trains_on_what_the_victim_does():
    mine = audited(SMALL).points_of_training()
    game = victims.game(5000, 200)
    chosen = game.universe[victims.members(SMALL, game)]
    assert torch.equal(mine.x, victims.points("mnist-5k").x[torch.from_numpy(chosen)])


def test_a_robust_victim_is_trained_for_its_radius(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    longer = replace(SMALL, epochs=12)
    plain, robust = named.trained(longer), named.trained(audited(longer, radius=2.0))

    def norms(net):
        return float(
            torch.linalg.matrix_norm(net[1].weight.detach(), 2)
            * torch.linalg.matrix_norm(net[3].weight.detach(), 2)
        )

    assert norms(robust) < 0.9 * norms(plain)
    assert [type(layer) for layer in robust] == [type(layer) for layer in plain]


def test_a_private_victim_trains_by_its_own_recipe_on_what_others_train_on(monkeypatch):
    seen = {}

    def fit(net, points, epsilon, **how):
        seen.update(how, net=net, points=points, epsilon=epsilon)
        return [{"epoch": 1.0, "loss": 0.0, "epsilon": epsilon}]

    monkeypatch.setattr(dpsgd, "fit", fit)
    mine = Private("mnist-5k", "mlp", 200, 2, 0.1, epsilon=8.0, width=16, clip=0.2)
    net, history = mine.train(None)
    assert net is seen["net"] and history[-1]["epsilon"] == 8
    assert [type(layer).__name__ for layer in net] == ["Flatten", "Linear", "Tanh", "Linear"]
    assert (seen["clip"], seen["lr"], seen["seed"]) == (0.2, 0.1, mine.seed)
    torch.testing.assert_close(net[1].weight, replace(SMALL, epsilon=8.0).build()[1].weight)
    assert torch.equal(seen["points"].x, audited(SMALL).points_of_training().x)
    planted = audited(victims.other(mine, "target", 3), canaries=50)
    assert type(planted) is Private and (planted.clip, planted.index) == (0.2, 3)
    planted.train(None)
    expected = replace(audited(SMALL, canaries=50), index=3).points_of_training()
    assert torch.equal(seen["points"].x, expected.x) and torch.equal(seen["points"].y, expected.y)
    for changes in ({"epsilon": 0.0}, {"smoothing": 0.1}, {"weight_decay": 0.1}):
        with pytest.raises(ValueError, match="a private net needs epsilon > 0, no smoothing"):
            replace(mine, **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"canaries": 201}, "canaries from 0 to n=200"),
        ({"radius": -1.0}, "radius >= 0"),
        ({"canaries": 10, "role": "shadow"}, "for targets alone"),
        ({"radius": 0.3, "epsilon": 1.0}, "without a budget"),
    ],
)
def test_an_audit_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        audited(SMALL, **changes)
    assert isinstance(audited(SMALL), Audited)


def test_quantile_regression_standardises_what_is_known():
    """Confidences with a mean and a spread that are linear in the point: Gaussian scores."""
    rng = np.random.default_rng(0)

    def drawn(n, shift=0.0):
        x = rng.random((n, 2))
        noise = rng.standard_normal(n)
        return x, 3 * x[:, 0] + np.exp(x[:, 1]) * (noise + shift)

    attack = QuantileAttack(LinearRegression()).fit(*drawn(4000))
    scores = attack.score_samples(*drawn(4000))
    assert abs(scores.mean()) < 0.06 and scores.std() == pytest.approx(1, abs=0.06)
    assert (scores > 1.2816).mean() == pytest.approx(0.1, abs=0.015)  # the upper decile
    assert attack.score_samples(*drawn(4000, 1.0)).mean() == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="at least 6 points, got 5"):
        QuantileAttack().fit(*drawn(5))
    with pytest.raises(ValueError, match="confidences"):
        attack.score_samples(np.ones((3, 2)), np.ones(4))
    assert QuantileAttack().fit(*drawn(60)).score_samples(*drawn(5)).shape == (5,)
