"""Attainable VRA against all subsets of few points, and the classifier that attains it."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from thesis_repro.robustness.attainable import ByDistance, attainable, nearest_other


def points(seed: int, n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.rand(n, 2, generator=generator), y


def test_the_nearest_of_another_label_by_two_loops() -> None:
    x, y = points(0)
    expected = [
        min(float((x[i] - x[j]).norm()) for j in range(9) if y[j] != y[i]) for i in range(9)
    ]
    assert nearest_other(x, y, batch_size=2).tolist() == pytest.approx(expected)
    assert nearest_other(x, torch.zeros(9).long()).isinf().all()


@pytest.mark.parametrize("seed", range(8))
def test_bounds_hold_the_largest_set_without_a_pair_that_meets(seed: int) -> None:
    x, y = points(seed)
    for epsilon in (0.02, 0.1, 0.2, 0.4):
        meets = (torch.cdist(x, x) <= 2 * epsilon) & (y[:, None] != y[None])
        largest = next(
            size
            for size in range(9, 0, -1)
            for chosen in combinations(range(9), size)
            if not meets[list(chosen)][:, list(chosen)].any()
        )
        found = attainable(x, y, epsilon)
        assert found.least <= largest <= found.most <= found.n == 9
        assert found.least == int((~meets.any(1)).sum())


def test_the_upper_bound_is_that_of_the_linear_program() -> None:
    """A star costs its centre alone, a triangle half of its three points, rounded up."""
    far = [[50.0, 0.0], [90.0, 0.0]]
    star = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], *far]
    found = attainable(torch.tensor(star), torch.tensor([0, 1, 1, 1, 1, 0, 1]), 0.51)
    assert (found.least, found.most) == (2, 6)
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.8], *far])
    found = attainable(triangle, torch.tensor([0, 1, 2, 0, 1]), 0.51)
    assert (found.least, found.most) == (2, 3)
    for seed in range(4):
        x, y = points(seed, 40)
        meets = (torch.cdist(x, x) <= 0.2) & (y[:, None] != y[None])
        pairs = meets.triu().nonzero()
        inside = torch.zeros(len(pairs), 40)
        inside.scatter_(1, pairs, 1.0)
        weights = linprog(np.ones(40), A_ub=-inside.numpy(), b_ub=-np.ones(len(pairs))).fun
        assert attainable(x, y, 0.1).most == int(40 - weights + 1e-9)


def test_a_pair_that_meets_costs_one_point_of_the_two() -> None:
    x = torch.tensor([[0.0], [0.1], [5.0], [9.0]])
    found = attainable(x, torch.tensor([0, 1, 0, 1]), 0.05 + 1e-9)
    assert (found.least, found.most) == (2, 3)


@pytest.mark.parametrize("seed", range(4))
def test_a_global_bound_certifies_every_point_that_is_far_from_other_labels(seed: int) -> None:
    x, y = points(seed, 30)
    epsilon = 0.02
    alone = nearest_other(x, y) > 2 * epsilon
    assert 0 < alone.sum() < 30
    labels, certified = ByDistance(x[alone], y[alone]).certified(x[alone], epsilon)
    assert certified.all() and torch.equal(labels, y[alone])
    near, _ = ByDistance(x, y).certified(x, epsilon)
    assert torch.equal(near, y)
    assert not ByDistance(x, y).certified(x, epsilon)[1].all()


def test_no_slope_of_a_difference_of_logits_exceeds_the_bound_and_some_reach_it() -> None:
    x, y = points(1, 12)
    net = ByDistance(x, y)
    a, b = torch.rand(2, 400, 2, generator=torch.Generator().manual_seed(2))
    change = net(a) - net(b)
    slopes = (change[:, :, None] - change[:, None]).abs().amax((1, 2)) / (a - b).norm(dim=1)
    assert slopes.max() <= ByDistance.K + 1e-9
    line = ByDistance(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    step = line(torch.tensor([[0.6], [0.4]]))
    assert float((step[0, 1] - step[0, 0] - step[1, 1] + step[1, 0]) / 0.2) == pytest.approx(2.0)


def test_wrong_input_is_refused() -> None:
    x, y = points(0)
    with pytest.raises(ValueError, match="epsilon needs to be positive"):
        attainable(x, y, 0.0)
    with pytest.raises(ValueError, match="each of two or more classes needs a point"):
        ByDistance(x, y + 1)
    with pytest.raises(ValueError, match="epsilon needs to be positive"):
        ByDistance(x, y).certified(x, -1.0)
    with pytest.raises(ValueError, match="a distance for each of 9 points"):
        attainable(x, y, 0.1, near=torch.ones(5))
    bytes_ = (255 * x).to(torch.uint8)  # whose distances are 255 times as large
    for points_, labels, says in (
        (bytes_, y, "floating-point numbers, got uint8"),
        (x, y[:1], "one label for each of 9"),
        (x, y[:, None], "one label for each of 9"),
        (x, y.double(), "whole numbers"),
    ):
        for call in (nearest_other, ByDistance, lambda x, y: attainable(x, y, 0.1)):
            with pytest.raises(ValueError, match=says):
                call(points_, labels)
    with pytest.raises(ValueError, match="finite"):
        nearest_other(x.fill_(torch.nan), y)
