"""The norm of a zero-padded convolution by a banded Cholesky factorisation.

With pixels in raster order and channels innermost, W W^T and W^T W are banded: only pixels that
share a window are coupled. That t**2 I - W W^T is positive definite is proved as in `proof`; the
factorisation costs n b**2 operations for n unknowns and half bandwidth b.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky_banded
from scipy.sparse.linalg import LinearOperator
from torch.nn import functional as F

from thesis_repro.robustness import proof
from thesis_repro.robustness.convolution import Convolution

Array = NDArray[np.float64]
Couplings = dict[tuple[int, int], tuple[NDArray[np.int64], int]]
"""By pair of taps: positions, and the offset to those that they are coupled with."""

LARGEST_BAND = 2 * 10**8
"""Entries of the band that are held at once: 1.6 GB."""


def _side(conv: Convolution) -> tuple[bool, int, tuple[int, int], tuple[int, int]]:
    """Whether the inputs are the smaller side; its channels, its size, its reach in pixels."""
    inputs, outputs = conv.dimensions
    taken = [(k - 1) * d for k, d in zip(conv.kernel, conv.dilation, strict=True)]
    if inputs <= outputs:
        return True, conv.weight.shape[1], conv.size, (taken[0], taken[1])
    reach = taken[0] // conv.stride[0], taken[1] // conv.stride[1]
    return False, conv.weight.shape[0], conv.out_size, reach


def bandwidth(conv: Convolution) -> int:
    """Half bandwidth of W^T W or W W^T, whichever is smaller."""
    _, channels, (_, width), reach = _side(conv)
    return (reach[0] * width + reach[1] + 1) * channels - 1


def operations(conv: Convolution) -> float:
    """Operations of suggestion and factorisation, infinite where the method does not fit."""
    n, b = min(conv.dimensions), bandwidth(conv)
    _, _, (_, width), reach = _side(conv)
    if 2 * reach[1] >= width or n * (b + 1) > LARGEST_BAND:
        return math.inf
    pixels = conv.out_size[0] * conv.out_size[1]
    return float(n) * b * b + 100.0 * n * b + 500.0 * conv.weight.numel() * pixels


def norm(conv: Convolution) -> float:
    """At least the norm of a convolution whose largest weight is in [1/2, 1).

    Raises
    ------
    ValueError
        If the band would not fit in memory, or the kernel spans half of the image.
    """
    if not math.isfinite(operations(conv)):
        raise ValueError(
            f"the banded proof does not fit a kernel {conv.kernel} on {conv.size} pixels with "
            f"{conv.weight.shape[1]} channels: use method='fast'"
        )
    n = min(conv.dimensions)
    taps = conv.weight.shape[2] * conv.weight.shape[3]
    suggestion = _suggest(conv)
    absolute = _absolute(conv)
    # products of slices, then at most `taps` of them added
    forming = proof.gamma(max(conv.weight.shape[:2]) + taps) * absolute + proof.TINY
    for square in proof.ladder(suggestion, absolute, 1e-5):
        band = gram(conv)
        np.negative(band, out=band)
        band[0] += square
        try:
            factor = cholesky_banded(band, overwrite_ab=True, lower=True, check_finite=False)
        except LinAlgError:
            continue
        if np.isfinite(factor[0]).all():
            total = square * (1 + n * proof.shift(n) + proof.UNIT) + forming
            return proof.round_up(math.sqrt(proof.round_up(total)))
    raise ArithmeticError("no bound could be proved")


def _absolute(conv: Convolution) -> float:
    """At least ||  |W|  ||**2: the product of the largest row sum and the largest column sum."""
    size = conv.weight.abs()
    rows = float(size.sum((1, 2, 3)).max())
    columns = float(size.sum((0, 2, 3)).max())
    return proof.round_up(rows * columns, 2 * size.numel())


def _axis(conv: Convolution, axis: int, inputs: bool) -> Couplings:
    """For each pair of taps: the positions that it couples on this axis, and how far apart."""
    size, out = conv.size[axis], conv.out_size[axis]
    stride, padding = conv.stride[axis], conv.padding[axis]
    dilation = conv.dilation[axis]
    found: Couplings = {}
    window = np.arange(out, dtype=np.int64)
    for first in range(conv.kernel[axis]):
        read = window * stride + first * dilation - padding
        for second in range(conv.kernel[axis]):
            apart = (second - first) * dilation
            if inputs:  # one window reads both pixels
                kept = (read >= 0) & (read < size) & (read + apart >= 0) & (read + apart < size)
                positions, offset = read[kept], apart
            elif apart % stride:
                continue
            else:  # one pixel is read by both windows
                offset = -apart // stride
                kept = (read >= 0) & (read < size)
                kept &= (window + offset >= 0) & (window + offset < out)
                positions = window[kept]
            if len(positions):
                found[first, second] = positions, offset
    return found


def gram(conv: Convolution) -> Array:
    """The lower band of W^T W or W W^T: entry (d, i) couples unknowns i and i + d."""
    inputs, channels, (_, width), _ = _side(conv)
    slices = conv.weight.numpy().transpose(2, 3, 0, 1)
    n, b = min(conv.dimensions), bandwidth(conv)
    band = np.zeros((b + 1, n), order="F")
    one, other = np.meshgrid(np.arange(channels), np.arange(channels), indexing="ij")
    columns_of = _axis(conv, 1, inputs)
    for (r1, r2), (rows, down) in _axis(conv, 0, inputs).items():
        for (c1, c2), (columns, right) in columns_of.items():
            distance = (down * width + right) * channels
            if distance < 0:
                continue
            k1, k2 = slices[r1, c1], slices[r2, c2]
            block = k1.T @ k2 if inputs else k1 @ k2.T  # (channel here, channel there)
            pixels = (rows[:, None] * width + columns[None]).ravel() * channels
            below = distance + other - one
            mask = below >= 0
            # unknown `pixel + one` is coupled with the unknown `below` places further on
            band[below[mask][None], pixels[:, None] + one[mask][None]] += block[mask][None]
    return band


def _suggest(conv: Convolution) -> float:
    inputs = conv.dimensions[0]
    shape = (1, conv.weight.shape[1], *conv.size)
    rest = [
        (conv.size[a] + 2 * conv.padding[a] - conv.dilation[a] * (conv.kernel[a] - 1) - 1)
        % conv.stride[a]
        for a in (0, 1)
    ]

    def apply(vector: Array) -> Array:
        y = conv(torch.from_numpy(np.ascontiguousarray(vector)).view(shape))
        back = F.conv_transpose2d(
            y, conv.weight, None, conv.stride, conv.padding, rest, 1, conv.dilation
        )
        return back.flatten().numpy()

    operator = LinearOperator((inputs, inputs), matvec=apply, dtype=np.float64)
    return proof.lanczos(operator, np.random.default_rng(0).standard_normal(inputs), 1e-5)
