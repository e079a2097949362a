import math

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, gloro, lipschitz, models, pairs
from thesis_repro.tables import lipschitz as tables
from thesis_repro.tables import lipschitz_cells as cells


def test_on_a_linear_net_the_bound_is_reached():
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    found = pairs.steepest(net, torch.rand(5, 1, 4, 4), steps=300, lr=1e-2)
    assert 99 < 100 * found.share <= 100
    assert found.steepest <= net.bound().k_ij.max().item()


@pytest.mark.parametrize("radius", [None, 0.2])
def test_no_slope_exceeds_the_bound(radius):
    body = nets.cnn_2c2f(in_shape=(1, 8, 8), classes=3, generator=torch.Generator().manual_seed(0))
    net = GloroNet(body, 0.1, (1, 8, 8)).eval()
    found = pairs.steepest(net, torch.rand(5, 1, 8, 8), steps=60, lr=1e-2, radius=radius)
    assert 0.1 < found.share <= 1


def test_a_bound_that_is_too_small_is_exposed(monkeypatch):
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    bound = net.bound()
    small = gloro.Bound(bound.k_sub, 0.9 * bound.k_ij, bound.layers)
    monkeypatch.setattr(net, "bound", lambda: small)
    assert pairs.steepest(net, torch.rand(5, 1, 4, 4), steps=300, lr=1e-2).share > 1


def test_slopes_are_compared_with_the_constants_that_are_given():
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    x, k_ij = torch.rand(5, 1, 4, 4), net.bound().k_ij
    own = pairs.steepest(net, x, steps=20)
    assert pairs.steepest(net, x, steps=20, k_ij=k_ij) == own
    twice = pairs.steepest(net, x, steps=20, k_ij=2 * k_ij)
    assert (twice.steepest, twice.share) == pytest.approx((own.steepest, own.share / 2))


def test_power_iteration_is_below_the_proven_bound():
    body = nets.cnn_2c2f(generator=torch.Generator().manual_seed(0))
    net = GloroNet(body, 0.1, (1, 28, 28)).eval()
    proven = net.bound().k_sub
    assert cells.from_below(net, 10) < cells.converged(net) <= proven
    assert proven < 1.001 * cells.converged(net)


def test_lanczos_iteration_is_the_norm_of_the_matrix():
    torch.manual_seed(0)
    for layer, shape in ((nn.Conv2d(3, 4, 3, 2, 1), (3, 9, 8)), (nn.Linear(30, 50), (30,))):
        unit = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        matrix = lipschitz.linear_map(layer, unit).flatten(1)
        true = torch.linalg.matrix_norm(matrix, 2).item()
        assert cells.operator_norm(layer, shape) == pytest.approx(true, rel=1e-8)


@pytest.mark.parametrize("name", models.names())
def test_the_fast_bound_of_a_trained_net_is_at_most_4_percent_above_its_layers(name):
    net = models.load(name)
    fast = gloro.bound(net.body, net.input_shape, "fast").k_sub
    assert 1 - 1e-7 <= fast / cells.converged(net) <= 1.04


def test_a_cpu_climbs_fewer_pairs_of_the_large_net(monkeypatch):
    monkeypatch.setattr(tables.data, "available", lambda name: True)
    monkeypatch.setattr(tables.data, "fingerprint", lambda name: name)

    def efforts(profile, device):
        plan = tables.tightness_cells(Profile(profile, device, (0,)))
        return {row[1]: (cell.config.points, cell.config.steps) for row, cell in plan}

    small = dict.fromkeys(("GloRo 2C2F", "standard 2C2F"), (50, 500))
    assert efforts("paper", "cpu") == small | {"GloRo 6C2F": (10, 300)}
    assert set(efforts("paper", "cuda").values()) == {(100, 1000)}
    assert set(efforts("quick", "cpu").values()) == {(20, 150)}


def test_the_table_of_faults_names_tests_that_exist(root):
    faults = tables.known_faults()
    sources = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    assert len(faults) == 29
    for check in faults["caught by"]:
        assert f"def {check}(" in sources
