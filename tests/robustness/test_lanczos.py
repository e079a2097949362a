"""Lanczos iteration against the matrix, and proven bounds of trained nets against it."""

import math

import pytest
import torch
from torch import nn

from thesis_repro.robustness import gloro, lanczos, lipschitz, models


def test_lanczos_iteration_is_the_norm_of_the_matrix():
    torch.manual_seed(0)
    for layer, shape in ((nn.Conv2d(3, 4, 3, 2, 1), (3, 9, 8)), (nn.Linear(30, 50), (30,))):
        unit = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        matrix = lipschitz.linear_map(layer, unit).flatten(1)
        true = torch.linalg.matrix_norm(matrix, 2).item()
        assert lanczos.operator_norm(layer, shape) == pytest.approx(true, rel=1e-8)


@pytest.mark.parametrize("name", models.names())
def test_the_fast_bound_of_a_trained_net_is_at_most_4_percent_above_its_layers(name):
    net = models.load(name)
    fast = gloro.bound(net.body, net.input_shape, "fast").k_sub
    assert 1 - 1e-7 <= fast / lanczos.converged(net) <= 1.04
