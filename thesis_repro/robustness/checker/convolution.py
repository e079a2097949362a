"""Convolutions: their maps in float64, and bounds of their norms."""

from collections.abc import Iterator
from math import prod

import numpy as np

from thesis_repro.robustness.checker.bounds import (
    Array,
    gamma,
    norm_above,
    norm_below,
    polyphase,
    torus_above,
)
from thesis_repro.robustness.checker.layers import (
    Entry,
    Layer,
    Shape,
    Weights,
    half_norms,
    image,
    outputs_along,
)

DENSE = 2**23
"""Entries up to which a convolution is bounded as a matrix."""
LARGEST_KERNEL = 2**26
"""Entries of a kernel with its dilation filled in."""


class Convolution(Layer):
    """A convolution with zero padding; of LinearResidual the one with the merged kernel.

    A Residual sum of one convolution or one linear layer is merged as well.
    """

    def __init__(self, entry: Entry, weights: Weights, merged: bool = False) -> None:
        super().__init__(entry, weights)
        self.pad, self.step, self.dilation = (
            (int(pair[0]), int(pair[1]))
            for pair in (
                entry["padding"],
                entry.get("stride", (1, 1)),
                entry.get("dilation", (1, 1)),
            )
        )
        weight = weights.take(f"{self.name}.weight")
        if weight.ndim != 4:
            raise ValueError(f"weight '{self.name}.weight' needs 4 dimensions, got {weight.ndim}")
        if self.kind == "Conv2d":
            weight = self._ungrouped(weight)
        branch = weight
        if self.kind == "LinearResidual":
            gain = weights.take(f"{self.name}.gain", weight.shape[:1])
            gain = weights.take(f"{self.name}.scale", ()) * gain
            branch = gain[:, None, None, None] * weight
            self.operands = max(1.0, float(np.abs(gain).max()), float(np.abs(weight).max()))
        self.lost = 0.0
        self.roundings = weight[0].size + 2
        self.weight, self.sizes = branch, np.abs(branch)
        self.plain = not (merged or self.kind == "LinearResidual")
        if not self.plain:
            self._merge()
        bias = weights.find(f"{self.name}.bias", weight.shape[:1])
        self.bias = np.zeros(len(weight)) if bias is None else bias

    def _ungrouped(self, weight: Array) -> Array:
        """The weight (out, in, height, width) with zeros for what a group does not see."""
        out, inputs, groups = (self.entry[k] for k in ("out_channels", "in_channels", "groups"))
        kernel = tuple(self.entry["kernel_size"])
        if out % groups or inputs % groups or weight.shape != (out, inputs // groups, *kernel):
            raise ValueError(
                f"weight '{self.name}.weight' of {groups} groups from {inputs} to {out} channels "
                f"with kernel {kernel} has shape {weight.shape}"
            )
        if groups == 1:
            return weight
        if out * inputs * prod(kernel) > LARGEST_KERNEL:
            raise ValueError(f"layer {self.name!r}: the kernel is too large for the checker")
        full = np.zeros((out, inputs, *kernel))
        for g in range(groups):
            rows = slice(g * out // groups, (g + 1) * out // groups)
            full[rows, g * inputs // groups : (g + 1) * inputs // groups] = weight[rows]
        return full

    def _merge(self) -> None:
        """Add the identity: one more rounding of each term, and three for scale and gain."""
        out, inputs, height, width = self.weight.shape
        same = tuple(k // 2 * d for k, d in zip((height, width), self.dilation, strict=True))
        if not (height % 2 and width % 2 and out == inputs and self.pad == same):
            raise ValueError(f"layer {self.name!r} does not keep the shape")
        one = np.zeros_like(self.weight)
        one[:, :, height // 2, width // 2] = np.eye(len(one))
        self.weight, self.sizes = self.weight + one, self.sizes + one
        self.lost = gamma(4) * float(np.linalg.norm(self.sizes, axis=(0, 1)).sum())
        self.roundings += 8

    def _taps(self, after: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Per tap: its place in the kernel, and what it reads of the padded image."""
        (sh, sw), (dh, dw) = self.step, self.dilation
        for i, j in np.ndindex(*self.weight.shape[2:]):
            rows = slice(i * dh, i * dh + sh * (after[0] - 1) + 1, sh)
            yield i, j, rows, slice(j * dw, j * dw + sw * (after[1] - 1) + 1, sw)

    def __call__(self, x: Array) -> Array:
        return self.linear(x) + self.bias[:, None, None]

    def partial_sums(self, x: Array, y: Array) -> Array | None:
        if not self.plain:
            return None
        sizes = self.linear(np.abs(x), np.abs(self.weight)) + np.abs(self.bias)[:, None, None]
        return half_norms(sizes, y, self.roundings)

    def linear(self, x: Array, weight: Array | None = None) -> Array:
        """The linear part, for x (n, in, height, width); or that of another weight."""
        weight = self.weight if weight is None else weight
        n, channels, *size = x.shape
        after = tuple(outputs_along(*about) for about in self._axes(tuple(size)))
        x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in self.pad)])
        y = np.zeros((n, len(self.weight), prod(after)))
        for i, j, rows, columns in self._taps(after):
            y += weight[:, :, i, j] @ x[:, :, rows, columns].reshape(n, channels, -1)
        return y.reshape(n, -1, *after)

    def adjoint(self, y: Array, shape: Shape) -> Array:
        """The transpose of the linear part, for one output y (out, height, width)."""
        channels, height, width = shape
        (ph, pw), after = self.pad, y.shape[1:]
        x = np.zeros((channels, height + 2 * ph, width + 2 * pw))
        for i, j, rows, columns in self._taps(after):
            back = self.weight[:, :, i, j].T @ y.reshape(len(y), -1)
            x[:, rows, columns] += back.reshape(channels, *after)
        return x[:, ph : ph + height, pw : pw + width]

    def _axes(self, size: Shape) -> list[tuple[int, int, int, int, int]]:
        kernel = self.weight.shape[2:]
        about = zip(size, kernel, self.step, self.pad, self.dilation, strict=True)
        return [(n, k, s, p, d) for n, k, s, p, d in about]

    def check(self, shape: Shape) -> Shape:
        channels, *size = image(shape)
        if channels != self.weight.shape[1]:
            raise ValueError(f"takes {self.weight.shape[1]} channels, got {channels}")
        self.widest = channels * prod(n + 2 * p for n, p in zip(size, self.pad, strict=True))
        return len(self.weight), *(outputs_along(*about) for about in self._axes(tuple(size)))

    def bound(self, shape: Shape, after: Shape) -> None:
        self.shift = float(np.linalg.norm(self.bias)) * prod(after[1:]) ** 0.5 * (1 + 1e-9) + 1e-150
        self.largest = float(self.sizes.max())
        if prod(shape) * prod(after) <= DENSE:
            self.upper = norm_above(self.matrix(self.weight, shape, after))
            self.absolute = norm_above(self.matrix(self.sizes, shape, after), 0.1)
        else:
            self.upper, self.absolute = self.on_a_torus(shape)
        below = norm_below(
            lambda x: self.linear(x[None])[0], lambda y: self.adjoint(y, shape), shape, steps=30
        )
        self.upper, self.lower = self.upper + self.lost, max(below - self.lost, 0.0)

    def matrix(self, weight: Array, shape: Shape, after: Shape) -> Array:
        """The convolution as a matrix (outputs, inputs)."""
        (_, height, width), (ph, pw) = shape, self.pad
        found = np.zeros((after[0], prod(after[1:]), shape[0], height * width))
        for i, j, rows, columns in self._taps(after[1:]):
            y = np.arange(rows.start, rows.stop, rows.step) - ph
            x = np.arange(columns.start, columns.stop, columns.step) - pw
            inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
            pixels = (y[:, None] * width + x)[inside]
            found[:, np.flatnonzero(inside), :, pixels] = weight[:, :, i, j]
        return found.reshape(prod(after), prod(shape))

    def on_a_torus(self, shape: Shape) -> tuple[float, float]:
        """Bounds of ||W|| and || |W| || as a corner of a convolution on a torus."""
        out, channels, *kernel = self.weight.shape
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        if out * channels * prod(spans) > LARGEST_KERNEL:
            raise ValueError(f"layer {self.name!r}: the kernel is too large for the checker")
        full = np.zeros((2, out, channels, *spans))
        full[:, :, :, :: self.dilation[0], :: self.dilation[1]] = self.weight, self.sizes
        sizes = shape[1] + 2 * self.pad[0], shape[2] + 2 * self.pad[1]
        absolute = norm_above(polyphase(full[1], self.step).sum((0, 1)), 0.1)
        return torus_above(full[0], self.step, sizes), absolute
