"""Convolutions by shifted products, against torch's in float64."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

from thesis_repro import nets
from thesis_repro.robustness import products, proof
from thesis_repro.robustness.arithmetic import UNITS

small = st.integers(1, 3)
pairs = st.tuples(small, small)


@given(
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pairs,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    pairs,
    small,
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_each_output_is_within_gamma_of_the_sum_of_its_terms(
    dtype, n, size, kernel, stride, padding, dilation, groups, biased, last, seed
):
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2 * groups, *size, generator=generator, dtype=dtype)
    x = x.to(memory_format=torch.channels_last) if last else x
    weight = torch.randn(3 * groups, 2, *kernel, generator=generator, dtype=dtype)
    bias = torch.randn(3 * groups, generator=generator, dtype=dtype) if biased else None
    about = stride, padding, dilation, groups
    if any(side + 2 * p <= r for side, p, r in zip(size, padding, reach, strict=True)):
        with pytest.raises(ValueError, match="is larger than images of"):
            products.convolve(x, weight, bias, *about)
        return
    found = products.convolve(x, weight, bias, *about)
    x, weight = x.double(), weight.double()
    exact = F.conv2d(x, weight, None if bias is None else bias.double(), *about)
    absolute = F.conv2d(
        x.abs(), weight.abs(), None if bias is None else bias.abs().double(), *about
    )
    assert found.shape == exact.shape and found.dtype == dtype
    terms = weight[0].numel() + 1
    off = proof.gamma(terms, UNITS[dtype]) + 2 * proof.gamma(terms)
    assert ((found - exact).abs() <= off * absolute + 1e-300).all()


def test_layers_within_layers_go_by_products_as_well():
    torch.manual_seed(0)
    seen = []

    def counted(*given):
        seen.append(given[1].shape)
        return products.convolve(*given)

    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, "valid", groups=2),
        nets.LinearResidual(4, 0.5),
        nets.Residual(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=2, dilation=2), nets.MinMax()),
        nn.Flatten(),
        nn.Linear(54, 3),
    ).double()
    x = torch.rand(5, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(products.through(body, x, counted), body(x))
    assert len(seen) == 5
