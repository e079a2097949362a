"""What is kept about a net is about the net as it is; what a layer may do unseen is refused."""

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from thesis_repro import nets
from thesis_repro.robustness import (
    GloroNet,
    attacks,
    certifiers,
    certify,
    gloro,
    lipschitz,
    proof,
    relaxed,
    rounding,
    structure,
    threats,
)
from thesis_repro.robustness.certifiers import bcp, dual, smoothing
from thesis_repro.robustness.lipschitz import UnknownLayer

SHAPE = (2, 6, 6)
X = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def body():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4, eps=0.1),
        nn.AvgPool2d(2, ceil_mode=False),
        nn.MaxPool2d(2, 1),
        nets.Residual(nn.Conv2d(4, 4, 1), nn.ReLU()),
        nets.Scale(2.0),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    layers[1].running_var.fill_(0.01)
    return layers


def swapped(layers):
    layers[4].branch[1] = nn.Sequential(nets.Scale(3.0))


def by_numpy(layers):
    layers[0].weight.detach().numpy()[0, 0, 0, 0] += 5


def unlisted(layers):
    layers[5].register_buffer("factor", torch.tensor(7.0), persistent=False)


def through_data(layers):
    layers[7].weight.data *= 3


CHANGES = {
    "stride": lambda layers: vars(layers[3]).update(stride=2, ceil_mode=True),
    "dilation": lambda layers: (
        setattr(layers[0], "dilation", (2, 2)),
        setattr(layers[0], "padding", (2, 2)),
    ),
    "eps": lambda layers: setattr(layers[1], "eps", 1e-5),
    "divisor": lambda layers: setattr(layers[2], "divisor_override", 1),
    "running variance": lambda layers: layers[1].running_var.mul_(0.5),
    "module swapped": swapped,
    "buffer that no state dict lists": unlisted,
    "buffer changed in place": lambda layers: layers[5].factor.mul_(2),
    "weight by numpy": by_numpy,
    "weight by data": through_data,
    "weight exchanged": lambda layers: setattr(
        layers[7], "weight", nn.Parameter(torch.ones(3, 16))
    ),
    "layer put in": lambda layers: layers.insert(6, nets.Scale(4.0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_net_gets_the_bound_of_what_it_is_now(name):
    layers = body()
    net = GloroNet(layers, 0.1, SHAPE).eval()
    before = net.bound()
    assert net.bound() is before  # nothing changed, nothing is proved again
    CHANGES[name](layers)
    after, fresh = net.bound(), gloro.bound(layers, SHAPE)
    assert after.k_sub == fresh.k_sub and torch.equal(after.k_ij, fresh.k_ij)
    assert not torch.equal(before.k_ij, after.k_ij)
    assert certify(net, X).bound is after


def test_another_input_shape_is_another_bound():
    net = GloroNet(nn.Sequential(nn.Conv2d(2, 2, 1), nn.AvgPool2d(2), nn.Linear(3, 2)), 0.1, SHAPE)
    before = net.bound()
    net.input_shape = (2, 12, 6)
    assert net.bound() is not before


def hooked(layers):
    return layers[4].branch[1].register_forward_hook(lambda module, inputs, output: 100 * output)


class Stepping(torch.Tensor):
    """A tensor with a product of its own, as quantised weights have one."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        found = super().__torch_function__(function, types, args, kwargs or {})
        return found.round() if function is nn.functional.linear else found


REPLACED = {
    "hook": hooked,
    "hook before": lambda layers: layers[1].register_forward_pre_hook(lambda m, x: 9 * x[0]),
    "hook on the net": lambda layers: layers.register_forward_hook(lambda m, x, y: 9 * y),
    "hook on all": lambda layers: register_module_forward_hook(lambda m, x, y: None),
    "hook before all": lambda layers: register_module_forward_pre_hook(lambda m, x: None),
    "forward": lambda layers: setattr(layers[3], "forward", lambda x: 9 * x),
    "inner method": lambda layers: setattr(layers[0], "_conv_forward", lambda x, w, b: 9 * x),
    "compiled call": lambda layers: setattr(layers[6], "_compiled_call_impl", lambda x: 9 * x),
    "tensor of its own type": lambda layers: setattr(
        layers[7], "weight", nn.Parameter(layers[7].weight.detach().as_subclass(Stepping))
    ),
    "buffer of its own type": lambda layers: layers[1]._buffers.update(
        running_var=layers[1].running_var.as_subclass(Stepping)
    ),
    "branch exchanged": lambda layers: setattr(layers[4], "branch", nn.ReLU()),
    "tensor for a parameter": lambda layers: layers[7].__dict__.update(weight=torch.ones(3, 16)),
    "parametrization": lambda layers: parametrizations.weight_norm(layers[7]),
    "unknown layer": lambda layers: layers[4].branch.append(nn.GELU()),
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_a_layer_does_unseen_is_refused_on_every_call(name):
    layers = body()
    net = GloroNet(layers, 0.1, SHAPE).eval()
    certify(net, X)
    handle = REPLACED[name](layers)
    try:
        for ask in (net.bound, lambda: certify(net, X), lambda: gloro.bound(layers, SHAPE)):
            with pytest.raises(
                UnknownLayer, match=r"has a hook|for all modules|tensor|no Lipsch|needs"
            ):
                ask()
    finally:
        if hasattr(handle, "remove"):
            handle.remove()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (nn.ReLU, "forward"),
        (nn.Conv2d, "_conv_forward"),
        (nets.Scale, "forward"),
        (nn.Sequential, "__call__"),
        (nn.Module, "_call_impl"),
    ],
)
def test_a_method_that_a_class_got_is_refused_as_one_of_the_instance(kind, method, monkeypatch):
    layers = body()
    net = GloroNet(layers, 0.1, SHAPE).eval()
    used, own = net.bound(), getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda *about: 9 * own(*about))
    asking = (net.bound, lambda: certify(net, X), lambda: certify(net, X, used=used))
    for ask in (*asking, lambda: gloro.bound(layers, SHAPE)):
        with pytest.raises(UnknownLayer, match="a method of its class was replaced: restore it"):
            ask()
    monkeypatch.undo()
    assert net.bound() is used


def test_images_of_a_type_of_their_own_are_their_pixels():
    net = GloroNet(plain_body(), 0.1, (1, 1, 2)).eval()
    found = certify(net, POINT.as_subclass(Stepping))
    assert torch.equal(found.radius, certify(net, POINT).radius)
    assert type(found.radius) is torch.Tensor


def test_another_bound_than_the_net_s_own_does_not_open_the_gate():
    layers = body()
    net = GloroNet(layers, 0.1, SHAPE).eval()
    used = net.bound()
    hooked(layers)
    with pytest.raises(UnknownLayer, match="has a hook"):
        certify(net, X, used=used)


def plain_body(hidden=1.0, last=1.0, dtype=torch.float32):
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)
    ).to(dtype)
    with torch.no_grad():
        layers[1].weight.copy_(hidden * torch.eye(2, dtype=dtype))
        layers[3].weight.copy_(last * torch.eye(2, dtype=dtype))
    return layers


POINT = torch.tensor([0.6, 0.4]).view(1, 1, 1, 2)
DISTANCE = 0.2 / math.sqrt(2)
"""From POINT to the nearest point with another label, whatever the scales."""

REFUSED = {
    "hook": lambda layers: layers[2].register_forward_hook(lambda m, x, y: 9 * y),
    "forward": lambda layers: setattr(layers[2], "forward", lambda x: 9 * x),
    "NaN": lambda layers: layers[1].weight.data.fill_(math.nan),
    "half": lambda layers: layers.half(),
    "mixed": lambda layers: layers[1].double(),
    "unknown": lambda layers: layers.insert(2, nn.GELU()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_certifiers_refuse_the_same(name):
    layers = plain_body()
    net = GloroNet(layers, 0.1, (1, 1, 2)).eval()
    known = bcp.prepare(layers, (1, 1, 2))
    REFUSED[name](layers)
    x = POINT.to(next(layers.parameters()).dtype)
    for ask in (
        lambda: certify(net, x),
        lambda: bcp.certify(layers, x, 0.1),
        lambda: bcp.certify(layers, x, 0.1, prepared=known),
        lambda: dual.certify(layers, x, 0.1),
        lambda: dual.lower(layers, x, 0.1, torch.eye(2)),
    ):
        with pytest.raises(ValueError, match=r"hook|finite|float|GELU"):
            ask()
    for image in (255 * POINT, POINT * math.nan):
        for ask in (
            lambda x=image: certify(GloroNet(plain_body(), 0.1, (1, 1, 2)), x),
            lambda x=image: bcp.certify(plain_body(), x, 0.1),
            lambda x=image: dual.certify(plain_body(), x, 0.1),
            lambda x=image: smoothing.Smooth(plain_body(), 2, 0.1).certify(x[0], 5, 5, 0.1, 5),
        ):
            with pytest.raises(ValueError, match=r"pixels need to lie in \[0, 1\]"):
                ask()


def test_what_was_prepared_of_a_net_is_not_used_after_it_changed():
    layers = plain_body()
    known = bcp.prepare(layers, (1, 1, 2))
    assert bcp.certify(layers, POINT, 0.9 * DISTANCE, prepared=known).item()
    with torch.no_grad():
        layers[1].weight.mul_(2)
    with pytest.raises(ValueError, match="prepare it again"):
        bcp.certify(layers, POINT, 0.1, prepared=known)


SCALES = [(1e-18, 1e18, torch.float32), (1e30, 1e-30, torch.float32), (1e-30, 1e-5, torch.float32)]
SCALES += [(1e-170, 1e170, torch.float64), (1e200, 1e-250, torch.float64)]
SCALES += [(1.0, 1e-170, torch.float64), (1e-120, 1e-120, torch.float64)]


@pytest.mark.parametrize(("hidden", "last", "dtype"), SCALES)
def test_the_radius_is_the_distance_at_every_scale(hidden, last, dtype):
    layers, x = plain_body(hidden, last, dtype), POINT.to(dtype)
    radius = certify(GloroNet(layers, 0.1, (1, 1, 2)).eval(), x).radius.item()
    assert 0 <= radius <= DISTANCE + 1e-7
    for certifier in (bcp, dual):
        assert certifier.certify(layers, x, 0.999 * DISTANCE).item()
        assert not certifier.certify(layers, x, 1.001 * DISTANCE).item()


@pytest.mark.parametrize(
    ("certifier", "options"),
    [(bcp, {}), (dual, {"every_unit": True})],  # sending open units alone, KW squares no weights
)
def test_without_scaling_squares_vanish_and_a_certificate_is_false(certifier, options, monkeypatch):
    def as_it_is(model):
        return certifiers.Normalised(copy.deepcopy(model), {})

    monkeypatch.setattr(certifier, "normalised", as_it_is)
    monkeypatch.setattr(proof, "scale_of", torch.ones_like)
    assert certifier.certify(plain_body(1e-30, 1e-5), POINT, 1.001 * DISTANCE, **options).item()


@pytest.mark.parametrize(("dtype", "small"), [(torch.float32, 1e-25), (torch.float64, 1e-200)])
def test_rows_and_columns_of_different_scales_are_counted(dtype, small):
    """The unit that decides has weights so small that its squares vanish beside another one."""
    layers = plain_body(1.0, 1.0, dtype)
    with torch.no_grad():
        layers[1].weight.copy_(torch.diag(torch.tensor([1.0, small], dtype=dtype)))
        layers[3].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0 / small]], dtype=dtype))
        layers[3].weight[1, 1] *= -1.0
        layers[3].bias = nn.Parameter(torch.tensor([0.0, 0.2], dtype=dtype))
    x = POINT.to(dtype)  # logit 1 less logit 0 is 0.2 - x_1
    distance = 0.2
    assert layers(x).argmax().item() == 0
    assert certify(GloroNet(layers, 0.1, (1, 1, 2)).eval(), x).radius.item() <= distance
    for certifier in (bcp, dual):
        assert not certifier.certify(layers, x, 1.001 * distance).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_of_rows_of_any_size(dtype):
    tiny, high = torch.finfo(dtype).smallest_normal, torch.finfo(dtype).max
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype)
    for factor in (1.0, tiny, 2.0**-100, 2.0**100, high / 16):
        assert proof.lengths(rows * factor).tolist() == pytest.approx([5 * factor, 0.0])
    assert proof.lengths(rows[:, :0]).tolist() == [0.0, 0.0]
    assert proof.lengths(torch.tensor([[math.nan, 1.0]], dtype=dtype)).isnan().all()
    apart = rounding.differences(torch.tensor([[1.0, 3e-170], [1.0, -1e-170]]).double())
    assert apart[0, 1].item() == pytest.approx(4e-170) and apart[0, 0] == 0
    assert proof.multiply_up(1e-200, 1e-200) > 0 == proof.multiply_up(0.0, math.inf)
    assert proof.length(rows) >= 5 and proof.length(1e-320 * rows.double()) > 0


def test_a_layer_that_makes_more_of_its_input_than_its_bound_counts_is_refused():
    three = nets.Scale(torch.ones(3, 1, 1))
    with pytest.raises(
        UnknownLayer, match=r"layer '0' \(Scale\) makes \(1, 3, 4, 4\) of one input"
    ):
        GloroNet(nn.Sequential(three, nn.Flatten(), nn.Linear(48, 2)), 0.1, (1, 4, 4)).bound()
    with pytest.raises(UnknownLayer, match="makes"):
        lipschitz.upper_bound(nets.Scale(1.0, torch.zeros(5, 1, 1, 1)), (1, 4, 4))
    with pytest.raises(UnknownLayer, match="makes"):
        lipschitz.upper_bound(nn.Sequential(three), (1, 4, 4))
    assert lipschitz.upper_bound(three, (3, 4, 4)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"layer '' \(Conv2d\) takes no inputs of shape"):
        lipschitz.upper_bound(nn.Conv2d(2, 2, 1), (3, 4, 4))
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, padding="same"), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(UnknownLayer, match="padding='same'"):
        GloroNet(layers, 0.1, (1, 4, 4))


def test_dropout_is_the_identity_that_it_is_in_eval_mode():
    torch.manual_seed(0)
    with_it = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(72, 3))
    without = nn.Sequential(with_it[0], with_it[2])
    found, expected = (certify(GloroNet(b, 0.1, SHAPE).train(), X) for b in (with_it, without))
    torch.testing.assert_close(found.radius, expected.radius)


@pytest.mark.parametrize("eps", [1.00000005, 1e-3, 1e-5, 1.5e-38])
def test_batch_normalisation_adds_its_eps_in_its_own_format(eps):
    layer = nn.BatchNorm2d(1, eps=eps).eval()
    layer.running_var.zero_()
    gain = 1 / torch.tensor(eps).double().sqrt().item()
    assert lipschitz.upper_bound(layer, (1, 2, 2)) >= max(gain, eps**-0.5)
    assert lipschitz.upper_bound(copy.deepcopy(layer).double(), (1, 2, 2)) >= eps**-0.5
    layer.eps = 2e-45  # 1.4e-45 to the layer
    with pytest.raises(ValueError, match="variance positive"):
        lipschitz.upper_bound(layer, (1, 2, 2))


def test_a_radius_ends_where_the_format_might_overflow():
    """A bias of 1e19 holds the label up; long before it falls, sums may reach the limit."""
    layers = plain_body(1e18, 1e-18)
    layers[3].bias = nn.Parameter(torch.tensor([1e19, 0.0]))
    net = GloroNet(layers, 0.1, (1, 1, 2)).eval()
    found = certify(net, POINT)
    limit = rounding.LARGEST[torch.float32] / 1e19 / 1e18
    assert found.certified.item() and limit / 3 < found.radius.item() <= limit
    assert found.radius.item() < 1e-12 * 1e19 / net.bound().k_ij[0, 1]  # what the bound would allow
    far = certify(net, POINT, epsilon=limit)
    assert not far.certified.item() and far.margin.item() == -math.inf
    assert torch.equal(far.radius, found.radius)


def test_the_snapshot_compares_bits_on_any_number_of_them():
    for count in (1, 2, 3):
        layer = nn.Linear(count, 1, bias=False)
        before = structure.snapshot(layer, (count,))
        assert before.matches(layer, (count,)) and not before.matches(layer, (count + 1,))
        with torch.no_grad():
            layer.weight[0, -1] = torch.nextafter(layer.weight[0, -1], torch.tensor(9.0))
        assert not before.matches(layer, (count,))
        assert not before.matches(nn.Linear(count, 1, bias=True), (count,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_snapshot_compares_parameters_that_are_views(dtype):
    layers = [nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2)).to(dtype)]
    layers += [nn.Linear(2, 4, dtype=dtype) for _ in range(2)]
    flat = nn.utils.parameters_to_vector(layers[0].parameters())
    nn.utils.vector_to_parameters(1.5 * flat, layers[0].parameters())  # from an odd place on
    layers[1].bias.data = torch.rand(4, 4, dtype=dtype)[:, 2]
    layers[2].weight.data = torch.rand(2, 4, dtype=dtype).T
    for layer in layers:
        before = structure.snapshot(layer, (2,))
        for value in layer.parameters():
            assert before.matches(layer, (2,))
            with torch.no_grad():
                value.add_(1e-3)
            assert not before.matches(layer, (2,))
            before = structure.snapshot(layer, (2,))


def test_the_snapshot_stays_where_the_net_is(monkeypatch):
    layer = nn.Linear(4, 3)
    before = structure.snapshot(layer, (4,))
    monkeypatch.setattr(torch.Tensor, "cpu", None)
    assert before.matches(layer, (4,))
    with torch.no_grad():
        layer.weight[0, 0] += 1
    assert not before.matches(layer, (4,))
    assert {value.device for value in before.values} == {layer.weight.device}
    meta = structure.snapshot(nn.Linear(4, 3, device="meta"), (4,))
    assert {value.device.type for value in meta.values} == {"meta"}


def test_a_module_that_stands_in_two_places_is_scaled_in_each():
    torch.manual_seed(0)
    shared, act = nn.Linear(2, 2), nn.ReLU()
    with torch.no_grad():
        shared.weight.mul_(8)
    twice = nn.Sequential(nn.Flatten(), shared, act, shared, act, nn.Linear(2, 2))
    apart = nn.Sequential(*map(copy.deepcopy, twice))
    scaled = certifiers.normalised(twice)
    with torch.no_grad():
        found = certifiers.power_of_two(scaled.body(POINT), scaled.exponent)
        assert torch.equal(found, twice(POINT))
    for certifier in (bcp, dual):
        assert torch.equal(*(certifier.margins(body, POINT, 0.01) for body in (twice, apart)))


def test_torch_s_count_of_operations_is_no_hook_that_changes_a_layer():
    net = GloroNet(plain_body(1.0, 1.0), 0.1, tuple(POINT.shape[1:]))
    plain = certify(net, POINT).radius
    with FlopCounterMode(display=False) as counter:
        assert torch.equal(certify(net, POINT).radius, plain)
    assert counter.get_total_flops() > 0


def test_a_net_of_one_logit_is_not_certified_whoever_asks():
    body = nn.Sequential(nn.Flatten(), nn.Linear(4, 1)).eval()
    net = GloroNet(body, 0.1, (1, 2, 2))
    with pytest.raises(ValueError, match="one logit, so that no label could change"):
        certify(net, torch.rand(3, 1, 2, 2))


@pytest.mark.parametrize(
    ("given", "radius"),
    [
        (Fraction(36, 255), 36 / 255),
        (np.float32(0.25), 0.25),
        (np.array(0.25), 0.25),
        (torch.tensor(0.25), 0.25),
        (2, 2.0),
    ],
)
def test_a_radius_of_any_kind_is_a_float(given, radius):
    found = structure.check_epsilon(given)
    assert type(found) is float and found == radius
    net = GloroNet(plain_body(), given, (1, 1, 2)).eval()
    assert net.epsilon == radius
    expected = certify(net, POINT, radius).margin
    assert torch.equal(certify(net, POINT, given).margin, expected)
    assert torch.equal(relaxed.certify(net, POINT, k=1, epsilon=given).margin[:, 0], expected)
    for certifier in (bcp, dual):
        asked = (certifier.margins(plain_body(), POINT, value) for value in (given, radius))
        assert torch.equal(*asked)
    attacked = attacks.pgd_l2(net.body, POINT, torch.tensor([0]), given, 3)
    assert (attacked - POINT).norm() <= radius * (1 + 1e-6)
    assert threats.linf(net.body, POINT, torch.tensor([0]), given, 3).shape == POINT.shape


NO_RADIUS = [0, -1.0, math.nan, math.inf, True, 10**400, Fraction(1, 10**400), 1j, "0.1", None]
NO_RADIUS += [np.array([0.1]), np.bool_(True), torch.tensor([0.1]), torch.tensor(True)]


@pytest.mark.parametrize("given", NO_RADIUS, ids=lambda given: f"{given!r:.20}")
def test_what_is_no_radius_is_one_line(given):
    net = GloroNet(plain_body(), 0.1, (1, 1, 2)).eval()
    for ask in (
        lambda: structure.check_epsilon(given),
        lambda: GloroNet(plain_body(), given, (1, 1, 2)),
        lambda: structure.check_given(net, given),
        lambda: bcp.certify(net.body, POINT, given),
        lambda: dual.certify(net.body, POINT, given),
        lambda: threats.linf(net.body, POINT, torch.tensor([0]), given, 3),
    ):
        with pytest.raises(ValueError, match="epsilon needs to be positive and finite, got") as one:
            ask()
        assert "\n" not in str(one.value) and len(str(one.value)) < 150
