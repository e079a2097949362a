"""The search for counter-examples by rounding: it finds a missing budget, and none with one."""

import torch
from torch import nn

from thesis_repro.robustness import GloroNet, arithmetic, boundary, outputs
from thesis_repro.robustness.gloro import Bound


def cancelling():
    """A float32 net whose two logits are nearly equal sums of many terms."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(256, generator=generator) * 10
    weight = torch.stack([row, row + torch.randn(256, generator=generator)])
    body = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        body[1].weight.copy_(weight)
        # the boundary goes through the middle of the images
        body[1].bias.copy_(torch.stack([torch.zeros(()), -(weight[1] - weight[0]).sum() / 2]))
    return GloroNet(body, 0.05, (1, 16, 16)).eval()


def images(n=200):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def search(net):
    return boundary.search(net, images(), pairs=50, generator=torch.Generator().manual_seed(2))


def test_no_counter_example_where_the_budget_is_taken_off():
    found = search(cancelling())
    assert found.certified > 50 and found.tried == 5 * found.certified
    assert found.broken == 0


def test_a_missing_budget_is_found(monkeypatch):
    net = cancelling()
    honest = net.bound()
    bare = Bound(honest.k_sub, honest.k_ij, honest.layers)
    monkeypatch.setattr(net, "bound", lambda: bare)
    assert search(net).broken > 0


def test_moves_stay_in_the_ball_and_in_range():
    x = images(20)
    radius = torch.logspace(-9, 0, 20, dtype=torch.float64)
    for generator in (None, torch.Generator().manual_seed(3)):
        moved = boundary._move(x, images(40)[20:] - x, radius, generator)
        distance = (moved.double() - x.double()).flatten(1).norm(dim=1)
        assert (distance <= radius).all()
        assert moved.min() >= 0 and moved.max() <= 1


def test_a_net_of_one_label_has_no_boundary():
    body = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    nn.init.zeros_(body[1].weight)
    with torch.no_grad():
        body[1].bias.copy_(torch.tensor([1.0, 0.0]))
    assert search(GloroNet(body, 0.05, (1, 16, 16)).eval()).certified == 0


class Noting(nn.Flatten):
    """Notes in which arithmetic it is asked."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append((arithmetic.settings("cpu")[:5], torch.backends.cudnn.enabled))
        return super().forward(x)


def test_a_module_is_asked_in_the_format_of_its_weights():
    net = nn.Sequential(Noting(), nn.Linear(4, 2)).eval()
    x = torch.rand(3, 1, 2, 2)
    before, expected = arithmetic.settings("cpu"), net(x)
    assert torch.equal(outputs.ask(net, x), expected)
    assert net[0].seen[1:] == [(("ieee",) * 5, True)]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(outputs.ask(net, x), expected)
    assert arithmetic.settings("cpu") == before
    seen = []
    outputs.ask(lambda x: seen.append(arithmetic.settings("cpu")) or net(x), x)
    assert seen == [before]  # what is no module answers as it does


def test_labels_are_those_of_the_function_that_is_certified(monkeypatch):
    net, seen, measure = cancelling(), [], boundary.certifying.measure

    def noted(*given):
        seen.append(len(given[1]))
        return measure(*given)

    monkeypatch.setattr(boundary.certifying, "measure", noted)
    found = search(net)
    assert found.tried > 0 and sum(seen) > found.tried
