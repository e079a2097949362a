"""DP-SGD against descent by hand, its noise, and what its accountant says is spent."""

import functools
import math

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from thesis_repro.data import Split
from thesis_repro.weaknesses.membership import dpsgd, private

from .test_membership_private import net, points

needs_opacus = pytest.mark.skipif(not private.available(), reason="Opacus is not installed")


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    """The search for the noise takes longer than these trainings: each is done once."""
    if private.available():
        monkeypatch.setattr("opacus.privacy_engine.get_noise_multiplier", searched())


@functools.cache
def searched():
    from opacus.accountants.utils import get_noise_multiplier

    return functools.cache(get_noise_multiplier)


def per_point(model, x, y):
    """The gradient of each point's loss, flattened, (points, weights)."""
    rows = []
    for one, label in zip(x, y, strict=True):
        value = nn.functional.cross_entropy(model(one[None]), label[None])
        grads = torch.autograd.grad(value, list(model.parameters()))
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(rows)


@needs_opacus
def test_without_noise_it_is_clipped_descent():
    """With all points in each batch and next to no noise, step by step."""
    mine, expected, trained = points(12), net(), net()
    clip = float(per_point(expected, mine.x, mine.y).norm(dim=1).median())
    how = {"epochs": 4, "batch_size": 12, "lr": 0.5, "clip": clip, "seed": 0}
    dpsgd.fit(trained, mine, 1e6, **how)
    start = nn.utils.parameters_to_vector(expected.parameters()).detach()
    flat, clipped = start, []
    for _ in range(4):
        nn.utils.vector_to_parameters(flat, expected.parameters())
        rows = per_point(expected, mine.x, mine.y)
        norms = rows.norm(dim=1, keepdim=True)
        clipped.append((norms > clip).float().mean())
        flat = flat - 0.5 * (rows * (clip / norms).clamp(max=1)).mean(0)
    assert 0.2 < clipped[0] < 0.8
    found = nn.utils.parameters_to_vector(trained.parameters()).detach()
    assert (found - flat).norm() < 0.02 * (flat - start).norm()
    assert not trained.training and type(trained) is nn.Sequential


@needs_opacus
def test_noise_follows_the_clip():
    """Where it clips every point, half the clip with twice the rate is the same training."""
    found, how = [], {"epochs": 2, "batch_size": 20, "seed": 3}
    for clip, lr in ((1e-3, 20.0), (5e-4, 40.0)):
        found.append(net())
        dpsgd.fit(found[-1], points(), 4.0, clip=clip, lr=lr, **how)
    start = nn.utils.parameters_to_vector(net().parameters())
    first, second = (nn.utils.parameters_to_vector(one.parameters()) for one in found)
    assert (first - start).norm() > 0.01
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


@needs_opacus
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_both_accountants_bound_what_is_spent():
    """Without sampling the exact epsilon is known; with it, the second accountant is below ours."""
    from opacus.accountants import PRVAccountant, RDPAccountant

    def spent(kind, *history):
        accountant = kind()
        accountant.history = [history]
        return accountant.get_epsilon(private.DELTA)

    steps, noise = 10, 4.0
    mu = steps**0.5 / noise

    def failing(epsilon):  # Balle and Wang 2018, theorem 8
        ends = (mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu)
        return norm.cdf(ends[0]) - math.exp(epsilon) * norm.cdf(ends[1])

    exact = brentq(lambda epsilon: failing(epsilon) - private.DELTA, 0, 20)
    tight, ours = (spent(kind, noise, 1.0, steps) for kind in (PRVAccountant, RDPAccountant))
    assert exact <= tight < exact + 0.03 and tight < ours < 1.3 * exact
    assert spent(PRVAccountant, 1.0, 0.1, 50) < spent(RDPAccountant, 1.0, 0.1, 50)


@needs_opacus
def test_the_budget_is_spent_and_training_is_deterministic():
    found, how = [], {"epochs": 2, "batch_size": 4, "lr": 0.2, "clip": 0.5, "seed": 3}
    for _ in range(2):  # batches so small that some are empty
        found.append(net())
        history = dpsgd.fit(found[-1], points(), 8.0, **how)
    assert 7.5 < history[-1]["epsilon"] <= 8.0 and len(history) == 2
    for first, second in zip(found[0].parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clip": 0.0}, "needs clip > 0 and finite, got 0"),
        ({"epsilon": math.inf}, "privacy needs epsilon > 0 and epochs >= 1, got inf and 1"),
        ({"epochs": 0}, "epsilon > 0 and epochs >= 1, got 1.0 and 0"),
        ({"points": Split(points().x * torch.nan, points().y)}, "x: got nan in row 0"),
        ({"points": Split(points().x, points().y.float())}, "y need to be whole numbers"),
        ({"net": nn.Sequential(nn.BatchNorm2d(1), net())}, "learns statistics of the batch"),
    ],
)
def test_what_cannot_be_trained_privately_is_refused(changes, says):
    if not private.available():
        says = "needs Opacus: pip install"
    how = {"epochs": 1, "batch_size": 20, "lr": 0.2, "clip": 0.5, "seed": 0, "epsilon": 1.0}
    with pytest.raises(ValueError, match=says):
        dpsgd.fit(**({"net": net(), "points": points()} | how | changes))
