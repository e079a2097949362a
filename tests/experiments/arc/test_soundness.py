"""The signs of soundness of one net: each on a case whose answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from thesis_repro.data import Split
from thesis_repro.experiments.arc import soundness, universe
from thesis_repro.experiments.arc.soundness import FEW, MANY, SoundConfig
from thesis_repro.experiments.arc.trainings import QUICK
from thesis_repro.explanations.experts import halves
from thesis_repro.lab.cells import Result
from thesis_repro.robustness import GloroNet
from thesis_repro.weaknesses import reliability


def test_the_signed_bias_of_a_net_that_says_the_frequent_digit_is_a_quarter():
    y = torch.tensor([MANY] * 30 + [FEW] * 30)
    logits = torch.zeros(60, 10)
    logits[:, MANY] = 1
    assert soundness.signed_bias(logits, y) == pytest.approx(0.25)
    assert soundness.signed_bias(torch.eye(10)[y], y) == pytest.approx(0)
    logits[:, FEW] = 2
    assert soundness.signed_bias(logits, y) == pytest.approx(-0.75)


def test_influence_on_the_digit_is_all_where_a_net_reads_ink_alone():
    x = torch.zeros(4, 1, 6, 6)
    x[:, :, 2:4, 2:4] = 1
    for weight, share in ((x[0, 0], 1.0), (1 - x[0, 0], 0.0), (torch.ones(6, 6), 4 / 36)):
        body = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        with torch.no_grad():
            body[1].weight.copy_(torch.stack([weight.flatten(), -weight.flatten()]))
        net = GloroNet(body, 0.1, (1, 6, 6)).eval()
        assert soundness.on_object(net, x) == pytest.approx(share)


def dense(*weights: torch.Tensor) -> nn.Sequential:
    """A net with one hidden layer of 20 units, of these weights and biases in their order."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10))
    for parameter, value in zip(body.parameters(), weights, strict=True):
        parameter.data.copy_(value)
    return body.eval()


def test_one_unit_is_needed_where_each_class_has_its_own_and_many_where_all_share_all():
    y = torch.arange(10).repeat_interleave(12)
    x = torch.eye(10)[y].view(-1, 1, 1, 10)
    own = dense(torch.eye(20, 10), torch.zeros(20), torch.eye(10, 20), torch.zeros(10))
    assert soundness.units_needed(halves(own, "2", x, y)) == 1
    generator = torch.Generator().manual_seed(0)
    mixed = torch.linalg.qr(torch.randn(20, 20, generator=generator))[0][:, :10]
    spread = dense(mixed, torch.full((20,), 5.0), mixed.T, -5 * mixed.sum(0))
    assert soundness.units_needed(halves(spread, "2", x, y)) > 4


def test_a_reconstruction_that_is_a_member_is_identified_and_another_is_not():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(10).repeat(6)
    x = torch.rand(60, 1, 8, 8, generator=generator)
    member = np.arange(60) < 30
    inside = Split(x, y)
    assert soundness.identified(x[:10], inside, member) == 1
    assert soundness.identified(x[30:40], inside, member) == 0
    images = torch.cat([x[:5], x[35:40]])
    assert soundness.identified(images, inside, member) == 0.5


def test_members_are_found_where_nets_are_surer_of_them(monkeypatch):
    """Each net says a member's label loudly; references are told apart by their own members."""
    inside, _ = universe.parts(QUICK.dataset, QUICK.n)

    def trained(config):
        mine = torch.from_numpy(universe.members(config))
        rng = torch.Generator().manual_seed(config.number)
        loud = 3.0 + 4.0 * mine + 0.5 * torch.randn(len(mine), generator=rng)
        return SimpleNamespace(body=lambda x: loud[:, None] * torch.eye(10)[inside.y])

    monkeypatch.setattr(universe, "trained", trained)
    monkeypatch.setattr(soundness, "ask", lambda body, x: body(x))
    scores, member = soundness.membership(SoundConfig(QUICK, (0, 1, 2, 3)))
    assert (member == universe.members(QUICK)).all()
    assert soundness.games.auc(scores, member) > 0.99


@pytest.mark.parametrize("number", [0, 3])
def test_members_have_as_many_references_as_others(monkeypatch, number):
    """Else means over fewer of them would tell members apart where no net does."""
    inside, _ = universe.parts(QUICK.dataset, QUICK.n)
    said = SimpleNamespace(body=lambda x: torch.zeros(len(x), 10))
    monkeypatch.setattr(universe, "trained", lambda config: said)
    monkeypatch.setattr(soundness, "ask", lambda body, x: body(x))
    seen = []
    monkeypatch.setattr(
        soundness.lira_rmia, "lira", lambda target, references, contains: seen.append(contains)
    )
    config = SoundConfig(replace(QUICK, number=number), tuple(range(6)))
    _, member = soundness.membership(config)
    (contains,) = seen
    lacking = (~contains).sum(0)
    assert (lacking == 2).all() and len(contains) == 4 and len(member) == len(inside)


@pytest.fixture
def untrained(monkeypatch) -> GloroNet:
    """A net as it is before training, under every name, whose slow signs are made up."""
    monkeypatch.setattr(soundness, "membership", lambda config: (np.arange(4.0), np.arange(4) > 1))
    monkeypatch.setattr(soundness, "identified", lambda *_: 0.5)
    monkeypatch.setattr(soundness, "units_needed", lambda *_: 7)
    net = GloroNet(QUICK.build().body, universe.EPSILON, universe.SHAPE).eval()
    monkeypatch.setattr(universe, "trained", lambda config: net)
    return net


@pytest.mark.usefixtures("untrained")
def test_the_cell_gives_every_sign_of_a_net():
    """Values in their ranges, the net's number beside them."""
    found = soundness.measured(SoundConfig(QUICK, (0, 1)))
    assert isinstance(found, Result)
    assert set(found.values) == {*soundness.MEASURES, "number"}
    assert found.values[soundness.MARK] == 0  # the marked net is the same one here
    assert found.values[soundness.AUC] == 100 and found.values[soundness.INSTANCE] == 50


def test_a_watermark_counts_beyond_an_unmarked_twin_and_the_error_is_debiased(
    untrained, monkeypatch
):
    marked = GloroNet(QUICK.build().body, universe.EPSILON, universe.SHAPE).eval()
    monkeypatch.setattr(universe, "trained", lambda net: marked if net.marked else untrained)
    deviations = {untrained.body: 1.0, marked.body: 5.0}
    monkeypatch.setattr(soundness, "reconstructed", deviations.get)
    monkeypatch.setattr(soundness.leakage, "trace", lambda z, _: SimpleNamespace(z=z))
    found = soundness.measured(SoundConfig(QUICK, (0, 1))).values
    assert found[soundness.MARK] == deviations[marked.body] - deviations[untrained.body]

    _, test = universe.parts(QUICK.dataset, QUICK.n)
    logits = soundness.ask(untrained.body, test.x).double()
    confidence, right = logits.softmax(1).amax(1), (logits.argmax(1) == test.y).double()
    plain, debiased = reliability.squared_errors(confidence.numpy(), right.numpy())
    assert found[soundness.ERROR] == pytest.approx(100 * debiased**0.5)
    assert plain > debiased + 1e-6 > 1e-6
