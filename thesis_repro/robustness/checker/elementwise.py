"""Pooling, and maps that scale each value: in float64, with bounds of their constants."""

from math import prod

import numpy as np

from thesis_repro.robustness.checker.bounds import TINY, Array, U, matrix_below, norm_above
from thesis_repro.robustness.checker.layers import (
    Entry,
    Layer,
    Shape,
    Weights,
    image,
    outputs_along,
)


class Pool(Layer):
    """What the two kinds of pooling share: their windows along an axis."""

    def window(self, axis: int) -> tuple[int, int, int]:
        """Kernel, stride and padding along an axis."""
        kernel, stride, padding = (self.entry[k] for k in ("kernel_size", "stride", "padding"))
        return kernel[axis], stride[axis], padding[axis]

    def axis(self, size: int, axis: int) -> int:
        """How many windows begin along an axis of this size."""
        kernel, stride, padding = (
            self.entry[k][axis] for k in ("kernel_size", "stride", "padding")
        )
        dilation = self.entry["dilation"][axis] if "dilation" in self.entry else 1
        if 2 * padding > kernel or kernel > size + padding:
            raise ValueError(f"a window of {kernel} with padding {padding} does not fit {size}")
        return outputs_along(size, kernel, stride, padding, dilation, self.entry["ceil_mode"])

    def check(self, shape: Shape) -> Shape:
        channels, *size = image(shape)
        pads = zip(size, self.entry["padding"], self.entry["stride"], strict=True)
        self.widest = channels * prod(n + 2 * p + s for n, p, s in pads)
        return channels, self.axis(size[0], 0), self.axis(size[1], 1)


class MaxPool2d(Pool):
    """Maxima. Of a pixel in m windows the norm is sqrt(m) at most: it can be the maximum of all.

    |max a - max b| <= ||a - b|| in each window, and the squares add up over the windows.
    """

    def _reads(self, axis: int, count: int) -> list[slice]:
        stride = self.entry["stride"][axis]
        taps = range(self.entry["kernel_size"][axis])
        firsts = [tap * self.entry["dilation"][axis] for tap in taps]
        return [slice(f, f + stride * (count - 1) + 1, stride) for f in firsts]

    def __call__(self, x: Array) -> Array:
        size = x.shape[2:]
        counts = [self.axis(n, axis) for axis, n in enumerate(size)]
        reads = [self._reads(axis, count) for axis, count in enumerate(counts)]
        pads = [
            (p, max(reads[axis][-1].stop - size[axis] - p, 0))
            for axis, p in enumerate(self.entry["padding"])
        ]
        x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=-np.inf)
        y = np.full((*x.shape[:2], *counts), -np.inf)
        for rows in reads[0]:
            for columns in reads[1]:
                np.maximum(y, x[:, :, rows, columns], out=y)
        return y

    def bound(self, shape: Shape, after: Shape) -> None:
        windows = 1
        for axis, (size, count) in enumerate(zip(shape[1:], after[1:], strict=True)):
            reads, first = self._reads(axis, count), self.entry["padding"][axis]
            seen = np.zeros(max(reads[-1].stop, first + size), int)
            for read in reads:
                seen[read] += 1
            windows *= int(seen[first : first + size].max())
        self.upper = self.lower = float(np.sqrt(windows))
        self.upper *= 1 + 1e-15


class AvgPool2d(Pool):
    """Averages: one matrix along each axis, whose norms multiply."""

    def _matrix(self, size: int, axis: int) -> Array:
        kernel, stride, padding = (
            self.entry[k][axis] for k in ("kernel_size", "stride", "padding")
        )
        found = np.zeros((self.axis(size, axis), size))
        for row, window in enumerate(found):
            first, last = (
                row * stride - padding,
                min(row * stride - padding + kernel, size + padding),
            )
            window[max(first, 0) : last] = 1.0
            counted = last - first if self.entry["count_include_pad"] else window.sum()
            if self.entry["divisor_override"] is None:
                window /= counted
        return found

    def __call__(self, x: Array) -> Array:
        tall, wide = (self._matrix(n, axis) for axis, n in enumerate(x.shape[2:]))
        return np.asarray(tall @ x @ wide.T / (self.entry["divisor_override"] or 1))

    def bound(self, shape: Shape, after: Shape) -> None:
        factors = [self._matrix(n, axis) for axis, n in enumerate(shape[1:])]
        divisor = self.entry["divisor_override"] or 1
        self.upper = float(np.prod([norm_above(f) for f in factors])) / divisor * (1 + 1e-12)
        self.lower = float(np.prod([matrix_below(f) for f in factors])) / divisor * (1 - 1e-12)
        self.absolute, self.largest = self.upper, 1.0
        self.way = prod(self.entry["kernel_size"]) ** 0.5 * (1 + 1e-12)  # not divided yet
        self.roundings = prod(self.entry["kernel_size"]) + 6


class Scaling(Layer):
    """factor * a + offset, for each value or channel."""

    factor: Array
    offset: Array
    moved: Array

    def __call__(self, x: Array) -> Array:
        return x * self.factor + self.offset

    def check(self, shape: Shape) -> Shape:
        if np.broadcast_shapes(shape, self.factor.shape, self.offset.shape) != shape:
            raise ValueError(f"its factors do not fit one input of shape {shape}")
        return shape

    def bound(self, shape: Shape, after: Shape) -> None:
        largest = float(np.abs(self.factor).max())
        self.upper = self.absolute = largest * (1 + 1e-12)
        self.largest += self.upper
        self.lower = largest * (1 - 1e-12)
        self.shift = float(np.linalg.norm(np.broadcast_to(self.moved, shape))) * (1 + 1e-9) + 1e-150
        self.roundings = 16


class Scale(Scaling):
    """A fixed factor and offset."""

    def __init__(self, entry: Entry, weights: Weights) -> None:
        super().__init__(entry, weights)
        self.factor = weights.take(f"{self.name}.factor")
        self.offset = weights.take(f"{self.name}.offset")
        self.moved = np.abs(self.offset)


class BatchNorm(Scaling):
    """In eval mode: gain (a - mean) / sqrt(variance + eps) + bias, per channel."""

    def __init__(self, entry: Entry, weights: Weights) -> None:
        super().__init__(entry, weights)
        channels = (int(entry["num_features"]),)
        mean = weights.take(f"{self.name}.running_mean", channels)
        variance = weights.take(f"{self.name}.running_var", channels)
        gain = weights.find(f"{self.name}.weight", channels)
        bias = weights.find(f"{self.name}.bias", channels)
        weights.find(f"{self.name}.num_batches_tracked", ())
        self.variance, self.eps = variance, float(entry["eps"])
        if not (variance + self.eps > 0).all():
            raise ValueError(f"layer {self.name!r} needs positive variances")
        inverse = 1 / np.sqrt(variance + self.eps)
        gain = np.ones(channels) if gain is None else gain
        factor = gain * inverse
        # gain, inverse and a - mean may meet in any order
        over, away = float(inverse.max()) * (1 + 1e-12), float(np.abs(mean).max())
        self.operands, self.way = 1 + over, max(1.0, over)
        self.away = self.way * away
        self.largest = float(np.abs(gain).max()) + (1 + over) * (1 + away)
        bias = np.zeros(channels) if bias is None else bias
        self.factor, self.offset = factor, bias - factor * mean
        self.moved = np.abs(factor * mean) + np.abs(bias)

    def fits(self, unit: float) -> bool:
        tiny = TINY[unit]
        eps = self.eps if unit == U else float(np.float32(self.eps))
        least = np.full(len(self.variance), tiny)
        # what is below the normal numbers may count as zero, and then has to be next to nothing
        least[((self.variance > 0) & (self.variance < tiny)) | (0 < eps < tiny)] *= 2.0**60
        return super().fits(unit) and bool((self.variance + eps >= least).all())

    def bound(self, shape: Shape, after: Shape) -> None:
        super().bound(shape, after)
        self.way_shift = self.away * prod(shape) ** 0.5

    def check(self, shape: Shape) -> Shape:
        if shape[0] != len(self.factor) or len(shape) > 3:
            raise ValueError(f"takes {len(self.factor)} channels, got {shape}")
        if self.factor.ndim == 1:
            ones = (-1, *(1 for _ in shape[1:]))
            self.factor, self.offset, self.moved = (
                value.reshape(ones) for value in (self.factor, self.offset, self.moved)
            )
        return shape
