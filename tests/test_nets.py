import os
import subprocess
import sys
import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from thesis_repro import nets
from thesis_repro.nets import kernels, minmax

WIDTHS = {  # input shape, features after Flatten, dense units, classes
    "2c2f": ((1, 28, 28), 1568, [100, 10]),
    "4c3f": ((1, 28, 28), 3136, [512, 512, 10]),
    "6c2f": ((3, 32, 32), 4096, [512, 10]),
    "8c2f": ((3, 64, 64), 16384, [256, 200]),
}


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("activation", nets.ACTIVATIONS)
def test_architecture_is_the_papers(name, activation):
    shape, flat, dense = WIDTHS[name]
    net = nets.build(name, activation)
    linear = [m for m in net if isinstance(m, nn.Linear)]
    assert sum(isinstance(m, nn.Conv2d) for m in net) == int(name[0])
    assert linear[0].in_features == flat
    assert [m.out_features for m in linear] == dense
    assert net(torch.rand(2, *shape)).shape == (2, dense[-1])


def test_start_is_orthogonal_and_seeded():
    first, again, other = (
        nets.cnn_2c2f(generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    weight = first[0].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(16))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_unknown_net_and_activation_name_the_choices():
    with pytest.raises(ValueError, match="2c2f, 4c3f, 6c2f, 8c2f"):
        nets.build("resnet")
    with pytest.raises(ValueError, match="minmax, relu"):
        nets.build("2c2f", "gelu")
    with pytest.raises(ValueError, match="too small"):
        nets.cnn_2c2f(in_shape=(1, 2, 2))


def test_liresnet_has_the_layers_of_the_paper():
    net = nets.build("liresnet-l6w64", generator=torch.Generator().manual_seed(0))
    blocks = [m for m in net if isinstance(m, nets.LinearResidual)]
    assert len(blocks) == 6 and all(b.scale.item() == pytest.approx(6**-0.5) for b in blocks)
    stem, neck = (m for m in net if isinstance(m, nn.Conv2d))
    assert (stem.kernel_size, stem.stride, stem.out_channels) == ((5, 5), (2, 2), 64)
    assert (neck.kernel_size, neck.stride) == ((4, 4), (4, 4))
    assert type(net[-1]) is nets.UnitLinear
    x = torch.rand(2, 3, 32, 32)
    assert net(x).shape == (2, 10)
    grey = torch.full((1, 3, 32, 32), 0.5)
    assert torch.equal(net[0](grey), torch.zeros_like(grey))
    again = nets.liresnet(6, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), net(x))


def test_unit_rows_ignore_the_size_of_the_weight():
    layer = nets.UnitLinear(5, 3)
    x = torch.rand(4, 5)
    before = layer(x)
    with torch.no_grad():
        layer.weight *= torch.tensor([[0.1], [3.0], [7.0]])
    torch.testing.assert_close(layer(x), before)
    torch.testing.assert_close(layer.rows().norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("liresnet-l0w64", "depth >= 1"),
        ("liresnet-l2w7", "even width"),
        ("liresnet-6", "liresnet-l6w64"),
    ],
)
def test_a_liresnet_that_cannot_be_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        nets.build(name)
    with pytest.raises(ValueError, match="too small"):
        nets.liresnet(1, 4, in_shape=(3, 6, 6))


@pytest.mark.parametrize("shape", [(3, 5), (2, 7, 4, 4)])
def test_odd_channels_are_refused(shape):
    with pytest.raises(ValueError, match=r"even number of channels.*got shape \("):
        nets.MinMax()(torch.zeros(shape))


@given(
    st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.integers(0, 2**31)
)
def test_minmax_sorts_pairs_and_its_gradient_is_autograds(batch, pairs, side, last, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 2 * pairs, side, side, generator=generator, dtype=torch.float64)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours = x.clone().requires_grad_()
    y = nets.MinMax()(ours)
    y.backward(upstream)
    stock = x.clone().requires_grad_()
    a, b = stock.chunk(2, 1)
    torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1).backward(upstream)
    assert torch.equal(y[:, :pairs], torch.maximum(*x.chunk(2, 1)))
    assert torch.equal(y[:, pairs:], torch.minimum(*x.chunk(2, 1)))
    assert torch.equal(ours.grad, stock.grad)
    torch.testing.assert_close(ours.grad.norm(), upstream.norm())  # a permutation


def test_minmax_keeps_the_gradient_norm_on_ties():
    x = torch.zeros(1, 4, requires_grad=True)
    nets.MinMax()(x).backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert x.grad.tolist() == [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.slow
def test_fused_kernels_give_the_same_numbers():
    x = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def run():
        leaf = x.clone().requires_grad_()
        y = nets.MinMax()(leaf)
        y.backward(upstream)
        return y.detach(), leaf.grad

    eager = run()
    with nets.fused() as active:
        fast = run()
    if not active:
        pytest.skip("no compiler tool chain here")
    assert all(torch.equal(a, b) for a, b in zip(eager, fast, strict=True))


def test_a_gradient_of_the_gradient_goes_through_the_plain_operations(monkeypatch):
    def opaque(*tensors):
        return minmax._routed_halves(*tensors).detach()

    monkeypatch.setattr(minmax, "_kernels", (minmax._sorted_halves, opaque))
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (slope,) = torch.autograd.grad((nets.MinMax()(x) ** 3).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(slope, 3 * x**2)
    torch.testing.assert_close(curve, 6 * x)


def test_minmax_of_several_nets_at_once():
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    ours = torch.vmap(nets.MinMax(), 2)(x)
    each = torch.stack([nets.MinMax()(part) for part in x.unbind(2)])
    assert torch.equal(ours, each)
    got, wanted = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, each))
    assert torch.equal(got, wanted)


INTERPRETED = """
import torch
from thesis_repro.nets import kernels, minmax

for format in kernels.FORMATS:
    for shape in ((3, 4, 5, 6), (2, 8), (700, 6, 3, 2), (0, 4, 2, 2)):
        for layout in (torch.contiguous_format, torch.channels_last)[: len(shape) // 2]:
            x, grad = (torch.randn(shape).round(decimals=1).to(format) for _ in range(2))
            x = x.contiguous(memory_format=layout)
            y, back = kernels.sorted_halves(x), kernels.routed(x, grad)
            assert torch.equal(y, minmax._sorted_halves(x)), (format, shape, layout)
            assert torch.equal(back, minmax._routed_halves(x, grad)), (format, shape, layout)
            assert y.stride() == back.stride() == x.stride()
"""


@pytest.mark.slow
def test_the_kernel_of_a_gpu_selects_what_the_plain_operations_do(root):
    """Interpreted on a CPU; ties, both layouts, a last block that is not full."""
    pytest.importorskip("triton")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", INTERPRETED], env=env, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["fp32", "bf16", "fp16"])
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(format):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = dict.fromkeys(("x", "cd", "out"), f"*{format}")
    signature |= {"inner": "i32", "pairs": "i32", "block": "constexpr"}
    source = ASTSource(kernels._kernel(), signature, {"block": kernels.BLOCK})
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.parametrize(
    ("x", "other"),
    [
        (torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)),
        (torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bfloat16)),
        (torch.zeros(1, 2, device="meta").expand(2**30, 2), torch.zeros(1, 2)),
    ],
)
def test_what_the_kernel_does_not_take_is_one_line(x, other):
    with pytest.raises(ValueError, match=r"^the kernel takes fewer than .*, got \d+ of torch\.f"):
        kernels.routed(x, other)


@pytest.mark.gpu
def test_the_kernel_of_a_gpu_is_in_use_there():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nets.fused(device="cuda") as active:
            assert active


@pytest.fixture
def unprobed():
    """No kind of device has been probed, before the test and after it."""
    minmax._works.cache_clear()
    yield
    minmax._works.cache_clear()


@pytest.mark.usefixtures("unprobed")
def test_fused_falls_back_without_a_compiler(monkeypatch):
    def broken():
        raise RuntimeError("no compiler")

    monkeypatch.setattr(minmax, "_compiled", broken)
    with nets.fused() as active:
        assert not active
        assert nets.MinMax()(torch.tensor([[1.0, 2.0]])).tolist() == [[2.0, 1.0]]


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("wrong", ["values", "gradients", None])
def test_kernels_are_probed_where_they_run_and_refused_where_they_err(monkeypatch, wrong):
    seen = []

    def kernel(eager, name):
        def run(*tensors):
            seen.extend(t.device.type for t in tensors)
            out = eager(*tensors)
            return out + 1 if wrong == name else out

        return run

    candidate = (
        kernel(minmax._sorted_halves, "values"),
        kernel(minmax._routed_halves, "gradients"),
    )
    monkeypatch.setattr(minmax, "_compiled", lambda: candidate)
    with nets.fused(enabled=False, device="cpu") as active:
        assert not active and seen == []
    with nets.fused(device="cpu") as active:
        assert active is (wrong is None)
        assert (minmax._kernels is candidate) is active
    assert minmax._kernels is not candidate
    assert set(seen) == {"cpu"}
    seen.clear()
    with (
        pytest.warns(UserWarning, match="^MinMax stays with the kernels of torch on this GPU: "),
        nets.fused(device="cuda") as active,  # there is none
    ):
        assert not active
    assert "cpu" not in seen  # and none of it on the CPU


def test_labels_do_not_depend_on_the_batch() -> None:
    net, x = nets.cnn_2c2f(generator=torch.Generator().manual_seed(0)), torch.rand(7, 1, 28, 28)
    found = nets.labels(net, x)
    assert found.shape == (7,)
    assert not found.requires_grad
    assert torch.equal(found, net(x).argmax(1))
    assert torch.equal(nets.labels(net, x, 3), found)
