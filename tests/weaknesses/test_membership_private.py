import copy

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.data import Split
from thesis_repro.weaknesses.membership import private


def points(n=60):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    x = torch.rand(n, 1, 4, 4, generator=generator) * 0.5
    x[y == 1, :, :2] += 0.5
    return Split(x, y)


def net():
    generator = torch.Generator().manual_seed(0)
    return nets.cnn([], [8], "relu", (1, 4, 4), 2, generator, start=nets.uniform)


@pytest.mark.skipif(not private.available(), reason="Opacus is not installed")
def test_private_training_spends_its_budget_and_is_deterministic():
    how = {"epochs": 2, "batch_size": 20, "lr": 0.2, "seed": 3}
    first, second = net(), net()
    history = private.fit(first, points(), 8.0, **how)
    private.fit(second, points(), 8.0, **how)
    assert 7.5 < history[-1]["epsilon"] <= 8.0
    assert not first.training and type(first) is torch.nn.Sequential
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not hasattr(a, "grad_sample") or a.grad_sample is None
    noisy = net()
    private.fit(noisy, points(), 0.4, **how)

    def moved(model):
        pairs = zip(model.parameters(), net().parameters(), strict=True)
        return sum((a - b).pow(2).sum() for a, b in pairs)

    assert moved(noisy) > 4 * moved(first)  # a small budget is bought with noise


def test_privacy_needs_a_budget_and_opacus(monkeypatch):
    how = {"epochs": 1, "batch_size": 20, "lr": 0.2, "seed": 0}
    if private.available():
        with pytest.raises(ValueError, match="epsilon > 0 and epochs >= 1, got 0"):
            private.fit(net(), points(), 0.0, **how)
        with pytest.raises(ValueError, match="y need to be whole numbers"):
            private.fit(net(), Split(points().x, points().y.float()), 1.0, **how)
        with pytest.raises(ValueError, match="x: got nan in row 0"):
            private.fit(net(), Split(points().x * torch.nan, points().y), 1.0, **how)
    monkeypatch.setattr(private, "available", lambda: False)
    with pytest.raises(ValueError, match="needs Opacus: pip install"):
        private.fit(net(), points(), 1.0, **how)


class Keeps(nn.Module):
    """Writes down what it sees, in one of the ways there are."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.register_buffer("mean", torch.zeros(4))
        self.plain, self.number = torch.zeros(4), 0.0

    def forward(self, x):
        seen = x.detach().mean((0, 2, 3))
        if self.where == "mean":
            self.mean.mul_(0.9).add_(seen)
        elif self.where == "plain":
            self.plain = self.plain + seen
        elif self.where == "number":
            self.number = float(seen.sum())
        elif self.where == "new":
            self.new = seen
        return x


class Centres(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class InPlace(nn.Module):
    """An in-place function that no attribute shows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return torch.relu_(self.conv(x))


def with_layer(layer):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), layer, nn.Flatten(), nn.Linear(64, 2))


needs_opacus = pytest.mark.skipif(not private.available(), reason="Opacus is not installed")


@needs_opacus
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: nn.BatchNorm2d(4), r"'1' \(BatchNorm2d\) learns statistics .* nn.GroupNorm"),
        (lambda: nn.BatchNorm2d(4, affine=False), r"'1' \(BatchNorm2d\) learns"),
        (lambda: nn.BatchNorm2d(4).requires_grad_(False), r"'1' \(BatchNorm2d\) learns"),
        (
            lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
            r"'1' \(BatchNorm2d\) learns",
        ),
        (lambda: nn.InstanceNorm2d(4, track_running_stats=True), r"\(InstanceNorm2d\) learns"),
        (lambda: nn.Sequential(nn.Identity(), Keeps("mean")), r"'1.1.mean' changes in a forward"),
        (lambda: Keeps("plain"), r"'1.plain' changes in a forward"),
        (lambda: Keeps("number"), r"'1.number' changes in a forward"),
        (lambda: Keeps("new"), r"'1.new' changes in a forward"),
        (lambda: Centres(), r"layer '1' mixes the points of a batch"),
        (
            lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
            r"'1.parametrizations.weight.0._u' changes",
        ),
        (lambda: nn.ReLU(inplace=True), r"'1' \(ReLU\) works in place: .* inplace=False"),
        (lambda: InPlace(), r"point by point \(a function such as relu_ needs"),
        (lambda: nets.LinearResidual(4, 1.0), r"'1' \(LinearResidual\) has a buffer .*nn.Conv2d"),
        (lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 1)), r"'1' \(Conv2d\) has a hook"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_what_noise_and_clipping_do_not_cover_is_refused(layer, words):
    torch.manual_seed(0)
    model = with_layer(layer()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=words) as caught:
        private.fit(model, points(), 8.0, epochs=1, batch_size=20, lr=0.2, seed=0)
    assert "\n" not in str(caught.value)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@needs_opacus
@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.Dropout(0.5),
        nets.MinMax(),
        nets.Scale(2.0),
        nets.Residual(nn.Conv2d(4, 4, 3, padding=1)),
        nn.Conv2d(4, 4, 1).requires_grad_(False),
        Keeps("nothing"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_net_whose_points_stay_apart_passes_and_is_left_alone(layer):
    model = with_layer(layer)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    private.check(model, points().x)
    private.check(model, points(1).x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in model.parameters())
