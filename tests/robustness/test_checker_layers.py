"""What the checker knows of layers, against torch, dense matrices and the certifier's bounds."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import (
    GloroNet,
    certificate,
    certify,
    checker,
    lipschitz,
    rounding,
    rules,
)
from thesis_repro.robustness.checker import bounds
from thesis_repro.robustness.checker import nets as known
from thesis_repro.robustness.checker.layers import Weights
from thesis_repro.robustness.checker.passes import State, advance
from thesis_repro.robustness.lipschitz import LayerBound
from thesis_repro.robustness.margins import Bound, Certificate


def test_norms_from_both_sides():
    generator = np.random.default_rng(0)
    for shape in ((30, 50), (50, 30), (8, 8)):
        matrix = generator.standard_normal(shape)
        true = np.linalg.norm(matrix, 2)
        for scale in (1e-30, 1.0, 1e30):
            above = bounds.norm_above(scale * matrix)
            assert scale * true <= above <= scale * true * 1.0004
            assert 0.9 * scale * true < bounds.matrix_below(scale * matrix) <= scale * true
    assert bounds.norm_above(np.zeros((3, 2))) == bounds.matrix_below(np.zeros((3, 2))) == 0


def conv(*about, **more):
    return nn.Conv2d(*about, **more)


def batch_norm(layer):
    with torch.no_grad():
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.1, 2)
        layer.weight.uniform_(-2, 2)
        layer.bias.uniform_(-1, 1)
    return layer


def cancelling(n, left=2.0**-19):
    """x + W x with W near -I: what is left is far smaller than what is added and rounded."""
    layer = nn.Linear(n, n)
    noise = torch.randn(n, n)
    with torch.no_grad():
        layer.weight.copy_(left * noise / torch.linalg.matrix_norm(noise, 2) - torch.eye(n))
        layer.bias.zero_()
    return nets.Residual(layer)


IMAGE = (4, 9, 8)
LAYERS = {
    "Conv2d": lambda: conv(4, 3, (4, 3), (2, 1), (1, 2), (1, 2)),
    "Conv2d without bias": lambda: conv(4, 6, 3, bias=False, padding="valid"),
    "Conv2d in groups": lambda: conv(4, 6, 3, 1, 1, groups=2),
    "LinearResidual": lambda: nets.LinearResidual(4, 0.7),
    "Residual of a convolution": lambda: nets.Residual(conv(4, 4, 3, 1, 2, 2)),
    "Residual in groups": lambda: nets.Residual(conv(4, 4, 3, 1, 1, groups=2)),
    "Residual of two": lambda: nets.Residual(conv(4, 6, 3, 1, 1), nn.ReLU(), conv(6, 4, 1)),
    "Sequential": lambda: nn.Sequential(conv(4, 6, 3), nets.MinMax()),
    "MaxPool2d": lambda: nn.MaxPool2d(3, 2, 1),
    "MaxPool2d overlapping": lambda: nn.MaxPool2d((3, 2), (1, 2), dilation=2, ceil_mode=True),
    "AvgPool2d": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "AvgPool2d with padding": lambda: nn.AvgPool2d((2, 3), (1, 2), (1, 1)),
    "AvgPool2d divided by 5": lambda: nn.AvgPool2d(2, divisor_override=5),
    "BatchNorm2d": lambda: batch_norm(nn.BatchNorm2d(4)),
    "BatchNorm2d without gain": lambda: nn.BatchNorm2d(4, affine=False),
    "Scale": lambda: nets.Scale(torch.tensor([[[1.0]], [[-3.0]], [[2.0]], [[0.5]]]), 0.1),
    "MinMax": nets.MinMax,
    "ReLU": nn.ReLU,
    "Identity": nn.Identity,
    "Dropout": nn.Dropout,
    "Flatten": nn.Flatten,
    "Flatten in part": lambda: nn.Flatten(2, -1),
    "Linear along the last axis": lambda: nn.Linear(8, 5),
}
FLAT = {
    "Linear": lambda: nn.Linear(9, 5),
    "Linear without bias": lambda: nn.Linear(9, 12, bias=False),
    "Residual of a linear layer": lambda: nets.Residual(nn.Linear(9, 9)),
    "Residual that cancels": lambda: cancelling(9),
    "BatchNorm1d": lambda: batch_norm(nn.BatchNorm1d(9)),
}


def described(layer, shape):
    """The layer as the checker reads it from a file, measured for inputs of this shape."""
    (entry,) = certificate._described(nn.Sequential(layer), "")
    known.check_entries([entry])
    state = nn.Sequential(layer).state_dict()
    weights = Weights({k: v.double().numpy() for k, v in state.items()})
    (made,) = known.made([entry], weights)
    assert weights.used == set(state)
    return made, made.measure(shape)


def run(layer, x):
    none = np.zeros(len(x))
    return advance(State(x, none, none, none, 1.0, none > 0), layer, 0.1, 2.0**-24)


@pytest.mark.parametrize(
    ("name", "shape"), [*((n, IMAGE) for n in LAYERS), *((n, (9,)) for n in FLAT)]
)
def test_a_layer_is_torch_s_and_its_bounds_hold(name, shape):
    torch.manual_seed(3)
    layer = {**LAYERS, **FLAT}[name]().eval()
    made, after = described(layer, shape)
    double = {**LAYERS, **FLAT}[name]().double().eval()
    double.load_state_dict(layer.state_dict())
    x = torch.randn(3, *shape)
    with torch.no_grad():
        single, exact = layer(x), double(x.double())
    state = run(made, x.double().numpy())
    assert state.x.shape[1:] == after == tuple(exact.shape[1:])
    np.testing.assert_allclose(state.x, exact.numpy(), atol=1e-12)
    # rounding: the computed float32 activations lie within what is allowed for
    error = (single.double().numpy() - state.x).reshape(3, -1)
    assert (np.linalg.norm(error, axis=1) <= state.here + state.own).all()
    assert not state.over.any()
    # the constant: never below the steepest direction, and close to the certifier's bound
    bound = lipschitz.upper_bound(layer, shape, "dense" if "onv" in name else "auto")
    jacobian = torch.autograd.functional.jacobian(double, x[:1].double()).flatten(0, len(after))
    steepest = torch.linalg.matrix_norm(jacobian.flatten(1), 2).item()
    assert steepest <= made.upper * (1 + 1e-9)
    assert made.upper <= bound * 1.003 or "Residual of two" in name
    assert made.lower <= bound * (1 + 1e-9)
    assert made.lower > 0 or "Residual of two" in name


def test_terms_that_cancel_are_rounded_at_their_own_size():
    """Margins that exact arithmetic has, and float32 has not, are not confirmed."""
    torch.manual_seed(0)
    head = nn.Linear(16, 2)
    with torch.no_grad():
        head.weight.copy_(2.0**18 * torch.randn(2, 16))
        head.bias.zero_()
    net = GloroNet(nn.Sequential(nn.Flatten(), cancelling(16), head), 1e-7, (1, 4, 4)).eval()
    x = torch.rand(2000, 1, 4, 4)
    made, _ = described(net.body[1], (16,))
    weight = net.body[1].branch[0].weight.detach().double().abs().numpy()
    assert made.absolute >= np.linalg.norm(weight + np.eye(16), 2)
    with torch.no_grad():
        single, exact = net.body(x).argmax(1), copy.deepcopy(net.body).double()(x.double())
    wrong = single != exact.argmax(1)
    assert wrong.any()
    reached = run(made, x.flatten(1).double().numpy())
    k = made.upper * np.linalg.norm(head.weight.detach().double().diff(dim=0).numpy())
    least = (reached.here + reached.own) * k / made.upper
    assert (exact.diff(dim=1).abs()[:, 0].numpy() < least)[wrong.numpy()].all()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_torus_is_never_below_the_matrix(stride, monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, (4, 3), (stride, 1), (1, 2), (1, 2))
    small, _ = described(layer, (2, 11, 9))
    monkeypatch.setattr("thesis_repro.robustness.checker.convolution.DENSE", 0)
    monkeypatch.setattr(bounds, "CHUNK", 100)  # the frequencies in more than one go
    large, _ = described(layer, (2, 11, 9))
    assert 0 < small.lower == large.lower <= small.upper <= large.upper <= 1.15 * small.upper
    assert small.absolute <= large.absolute * 1.1


def test_a_pixel_in_many_windows_reaches_the_bound_of_max_pooling():
    layer = nn.MaxPool2d(3, 2, 1)
    made, _ = described(layer, (1, 7, 7))
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1  # between four windows
    assert made.upper == pytest.approx(layer(x).norm().item()) == 2.0


def test_what_does_not_fit_is_one_line():
    for layer, shape, said in (
        (nn.Conv2d(3, 2, 3), (1, 5, 5), r"layer '0' \(Conv2d\): takes 3 channels, got 1"),
        (nn.Conv2d(1, 2, 9), (1, 5, 5), "larger than the padded image"),
        (nn.Conv2d(1, 2, 3, padding=5000), (1, 5, 5), "the checker takes up to"),
        (nn.Conv2d(1, 2, 3, 5000, padding=5000), (1, 5, 5), "the checker takes up to"),
        (nets.MinMax(), (3, 5, 5), "even number of channels"),
        (nn.MaxPool2d(2), (5,), "needs images"),
        (nn.PixelUnshuffle(2), (1, 5, 4), "sides divisible by 2"),
        (nets.Scale(torch.ones(2, 5, 5)), (1, 5, 5), "do not fit"),
        (nn.BatchNorm2d(2), (1, 5, 5), "takes 2 channels"),
    ):
        with pytest.raises(ValueError, match=said):
            described(layer, shape)


def test_the_file_and_the_checker_know_each_layer_that_has_a_bound():
    for kind in rules.RULES:
        assert kind in certificate.GEOMETRY
    assert {kind.__name__ for kind in certificate.GEOMETRY} == set(known.KINDS)


def shared():
    act = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 3))


def shared_inside():
    act = nets.MinMax()
    inner = nn.Sequential(nn.Linear(8, 8), act)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), act, inner, act, nn.Linear(8, 3))


def named():
    act = nn.ReLU()
    steps = [("flat", nn.Flatten()), ("in", nn.Linear(64, 8)), ("a", act), ("mid", nn.Linear(8, 8))]
    return nn.Sequential(OrderedDict([*steps, ("b", act), ("out", nn.Linear(8, 3))]))


def weights_twice():
    mid = nn.Linear(8, 8)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), mid, nn.ReLU(), mid, nn.Linear(8, 3))


def max_pooling():
    convolutions = [conv(1, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    convolutions += [conv(4, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(32, 3))


def normalised():
    body = nn.Sequential(conv(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
    batch_norm(body[1])
    body.extend([nn.Linear(36, 8), batch_norm(nn.BatchNorm1d(8)), nn.ReLU(), nn.Linear(8, 3)])
    return body


def residual():
    first = [nn.PixelUnshuffle(2), conv(4, 4, 3, 1, 1), nets.Residual(conv(4, 4, 3, 1, 1))]
    return nn.Sequential(
        *first, nn.ReLU(), nn.Flatten(), nets.Residual(nn.Linear(64, 64)), nn.Linear(64, 3)
    )


def liresnet():
    return nets.liresnet(2, 4, in_shape=(1, 8, 8), classes=3, dense=8)


def along_rows():
    first = conv(1, 2, 3, 1, 1), nn.Flatten(2), nn.Linear(64, 6), nn.ReLU()
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(12, 3))


NETS = (shared, shared_inside, named, weights_twice, max_pooling, normalised, residual, liresnet)
NETS += (along_rows,)


@pytest.mark.parametrize("build", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_claim_of_an_honest_file_is_confirmed(build, dtype, tmp_path):
    torch.manual_seed(1)
    body = build()
    net = GloroNet(body, 0.1, (1, 8, 8)).eval().to(dtype)
    x = torch.rand(40, 1, 8, 8, dtype=dtype)
    epsilon = 0.97 * certify(net, x).radius.median().item()
    found = certify(net, x, epsilon)
    file, weights = tmp_path / "c.json", tmp_path / "w.safetensors"
    about = certificate.read(certificate.write(file, net, found, x, epsilon=epsilon))
    assert [e["name"] for e in about["layers"]] == list(body._modules)
    certificate.write_net(weights, net)
    report = checker.check(file, weights, x.numpy())
    assert report.notes == []
    assert report.bound
    claimed = [bool(c) for c in found.certified]
    assert sum(claimed) >= 20
    # a point whose radius is within the checker's slack of epsilon may stay unproved
    near = int(((found.radius < epsilon * 1.005) & found.certified).sum())
    assert near <= 2
    assert report.count("contradicted") == 0
    assert report.count("confirmed") >= sum(claimed) - near


def unfounded(net, x, epsilon, file, share=1.0):
    """A file that claims x to be certified, with bounds of 1 and margins of almost nothing.

    share : of the true K_ij
    """
    layers = [LayerBound(n, type(m).__name__, 1.0, "") for n, m in net.body.named_children()][:-1]
    weight = net.head.weight.detach().double()
    scale = weight.abs().max()
    apart = scale * torch.stack([((weight - row) / scale).norm(dim=1) for row in weight])
    known = rounding.analyse(net.body, net.input_shape, [1.0] * len(layers), net.head)
    bound = Bound(1.0, share * apart, tuple(layers), known)
    n, tiny = len(x), torch.full((len(x),), 5e-324, dtype=torch.float64)
    with torch.no_grad():
        labels = net.body(x).argmax(1)
    claimed = Certificate(labels, tiny, torch.ones(n, dtype=torch.bool), tiny, bound, tiny)
    with pytest.MonkeyPatch.context() as forger:
        forger.setattr(certificate, "_check_claims", lambda *about: None)
        certificate.write(file, net, claimed, x, epsilon=epsilon)


@pytest.mark.parametrize("scale", [1e-170, 1e-155, 1e-30, 1.0, 1e30, 1e160])
def test_weights_of_any_size_prove_no_more_than_others(scale, tmp_path):
    """A point 0.1414 from the boundary, with squares of its weights that under- or overflow."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        body[1].weight.copy_(scale * torch.eye(2, dtype=torch.float64))
    net = GloroNet(body, 0.1, (1, 1, 2)).eval()
    x = torch.tensor([[[[0.6, 0.4]]]], dtype=torch.float64)
    certificate.write_net(tmp_path / "w.safetensors", net)
    verdicts = []
    for epsilon, share in ((0.14, 1.0), (0.142, 1.0), (0.142, 0.0), (0.5, 0.0)):
        unfounded(net, x, epsilon, tmp_path / "c.json", share)
        report = checker.check(tmp_path / "c.json", tmp_path / "w.safetensors", x.numpy())
        verdicts += report.verdicts
    assert "confirmed" not in verdicts[1:]
    if 1e-150 < scale < 1e150:
        assert verdicts == ["confirmed", "contradicted", "contradicted", "contradicted"]


def test_weights_that_float32_flushes_or_overflows_are_not_confirmed(tmp_path):
    for scale in (1e-38, 1e-44, 1e38):
        body = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        with torch.no_grad():
            body[1].weight.copy_(scale * torch.eye(2))
        net = GloroNet(body, 0.1, (1, 1, 2)).eval()
        x = torch.tensor([[[[0.6, 0.4]]]])
        unfounded(net, x, 0.01, tmp_path / "c.json")
        certificate.write_net(tmp_path / "w.safetensors", net)
        report = checker.check(tmp_path / "c.json", tmp_path / "w.safetensors", x.numpy())
        assert report.count("confirmed") == 0
