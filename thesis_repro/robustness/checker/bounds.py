"""Bounds of operator norms from above and from below, in float64, by other means than proofs.

From above: Gram iteration with its rounding carried along. From below: the gain of one vector.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Stack = NDArray[np.float64] | NDArray[np.complex128]
U = 2.0**-53
TINY = {2.0**-24: 2.0**-126, U: 2.0**-1022}
"""The smallest normal number of a format, by its unit of rounding."""
LARGEST = {2.0**-24: 2.0**126, U: 2.0**1022}
"""No format overflows below this."""

CHUNK = 2**22
"""Entries of a stack of symbols that are held at once."""


def gamma(n: float, unit: float = U) -> float:
    """Relative error of n roundings."""
    return 1.01 * n * unit if n * unit < 0.009 else np.inf


def norm_above(stack: Stack, slack: float = 3e-4) -> float:
    """At least the largest spectral norm of stack (..., rows, columns), by Gram iteration.

    ||G||**2 = ||G G|| for symmetric G. The last Frobenius norm bounds the last product; going
    back, each step adds what forming that product may have lost, gamma(n) ||G||_F**2. After s
    squarings the bound is at most n**(2**-(s+1)) times the norm; s is chosen so that this is
    about 1 + slack.
    """
    if stack.shape[-2] > stack.shape[-1]:
        stack = np.swapaxes(stack, -1, -2)
    size = float(np.abs(stack).max())
    if size == 0:
        return 0.0
    stack = stack / size
    gram = stack @ np.conj(np.swapaxes(stack, -1, -2))
    n, width = stack.shape[-2:]
    forming = gamma(8 * (width + 2)) * _frobenius(stack) ** 2
    sizes = []
    for _ in range(int(np.ceil(np.log2(max(np.log(n) / slack, 2))))):
        sizes.append(_frobenius(gram))
        safe = np.where(sizes[-1] > 0, sizes[-1], 1.0)
        gram = gram / safe[..., None, None]
        gram = gram @ gram
    bound: Array = _frobenius(gram)
    for before in reversed(sizes):
        bound = before * np.sqrt(bound + gamma(8 * (n + 2))) * (1 + 1e-15)
    return float(np.sqrt(bound + forming).max() * size * (1 + 1e-12))


def _frobenius(stack: Stack) -> Array:
    norm = np.linalg.norm(stack, axis=(-2, -1)) * (1 + gamma(stack.shape[-1] * stack.shape[-2]))
    return np.asarray(norm)


def norm_below(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    shape: tuple[int, ...],
    steps: int = 100,
) -> float:
    """At most the norm of a linear map for inputs of `shape`: the gain of one vector."""
    vector: Array = np.asarray(np.random.default_rng(7).standard_normal(shape))
    for _ in range(steps):
        vector = adjoint(forward(vector / np.linalg.norm(vector)))
        size = float(np.abs(vector).max())
        if not 0 < size < np.inf:
            return 0.0
        vector = vector / size
    gain = float(np.linalg.norm(forward(vector)) / np.linalg.norm(vector)) * (1 - 1e-9)
    return gain if gain < np.inf else 0.0


def matrix_below(matrix: Array, steps: int = 100) -> float:
    """At most the spectral norm of a matrix (rows, columns)."""
    size = float(np.abs(matrix).max()) if matrix.size else 0.0
    if size == 0:
        return 0.0
    scaled = matrix / size
    columns = (matrix.shape[1],)
    return size * norm_below(lambda v: scaled @ v, lambda v: scaled.T @ v, columns, steps)


def torus_above(kernel: Array, stride: tuple[int, int], sizes: tuple[int, int]) -> float:
    """At least the norm of a convolution of images that have `sizes` with their padding.

    A valid convolution of an image is a corner of the one on a torus that the image fits on, and
    that one is block diagonal: for each frequency the sum of the taps (out, in stride**2), turned.

    Parameters
    ----------
    kernel : (out, in, height, width), with zeros between dilated taps
    """
    taps = polyphase(kernel, stride)
    tall, wide, out, width = taps.shape
    grid = [-(-size // s) for size, s in zip(sizes, stride, strict=True)]
    flat = taps.reshape(tall * wide, -1)
    # the symbol at -f is the conjugate of that at f
    along, across = np.divmod(np.arange((grid[0] // 2 + 1) * grid[1]), grid[1])
    rows, columns = np.divmod(np.arange(tall * wide), wide)
    upper, step = 0.0, max(1, CHUNK // flat.shape[1])
    for start in range(0, len(along), step):
        part = slice(start, start + step)
        turns = np.outer(along[part], rows) % grid[0] / grid[0]
        turns = turns + np.outer(across[part], columns) % grid[1] / grid[1]
        symbol = np.exp(2j * np.pi * turns) @ flat
        upper = max(upper, norm_above(symbol.reshape(-1, out, width), 2e-3))
    # each turn errs by 1e-14 or less, each sum by gamma
    lost = (1e-14 + gamma(4 * len(flat) + 8)) * float(np.linalg.norm(np.abs(flat).sum(0)))
    return (upper + lost) * (1 + 1e-12)


def polyphase(kernel: Array, stride: tuple[int, int]) -> Array:
    """The taps of a strided convolution as one of stride 1: (tall, wide, out, in s s)."""
    out, channels, height, width = kernel.shape
    (sh, sw), tall, wide = stride, -(-height // stride[0]), -(-width // stride[1])
    full = np.zeros((out, channels, tall * sh, wide * sw))
    full[:, :, :height, :width] = kernel
    split = full.reshape(out, channels, tall, sh, wide, sw).transpose(2, 4, 0, 1, 3, 5)
    return split.reshape(tall, wide, out, -1)
