import pytest
import torch

from thesis_repro.data import Split
from thesis_repro.weaknesses.membership import private, victims
from thesis_repro.weaknesses.membership.victims import Victim


def points(n=60):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    x = torch.rand(n, 1, 4, 4, generator=generator) * 0.5
    x[y == 1, :, :2] += 0.5
    return Split(x, y)


def net():
    return victims.build(Victim("mnist-5k", "mlp", 1, 1, 0.1, width=8), (1, 4, 4), 2)


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
    private.fit(noisy, points(), 0.1, **how)

    def moved(model):
        pairs = zip(model.parameters(), net().parameters(), strict=True)
        return sum((a - b).pow(2).sum() for a, b in pairs)

    assert moved(noisy) > 4 * moved(first)  # a small budget is bought with noise


def test_privacy_needs_a_budget_and_opacus(monkeypatch):
    how = {"epochs": 1, "batch_size": 20, "lr": 0.2, "seed": 0}
    if private.available():
        with pytest.raises(ValueError, match="epsilon > 0, got 0"):
            private.fit(net(), points(), 0.0, **how)
    monkeypatch.setattr(private, "available", lambda: False)
    with pytest.raises(ValueError, match="needs Opacus: pip install"):
        private.fit(net(), points(), 1.0, **how)
