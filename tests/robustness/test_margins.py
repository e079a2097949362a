"""Certificates of the float64 net from a filter in float32: one function, and no other."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certificate, certify, certifying, checker
from thesis_repro.robustness.margins import Bound, from_logits


def test_what_is_printed_of_a_certificate_is_about_its_points():
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), 0.1, (1, 8, 8)).eval()
    found = certify(net, torch.rand(2, 1, 8, 8))
    assert "radius=tensor" in repr(found) and len(repr(found)) < 500
    assert "k_sub" in repr(net.bound()) and len(repr(net.bound())) < 200


def cancelling():
    """Large logits that almost cancel: the two formats disagree on the labels of some points."""
    generator = torch.Generator().manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        weight = 1000 * torch.rand(1, 8, 8, generator=generator)
        body[0].weight.copy_(torch.stack([weight, weight]))
        body[0].weight[1, 0, 0, 0] += 0.01
        body[0].bias.copy_(torch.tensor([0.005, 0.0]))
        body[2].weight.copy_(torch.eye(2))
        body[2].bias.zero_()
    return body, (1, 8, 8)


def rounding_much(*layers, shape):
    """Weights so large beside the differences of the last rows that rounding costs points."""
    generator = torch.Generator().manual_seed(1)
    body = nn.Sequential(*layers)
    with torch.no_grad():
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.1, 2, generator=generator)
        for parameter in body.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        body[-1].weight.copy_(body[-1].weight[0] + 1e-3 * body[-1].weight)
    return body, shape


NETS = {
    "cancelling": cancelling,
    "convolutions": lambda: rounding_much(
        nn.Conv2d(2, 8, 3, padding=1),
        nets.MinMax(),
        nn.Conv2d(8, 8, 4, 2, 1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 5),
        shape=(2, 8, 8),
    ),
    "residual": lambda: rounding_much(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nets.Residual(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1)),
        nn.AvgPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU()),
        nn.Linear(12, 3),
        shape=(1, 8, 8),
    ),
    "liresnet": lambda: rounding_much(
        nets.Scale(1.0, -0.5),
        nets.LinearResidual(4, 0.5),
        nets.MinMax(),
        nn.Flatten(),
        nn.Linear(256, 20),
        nets.MinMax(),
        nets.UnitLinear(20, 3),
        shape=(4, 8, 8),
    ),
    "dense": lambda: rounding_much(
        nn.Flatten(), nn.Linear(64, 30), nets.MinMax(), nn.Linear(30, 4), shape=(1, 8, 8)
    ),
}


def made(name, points=400):
    """A net, images, and the certificate of a float64 pass over all of them."""
    body, shape = NETS[name]()
    net = GloroNet(body, 1.0, shape).eval()
    x = torch.rand(points, *shape, generator=torch.Generator().manual_seed(2))
    double = copy.deepcopy(net).double()
    # half of them are certified, one by so little that float32 cannot tell, and float64 can
    net.epsilon = certify(double, x).radius.median().item() * (1 - 1e-9)
    return net, x, certify(double, x, net.epsilon)


@pytest.mark.parametrize("name", NETS)
def test_labels_and_verdicts_are_those_of_a_float64_pass(name):
    net, x, whole = made(name)
    seen, real = [], certifying.filtered
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifying, "filtered", lambda *given: seen.append(real(*given)) or seen[-1])
        found = certify(net, x, arithmetic="float64")
    assert torch.equal(found.labels, whole.labels)
    assert torch.equal(found.certified, whole.certified)
    assert torch.equal(found.certified, found.margin > 0)
    assert (found.radius <= whole.radius * (1 + 1e-6) + 1e-12).all()
    assert found.arithmetic == whole.arithmetic == "float64"
    left = seen[0][1]
    print(f"{name}: {left.double().mean():.1%} left to float64")
    torch.testing.assert_close(found.radius[left], whole.radius[left], rtol=1e-6, atol=1e-12)
    assert name == "cancelling" or 0 <= left.double().mean() < 0.9
    assert name == "dense" or left.any()


def test_no_point_that_is_proved_for_the_other_function_is_counted():
    """Some points that are proved in float64 have another label in float32."""
    net, x, whole = made("cancelling", 4000)
    net.epsilon = 1e-8
    single, widened = certify(net, x), certify(net, x, arithmetic="float64")
    assert single.arithmetic == "float32"
    same = certify(net, x, arithmetic="float32")
    assert torch.equal(same.margin, single.margin)
    exact = copy.deepcopy(net.body).double()
    disagree = net.body(x).argmax(1) != exact(x.double()).argmax(1)
    assert disagree.any()
    assert not (single.certified & disagree).any()
    assert (widened.certified & disagree).any()
    assert torch.equal(widened.labels, exact(x.double()).argmax(1))
    assert torch.equal(widened.labels, whole.labels)


@pytest.mark.parametrize("name", NETS)
def test_a_closer_look_certifies_more_of_the_float32_net_and_nothing_unproved(name):
    net, x, _ = made(name)
    logits, norms = certifying.measure(net, x, net.epsilon)

    def first(epsilon):
        return certifying.from_logits(logits, net.bound(), epsilon, norms)

    net.epsilon = max(first(net.epsilon).radius.median().item(), 1e-8)
    coarse, found = first(net.epsilon), certify(net, x)
    whole = certify(copy.deepcopy(net).double(), x)
    assert found.arithmetic == "float32"
    gained = found.certified & ~coarse.certified
    print(f"{name}: {coarse.certified.sum()} points, then {gained.sum()} more")
    assert not (coarse.certified & ~found.certified).any()
    assert name == "cancelling" or gained.any()
    # each is proved in exact arithmetic too, and has its label as computed, in any batch
    assert (found.margin <= whole.margin + 1e-12).all()
    with torch.no_grad():
        for points in (x, x.flip(0)):
            labels = torch.cat([net.body(part).argmax(1) for part in points.split(7)])
            own = found.labels if points is x else found.labels.flip(0)
            sure = found.certified if points is x else found.certified.flip(0)
            assert (labels == own)[sure].all()


def test_the_checker_confirms_what_a_closer_look_proved(tmp_path):
    net, x, _ = made("convolutions")
    logits, norms = certifying.measure(net, x, net.epsilon)
    coarse = certifying.from_logits(logits, net.bound(), net.epsilon, norms)
    net.epsilon = coarse.radius.median().item()
    found = certify(net, x)
    file = certificate.write(tmp_path / "c.json", net, found, x)
    weights = certificate.write_net(tmp_path / "n.safetensors", net)
    report = checker.check(file, weights, x.numpy())
    first = int((coarse.radius > net.epsilon).sum())
    print(f"{first} certified at first, then {found.certified.sum()}; {report.count('confirmed')}")
    assert first + 5 < report.count("confirmed") <= found.certified.sum()
    assert report.count("contradicted") == 0


def test_what_overflows_in_float32_alone_is_decided_in_float64():
    net, x, _ = made("convolutions")
    with torch.no_grad():
        net.body[0].weight.mul_(1e25)
        net.body[2].weight.mul_(1e25)
    double = copy.deepcopy(net).double()
    epsilon = certify(double, x).radius.median().item()
    found, whole = certify(net, x, epsilon, arithmetic="float64"), certify(double, x, epsilon)
    assert not certify(net, x, epsilon).certified.any()
    assert torch.equal(found.certified, whole.certified) and found.certified.any()
    assert torch.equal(found.labels, whole.labels)


def test_an_arithmetic_that_the_weights_cannot_have_is_refused():
    net, x, _ = made("dense")
    with pytest.raises(ValueError, match="in float32 can be evaluated in float32 or float64, got"):
        certify(net, x, arithmetic="bfloat16")
    with pytest.raises(ValueError, match="in float64 can be evaluated in float64, got 'float32'"):
        certify(net.double(), x, arithmetic="float32")
    with pytest.raises(ValueError, match="images need to be float32 as the net is"):
        certify(net.float(), x.double(), arithmetic="float64")


def test_a_bound_without_rounding_says_that_it_accounts_for_none():
    net, x, _ = made("dense")
    bare = dataclasses.replace(net.bound(), rounding=None)
    for arithmetic in (None, "float64"):
        found = certify(net, x, used=bare, arithmetic=arithmetic)
        assert found.arithmetic == "unknown" and (found.budget == 0).all()


def test_what_is_written_into_a_bound_that_was_handed_out_changes_no_certificate():
    net, x, _ = made("convolutions")
    net = net.double()
    before = certify(net, x.double())
    for handed_out in (net.k_ij(), net.bound().k_ij, before.bound.k_ij):
        handed_out.div_(100)
    after = certify(net, x.double())
    assert after.bound is before.bound  # which is kept all the same
    assert torch.equal(after.radius, before.radius)


def test_at_equality_the_margin_decides_and_the_radius_may_be_epsilon_itself():
    k, epsilon = 0.3703781726628943, 0.83466270169674
    bound = Bound(k, torch.tensor([[0.0, k], [k, 0.0]], dtype=torch.float64), ())
    gaps = epsilon * k * (1 + 2**-52 * torch.arange(-8, 24).double())
    found = from_logits(torch.stack([gaps, torch.zeros_like(gaps)], 1), bound, epsilon)
    assert torch.equal(found.certified, found.margin > 0) and 0 < found.certified.sum() < 32
    radius = found.radius[found.certified]
    assert (radius >= epsilon * (1 - 2**-51)).all() and (radius <= epsilon).any()
