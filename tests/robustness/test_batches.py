"""Batches: their size follows the widest layer, and what is said of a point is the same in all."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import (
    GloroNet,
    attacks,
    attainable,
    batches,
    certify,
    outputs,
    relaxed,
)
from thesis_repro.robustness.certifiers import bcp, dual, smoothing
from thesis_repro.robustness.certifying import measure


def images(count, *shape):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def test_the_size_follows_the_widest_layer_and_the_classes():
    cifar, digits = images(50, 3, 32, 32), images(50, 1, 28, 28)
    assert batches.size(nets.build("6c2f"), cifar) == 50  # 32 channels of 32 x 32 float32
    assert batches.size(nets.build("6c2f").double(), cifar.double()) == 25
    assert batches.size(nets.build("2c2f"), digits) == batches.BYTES // (16 * 14 * 14 * 4)
    many = nn.Sequential(nn.Flatten(), nn.Linear(784, 10_000))
    assert batches.size(many, digits) == batches.BYTES // 40_000
    assert batches.judged(10_000) == batches.BYTES // (8 * 16 * 10_000)
    assert batches.judged(10) == batches.MOST and batches.judged(10**9) == 1
    huge = nn.Sequential(nn.Flatten(), nn.Linear(784, 4_000_000, bias=False, device="meta"))
    assert batches.size(huge, digits.to("meta")) == batches.MOST  # no CPU
    assert batches.size(lambda x: x, cifar) == batches.size(nets.build("6c2f"), cifar[:5]) == 1000


def test_asking_for_the_size_leaves_modes_as_they_were():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(2704, 3))
    before = net[1].running_mean.clone()
    batches.size(net.train(), images(30, 1, 28, 28))
    assert net.training and net[1].training and torch.equal(net[1].running_mean, before)


@pytest.fixture(scope="module")
def glorious():
    generator = torch.Generator().manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nets.MinMax(),
        nn.Conv2d(8, 8, 4, stride=2, padding=1),
        nets.MinMax(),
        nn.Flatten(),
        nn.Linear(8 * 36, 6),
    )
    for layer in body:
        if hasattr(layer, "weight"):
            nn.init.orthogonal_(layer.weight, generator=generator)
    return GloroNet(body, 0.05, (1, 12, 12)).eval()


SIZES = [1, 7, 64, None]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_certified_is_the_same_in_every_batch(glorious, size):
    x = images(90, 1, 12, 12)
    epsilon = certify(glorious, x).radius.sort().values[44:46].mean().item()
    whole, found = (certify(glorious, x, epsilon, batch_size=b) for b in (len(x), size))
    assert 0 < int(whole.certified.sum()) < len(x)
    assert torch.equal(whole.labels, found.labels)
    assert torch.equal(whole.certified, found.certified)
    for name in ("radius", "margin", "budget"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-5, atol=1e-6)
    logits, norms = measure(glorious, x, epsilon, size)
    assert len(logits) == len(norms) == len(x)
    wide, narrow = (
        relaxed.certify(glorious, x, k=3, epsilon=epsilon, batch_size=b) for b in (len(x), size)
    )
    assert torch.equal(wide.order, narrow.order)
    assert torch.equal(wide.guaranteed, narrow.guaranteed)
    torch.testing.assert_close(narrow.radii, wide.radii, rtol=1e-5, atol=1e-6)
    asked = outputs.ask(glorious.body, x, size)
    assert torch.equal(outputs.classified(asked), whole.labels)


def test_an_attack_starts_at_the_same_points_whatever_is_asked_at_a_time(glorious, monkeypatch):
    body, x = copy.deepcopy(glorious.body).double(), images(60, 1, 12, 12).double()
    labels = body(x).argmax(1)
    aims = (labels + 1 + torch.arange(60) % 5) % 6

    def attacked():
        return attacks.pgd_l2(body, x, labels, 0.01, 4, 2, targets=aims)

    whole = attacked()
    monkeypatch.setattr(batches, "BYTES", 7 * 8 * 144 * 8)
    assert batches.size(body, x) == 7
    torch.testing.assert_close(attacked(), whole)


def test_memory_grows_with_a_batch_times_classes_not_with_all_points(monkeypatch):
    body = nn.Sequential(nn.Flatten(), nn.Linear(4, 1000))
    net = GloroNet(body, 0.1, (1, 2, 2)).eval()
    seen = []
    original = torch.nn.functional.one_hot

    def watched(labels, classes):
        seen.append(len(labels))
        return original(labels, classes)

    monkeypatch.setattr(torch.nn.functional, "one_hot", watched)
    x = images(500, 1, 2, 2)
    found = certify(net, x)
    relaxed.certify(net, x, k=2)
    assert max(seen) == batches.BYTES // (8 * 16 * 1000) < len(x)
    assert all(
        len(getattr(found, field.name)) == len(x)
        for field in dataclasses.fields(found)
        if field.name != "bound"
    )


@pytest.mark.parametrize("size", [0, -1, 2.5, "3", True])
def test_what_is_no_size_of_a_batch_is_one_line(size):
    x, generator = images(5, 1, 4, 4), torch.Generator()
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 0.1, (1, 4, 4)).eval()
    two = relaxed.RelaxedNet(net.body, 0.1, (1, 4, 4), relaxed.up_to(2)).eval()
    for ask in (
        lambda: certify(net, x, batch_size=size),
        lambda: certify(net, x, batch_size=size, arithmetic="float64"),
        lambda: measure(net, x, 0.1, size),
        lambda: net.predict(x, size),
        lambda: two.predict(x, size),
        lambda: relaxed.certify(net, x, k=2, batch_size=size),
        lambda: outputs.ask(net.body, x, size),
        lambda: bcp.certify(net.body, x, 0.1, batch_size=size),
        lambda: dual.certify(net.body, x, 0.1, batch_size=size),
        lambda: smoothing.Smooth(net.body, 3, 0.1).counts(x[0], 4, size, generator),
        lambda: attainable.nearest_other(x, torch.tensor([0, 1, 0, 1, 0]), size),
    ):
        with pytest.raises(ValueError, match="batch_size needs to be a whole number of at least 1"):
            ask()
