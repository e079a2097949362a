"""Attacks outside the certificate: each keeps its limits, and finds what a linear net allows."""

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from thesis_repro.robustness import threats

SIDE = 6


@pytest.fixture
def x() -> Tensor:
    return 0.3 + 0.4 * torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def linear(weight: Tensor, x: Tensor, lead: float) -> nn.Sequential:
    """A net of two classes that says 0 of each image, ahead by about `lead`."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    with torch.no_grad():
        body[1].weight.copy_(torch.stack([weight.flatten(), torch.zeros(SIDE * SIDE)]))
        body[1].bias.copy_(torch.tensor([lead - (x.flatten(1) @ weight.flatten()).min(), 0.0]))
    return body


Y = torch.zeros(5, dtype=torch.int64)


def fallen(net: nn.Module, x: Tensor) -> Tensor:
    return net(x).argmax(1) != Y


def test_linf_finds_what_the_dual_norm_allows_and_no_more(x):
    weight = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    net = linear(weight, x[:1], 1.0)
    epsilon = 1.0 / weight.abs().sum().item()
    for factor, falls in ((1.05, True), (0.95, False)):
        moved = threats.linf(net, x[:1], Y[:1], factor * epsilon, 20)
        assert (moved - x[:1]).abs().max() <= factor * epsilon * (1 + 1e-5)
        assert (net(moved).argmax(1) != 0).item() is falls


def test_l1_finds_what_the_largest_weight_allows_and_no_more(x):
    weight = torch.zeros(SIDE, SIDE)
    weight[2, 3], weight[4, 1] = 3.0, 1.0
    net = linear(weight, x[:1], 0.3)
    for epsilon, falls in ((0.115, True), (0.09, False)):  # 0.3 / 3
        moved = threats.l1(net, x[:1], Y[:1], epsilon, 30)
        assert (moved - x[:1]).abs().sum() <= epsilon * (1 + 1e-5)
        assert (net(moved).argmax(1) != 0).item() is falls


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 100.0])
def test_the_projection_to_l1_is_the_nearest_point(epsilon):
    delta = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).double()
    found = threats.project_l1(delta, epsilon)
    assert (found.abs().sum(1) <= epsilon * (1 + 1e-12)).all()
    for one, near in zip(delta, found, strict=True):
        best = minimize(
            lambda z, one=one: float(((torch.tensor(z) - one) ** 2).sum()),
            near.numpy(),
            constraints={"type": "ineq", "fun": lambda z: epsilon - abs(z).sum()},
            method="SLSQP",
        )
        assert float(((near - one) ** 2).sum()) <= best.fun + 1e-3


def test_a_patch_changes_one_square_alone_and_finds_where_it_matters(x):
    weight = torch.zeros(SIDE, SIDE)
    weight[1:3, 1:3] = 1.0
    net = linear(weight, x, 0.5)
    moved = threats.patch(net, x, Y, 3, 10, places=60)
    assert fallen(net, moved).all()
    changed = ((moved - x).abs() > 1e-6)[:, 0]
    for one in changed:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert rows[-1] - rows[0] < 3 and columns[-1] - columns[0] < 3
    weight = torch.ones(SIDE, SIDE)
    assert not fallen(
        linear(weight, x, 20.0), threats.patch(linear(weight, x, 20.0), x, Y, 3, 5, 3)
    ).any()


def test_a_picture_is_turned_until_it_falls_and_one_that_stays_is_an_image_all_the_same(x):
    corner = torch.zeros(SIDE, SIDE)
    corner[0, 0] = 1.0  # black from 45 degrees on
    net = linear(corner, x, 0.2)
    assert fallen(net, threats.turned(net, x, Y, 60.0)).all()
    assert not fallen(net, threats.turned(net, x, Y, 1.0, 3)).any()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net, x: threats.linf(net, x, Y, 0.0, 5), "epsilon needs to be positive"),
        (lambda net, x: threats.l1(net, x, Y + 5, 1.0, 5), "y need"),
        (lambda net, x: threats.patch(net, x, Y, 7, 5, 1), "a patch of 7 pixels"),
        (lambda net, x: threats.turned(net, x, Y, 10.0, 1), "steps=0"),
    ],
)
def test_what_makes_no_attack_is_refused(x, call, says):
    with pytest.raises(ValueError, match=says):
        call(linear(torch.ones(SIDE, SIDE), x, 1.0), x)
    one_logit = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 1))
    with pytest.raises(ValueError, match="the net gives one logit"):  # so that none is ahead
        threats.linf(one_logit, x, Y, 0.1, 5)
