"""What layers make on the way to their outputs keeps to the range of the format, or none holds."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, adopt, certify
from thesis_repro.robustness.checker import nets as known
from thesis_repro.robustness.checker.layers import Weights
from thesis_repro.robustness.checker.passes import State, advance

SINGLE, DOUBLE = 2.0**-24, 2.0**-53


def dense(weight, bias=None):
    found = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        found.weight.copy_(torch.tensor(weight))
        if bias is not None:
            found.bias.copy_(torch.tensor(bias))
    return found


@pytest.mark.parametrize(
    ("dtype", "factor"), [(torch.float32, 1e36), (torch.float64, 5e305)], ids=["single", "double"]
)
def test_no_ball_holds_an_image_whose_logits_overflow(dtype, factor):
    body = nn.Sequential(nets.Scale(1.0), nn.Flatten(), dense([[390.0], [400.0]])).to(dtype)
    body[0].factor.fill_(factor)
    net = GloroNet(body, 0.1, (1, 1, 1)).eval()
    for value in (0.01, 0.1, 0.5):
        x = torch.full((1, 1, 1, 1), value, dtype=dtype)
        radius = certify(net, x).radius.item()
        assert value > 0.01 or radius > 0  # far from the limit it holds
        with torch.no_grad():
            far = body((x.double() + radius).to(dtype))
        assert radius == 0 or far.isfinite().all(), value


def averaging(side, divisor=None):
    pool = nn.AvgPool2d(side, divisor_override=divisor)
    head = dense([[1e-36], [1e-36]], [0.0, 0.9])
    layers = nets.Scale(3.6e18), nets.Scale(3.6e18), pool, nn.Flatten(), head
    return GloroNet(nn.Sequential(*layers), 1.0, (1, side, side)).eval()


@pytest.mark.parametrize("divisor", [None, 1, 10**6])
def test_the_sum_of_a_window_may_not_overflow_before_it_is_divided(divisor):
    side = 28
    net = averaging(side, divisor)
    found = certify(net, torch.zeros(1, 1, side, side))
    radius = min(found.radius.item(), 1.0)
    with torch.no_grad():
        far = net.body(torch.full((1, 1, side, side), radius / side))
    assert far.isfinite().all() and far.argmax().item() == found.labels.item()
    assert radius > 0.01  # far from the limit it holds


def test_no_weights_may_overflow_before_they_meet_an_input():
    layer = nets.LinearResidual(1, 1e20, 1)  # the merged kernel is harmless: 1e39 times 1e-39
    with torch.no_grad():
        layer.gain.fill_(1e19)
        layer.weight.fill_(-1e-39)
    norm = nn.BatchNorm2d(1, eps=2.0**-125)  # the gain over the deviation is 2**129
    with torch.no_grad():
        norm.weight.fill_(-(2.0**70))
        norm.running_var.fill_(2.0**-118)
        norm.running_mean.fill_(-(2.0**-20))
    for first, between, x in (
        (layer, [], 1e-2),
        (norm, [dense([[2.0**-110]], [0.0])], 1e-12),
    ):
        body = nn.Sequential(first, nn.ReLU(), nn.Flatten(), *between, dense([[0.0], [1.0]]))
        with torch.no_grad():
            body[-1].bias = nn.Parameter(torch.tensor([1e6, 0.0]))
        net = GloroNet(body, 1e-2, (1, 1, 1)).eval()
        found = certify(net, torch.full((1, 1, 1, 1), x))
        with torch.no_grad():
            assert net.body(torch.zeros(1, 1, 1, 1)).isnan().all()
        assert found.radius.item() < x and not found.certified.any()


def over(entry, tensors, x, unit=SINGLE, epsilon=0.1):
    """Whether the checker sees that a layer might leave the range of an arithmetic."""
    named = {f"l.{name}": np.asarray(value, float) for name, value in tensors.items()}
    (layer,) = known.made([{"name": "l", **entry}], Weights(named))
    layer.measure(x.shape[1:])
    none = np.zeros(len(x))
    return bool(advance(State(x, none, none, none, 1.0, none > 0), layer, epsilon, unit).over[0])


def test_the_checker_looks_at_the_sum_of_a_window():
    window = {"kernel_size": [28, 28], "stride": [28, 28], "padding": [0, 0]}
    entry = {"type": "AvgPool2d", **window, "ceil_mode": False, "count_include_pad": True}
    entry["divisor_override"] = None
    for value, expected in ((1e33, False), (1e36, True)):  # an average of 1e36, a sum of 8e38
        assert over(entry, {}, np.full((1, 1, 28, 28), value)) is expected
        assert not over(entry, {}, np.full((1, 1, 28, 28), value), DOUBLE)


NORMAL = {"running_mean": [0.0], "running_var": [1.0], "weight": [1.0], "bias": [0.0]}


@pytest.mark.parametrize(
    ("eps", "changed", "expected"),
    [
        (1e-5, {}, False),
        (1.0, {}, False),
        (1e-50, {"running_var": [0.0]}, True),  # no eps is left in single
        (2e-38, {"running_var": [0.0]}, False),
        (2e-38, {"running_var": [1e-39]}, True),  # may count as zero, and is no small part
        (1e-39, {"running_var": [1e-10]}, False),
        (1e-5, {"running_mean": [3e38]}, True),  # the value less the mean
        (1e-5, {"running_mean": [1e25], "running_var": [1e-3]}, False),
        (1e-5, {"running_mean": [1e37], "running_var": [1e-6], "weight": [1e-9]}, True),
    ],
)
def test_the_checker_looks_at_what_batch_normalisation_makes_on_the_way(eps, changed, expected):
    entry = {"type": "BatchNorm1d", "num_features": 1, "eps": eps}
    assert over(entry, NORMAL | changed, np.full((1, 1), 0.5)) is expected
    assert not over(entry, NORMAL | changed, np.full((1, 1), 0.5), DOUBLE)


def test_the_checker_looks_at_the_product_of_scale_and_gain():
    entry = {"type": "LinearResidual", "padding": [0, 0]}
    for gain, expected in ((1e10, False), (1e20, True)):
        weights = {"scale": 1e20, "gain": [gain], "weight": [[[[2e-38]]]], "bias": [0.0]}
        assert over(entry, weights, np.ones((1, 1, 1, 1))) is expected


def stretched(generator):
    """A small net with a layer whose parts are far from one, though its product need not be."""

    def power(low, high):
        return 10.0 ** float(torch.empty(1).uniform_(low, high, generator=generator))

    body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    if torch.rand(1, generator=generator) < 0.5:
        layer = nets.LinearResidual(2, power(-30, 0), 1, generator)
        with torch.no_grad():
            layer.gain.fill_(power(-17, 2))
            layer.weight.mul_(power(0, 38))
        body = nn.Sequential(layer, nn.Flatten(), nn.Linear(2, 2))
    norm = body[1]
    with torch.no_grad():
        if isinstance(norm, nn.BatchNorm1d):
            norm.weight.fill_(power(-37, 10))
            norm.running_var.fill_(power(-37, 37))
            norm.running_mean.copy_(torch.randn(2, generator=generator) * power(-5, 38))
        body[-1].weight.copy_(torch.randn(2, 2, generator=generator) * power(-10, 10))
        body[-1].bias.copy_(torch.randn(2, generator=generator) * power(-10, 10))
    return GloroNet(body, 1e-9, (2, 1, 1)).eval()


def test_labels_are_those_of_the_function_that_the_certificate_is_about():
    """Whatever underflows in the pass that the labels come from, or overflows."""
    generator, held, refused = torch.Generator().manual_seed(0), 0, set()
    for _ in range(150):
        net, x = stretched(generator), torch.rand(4, 2, 1, 1, generator=generator)
        wide = copy.deepcopy(net.body).double()
        for arithmetic, body in (("float32", net.body), ("float64", wide)):
            try:
                found = certify(net, x, arithmetic=arithmetic)
            except ValueError as refusal:
                refused.add(str(refusal)[:40])
                continue
            with torch.no_grad():
                computed = [body(x.to(next(body.parameters()).dtype)), wide(x.double())]
            for logits in computed:
                assert torch.equal(found.labels[found.certified], logits.argmax(1)[found.certified])
            held += int(found.certified.sum())
    assert held > 150  # not for want of certificates
    assert len(refused) <= 2, refused


def blocks(gain):
    """Six blocks whose scale and gain together are far below one, and whose weights make up."""
    layers = [nets.LinearResidual(64, 1e-28, 1) for _ in range(6)]
    for layer in layers:
        nn.init.constant_(layer.weight, 3.4028e38)
        nn.init.constant_(layer.gain, gain)
    up = nn.Conv2d(1, 64, 1, bias=False)
    nn.init.ones_(up.weight)
    head = dense([[1 / 8] * 64, [0.0] * 64], [0.0, 0.0])
    return nn.Sequential(up, *layers, nn.Flatten(), head)


def normalised():
    """Gain over std is below the normal numbers, and the mean makes up."""
    norm = nn.BatchNorm1d(2)
    nn.init.constant_(norm.weight, 1e-30)
    norm.running_var.fill_(2.1e30)
    norm.running_mean.fill_(3.4e38)
    return nn.Sequential(nn.Flatten(), norm, dense([[1e7, 0.0], [0.0, 0.0]], [0.0, 0.0]))


@pytest.mark.parametrize(
    ("body", "shape"), [(blocks(7e-18), (1, 1, 1)), (normalised(), (1, 1, 2))], ids=["gain", "std"]
)
def test_a_factor_that_underflows_is_allowed_for_by_what_it_meets(body, shape):
    net, x = GloroNet(body, 1e-6, shape).eval(), torch.full((1, *shape), 0.5)
    with torch.no_grad():
        plain, exact = (
            f(x.to(f[-1].weight.dtype)).double()[0] for f in (body, copy.deepcopy(body).double())
        )
        body[-1].bias[1] = (0.2 * plain + 0.8 * exact)[0]  # between what the two formats say
        logits = copy.deepcopy(body).double()(x.double())
    assert plain[0] != exact[0]
    for arithmetic in ("float32", "float64"):
        found = certify(net, x, arithmetic=arithmetic)
        assert not found.certified.item() or found.labels.item() == logits.argmax().item()
    assert found.certified.item()


def test_factor_and_offset_may_have_the_axis_of_the_batch():
    def net(shape):
        scale = nets.Scale(torch.full(shape, 2.0), torch.full(shape, 0.5))
        return GloroNet(nn.Sequential(scale, nn.Flatten(), head), 0.1, (2, 2, 2)).eval()

    torch.manual_seed(0)
    head, x = nn.Linear(8, 3), torch.rand(3, 2, 2, 2)
    with_it, without = certify(net((1, 2, 1, 1)), x), certify(net((2, 1, 1)), x)
    assert torch.equal(with_it.radius, without.radius)


def test_tiny_weights_are_certified_where_a_program_raises_on_underflow():
    head = nn.Linear(144, 3)
    layers = (
        nets.Scale(1e-30),
        nn.Conv2d(1, 4, 3, padding=1),
        nets.Scale(1e-300),
        nn.Flatten(),
        head,
    )
    with np.errstate(all="raise"):
        certify(GloroNet(nn.Sequential(*layers), 0.1, (1, 6, 6)).eval(), torch.ones(1, 1, 6, 6))


@pytest.mark.parametrize("pool", [nn.MaxPool2d([2, 2]), nn.AvgPool2d(2, [2, 2])])
def test_a_window_in_a_list_is_refused_in_one_line_and_adopted_as_a_tuple(pool):
    body = nn.Sequential(pool, nn.Flatten(), nn.Linear(9, 3)).eval()
    x = torch.rand(2, 1, 6, 6)
    with pytest.raises(ValueError, match=r"needs a number or a tuple, got \[2, 2\]"):
        certify(GloroNet(body, 0.1, (1, 6, 6)).eval(), x)
    found = certify(GloroNet(adopt(body, (1, 6, 6)), 0.1, (1, 6, 6)).eval(), x)
    alike = nn.Sequential(type(pool)((2, 2)), *body[1:])
    assert torch.equal(found.radius, certify(GloroNet(alike, 0.1, (1, 6, 6)).eval(), x).radius)
