"""Nets that are trained as one come out as each alone."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from thesis_repro import nets, training
from thesis_repro.data import Split
from thesis_repro.lab import timebox
from thesis_repro.robustness import GloroNet, gloro
from thesis_repro.training import Loop, TrainConfig, ensemble, recording

SEEDS = (3, 0, 8)
CONFIG = TrainConfig(epochs=2, batch_size=16, clip=0.5)
LOSS = gloro.trades(training.linear(0.01, 0.3, 0.5), training.linear(0, 1))
LR = training.decay_after(1e-3, 1e-5)


def images(n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return Split(x, torch.randint(0, 10, (n,), generator=generator))


def small_net(seed):
    torch.manual_seed(seed)
    body = [nn.Conv2d(1, 4, 3, 2), nets.MinMax(), nn.Conv2d(4, 4, 3, padding=1), nets.MinMax()]
    body += [nn.Flatten(), nn.Linear(36, 8), nets.MinMax(), nn.Linear(8, 10)]
    return GloroNet(nn.Sequential(*body), 0.3, (1, 8, 8), power_steps=1)


def tensors(net):
    return [t.detach() for t in (*net.parameters(), *net.buffers())]


def assert_close(ours, alone):
    for net, other in zip(ours, alone, strict=True):
        for a, b in zip(tensors(net), tensors(other), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_each_net_is_what_its_training_alone_gives(optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer, channels_last=optimizer == "adam")
    ours, alone = ([small_net(seed) for seed in SEEDS] for _ in range(2))
    histories = training.fit_seeds(ours, LOSS, images(), config, LR, SEEDS)
    for seed, net, history in zip(SEEDS, alone, histories, strict=True):
        records = training.fit(net, LOSS, images(), dataclasses.replace(config, seed=seed), LR)
        assert [r["epoch"] for r in history] == [r["epoch"] for r in records]
        assert [r["lr"] for r in history] == [r["lr"] for r in records]
        losses = [r["loss"] for r in history]
        assert losses == pytest.approx([r["loss"] for r in records], rel=1e-4)
    assert_close(ours, alone)
    assert not any(net.training for net in ours)


def clipped_as_one(monkeypatch):
    def clip(self, largest):
        nn.utils.clip_grad_norm_(self.parameters(), largest)

    monkeypatch.setattr(ensemble.Ensemble, "clip", clip)


def in_one_order(monkeypatch):
    one = lambda orders, size: ensemble.together([orders[0]] * len(orders), size)  # noqa: E731
    monkeypatch.setattr(training.loop, "together", one)


def mean_of_the_losses(monkeypatch):
    monkeypatch.setattr(training, "summed", lambda *about: ensemble.summed(*about) / len(SEEDS))


@pytest.mark.parametrize("fault", [clipped_as_one, in_one_order, mean_of_the_losses])
def test_a_fault_shows(monkeypatch, fault):
    fault(monkeypatch)
    ours, alone = ([small_net(seed) for seed in SEEDS] for _ in range(2))
    config = dataclasses.replace(CONFIG, optimizer="sgd")
    training.fit_seeds(ours, LOSS, images(), config, LR, SEEDS)
    for seed, net in zip(SEEDS, alone, strict=True):
        training.fit(net, LOSS, images(), dataclasses.replace(config, seed=seed), LR)
    with pytest.raises(AssertionError, match="not close"):
        assert_close(ours, alone)


def test_a_stopped_training_of_several_goes_on(tmp_path, monkeypatch):
    about = (LOSS, images(), CONFIG, LR, SEEDS)
    whole, resumed = ([small_net(seed) for seed in SEEDS] for _ in range(2))
    history = training.fit_seeds(whole, *about)
    asked = itertools.count(1)
    monkeypatch.setattr(timebox, "wanted", lambda: next(asked) == 5)  # of six steps
    path = tmp_path / "checkpoint"
    with pytest.raises(timebox.Stop):
        training.fit_seeds(resumed, *about, checkpoint=path)
    again = training.fit_seeds([small_net(9) for _ in SEEDS], *about, checkpoint=path)
    resumed = [small_net(9) for _ in SEEDS]
    training.fit_seeds(resumed, *about, checkpoint=path)
    assert [[r["loss"] for r in of] for of in history] == [[r["loss"] for r in of] for of in again]
    for net, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors(net), tensors(other), strict=True))


def test_its_steps_read_from_tensors_too(monkeypatch):
    """What a GPU would record, taken as it is written, and compared before it is used."""
    found, begin = [], Loop.begin

    def tabled(self, at):
        for group in self.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
        if self.recording is None:
            self.plain(torch.arange(48) % 40, 0.1, 0.0)  # the state is there
            self.recording = self.as_tensors()
            found.append(recording.faithful(self.model, self.recording, self.plain, self.lr))
        self.model.losses.zero_()
        return begin(self, at)

    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=0.0)
    ends = []
    for patched in (False, True):
        if patched:
            monkeypatch.setattr(Loop, "begin", tabled)
        ends.append([small_net(seed) for seed in SEEDS])
        training.fit_seeds(ends[-1], LOSS, images(), config, LR, SEEDS)
    assert found == [True]
    for ours, plain in zip(*ends, strict=True):
        torch.testing.assert_close(list(ours.parameters()), list(plain.parameters()))


def test_what_makes_no_ensemble_is_one_line():
    about = (LOSS, images(), CONFIG, LR)
    with pytest.raises(ValueError, match=r"^each net needs its seed, got 1 nets and 3 seeds$"):
        training.fit_seeds([small_net(0)], *about, SEEDS)
    other = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 0.3, (1, 8, 8))
    with pytest.raises(ValueError, match=r"^an ensemble needs nets, all of one architecture$"):
        training.fit_seeds([small_net(0), other], *about, (0, 1))
    drops = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"^an ensemble takes no dropout"):
        training.fit_seeds([drops, drops], training.classification, *about[1:], (0, 1))
    bad = Split(images().x * 2, images().y)
    with pytest.raises(ValueError, match="pixels need to lie"):
        training.fit_seeds([small_net(0)], LOSS, bad, CONFIG, LR, (0,))


@pytest.mark.gpu
def test_on_a_gpu_each_net_is_within_the_spread_of_its_trainings_alone():
    config = dataclasses.replace(CONFIG, epochs=3, graph=True)
    ours = [small_net(seed).cuda() for seed in SEEDS]
    training.fit_seeds(ours, LOSS, images(), config, LR, SEEDS)
    for seed, net in zip(SEEDS, ours, strict=True):
        start = torch.cat([t.flatten() for t in small_net(seed).parameters()]).detach().double()
        ends = [torch.cat([t.detach().cpu().double().flatten() for t in net.parameters()])]
        for _ in range(2):
            alone = small_net(seed).cuda()
            single = dataclasses.replace(config, seed=seed, graph=False)
            training.fit(alone, LOSS, images(), single, LR)
            ends.append(
                torch.cat([t.detach().cpu().double().flatten() for t in alone.parameters()])
            )
        spread, way = (ends[1] - ends[2]).norm(), (ends[1] - start).norm()
        assert (ends[0] - ends[1]).norm() <= max(recording.SPREAD * spread, recording.LEAST * way)
