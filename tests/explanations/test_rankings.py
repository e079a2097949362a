"""Rankings of units: against closed forms, completeness, and the net changed by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from thesis_repro.explanations import rankings
from thesis_repro.explanations.experts import Experts


def dense(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)
    ).eval()


def convolved() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3)
    ).eval()


X = torch.rand(12, 6, generator=torch.Generator().manual_seed(2)) + 0.1
PICTURES = torch.rand(12, 1, 5, 5, generator=torch.Generator().manual_seed(3))
Y = torch.arange(12) % 3


@pytest.mark.parametrize(("net", "slice", "x"), [(dense(), "1", X), (convolved(), "1", PICTURES)])
def test_patching_is_the_net_without_the_unit(net: nn.Sequential, slice: str, x: torch.Tensor):
    layer = Experts(net, slice, x, Y)
    found = rankings.patching(layer, 1)
    mine = x[Y == 1]
    for j in range(layer.units):
        without = copy.deepcopy(net)
        with torch.no_grad():
            without[0].weight[j] = 0.0
            without[0].bias[j] = 0.0
            fall = (net(mine) - without(mine))[:, 1].mean()
        assert float(found[j]) == pytest.approx(float(fall), abs=1e-5)


def test_after_the_last_hidden_layer_patching_and_attribution_are_weight_times_activation():
    net = dense()
    layer = Experts(net, "3", X, Y)
    expected = net[4].weight[2] * layer.z[Y == 2].mean(0)
    for rank in (rankings.patching, rankings.attribution):
        torch.testing.assert_close(rank(layer, 2), expected.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rankings.weights(layer, 2), net[4].weight[2].detach())
    torch.testing.assert_close(
        rankings.size_of_attribution(layer, 2), (net[4].weight[2] * layer.z[Y == 2]).abs().mean(0)
    )


def test_weights_are_the_product_of_what_follows_and_a_map_is_its_mean():
    net = dense()
    expected = net[4].weight[0] @ net[2].weight
    torch.testing.assert_close(rankings.weights(Experts(net, "1", X, Y), 0), expected.detach())
    conv = convolved()
    product = (conv[5].weight[0] @ conv[3].weight).view(4, 9).mean(1).detach()
    torch.testing.assert_close(rankings.weights(Experts(conv, "1", PICTURES, Y), 0), product)


def test_weights_count_a_layer_each_time_that_it_stands_there():
    torch.manual_seed(4)
    tied, first, last = nn.Linear(5, 5), nn.Linear(6, 5), nn.Linear(5, 3)
    net = nn.Sequential(first, nn.ReLU(), tied, nn.ReLU(), tied, nn.ReLU(), last).eval()
    expected = (last.weight[0] @ tied.weight @ tied.weight).detach()
    torch.testing.assert_close(rankings.weights(Experts(net, "1", X, Y), 0), expected)
    torch.testing.assert_close(
        rankings.weights(Experts(first.eval(), "", X, Y), 2), first.weight[2].detach()
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weights_and_conductance_work_without_gradients_around_them(mode):
    net = dense()
    for rank in (rankings.weights, rankings.conductance):
        expected = rank(Experts(net, "1", X, Y), 0)
        with mode():
            assert torch.equal(rank(Experts(net, "1", X.clone(), Y.clone()), 0), expected)


@pytest.mark.parametrize(("net", "slice", "x"), [(dense(), "1", X), (convolved(), "1", PICTURES)])
def test_conductance_is_complete(net: nn.Sequential, slice: str, x: torch.Tensor, monkeypatch):
    monkeypatch.setattr(rankings, "NODES", 400)  # ReLU has kinks on the line
    found = rankings.conductance(Experts(net, slice, x, Y), 1)
    mine = x[Y == 1]
    gain = (net(mine) - net(torch.zeros_like(mine)))[:, 1].mean()
    assert found.shape == (4 if x.ndim > 2 else 8,)
    assert float(found.sum()) == pytest.approx(float(gain), abs=2e-3)


def test_attribution_sums_over_the_positions_of_a_map():
    net = convolved()
    layer = Experts(net, "1", PICTURES, Y)
    z = layer.z[Y == 0].requires_grad_()
    (gradient,) = torch.autograd.grad(net[2:](z)[:, 0].sum(), z)
    expected = (gradient * z).sum((2, 3)).detach()
    torch.testing.assert_close(rankings.attribution(layer, 0), expected.mean(0))
    torch.testing.assert_close(rankings.size_of_attribution(layer, 0), expected.abs().mean(0))


def test_every_ranking_gives_a_score_for_each_unit():
    for net, slice, x in ((dense(), "3", X), (convolved(), "1", PICTURES)):
        layer = Experts(net, slice, x, Y)
        for name, rank in rankings.METHODS.items():
            assert rank(layer, 1).shape == (layer.units,), name
            with pytest.raises(ValueError, match="no image of class 7"):
                rank(layer, 7)


def test_auroc_is_the_share_of_pairs_in_order():
    layer = Experts(dense(5), "1", X, Y)
    kept = torch.arange(8) < 4
    for keep in (None, kept):
        log_p = layer.logits(keep).log_softmax(1)[:, 1].numpy()  # log odds have the same order
        theirs, ours = log_p[Y.numpy() != 1], log_p[Y.numpy() == 1]
        pairs = np.mean(ours[:, None] > theirs[None])
        assert rankings.auroc(layer, 1, keep) == pytest.approx(pairs)
    with pytest.raises(ValueError, match="images of class 0 and of others"):
        rankings.auroc(Experts(dense(), "1", X, torch.zeros(12, dtype=torch.long)), 0)


class Around(nn.Module):
    """No sequence, whatever its one child is."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.last = net[4]
        self.before = net[:4]

    def forward(self, x):
        return self.last(self.before(x)) + x[:, :3]


def test_nets_that_do_not_fit_are_named():
    squashed = nn.Sequential(
        nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)
    )
    layer = Experts(squashed.eval(), "1", X, Y)
    with pytest.raises(ValueError, match="weights need linear layers and ReLU after the slice '1'"):
        rankings.weights(layer, 0)
    with pytest.raises(ValueError, match="weights need linear layers and ReLU after the slice ''"):
        rankings.weights(Experts(Around(dense()).eval(), "", X, Y), 0)
    nested = nn.Sequential(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 3)).eval()
    with pytest.raises(ValueError, match="conductance needs a plain sequence.*'0.1'"):
        rankings.conductance(Experts(nested, "0.1", X, Y), 0)


def test_a_map_counts_by_its_mean_over_the_images_of_the_class():
    net = convolved()
    layer = Experts(net, "1", PICTURES, Y)
    z = net[:2](PICTURES[Y == 1]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net[2:](z)[:, 1].sum(), z)
    for name, expected in (("influence", gradient), ("activation", z.detach())):
        found = rankings.METHODS[name](layer, 1)
        torch.testing.assert_close(found, expected.mean((0, 2, 3)))
    torch.testing.assert_close(layer.activation(1), z.detach().amax((2, 3)).mean(0))
