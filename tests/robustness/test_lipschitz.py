import copy
import dataclasses
import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import parametrizations

from thesis_repro import nets
from thesis_repro.robustness import banded, lipschitz, proof, symbol
from thesis_repro.robustness.layers import convolutions
from thesis_repro.robustness.lipschitz import UnknownLayer, upper_bound

BELOW = 1 - 1e-12
"""A dense SVD in float64 may itself be this far off."""


def svd(layer, shape):
    """The operator norm of a linear layer, from its matrix; the weights scaled to about 1."""
    weight = layer.weight.detach().double()
    size = weight.abs().max().item()
    if size == 0:
        return 0.0
    clean = type(layer)(**dimensions(layer)).double()
    with torch.no_grad():
        clean.weight.copy_(weight / size)
        unit = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        matrix = lipschitz.linear_map(clean, unit).flatten(1)
    return torch.linalg.matrix_norm(matrix, 2).item() * size


def dimensions(layer):
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": False}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {name: getattr(layer, name) for name in names} | {
        "groups": layer.groups,
        "bias": False,
    }


@st.composite
def linear_layers(draw):
    scale = 10.0 ** draw(st.integers(-30, 30))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    smooth = draw(st.booleans())  # smooth kernels have their peak at frequency zero
    if draw(st.integers(0, 3)) == 0:
        layer = nn.Linear(draw(st.integers(1, 40)), draw(st.integers(1, 40)), bias=False)
        shape = (layer.in_features,)
    else:
        groups = draw(st.sampled_from([1, 1, 2, 3]))
        pair = st.tuples(st.integers(1, 4), st.integers(1, 4))
        kernel, stride = draw(pair), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
        padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        least = [
            max(1, d * (k - 1) + 1 - 2 * p)
            for d, k, p in zip(dilation, kernel, padding, strict=True)
        ]
        size = [draw(st.integers(low, low + 7)) for low in least]
        layer = nn.Conv2d(
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias=False,
        )
        shape = (layer.in_channels, *size)
    with torch.no_grad():
        values = torch.randn(layer.weight.shape, generator=generator)
        layer.weight.copy_((values.abs() if smooth else values) * scale)
    return layer, shape


def never_below_the_svd(layer, shape):
    true = svd(layer, shape)
    unread = 1e-6 * layer.weight.abs().max().item()  # weights that meet padding alone
    assert true * BELOW <= upper_bound(layer, shape) <= true * 1.01 + unread
    if not isinstance(layer, nn.Conv2d):
        return
    assert upper_bound(layer, shape, "fast") >= true * BELOW
    assert upper_bound(layer, shape, "dense") <= true * (1 + 1e-8) + unread
    if all(math.isfinite(banded.operations(group)) for group in convolutions(layer, shape)):
        assert true * BELOW <= upper_bound(layer, shape, "tight") <= true * 1.001 + unread


@given(linear_layers())
@settings(max_examples=100, deadline=None)
def test_bounds_are_never_below_the_dense_svd(layer):
    never_below_the_svd(*layer)


@pytest.mark.slow
@given(linear_layers())
@settings(max_examples=500, deadline=None)
def test_bounds_are_never_below_the_dense_svd_on_500_layers(layer):
    never_below_the_svd(*layer)


@pytest.mark.parametrize("stride", [1, 2])
def test_bounds_are_never_below_5000_power_iterations_and_fast_is_close(stride):
    torch.manual_seed(stride)
    layer, shape = nn.Conv2d(8, 8, 3, stride, 1), (8, 20, 20)
    start = torch.randn(1, *shape, dtype=torch.float64)
    below = lipschitz.estimate(layer, shape, 5000, start)[0].item()
    fast, tight = (upper_bound(layer, shape, method) for method in ("fast", "tight"))
    assert below * BELOW <= tight <= below * 1.0001
    assert tight <= fast * (1 + 2e-6) <= 1.03 * tight


def test_fast_is_exact_for_a_smooth_kernel_and_loose_on_few_pixels():
    smooth = nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False)
    with torch.no_grad():
        smooth.weight.copy_(torch.tensor([1.0, 2.0, 1.0]).view(1, 1, 3, 1))
    exact = 2 + 2 * math.cos(math.pi / 33)  # a tridiagonal Toeplitz matrix of 32 rows
    value = upper_bound(smooth, (1, 32, 1), "fast")
    assert exact * BELOW <= value <= exact * (1 + 1e-12)
    # the supremum over frequencies cannot see the border
    (conv,) = convolutions(smooth, (1, 32, 1))
    assert 4 * BELOW <= symbol.supremum(conv, 64) <= 4 * 1.01
    torch.manual_seed(0)
    small = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    assert upper_bound(small, (8, 4, 4), "fast") > 1.02 * svd(small, (8, 4, 4))


def four_tori(layer, shape):
    """The norms of a convolution of stride 1 on four twisted tori, from its symbol's SVDs."""
    kernel = layer.weight.detach().double().numpy()
    norms = []
    for twist in itertools.product((0, np.pi), repeat=2):
        turns = [
            np.array([np.exp(1j * np.arange(taps) * w) for w in (2 * np.pi * np.arange(n) + t) / n])
            for t, n, taps in zip(
                twist,
                [s + p for s, p in zip(shape[1:], layer.padding, strict=True)],
                kernel.shape[2:],
                strict=True,
            )
        ]
        symbol_ = np.einsum("oiyx,ay,bx->aboi", kernel, *turns)
        norms.append(np.linalg.norm(symbol_, 2, (2, 3)).max())
    return norms


def two_peaks(channels, rival):
    """A kernel whose symbol is largest at frequency zero, for several directions nearly alike.

    A peak of height `rival` at the highest frequency has one direction only: power iteration sees
    that one first.
    """
    values = torch.randn(channels, channels, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(torch.cat([torch.ones(channels, 1), values[:, 1:]], 1)).Q
    sizes = torch.linspace(1, 0.9, channels - 1)
    low, high = torch.tensor([0.05, 1, 0.05]) / 1.1, torch.tensor([-0.05, 1, -0.05]) / 1.1
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        many = torch.einsum("y,x,ok,k,ik->oiyx", low, low, basis[:, 1:], sizes, basis[:, 1:])
        one = torch.einsum("y,x,o,i->oiyx", high, high, basis[:, 0], basis[:, 0])
        layer.weight.copy_(many + rival * one)
    return layer


@pytest.mark.parametrize("rival", [0.96, 0.98, 0.99])
def test_fast_is_the_smallest_of_four_tori(rival):
    layer, shape = two_peaks(12, rival), (12, 32, 32)
    value = upper_bound(layer, shape, "fast")
    assert value == pytest.approx(min(four_tori(layer, shape)), rel=1e-10)


@given(linear_layers(), st.integers(10, 40))  # above the largest degree that is drawn
@settings(max_examples=40, deadline=None)
def test_riesz_supremum_is_never_below_the_torus(layer, points):
    layer, shape = layer
    if isinstance(layer, nn.Conv2d):
        for conv in convolutions(layer, shape):
            conv = dataclasses.replace(conv, weight=proof.normalised(conv.weight)[0])
            if conv.weight.any():
                assert symbol.supremum(conv, points) >= symbol.norm(conv) * BELOW


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_scale_invariance(scale):
    torch.manual_seed(0)
    for layer, shape in ((nn.Linear(30, 20), (30,)), (nn.Conv2d(3, 4, 3, 2, 1), (3, 9, 9))):
        one = [upper_bound(layer.double(), shape, m) for m in ("auto", "fast")]
        with torch.no_grad():
            layer.weight *= scale
        scaled = [upper_bound(layer, shape, m) for m in ("auto", "fast")]
        assert scaled == pytest.approx([scale * v for v in one], rel=1e-12, abs=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_estimate_is_scale_invariant(scale):
    torch.manual_seed(0)
    layer = nn.Linear(30, 20).double()
    one, _ = lipschitz.estimate(layer, (30,), 200, torch.randn(1, 30, dtype=torch.float64))
    with torch.no_grad():
        layer.weight *= scale
    scaled, _ = lipschitz.estimate(layer, (30,), 200, torch.ones(1, 30, dtype=torch.float64))
    assert scaled.item() == pytest.approx(scale * one.item(), rel=1e-6, abs=0)


def test_zero_denormal_and_enormous_weights():
    for layer, shape in ((nn.Linear(3, 2), (3,)), (nn.Conv2d(1, 2, 2), (1, 3, 3))):
        with torch.no_grad():
            layer.weight.zero_()
        assert upper_bound(layer, shape) == 0.0
        with torch.no_grad():
            layer.weight[:] = 1e-42  # denormal in float32
        assert 0 < svd(layer, shape) * BELOW <= upper_bound(layer, shape)
        layer.double()
        with torch.no_grad():
            layer.weight[:] = 1e-320
        assert upper_bound(layer, shape) > 0
        with torch.no_grad():
            layer.weight[:] = 1e308
        assert upper_bound(layer, shape) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", ["auto", "fast", "tight"])
def test_weights_that_are_not_finite_are_refused_by_name(value, method):
    for layer, shape in ((nn.Linear(3, 2), (3,)), (nn.Conv2d(1, 2, 2), (1, 9, 9))):
        with torch.no_grad():
            layer.weight.flatten()[0] = value
        with pytest.raises(ValueError, match=rf"{type(layer).__name__}\): weights need"):
            upper_bound(layer, shape, method)


def test_flushing_denormals_is_refused():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        with pytest.raises(ValueError, match="set_flush_denormal"):
            upper_bound(nn.Linear(2, 2), (2,))
    finally:
        torch.set_flush_denormal(False)


def gain(layer, shape, pairs=400):
    """The largest measured gain of a layer, over random pairs, near pairs and single pixels."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(pairs, *shape, generator=generator, dtype=torch.float64)
    step = torch.randn(pairs, *shape, generator=generator, dtype=torch.float64)
    step[: pairs // 2] = 0
    step[: pairs // 2].flatten(1)[:, 0] = 0
    rows = torch.arange(pairs // 2)
    single = step[: pairs // 2].view(pairs // 2, -1)
    single[rows, rows % math.prod(shape)] = 100.0
    b = a + step
    with torch.no_grad():
        moved = (layer(b) - layer(a)).flatten(1).norm(dim=1)
    return (moved / (b - a).flatten(1).norm(dim=1)).max().item()


MEASURED = {
    "max 3x3/1": (nn.MaxPool2d(3, 1), 3.0),
    "max 3x3/2": (nn.MaxPool2d(3, 2), 2.0),
    "max 2x2/2": (nn.MaxPool2d(2, 2), 1.0),
    "max 3x2/2x1 padded": (nn.MaxPool2d((3, 2), (2, 1), (1, 1)), 2.0),
    "max dilated": (nn.MaxPool2d(3, 2, dilation=2), 3.0),
    "average 2x2/2": (nn.AvgPool2d(2), 0.5),
    "average 3x3/2 padded": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), None),
    "average 3x3/1": (nn.AvgPool2d(3, 1, 1), None),
    "average ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), None),
    "average ceil, inside": (nn.AvgPool2d((2, 3), 2, 1, True, False), None),
    "sums over 5": (nn.AvgPool2d(2, 1, divisor_override=5), None),
    "scale": (nets.Scale(-3.0, 0.5), 3.0),
    "scale per channel": (nets.Scale(torch.tensor([1.0, -2.0]).view(2, 1, 1)), 2.0),
    "minmax": (nets.MinMax(), 1.0),
    "relu": (nn.ReLU(), 1.0),
    "unshuffle": (nn.PixelUnshuffle(2), 1.0),
    "flatten": (nn.Flatten(), 1.0),
}


@pytest.mark.parametrize("name", MEASURED)
def test_measured_gain_is_within_the_bound(name):
    layer, expected = MEASURED[name]
    shape = (2, 8, 8)
    bound = upper_bound(layer, shape)
    if expected is not None:
        assert bound == pytest.approx(expected, rel=1e-12)
    assert gain(layer.double(), shape) <= bound * (1 + 1e-12)


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.integers(4, 9),
)
@settings(max_examples=60, deadline=None)
def test_average_pooling_is_the_norm_of_its_matrix(kernel, stride, padding, ceil, inside, size):
    padding = min(padding, kernel // 2)
    pool = nn.AvgPool2d(kernel, stride, padding, ceil, inside)
    unit = torch.eye(size * (size + 1), dtype=torch.float64).view(-1, 1, size, size + 1)
    true = torch.linalg.matrix_norm(pool(unit).flatten(1), 2).item()
    assert upper_bound(pool, (1, size, size + 1)) == pytest.approx(true, rel=1e-11)


def test_batch_norm_in_eval_mode():
    layer = nn.BatchNorm2d(2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -3.0]))
        layer.running_var.copy_(torch.tensor([0.25, 4.0]))
    expected = 1 / math.sqrt(0.25 + 1e-5)
    assert upper_bound(layer, (2, 4, 4)) == pytest.approx(expected, rel=1e-6)
    layer.train()
    body = nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 2))
    before = layer.running_mean.clone()
    list(lipschitz.named_layers(body, (2, 4, 4)))
    assert layer.training
    assert torch.equal(layer.running_mean, before)  # a walk moves nothing
    layer.running_var[0] = -1.0
    with pytest.raises(ValueError, match=r"BatchNorm2d.*variance positive"):
        upper_bound(layer, (2, 4, 4))
    with pytest.raises(UnknownLayer, match="without running statistics"):
        upper_bound(nn.BatchNorm2d(2, track_running_stats=False), (2, 4, 4))


@pytest.mark.parametrize("size", [4, 9])
def test_residual_block_by_its_merged_kernel(size):
    torch.manual_seed(0)
    block = nets.Residual(nn.Conv2d(2, 2, 3, padding=1, bias=False)).double()
    unit = torch.eye(2 * size * size, dtype=torch.float64).view(-1, 2, size, size)
    with torch.no_grad():
        true = torch.linalg.matrix_norm(block(unit).flatten(1), 2).item()
    branch = upper_bound(block.branch[0], (2, size, size))
    assert true * BELOW <= upper_bound(block, (2, size, size)) <= true * (1 + 1e-5) < 1 + branch
    dense = nets.Residual(nn.Linear(5, 5, bias=False)).double()
    exact = torch.linalg.matrix_norm(torch.eye(5) + dense.branch[0].weight, 2).item()
    assert upper_bound(dense, (5,)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("method", ["fast", "tight", "dense"])
def test_linear_residual_block_has_the_norm_of_its_merged_kernel(method):
    torch.manual_seed(1)
    block = nets.LinearResidual(4, 0.7)
    with torch.no_grad():
        block.gain.uniform_(-2, 2)
        block.bias.normal_()
    shape = (4, 8, 8)
    unit = torch.eye(256).view(-1, *shape)
    with torch.no_grad():
        linear = block(unit) - block(torch.zeros(1, *shape))
        plain = nn.functional.conv2d(unit, block.weight, padding=1)
        assert torch.allclose(linear, unit + 0.7 * block.gain[:, None, None] * plain, atol=1e-5)
    exact = copy.deepcopy(block).double()
    with torch.no_grad():
        matrix = exact(unit.double()) - exact(torch.zeros(1, *shape, dtype=torch.float64))
    true = torch.linalg.matrix_norm(matrix.flatten(1), 2).item()
    bound = upper_bound(block, shape, method)
    assert true * BELOW <= bound <= true * (1.02 if method == "fast" else 1 + 1e-5)
    assert gain(exact, shape) <= bound
    branch = upper_bound(conv_of(0.7 * block.gain[:, None, None, None] * block.weight), shape)
    assert bound < 1 + branch  # what a sum of two maps would get
    with torch.no_grad():
        block.gain[0] = 1e-30
    with pytest.raises(ValueError, match=r"LinearResidual.*gains need to be 0 or at least"):
        upper_bound(block, shape)
    with pytest.raises(ValueError, match="odd size, got 4"):
        nets.LinearResidual(4, 1.0, kernel=4)


def conv_of(weight):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    layer.weight = nn.Parameter(weight.detach())
    return layer


def test_power_iteration_reaches_the_bound_of_residual_blocks():
    torch.manual_seed(2)
    for layer in (nets.LinearResidual(4, 0.5), nets.Residual(nn.Conv2d(4, 4, 3, padding=1))):
        sigma, _ = lipschitz.estimate(layer, (4, 6, 6), 2000)
        bound = upper_bound(layer, (4, 6, 6))
        assert bound * (1 - 1e-3) <= sigma.item() <= bound * (1 + 1e-6)
    with pytest.raises(UnknownLayer, match="2 layers is not one linear map"):
        lipschitz.linear_map(nets.Residual(nn.ReLU(), nn.ReLU()), torch.zeros(1, 2))


def test_other_residual_sums_get_the_sound_sum():
    torch.manual_seed(0)
    block = nets.Residual(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()).double()
    branch = upper_bound(block.branch, (2, 6, 6))
    assert upper_bound(block, (2, 6, 6)) == pytest.approx(1 + branch, rel=1e-12)
    assert gain(block, (2, 6, 6)) <= 1 + branch
    with pytest.raises(UnknownLayer, match="in-place"):
        upper_bound(nets.Residual(nn.ReLU(inplace=True)), (2, 6, 6))
    with pytest.raises(ValueError, match="keep the shape"):
        nets.Residual(nn.Conv2d(2, 1, 1))(torch.zeros(1, 2, 3, 3))


class Doubled(nn.ReLU):
    def forward(self, x):
        return 2 * super().forward(x)


def with_hook():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def with_forward():
    layer = nn.ReLU()
    layer.forward = lambda x: 2 * x
    return layer


def test_a_layer_that_is_not_known_is_refused():
    with pytest.raises(UnknownLayer, match=r"\(GELU\)"):
        upper_bound(nn.GELU(), (2, 8, 8))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GELU(), r"layer '3' \(GELU\): no Lipschitz constant is known"),
        (nn.LayerNorm(8), "LayerNorm"),
        (nn.Dropout2d(), "Dropout2d"),
        (nn.Softmax(1), "Softmax"),
        (Doubled(), "Doubled"),
        (parametrizations.weight_norm(nn.Linear(8, 8)), "ParametrizedLinear"),
        (parametrizations.spectral_norm(nn.Linear(8, 8)), "ParametrizedLinear"),
        (with_hook(), r"ReLU\) has a hook"),
        (with_forward(), r"ReLU\) has a hook or a forward of its own"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (nn.Conv2d(2, 2, 3, padding="same"), "padding='same'"),
        (nn.Flatten(0), "mixes the images"),
        (nn.MaxPool2d(2, return_indices=True), "return_indices"),
    ],
)
def test_layers_that_are_not_known_are_refused_by_name(layer, message):
    with pytest.raises(UnknownLayer, match=message):
        lipschitz.layer_bound("3", layer, (2, 8, 8))


def test_a_shared_layer_counts_as_often_as_it_stands_in_the_net():
    shared = nn.Linear(4, 4)
    body = nn.Sequential(shared, shared, nn.Linear(4, 2))
    assert [name for name, _, _ in lipschitz.named_layers(body, (4,))] == ["0", "1", "2"]


def test_a_net_that_is_more_than_its_layers_is_refused():
    class Twice(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(UnknownLayer, match=r"plain nn\.Sequential, got Twice"):
        list(lipschitz.named_layers(Twice(nn.Linear(2, 2)), (2,)))


def test_unknown_methods_and_methods_that_do_not_fit():
    with pytest.raises(ValueError, match="choose one of auto, fast, tight, dense"):
        upper_bound(nn.Linear(2, 2), (2,), "exact")
    with pytest.raises(ValueError, match="does not fit a kernel"):
        upper_bound(nn.Conv2d(1, 1, 4), (1, 4, 4), "tight")
    with pytest.raises(ValueError, match="points=1 needs to exceed"):
        symbol.supremum(convolutions(nn.Conv2d(1, 1, 3), (1, 8, 8))[0], 1)


def test_the_proof_does_not_trust_its_suggestion():
    torch.manual_seed(0)
    stack = torch.randn(5, 20, 30, dtype=torch.float64)
    true = torch.linalg.matrix_norm(stack, 2).max().item()
    for wrong in (0.0, 0.25 * true**2, true**2, 9 * true**2):
        value = proof.stack_norm(stack, suggestion=wrong)
        assert value >= true * BELOW
    assert proof.stack_norm(stack) <= true * (1 + 1e-10)


def test_auto_is_the_smallest_of_the_methods_it_has_time_for():
    torch.manual_seed(0)
    layer, shape = nn.Conv2d(8, 8, 3, padding=1), (8, 24, 24)
    quick = lipschitz.layer_bound("", layer, shape, seconds=0.01)
    longer = lipschitz.layer_bound("", layer, shape, seconds=5.0)
    assert (quick.method, longer.method) == ("fast", "tight")
    assert longer.value < quick.value
