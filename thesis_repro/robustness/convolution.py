"""A zero-padded convolution as a linear map, and three proven bounds of its operator norm.

dense   the finite operator as a matrix; for small ones.
fast    the symbol of a convolution on a torus that contains the finite one: module `symbol`.
tight   the finite operator by a banded Cholesky factorisation: module `banded`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_repro.robustness import banded, proof, symbol

METHODS = ("auto", "fast", "tight", "dense")
RATE = 2e10
"""Operations per second that costs are reckoned with; fixed, so that choices are the same."""
LARGEST_MATRIX = 2**23


@dataclass(frozen=True)
class Convolution:
    """One group of a convolution.

    weight : (out, in, k_h, k_w) float64 on the CPU
    stride, padding, dilation : per axis
    size : (height, width) of its input
    """

    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]

    @property
    def out_size(self) -> tuple[int, int]:
        """(height, width) of its output."""
        first, second = (
            (self.size[a] + 2 * self.padding[a] - self.dilation[a] * (self.kernel[a] - 1) - 1)
            // self.stride[a]
            + 1
            for a in (0, 1)
        )
        return first, second

    @property
    def kernel(self) -> tuple[int, int]:
        """(k_h, k_w)"""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def dimensions(self) -> tuple[int, int]:
        """Numbers of inputs and of outputs."""
        out, channels = self.weight.shape[:2]
        (h, w), (oh, ow) = self.size, self.out_size
        return channels * h * w, out * oh * ow

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to x (batch, in, height, width) float64."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)

    def matrix(self) -> Tensor:
        """(inputs, outputs); exact, since each entry is one weight times 1, or 0."""
        inputs = self.dimensions[0]
        unit = torch.eye(inputs, dtype=torch.float64)
        images = unit.view(inputs, self.weight.shape[1], *self.size)
        return torch.cat([self(part).flatten(1) for part in images.split(256)])


def norm(conv: Convolution, method: str = "auto", seconds: float = 0.5) -> tuple[float, str]:
    """At least the operator norm of a convolution, and the method that gave it.

    Parameters
    ----------
    conv : Convolution
    method : "fast", "tight", "dense", or "auto": the finite operator, by the cheaper of the last
        two, where that is reckoned to take at most `seconds`, else "fast"
    seconds : time that "auto" may take, reckoned at 2e10 operations a second

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or the method is unknown or does not fit the layer.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    scaled, exponent = proof.normalised(conv.weight)
    if not scaled.any() or 0 in conv.out_size:
        return 0.0, "zero"
    conv = replace(conv, weight=scaled)
    if method == "auto":
        method = _choice(conv, seconds)
    if method == "dense":
        value = proof.stack_norm(conv.matrix()[None])
    elif method == "tight":
        value = banded.norm(conv)
    else:
        value = symbol.norm(conv)
    return proof.restored(value, exponent), method


def _choice(conv: Convolution, seconds: float) -> str:
    """The cheaper of the two methods for the finite operator, if there is time for it."""
    inputs, outputs = conv.dimensions
    small = min(inputs, outputs)
    costs = {"tight": banded.operations(conv)}
    if inputs * outputs <= LARGEST_MATRIX:
        costs["dense"] = float(small) * (2 * inputs * outputs + small**2)
    method = min(costs, key=lambda name: costs[name])
    return method if costs[method] <= seconds * RATE else "fast"
