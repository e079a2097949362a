import copy
import dataclasses
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from thesis_repro import nets, training
from thesis_repro.robustness import REJECT, GloroNet, certify, certifying, gloro
from thesis_repro.training import constant


def linear_net(weight, bias=None, epsilon=0.1, shape=(1, 2, 2)):
    body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), len(weight)))
    with torch.no_grad():
        body[1].weight.copy_(torch.as_tensor(weight, dtype=torch.float32))
        body[1].bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    return GloroNet(body, epsilon, shape).eval()


def random_net(seed=0, activation="minmax", epsilon=0.05):
    generator = torch.Generator().manual_seed(seed)
    return GloroNet(nets.cnn_2c2f(activation, generator=generator), epsilon, (1, 28, 28)).eval()


def images(n=8, shape=(1, 28, 28), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_radius_of_a_linear_net_is_the_distance_to_the_boundary():
    weight = torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, -1]])
    net = linear_net(weight)
    x = torch.tensor([[0.9, 0.1, 0.5, 0.5], [0.3, 0.5, 0.2, 0.1]]).view(2, 1, 2, 2)
    # logits (.9, .2, -.5) and (.3, 1.0, -.1), differences of rows sqrt 5, sqrt 2, sqrt 5
    expected = torch.tensor([0.7 / 5**0.5, 0.7 / 5**0.5], dtype=torch.float64)
    certificate = certify(net, x)
    assert certificate.labels.tolist() == [0, 1]
    torch.testing.assert_close(certificate.radius, expected, rtol=3e-3, atol=0)
    assert (certificate.radius <= expected + 1e-7).all()
    assert certificate.certified.all() and (net.predict(x) == certificate.labels).all()


def test_every_pair_counts_not_only_the_second_largest_logit():
    # class 1 is second, but class 2 moves faster and is reached first
    net = linear_net([[1.0, 0, 0, 0], [0.9, 0, 0, 0], [-10, 0, 0, 0]], [0.0, 0.0, 5.0])
    x = torch.tensor([0.6, 0, 0, 0]).view(1, 1, 2, 2)
    logits = net.body(x)[0]
    assert logits.argsort(descending=True).tolist() == [0, 1, 2]
    radius = certify(net, x).radius.item()
    assert radius == pytest.approx((0.6 - (5 - 6)) / 11, rel=3e-3)
    assert radius < 0.06 / 0.1


def test_ties_are_never_certified():
    net = linear_net([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1, 0, 0]])
    certificate = certify(net, torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2))
    assert certificate.radius.tolist() == [0.0]
    assert not certificate.certified.any()
    outputs = net(torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2))
    assert outputs[0, -1] == outputs[0, 0]  # the bottom logit reaches the tied one


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_rejected(value):
    logits = torch.tensor([[1.0, 2.0, value], [5.0, 0.0, 0.0]], dtype=torch.float64)
    bound = gloro.Bound(1.0, torch.ones(3, 3, dtype=torch.float64), ())
    certificate = certifying.from_logits(logits, bound, 0.1)
    assert certificate.labels.tolist() == [REJECT, 0]
    assert certificate.certified.tolist() == [False, True]
    assert certificate.radius.tolist() == pytest.approx([0.0, 5.0])


@given(st.integers(0, 1000), st.floats(0.01, 1.0), st.sampled_from(["minmax", "relu"]))
@settings(max_examples=8, deadline=None)
def test_bottom_logit_margin_and_radius_say_the_same(seed, epsilon, activation):
    net = random_net(seed % 3, activation, epsilon)
    x = images(6, seed=seed)
    with torch.no_grad():
        outputs = net(x).double()
    without_budget = dataclasses.replace(net.bound(), rounding=None)
    certificate = certifying.from_logits(outputs[:, :-1], without_budget, epsilon)
    margin = outputs[:, :-1].amax(1) - outputs[:, -1]
    torch.testing.assert_close(margin, certificate.margin, rtol=1e-3, atol=1e-4)
    clear = certificate.margin.abs() > 1e-9
    assert torch.equal(certificate.certified[clear], (certificate.radius > epsilon)[clear])
    assert torch.equal(certificate.certified, certificate.margin > 0)
    # brute force over all classes
    logits = outputs[:, :-1]
    k = certificate.bound.k_ij
    for row, top in enumerate(certificate.labels.tolist()):
        radii = [(logits[row, top] - logits[row, i]) / k[top, i] for i in range(10) if i != top]
        assert certificate.radius[row].item() == pytest.approx(min(radii).item(), rel=1e-9)


@given(st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_margins_never_move_faster_than_k_ij(seed):
    net = random_net(seed % 3)
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(20, 1, 28, 28, generator=generator)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    with torch.no_grad():
        fa, fb = net.body(a).double(), net.body(b).double()
    moved = (fa[:, :, None] - fa[:, None]) - (fb[:, :, None] - fb[:, None])
    distance = (a - b).flatten(1).norm(dim=1).double()
    slope = moved.abs().amax(0) / distance.min()
    per_point = moved.abs() / distance[:, None, None]
    assert (per_point <= net.bound().k_ij + 1e-5).all(), slope.max()


def test_pairwise_norms_are_tighter_than_root_two_times_the_norm():
    net = random_net()
    head = net.head.weight.double()
    loose = 2**0.5 * torch.linalg.matrix_norm(head, 2) * net.bound().k_sub
    assert (net.bound().k_ij <= loose + 1e-9).all()
    assert (net.bound().k_ij.diagonal() == 0).all()


def test_training_estimate_approaches_the_bound_from_below_with_gradients():
    net = random_net().train()
    for _ in range(40):
        k = net.k_ij()
    sound = net.bound().k_ij
    assert (k.detach().double() <= sound + 1e-6).all()
    assert k.max().item() > 0.97 * sound.max().item()
    k.max().backward()
    assert all(
        m.weight.grad is not None and m.weight.grad.abs().sum() > 0
        for m in net.body
        if hasattr(m, "weight")
    )


def deep_body():
    """Every kind of layer that has a constant other than 1."""
    torch.manual_seed(3)
    body = nn.Sequential(
        nets.Scale(2.0, -1.0),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nets.Residual(nn.Conv2d(4, 4, 3, padding=1)),
        nets.LinearResidual(4, 0.5),
        nets.Residual(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1)),
        nn.MaxPool2d(2, 1),
        nn.AvgPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nets.MinMax()),
        nets.UnitLinear(12, 3),
    )
    with torch.no_grad():
        body[2].running_var.uniform_(0.1, 0.5)
        body[2].weight.uniform_(1, 2)
        body[4].gain.uniform_(-2, 2)
    return body


def test_the_estimate_of_training_counts_every_layer():
    net = GloroNet(deep_body(), 0.1, (1, 8, 8), power_steps=300).train()
    estimate, sound = net.k_ij(), net.bound().k_ij
    assert (estimate.double() <= sound * (1 + 1e-5)).all()
    off = ~torch.eye(3, dtype=torch.bool)
    assert (estimate[off] >= 0.98 * sound[off]).all()
    estimate.max().backward()
    for name, parameter in net.body.named_parameters():
        if name.endswith(("weight", "gain")):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("left_out", range(9))
def test_a_layer_that_the_estimate_leaves_out_is_noticed(left_out):
    net = GloroNet(deep_body(), 0.1, (1, 8, 8), power_steps=300).train()
    net._factors = net._factors[:left_out] + net._factors[left_out + 1 :]
    assert len(net._factors) == 8
    assert not 0.98 * net.bound().k_sub < net.k_sub().item() < 1.001 * net.bound().k_sub


def test_a_changed_scale_of_a_block_is_noticed():
    net = GloroNet(deep_body(), 0.1, (1, 8, 8))
    before = net.bound().k_sub
    net.body[4].scale *= 3
    assert net.bound().k_sub > before


def test_unit_rows_certify_as_the_rows_that_they_compute():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nets.UnitLinear(6, 4))
    net = GloroNet(body, 0.05, (1, 2, 3)).eval()
    x = images(20, (1, 2, 3))
    rows = body[1].weight.detach() / body[1].weight.detach().norm(dim=1, keepdim=True)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    with torch.no_grad():
        plain[1].weight.copy_(rows)
        plain[1].bias.copy_(body[1].bias)
    other = certify(GloroNet(plain, 0.05, (1, 2, 3)).eval(), x)
    ours = certify(net, x)
    assert torch.equal(ours.labels, other.labels)
    torch.testing.assert_close(ours.radius, other.radius, rtol=1e-5, atol=2e-5)
    assert (ours.budget > other.budget).all()  # dividing by the norm is rounded as well
    with torch.no_grad():
        body[1].weight[2] = 0.0
    with pytest.raises(ValueError, match="UnitLinear layer need norms between"):
        certify(net, x)


@pytest.mark.parametrize("progress", [0.1, 0.9])
def test_emma_raises_each_logit_as_a_loop_does(progress):
    net = random_net(epsilon=0.3).train()
    x, y = images(6), torch.arange(6)
    schedule = training.linear(0.02, 2.0)
    loss = gloro.emma(schedule)(net, x, y, progress)
    net.power_steps = 0  # keep the vectors, so the same K again
    with torch.no_grad():
        logits, k, epsilon = net.body(x), net.k_ij(), schedule(progress)
        raised = logits.clone()
        seen = set()
        for row, label in enumerate(y.tolist()):
            for i in range(10):
                if i != label:
                    distance = (logits[row, label] - logits[row, i]) / k[i, label]
                    mine = min(max(distance.item(), 0.01 * epsilon), epsilon)
                    raised[row, i] += mine * k[i, label]
                    seen.add((mine == epsilon) - (mine == 0.01 * epsilon))
        expected = nn.functional.cross_entropy(raised, y)
    assert len(seen) > 1
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-5)


def test_the_losses_take_their_progress_from_a_tensor_as_well():
    net = random_net().train()
    net.power_steps = 0
    x, y = images(5), torch.arange(5)
    ramp = training.logarithmic(0.4, 0.5)
    for loss in (
        gloro.cross_entropy(ramp),
        gloro.trades(ramp, training.linear(0.1, 2.0)),
        gloro.emma(training.linear(0.01, 0.3, 0.5)),
    ):
        for progress in (0.0, 0.3, 0.8):
            tensor = loss(net, x, y, torch.tensor(progress))
            torch.testing.assert_close(tensor, loss(net, x, y, progress), rtol=1e-5, atol=1e-6)


def test_gradient_of_sigma_is_the_outer_product_of_singular_vectors():
    from thesis_repro.robustness import lipschitz

    layer = nn.Linear(6, 4, bias=False)
    _, vector = lipschitz.estimate(layer, (6,), 2000)
    sigma, _ = lipschitz.estimate(layer, (6,), 0, vector)
    sigma.backward()
    u, s, v = torch.linalg.svd(layer.weight.detach())
    torch.testing.assert_close(sigma.detach(), s[0])
    torch.testing.assert_close(layer.weight.grad, torch.outer(u[:, 0], v[0]), rtol=1e-3, atol=1e-4)


def test_trades_divergence_is_the_kl_it_claims_to_be():
    net = random_net().train()
    x, y = images(5), torch.arange(5)
    progress = 0.4
    loss = gloro.trades(constant(0.2), constant(1.7))(net, x, y, progress)
    with torch.no_grad():
        net.power_steps = 0  # keep the vectors, so the same K again
        outputs = net(x, 0.2)
        logits = outputs[:, :-1]
        p = torch.cat([logits.softmax(1), torch.zeros(5, 1)], 1)
        q = outputs.softmax(1)
        kl = torch.xlogy(p, p).sum(1) - (p * q.log()).sum(1)
        expected = nn.functional.cross_entropy(logits, y) + 1.7 * kl.mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-4)


def test_inputs_scaled_by_two_double_the_radius():
    net, x = random_net(), images(4) / 2
    scaled = copy.deepcopy(net)
    before = certify(scaled, x)  # the bound is now cached
    with torch.no_grad():
        scaled.body[0].weight /= 2  # f'(2x) = f(x)
    after = certify(scaled, 2 * x, 2 * net.epsilon)
    torch.testing.assert_close(after.radius, 2 * before.radius, rtol=1e-4, atol=1e-6)
    assert not torch.equal(after.bound.k_ij, before.bound.k_ij)  # a changed weight is noticed


def test_certifying_is_done_without_autocast_in_eval_mode_and_restores_both():
    net, x = random_net(), images(4)
    expected = certify(net, x)
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        inside = certify(net, x, batch_size=3)
    assert net.training
    assert torch.equal(inside.labels, expected.labels)
    torch.testing.assert_close(inside.radius, expected.radius, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GloroNet(nn.Sequential(nn.Flatten()), 0.1, (1, 2, 2)), "ending in nn.Linear, got"),
        (lambda: GloroNet(nn.Linear(4, 2), 0.1, (1, 2, 2)), "got Linear"),
        (lambda: linear_net([[1.0, 0, 0, 0]] * 2, epsilon=0.0), "positive and finite, got 0"),
        (
            lambda: linear_net([[1.0, 0, 0, 0]] * 2, epsilon=math.nan),
            "positive and finite, got nan",
        ),
        (lambda: certify(random_net(), images(2), epsilon=-1), "positive and finite, got -1"),
        (lambda: certify(random_net(), images(2)[:, 0]), r"shape \(n, 1, 28, 28\)"),
        (lambda: certify(random_net(), images(2)[:0]), "n >= 1"),
        (lambda: certify(random_net(), images(2) * 255), r"\[0, 1\], got values from .* to 2"),
        (lambda: certify(random_net(), images(2) * math.nan), r"\[0, 1\]"),
        (
            lambda: GloroNet(
                nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(4, 2)), 0.1, (1, 2, 2)
            ),
            "'1' .GELU.",
        ),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()
