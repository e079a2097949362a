"""Power iteration of a whole net at once gives what it gives layer by layer."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.nets import LinearResidual, MinMax, Residual
from thesis_repro.robustness import batched, estimates, recipes
from thesis_repro.robustness.gloro import EstimatedNet


def body_of(*layers, features, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4))


def net_of(body, shape, power_steps=3):
    return EstimatedNet(body, 0.1, shape, power_steps)


def dense():
    torch.manual_seed(0)
    layers = [nn.Flatten(), *(nn.Linear(12, 12) for _ in range(3)), nn.Linear(12, 8), MinMax()]
    return net_of(body_of(*layers, features=8), (3, 2, 2))


def convolutions():
    torch.manual_seed(0)
    equal = [nn.Conv2d(4, 4, 3, 2, 1, groups=2) for _ in range(3)]
    layers = [nn.Conv2d(1, 4, 3, padding=1, dilation=1), *equal, nn.Conv2d(4, 4, 2)]
    return net_of(body_of(*layers, features=4), (1, 14, 13))


def residual():
    torch.manual_seed(0)
    single = [Residual(nn.Conv2d(2, 2, 3, padding=1)) for _ in range(2)]
    double = [Residual(nn.Conv2d(2, 4, 3, padding=1), MinMax(), nn.Conv2d(4, 2, 1))]
    merged = [LinearResidual(2, 0.5) for _ in range(3)]
    layers = [*single, *double, *merged, nn.BatchNorm2d(2)]
    return net_of(body_of(*layers, features=50), (2, 5, 5))


def zero():
    net = dense()
    nn.init.zeros_(net.body[1].weight)
    return net


def papers():
    body = nets.build("liresnet-l2w8", generator=torch.Generator().manual_seed(0))
    return net_of(body, (3, 32, 32))


CASES = [dense, convolutions, residual, zero, papers]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("make", CASES)
def test_constant_gradient_and_vectors_are_those_of_the_plain_iteration(make, last):
    found = []
    for at_once in (False, True):
        net = make()
        if last:
            net.to(memory_format=torch.channels_last)
        net._at_once = at_once
        values = [net.k_sub() for _ in range(3)]  # the vectors go on
        slopes = torch.autograd.grad(sum(values), list(net.parameters()), allow_unused=True)
        found.append([*values, *(s for s in slopes if s is not None), *net.buffers()])
    for ours, plain in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_equal_layers_are_one_map(monkeypatch):
    seen, apply = [], batched._Map.apply
    spy = lambda self, weight, v: seen.append(tuple(v.shape)) or apply(self, weight, v)  # noqa: E731
    net = papers()
    net.iterate_at_once()
    assert net._at_once
    monkeypatch.setattr(batched._Map, "apply", spy)
    net.k_sub()
    once = net.power_steps + 1
    assert seen.count((1, 16, 16, 16)) == once  # two blocks of eight channels
    assert len(seen) == once * (len(estimates.iterated(net._factors)) - 1)


@pytest.mark.parametrize("wrong", ["apply", "transposed", "unit", "norms"])
def test_what_does_not_agree_is_said_and_goes_layer_by_layer(monkeypatch, wrong):
    right = getattr(batched._Map, wrong)
    monkeypatch.setattr(batched._Map, wrong, lambda *a: right(*a).mul(1.01).add(1e-2))
    net = convolutions()
    before = [b.clone() for b in net.buffers()]
    with pytest.warns(UserWarning, match=r"^power iteration goes layer by layer.*: it comes out "):
        net.iterate_at_once()
    assert not net._at_once
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))


def test_what_fails_is_said_and_goes_layer_by_layer(monkeypatch):
    def fails(*_):
        raise RuntimeError("no engine\nand more")

    monkeypatch.setattr(batched._Map, "transposed", fails)
    with pytest.warns(UserWarning, match=r"^power iteration goes layer by layer.*: no engine$"):
        dense().iterate_at_once()


def test_a_cpu_trains_by_the_plain_iteration_and_a_gpu_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(EstimatedNet, "iterate_at_once", lambda self: asked.append(self))
    monkeypatch.setattr(recipes.training, "fit", lambda *_, **__: [])
    recipe, data = recipes.Recipe("2c2f", 0.1, 0.1, 1, 1, 8), SimpleNamespace(train=None)
    net = dense()
    recipes.fit(net, recipe, data)
    assert asked == [] and not net._at_once
    recipes.fit(net, dataclasses.replace(recipe, device="cuda"), data)
    assert asked == [net]
