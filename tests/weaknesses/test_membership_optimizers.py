"""Victims by Adam and RMSprop, against loops written with torch's own optimizers."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from thesis_repro import training
from thesis_repro.lab import timebox
from thesis_repro.training.loop import seed_of, shuffled
from thesis_repro.weaknesses.membership import optimizers, pushed, victims
from thesis_repro.weaknesses.membership.optimizers import ADAM, RMSPROP, Optimized, optimized
from thesis_repro.weaknesses.membership.victims import Victim

SMALL = Victim("mnist-5k", "mlp", 150, 3, 0.1, width=16, role="shadow", index=2)


def points_of(victim):
    everything = victims.points(victim.dataset)
    game = victims.game(len(everything), victim.n)
    part = game.universe if victim.role == "target" else game.pool
    chosen = torch.from_numpy(part[victims.members(victim, game)])
    return everything.x[chosen], everything.y[chosen]


def by_hand(victim, made):
    """The training written out: cosine from the rate to zero, batches as the book draws them."""
    net, (x, y) = victim.build(), points_of(victim)
    optimizer, rate = made(net.parameters()), training.cosine(victim.lr)
    for epoch in range(victim.epochs):
        order = shuffled(len(y), seed_of(victim.seed, epoch)).split(victim.batch_size)
        for number, batch in enumerate(order):
            optimizer.param_groups[0]["lr"] = rate((epoch + number / len(order)) / victim.epochs)
            optimizer.zero_grad()
            cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return net


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


MADE = {
    ADAM: lambda weights: torch.optim.Adam(weights, 1e-3),
    RMSPROP: lambda weights: torch.optim.RMSprop(weights, 1e-3, alpha=0.9, eps=1e-7),
}


@pytest.mark.parametrize("net", ["mlp", "cnn"])
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_training_is_that_of_the_optimizer_of_torch(name, net):
    mine = optimized(replace(SMALL, net=net, n=100), name, lr=1e-3)
    found, history = mine.train(None)
    start, expected = weights(mine.build()), weights(by_hand(mine, MADE[name]))
    torch.testing.assert_close(weights(found), expected, atol=2e-5, rtol=1e-3)
    assert (start - expected).abs().max() > 1e-3 and len(history) == mine.epochs
    other = MADE[RMSPROP if name == ADAM else ADAM]
    assert not torch.allclose(weights(found), weights(by_hand(mine, other)), atol=1e-3)


def test_start_points_and_batches_are_those_of_the_victim(monkeypatch):
    seen = []

    def fit(model, loss, data, config, lr, **how):
        seen.append((weights(model).tolist(), data.x, config.seed, config.batch_size))
        return []

    monkeypatch.setattr(training, "fit", fit)
    made = [SMALL, *(optimized(SMALL, name, 1e-3) for name in optimizers.OPTIMIZERS)]
    for role, index in (("shadow", 2), ("target", 200)):
        for victim in made:
            victims.other(victim, role, index).train(None)
        plain, *others = seen[-len(made) :]
        for other in others:
            assert other[0] == plain[0] and other[2:] == plain[2:]
            assert torch.equal(other[1], plain[1])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("step", [3, 4])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch, name, step):
    """Between two epochs of three steps, and within one: the mean squares are kept."""
    mine, path = optimized(SMALL, name, 1e-3), tmp_path / "checkpoint.safetensors"
    whole, _ = mine.train(None)
    asked = itertools.count()
    monkeypatch.setattr(timebox, "wanted", lambda: next(asked) == step)
    with pytest.raises(timebox.Stop):
        mine.train(path)
    resumed, _ = mine.train(path)
    assert torch.equal(weights(whole), weights(resumed))


def test_a_trained_net_has_its_own_gradients_again():
    net, _ = optimized(SMALL, RMSPROP, 1e-3).train(None)
    x, y = points_of(SMALL)
    fresh = SMALL.build()
    fresh.load_state_dict(net.state_dict())
    for one in (net, fresh):
        one.zero_grad()
        cross_entropy(one(x), y).backward()
    assert torch.equal(net[1].weight.grad, fresh[1].weight.grad)


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"unknown optimizer 'sgd'; choose one of adam, rmsprop"):
        optimized(SMALL, "sgd", 1e-3)
    for changes in ({"lr": 0.0}, {"lr": float("nan")}, {"epsilon": 8.0}, {"weight_decay": 0.1}):
        with pytest.raises(ValueError, match="adam needs lr > 0, and no privacy budget"):
            replace(optimized(SMALL, ADAM, 1e-3), **changes)
    with pytest.raises(ValueError, match="pushes are added up over plain trainings"):
        pushed.through_training(optimized(SMALL, ADAM, 1e-3), torch.zeros(1, 1, 28, 28))
    assert isinstance(victims.other(optimized(SMALL, RMSPROP, 1e-3), "target", 5), Optimized)
