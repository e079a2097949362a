import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, gloro, tightness


def test_on_a_linear_net_the_bound_is_reached():
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    found = tightness.steepest(net, torch.rand(5, 1, 4, 4), steps=300, lr=1e-2)
    assert 99 < 100 * found.share <= 100
    assert found.steepest <= net.bound().k_ij.max().item()


@pytest.mark.parametrize("radius", [None, 0.2])
def test_no_slope_exceeds_the_bound(radius):
    body = nets.cnn_2c2f(in_shape=(1, 8, 8), classes=3, generator=torch.Generator().manual_seed(0))
    net = GloroNet(body, 0.1, (1, 8, 8)).eval()
    found = tightness.steepest(net, torch.rand(5, 1, 8, 8), steps=60, lr=1e-2, radius=radius)
    assert 0.1 < found.share <= 1


def test_a_bound_that_is_too_small_is_exposed(monkeypatch):
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    bound = net.bound()
    small = gloro.Bound(bound.k_sub, 0.9 * bound.k_ij, bound.layers)
    monkeypatch.setattr(net, "bound", lambda: small)
    assert tightness.steepest(net, torch.rand(5, 1, 4, 4), steps=300, lr=1e-2).share > 1


def test_of_one_logit_there_is_no_slope():
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), 0.1, (1, 4, 4)).eval()
    with pytest.raises(ValueError, match="the net gives one logit"):
        tightness.steepest(net, torch.rand(5, 1, 4, 4), steps=2)


def test_points_constants_and_noise_are_brought_to_the_net():
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    x, k_ij = torch.rand(5, 1, 4, 4), net.bound().k_ij
    here = tightness.steepest(net, x, steps=5)
    assert tightness.steepest(net, x.numpy(), steps=5) == here

    class Elsewhere:  # a tensor of another device: good for nothing before it is moved
        def to(self, other):
            return k_ij.to(other)

    assert tightness.steepest(net, x, steps=5, k_ij=Elsewhere()) == here
    if torch.cuda.is_available():
        there = tightness.steepest(net.cuda(), x, steps=5)
        assert there.steepest == pytest.approx(here.steepest, rel=1e-6)
    with pytest.raises(ValueError, match="images need shape"):
        tightness.steepest(net, torch.rand(5, 1, 5, 5), steps=5)


def test_slopes_are_compared_with_the_constants_that_are_given():
    torch.manual_seed(0)
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    x, k_ij = torch.rand(5, 1, 4, 4), net.bound().k_ij
    own = tightness.steepest(net, x, steps=20)
    assert tightness.steepest(net, x, steps=20, k_ij=k_ij) == own
    twice = tightness.steepest(net, x, steps=20, k_ij=2 * k_ij)
    assert (twice.steepest, twice.share) == pytest.approx((own.steepest, own.share / 2))


def test_no_pair_outside_the_radius_counts():
    """Two logits that part from one another only where the pixel is 0.05 away from a half."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer, weight, bias in (
            (body[1], [[1.0], [-1.0]], [-0.55, 0.45]),
            (body[3], [[1.0, 1.0], [0.0, 0.0]], [1.0, 0.0]),
        ):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    net, x = GloroNet(body, 0.1, (1, 1, 1)).eval(), torch.full((1, 1, 1, 1), 0.5)
    assert tightness.steepest(net, x, steps=0).steepest > 0
    assert tightness.steepest(net, x, steps=0, radius=0.01).steepest == 0
