import copy
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import (
    REJECT,
    GloroNet,
    certify,
    forward,
    gloro,
    layer_rounding,
    lipschitz,
    rounding,
)
from thesis_repro.robustness.arithmetic import exact
from thesis_repro.robustness.proof import gamma


def bodies():
    """Small nets with every layer that rounds."""
    return {
        "dense": ([nn.Flatten(), nn.Linear(64, 30), nets.MinMax(), nn.Linear(30, 4)], (1, 8, 8)),
        "convolutions": (
            [
                nets.Scale(2.0, -1.0),
                nn.Conv2d(2, 8, 3, padding=1),
                nets.MinMax(),
                nn.Conv2d(8, 8, 4, 2, 1, groups=2),
                nn.ReLU(),
                nn.MaxPool2d(2, 1),
                nn.Flatten(),
                nn.Linear(72, 5),
            ],
            (2, 8, 8),
        ),
        "residual": (
            [
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nets.Residual(nn.Conv2d(4, 4, 3, padding=1)),
                nets.Residual(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1)),
                nn.AvgPool2d(2),
                nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU()),
                nn.Linear(12, 3),
            ],
            (1, 8, 8),
        ),
        "liresnet": (
            [
                nets.Scale(1.0, -0.5),
                nets.LinearResidual(4, 0.5),
                nets.MinMax(),
                nn.Flatten(),
                nets.UnitLinear(256, 3),
            ],
            (4, 8, 8),
        ),
    }


def build(name, seed=0, scale=1.0):
    torch.manual_seed(seed)
    parts, shape = bodies()[name]
    body = nn.Sequential(*parts)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 2)
    return GloroNet(body, 0.1, shape).eval()


def pairs(logits):
    return logits[:, :, None] - logits[:, None]


def half_budget(net, x):
    """What is taken off for rounding at x alone, for every pair (n, classes, classes)."""
    with exact(net), torch.no_grad():
        logits, norms, _ = forward.part_pass(net.body, x)
    found = []
    for top in range(net.classes):
        fixed, _, _ = net.bound().rounding.budget(norms, torch.full((len(x),), top))
        found.append(fixed)
    return logits.double(), torch.stack(found, 1)


@given(st.sampled_from(sorted(bodies())), st.integers(0, 10**6), st.sampled_from([1e-3, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_float32_stays_within_the_budget_of_exact_arithmetic(name, seed, scale):
    net = build(name, seed, scale)
    x = torch.rand(16, *net.input_shape)
    logits, budget = half_budget(net, x)
    with torch.no_grad():
        exact = copy.deepcopy(net.body).double()(x.double())
    error = (pairs(logits) - pairs(exact)).abs()
    assert (2 * error <= budget + 1e-12).all()
    assert error.max() > 0 or scale < 1  # tiny weights may round to what is exact


@pytest.mark.parametrize("name", sorted(bodies()))
def test_the_budget_in_the_ball_covers_points_of_the_ball(name):
    net = build(name)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, *net.input_shape, generator=generator)
    epsilon = 0.5
    step = torch.randn(x.shape, generator=generator)
    x2 = x + epsilon * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    logits, fixed = half_budget(net, x)
    with torch.no_grad():
        double = copy.deepcopy(net.body).double()
        at_x = pairs(logits - double(x.double())).abs()
        in_ball = pairs(net.body(x2).double() - double(x2.double())).abs()
        norms = forward.part_pass(net.body, x)[1]
    for top in range(net.classes):
        constant, slope, room = net.bound().rounding.budget(norms, torch.full((20,), top))
        assert torch.equal(constant, fixed[:, top]) and (room > 1e20).all()
        assert (at_x[:, top] + in_ball[:, top] <= constant + epsilon * slope).all()


ORDERS = {
    "as they come": lambda terms, _: terms,
    "rising": lambda terms, _: np.sort(terms),
    "falling": lambda terms, _: np.sort(terms)[::-1],
    "large first": lambda terms, _: terms[np.argsort(-np.abs(terms))],
    "shuffled": lambda terms, generator: generator.permutation(terms),
}


@pytest.mark.parametrize("tree", ["one by one", "in pairs"])
@pytest.mark.parametrize("order", ORDERS)
@given(st.integers(2, 400), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_a_sum_errs_by_its_largest_partial_sum_in_any_order(order, tree, n, seed, shift):
    generator = np.random.default_rng(seed)
    w, a = (generator.standard_normal(n) + shift).astype("f4"), generator.standard_normal(n)
    a = (a + shift).astype("f4")
    exact = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(w, a, strict=True)]
    most = max(sum(t for t in exact if t > 0), -sum(t for t in exact if t < 0))
    terms = ORDERS[order](w * a, generator)
    while tree == "in pairs" and len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = np.concatenate([terms[: len(terms) // 2 * 2].reshape(-1, 2).sum(1), odd])
    found = np.float32(0)
    for term in terms:
        found = np.float32(found + term)
    assert abs(Fraction(float(found)) - sum(exact)) <= Fraction(gamma(n + 2, 2.0**-24)) * most


def largest_partial_sums(layer, x):
    """The vector of max(P, Q) for inputs x, with its norm, in float64."""
    exact, sizes = copy.deepcopy(layer).double(), forward.absolute_of(layer).double()
    return ((sizes(x.double().abs()) + exact(x.double()).abs()) / 2).flatten(1).norm(dim=1)


@pytest.mark.parametrize("kind", ["dense", "convolution", "groups"])
def test_partial_sums_are_bounded_by_norms_and_measured_from_above(kind):
    torch.manual_seed(0)
    layer, shape = {
        "dense": (nn.Linear(300, 40), (300,)),
        "convolution": (nn.Conv2d(3, 8, 3, padding=1), (3, 9, 9)),
        "groups": (nn.Conv2d(4, 8, 4, 2, 1, groups=2), (4, 8, 8)),
    }[kind]
    x, step = torch.rand(30, *shape) - 0.3, torch.randn(30, *shape)
    norm = lipschitz.upper_bound(layer, shape)
    (found,) = layer_rounding.errors(layer, shape, norm, [torch.float32]).values()
    with torch.no_grad():
        exact = largest_partial_sums(layer, x)
        assert (exact <= found.partial.at + found.partial.slope * forward.norms_of(x)).all()
        measured = forward.partial_sums(forward.absolute_of(layer), x, layer(x))
        moved = largest_partial_sums(layer, x + step)
    assert (exact <= measured).all() and (measured <= exact * 1.001).all()
    assert (moved <= measured + found.partial.slope * forward.norms_of(step)).all()
    off = (layer(x).double() - copy.deepcopy(layer).double()(x.double())).flatten(1).norm(dim=1)
    assert (off <= found.unit * measured + 1e-30).all() and (off > 0).any()


def known(kind):
    """Float64 nets whose exact radius is known, with points and these radii."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 1, 4, 4, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0]
    if kind == "linear":
        weight = torch.randn(4, 16, generator=generator, dtype=torch.float64)
        body = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        layers = [(body[1], weight, torch.zeros(4))]
        logits = x.flatten(1) @ weight.T
        top = logits.argmax(1)
        apart = (weight[top][:, None] - weight[None]).norm(dim=2)
        gaps = logits.gather(1, top[:, None]) - logits
        radius = (gaps / apart).nan_to_num(torch.inf).amin(1)
    elif kind == "absolute value":
        # logit 0 is |a - b| of two pixels, logit 1 is 0.2
        first = torch.zeros(2, 16)
        first[0, 3] = first[1, 7] = 1.0
        body = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nets.MinMax(), nn.Linear(2, 2))
        head = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
        layers = [(body[1], first, torch.zeros(2)), (body[3], head, torch.tensor([0.0, 0.2]))]
        apart = (x.flatten(1)[:, 3] - x.flatten(1)[:, 7]).abs()
        radius = (apart - layers[1][2][1].double()).abs() / 2**0.5
    else:
        # rotated coordinates: sorted after a rotation, then the difference of two of them
        body = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nets.MinMax(), nn.Linear(16, 2))
        head = torch.zeros(2, 16, dtype=torch.float64)
        head[0, 0] = 1.0  # the larger of the rotated coordinates 0 and 8
        layers = [
            (body[1], rotation, torch.zeros(16)),
            (body[3], head, torch.tensor([0.0, 0.3], dtype=torch.float64)),
        ]
        z = x.flatten(1) @ rotation.T
        high, low = torch.maximum(z[:, 0], z[:, 8]), torch.minimum(z[:, 0], z[:, 8])
        above = high - 0.3
        # to bring the maximum below 0.3 both must be; to raise it above, the larger one
        need = (above.clamp_min(0) ** 2 + (low - 0.3).clamp_min(0) ** 2).sqrt()
        radius = torch.where(above > 0, need, -above)
        kept = low < 0.3  # there the two distances agree with the Lipschitz bound
        x, radius = x[kept], radius[kept]
    body.double()
    with torch.no_grad():
        for layer, weight, bias in layers:
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return GloroNet(body, 0.05, (1, 4, 4)).eval(), x, radius


@pytest.mark.parametrize("kind", ["linear", "absolute value", "rotation"])
def test_known_radii_are_met_within_a_millionth_and_never_exceeded(kind):
    net, x, exact = known(kind)
    certificate = certify(net, x)
    assert (certificate.radius <= exact).all()
    assert (certificate.radius >= exact - 1e-6).all()
    assert (certificate.budget < 1e-9).all()
    assert torch.equal(certificate.certified, certificate.radius > net.epsilon)
    assert certificate.certified.any()


@pytest.mark.parametrize("kind", ["linear", "absolute value", "rotation"])
def test_in_float32_the_budget_is_taken_off_and_shown(kind):
    net, x, exact = known(kind)
    certificate = certify(net.float(), x.float())
    assert (certificate.budget > 1e-7).all()
    assert (certificate.radius <= exact.clamp_min(0) + 1e-9).all()
    loss = (exact - certificate.radius) * net.bound().k_ij.max()
    print(f"{kind}: budget {certificate.budget.mean():.1e}, radius lost {loss.mean():.1e}")
    assert (certificate.radius >= exact - 1e-3).all()


def cancelling(epsilon=1e-6):
    """Two large logits that almost cancel: rounding decides the label of nearby points."""
    generator = torch.Generator().manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        weight = 1000 * torch.rand(64, generator=generator)
        body[1].weight.copy_(torch.stack([weight, weight]))
        body[1].weight[1, 0] += 0.01
        body[1].bias.zero_()
    return GloroNet(body, epsilon, (1, 8, 8)).eval()


def flipped(net, certificate, x, tries=200):
    """Certified points that get another float32 label somewhere in the ball."""
    generator = torch.Generator().manual_seed(1)
    broken = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(tries):
        step = torch.randn(x.shape, generator=generator)
        step *= 0.9 * net.epsilon / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        with torch.no_grad():
            # another order of additions: the same points one by one, or all at once
            labels = net.body(x + step).argmax(1)
        broken |= labels != certificate.labels
    return broken & certificate.certified


def test_no_label_that_rounding_can_flip_is_certified():
    net = cancelling()
    x = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    honest = certify(net, x)
    assert not flipped(net, honest, x).any()
    bound = net.bound()
    net._cached = (net._cached[0], gloro.Bound(bound.k_sub, bound.k_ij, bound.layers))
    assert flipped(net, certify(net, x), x).any()  # without the budget such points exist


def test_other_formats_are_refused():
    net, x = build("dense"), torch.rand(3, 1, 8, 8)
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match=r"float32 or in float64, got b?float16"):
            certify(copy.deepcopy(net).to(dtype), x.to(dtype))
    with pytest.raises(ValueError, match="images need to be float32 as the net is, got float64"):
        certify(net, x.double())
    with pytest.raises(ValueError, match="got int64"):
        certify(net, (x > 0.5).long())
    mixed = copy.deepcopy(net)
    mixed.body[1].half()
    with pytest.raises(ValueError, match="float16"):
        certify(mixed, x)
    exact = certify(net.double(), x)  # float32 images in a float64 net lose nothing
    assert exact.labels.dtype == torch.int64
    half = certify(net, x.half())
    assert half.radius.isfinite().all()


def settings_of_torch():
    backends = torch.backends
    return [
        place.fp32_precision
        for place in (
            backends.cuda.matmul,
            backends.cudnn.conv,
            backends.mkldnn.matmul,
            backends.mkldnn.conv,
        )
    ] + [
        backends.cudnn.enabled,
        torch._C._get_nnpack_enabled(),  # Winograd and FFT convolutions on a CPU
        torch.get_float32_matmul_precision(),
    ]


def test_reduced_precision_is_off_inside_and_restored_after():
    net, x = build("convolutions"), torch.rand(8, 2, 8, 8)
    expected = certify(net, x)
    seen = []
    real = forward.part_pass

    def spy(*given):
        seen.append(settings_of_torch()[:6])
        return real(*given)

    before = torch.get_float32_matmul_precision()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "part_pass", spy)
        try:
            torch.set_float32_matmul_precision("medium")
            outside = settings_of_torch()
            with torch.autocast("cpu", torch.bfloat16):
                found = certify(net, x)
                assert net.body(x).dtype == torch.bfloat16  # autocast is on again
            assert settings_of_torch() == outside
        finally:
            torch.set_float32_matmul_precision(before)
    assert outside[5]
    assert seen == [["ieee", "ieee", "ieee", "ieee", False, False]]
    assert torch.equal(found.margin, expected.margin)


@pytest.mark.parametrize("value", [1e30, 1e-42, 0.0])
def test_weights_at_the_ends_of_the_format_give_no_false_certificate(value):
    net = build("dense")
    with torch.no_grad():
        net.body[1].weight.fill_(value)
    x = torch.rand(20, 1, 8, 8)
    certificate = certify(net, x)
    # with such weights every point has the same label up to rounding, or none can be shown
    double = copy.deepcopy(net).double()
    assert (certificate.radius <= certify(double, x).radius * (1 + 1e-12)).all()
    with torch.no_grad():
        net.body[1].weight.fill_(1e30)
        net.body[3].weight.fill_(1e30)
    overflow = certify(net, x)
    assert not overflow.certified.any()
    assert (overflow.radius == 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("layer", [1, 3])
def test_weights_that_are_not_finite_are_refused(value, layer):
    net = build("dense")
    with torch.no_grad():
        net.body[layer].weight[0, 0] = value
    with pytest.raises(ValueError, match="finite"):
        certify(net, torch.rand(2, 1, 8, 8))


def test_a_batch_of_one_and_the_size_of_batches_do_not_matter():
    net, x = build("convolutions"), torch.rand(7, 2, 8, 8)
    whole = certify(net, x)
    for row in range(7):
        one = certify(net, x[row : row + 1])
        assert one.labels.item() == whole.labels[row].item()
        assert one.margin.item() == pytest.approx(whole.margin[row].item(), abs=1e-5)
    with pytest.raises(ValueError, match="n >= 1"):
        certify(net, x[:0])
    assert (whole.labels != REJECT).all()


def test_precision_is_read_from_weights_and_buffers():
    assert rounding.precision(build("residual").body) == torch.float32
    assert rounding.precision(build("residual").double().body) == torch.float64
    with pytest.raises(ValueError, match="got none"):
        rounding.precision(nn.Sequential(nn.ReLU()))
