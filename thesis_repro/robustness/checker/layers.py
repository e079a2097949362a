"""The layers that the checker knows: their maps in float64, and bounds of what they do.

`upper` and `lower` bound the Lipschitz constant, `absolute` bounds the norm of |W|, `shift` that
of the bias; a result comes about by `roundings` of each term. A value on the way to it may be
`way` per unit of input, and `way_shift` without one; weights and inputs may be multiplied by
`operands` before they meet, and what counts as zero by `largest`. None of this is the certifier's.
"""

from math import prod
from typing import Any

import numpy as np

from thesis_repro.robustness.checker.bounds import LARGEST, Array, gamma, matrix_below, norm_above

Shape = tuple[int, ...]
Entry = dict[str, Any]
LARGEST_LAYER = 2**22
"""Values of one image after a layer, or in its padded input."""


class Weights:
    """The tensors of a net; remembers which of them a layer took."""

    def __init__(self, tensors: dict[str, Array]) -> None:
        self.tensors, self.used = tensors, set[str]()

    def take(self, name: str, shape: Shape | None = None) -> Array:
        """The tensor of this name, and of this shape, if one is needed."""
        found = self.find(name)
        if found is None:
            raise ValueError(f"a layer needs weight {name!r}, which the certificate does not list")
        if shape is not None and found.shape != shape:
            raise ValueError(f"weight {name!r} needs shape {shape}, got {found.shape}")
        return found

    def find(self, name: str, shape: Shape | None = None) -> Array | None:
        """The same, or None where there is none."""
        if name not in self.tensors:
            return None
        self.used.add(name)
        return self.tensors[name] if shape is None else self.take(name, shape)


class Layer:
    """A layer that selects, drops or permutes values: 1-Lipschitz, and it rounds nothing."""

    def __init__(self, entry: Entry, weights: Weights) -> None:
        self.name, self.kind, self.entry = str(entry["name"]), str(entry["type"]), entry
        self.upper = self.lower = 1.0
        self.absolute = self.shift = self.largest = self.way = self.way_shift = 0.0
        self.operands = 1.0
        self.roundings, self.outputs, self.widest = 0, 0, 0

    def __call__(self, x: Array) -> Array:
        """x (n, ...) to (n, ...)."""
        if self.kind == "MinMax":
            first, second = np.split(x, 2, axis=1)
            return np.concatenate([np.maximum(first, second), np.minimum(first, second)], 1)
        if self.kind == "ReLU":
            return np.maximum(x, 0)
        if self.kind in ("Flatten", "PixelUnshuffle"):
            return self._permute(x)
        return x

    def partial_sums(self, x: Array, y: Array) -> Array | None:
        """At least the norm of the largest partial sums of each output y (n, ...) of x: (n,).

        None for a layer whose outputs are not plain sums.
        """
        return None

    def fits(self, unit: float) -> bool:
        """Whether what is made of the weights alone keeps to the range of an arithmetic."""
        return self.operands < LARGEST[unit]

    def _permute(self, x: Array) -> Array:
        if self.kind == "Flatten":
            first, last = (int(self.entry[k]) % x.ndim for k in ("start_dim", "end_dim"))
            return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])
        n, c, height, width = x.shape
        s = self.entry["downscale_factor"]
        split = x.reshape(n, c, height // s, s, width // s, s).transpose(0, 1, 3, 5, 2, 4)
        return split.reshape(n, c * s * s, height // s, width // s)

    def measure(self, shape: Shape) -> Shape:
        """Bound the layer for inputs of `shape`; returns the shape of its output.

        Raises
        ------
        ValueError
            If the layer does not take such inputs, or would take too much memory.
        """
        try:
            after = self.check(shape)
        except ValueError as error:
            raise ValueError(f"layer {self.name!r} ({self.kind}): {error}") from None
        self.outputs, self.widest = prod(after), max(self.widest, prod(after), prod(shape))
        if not 0 < self.outputs <= LARGEST_LAYER or self.widest > LARGEST_LAYER:
            raise ValueError(
                f"layer {self.name!r} ({self.kind}) holds {self.widest:,} values of an image; "
                f"the checker takes up to {LARGEST_LAYER:,}"
            )
        self.bound(shape, after)
        return after

    def check(self, shape: Shape) -> Shape:
        """The shape of the output; nothing is allocated before it is known."""
        if self.kind == "MinMax" and shape[0] % 2:
            raise ValueError(f"needs an even number of channels, got {shape[0]}")
        if self.kind == "Flatten":
            first, last = (self.entry[k] for k in ("start_dim", "end_dim"))
            ndim = len(shape) + 1
            if not (-ndim <= first < ndim and -ndim <= last < ndim) or first % ndim < 1:
                raise ValueError(f"cannot flatten dimensions {first} to {last} of {ndim}")
            first, last = first % ndim - 1, last % ndim - 1
            if first > last:
                raise ValueError("the first dimension is behind the last")
            return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])
        if self.kind == "PixelUnshuffle":
            channels, height, width = image(shape)
            s = int(self.entry["downscale_factor"])
            if height % s or width % s:
                raise ValueError(f"the image needs sides divisible by {s}, got {height} x {width}")
            return channels * s * s, height // s, width // s
        return shape

    def bound(self, shape: Shape, after: Shape) -> None:
        """Set the bounds for inputs of `shape` and outputs of shape `after`."""


def image(shape: Shape) -> tuple[int, int, int]:
    """The shape of an image (channels, height, width), if it is one."""
    if len(shape) != 3:
        raise ValueError(f"needs images (channels, height, width), got {shape}")
    return shape[0], shape[1], shape[2]


class Linear(Layer):
    """W a + b along the last axis; UnitLinear divides the rows of W by their norms.

    Merged: (I + W) a + b, whose terms are those of W a and a; where they cancel, W + I says
    nothing of how far their sum is rounded.
    """

    def __init__(self, entry: Entry, weights: Weights, merged: bool = False) -> None:
        super().__init__(entry, weights)
        rows, columns = entry["out_features"], entry["in_features"]
        self.weight = weights.take(f"{self.name}.weight", (rows, columns))
        bias = weights.find(f"{self.name}.bias", (rows,))
        self.bias = np.zeros(rows) if bias is None else bias
        self.lost = 0
        if self.kind == "UnitLinear":
            norms = np.linalg.norm(self.weight, axis=1, keepdims=True)
            if not ((norms > 1e-12) & (norms < 1e12)).all():
                raise ValueError(f"layer {self.name!r} needs rows of norms between 1e-12 and 1e12")
            self.weight, self.lost = self.weight / norms, columns + 4
        self.sizes = np.abs(self.weight)
        if merged:
            one = np.eye(rows)
            self.weight, self.sizes, self.lost = self.weight + one, self.sizes + one, 1
        self.roundings = columns + 2 + self.lost

    def __call__(self, x: Array) -> Array:
        return np.asarray(x @ self.weight.T + self.bias)

    def partial_sums(self, x: Array, y: Array) -> Array | None:
        if self.lost:
            return None
        sizes = np.abs(x) @ self.sizes.T + np.abs(self.bias)
        return half_norms(sizes, y, self.roundings)

    def check(self, shape: Shape) -> Shape:
        if shape[-1:] != self.weight.shape[1:]:
            raise ValueError(f"takes {self.weight.shape[1]} features, got {shape}")
        return (*shape[:-1], len(self.weight))

    def bound(self, shape: Shape, after: Shape) -> None:
        slack = gamma(self.lost + 1) * float(np.linalg.norm(self.sizes)) if self.lost else 0.0
        self.upper = norm_above(self.weight) + slack
        self.lower = max(matrix_below(self.weight) - slack, 0.0)
        self.absolute = norm_above(self.sizes, 0.1) + slack
        copies = prod(after) // len(self.weight)
        self.shift = float(np.linalg.norm(self.bias)) * copies**0.5 * (1 + 1e-9) + 1e-150
        self.largest = float(self.sizes.max())


def half_norms(sizes: Array, y: Array, roundings: int) -> Array:
    """At least the norms of (sizes + |y|) / 2, from |W| |a| + |b| and W a + b as computed: (n,)."""
    half = (sizes + np.abs(y)).reshape(len(y), -1) / 2
    slack = 1 + 4 * gamma(roundings) + gamma(half.shape[1] + 2)
    return np.asarray(np.linalg.norm(half, axis=1) * slack + 1e-150)


def outputs_along(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool = False
) -> int:
    """How many windows there are along one axis."""
    room = size + 2 * padding - ((kernel - 1) * dilation + 1)
    if room < 0:
        raise ValueError(f"the kernel is larger than the padded image of {size} + 2 * {padding}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - (ceil and (count - 1) * stride >= size + padding)
