r"""The norm of a zero-padded convolution from the symbol of one on a torus.

Let q be the kernel size in steps of the stride (the s x s phases of the input are moved into the
channels, so that the stride is 1), and put the image into one corner of a torus of n pixels. If n
is large enough that no kept output reads an input around the torus, the zero-padded operator W is
a corner P C Q of the operator C on the torus, so that ||W|| <= ||C||. C is block diagonal in the
Fourier basis; its blocks are

    A(w) = sum over m of K_m exp(i m . w),     w = (2 pi k + theta) / n, k = 0 ... n-1 per axis,

with K_m the (out x in) slices of the kernel, so that ||C|| = max over the grid of sigma_max(A(w)).
The angle theta is free: a path around the torus may pick up any phase, for W has no such path.
So every theta gives a valid bound, and the smallest of several is taken: for a smooth kernel theta
= pi keeps the peak at w = 0 between two grid points, as the finite operator does.

The supremum over all w bounds W as well, for images of any size; it is what a fine grid and
Riesz's lemma give (`supremum`). A grid of the torus is never above it and needs fewer points.
"""

import math

import torch
from torch import Tensor

from thesis_repro.robustness import proof
from thesis_repro.robustness.convolution import Convolution

TWISTS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Angles theta per axis, in half turns; kernels are real, so half of each grid is enough."""

CHUNK = 2**22
"""Entries of a stack of matrices that is worked on at once."""


def norm(conv: Convolution) -> float:
    """At least the operator norm of a convolution whose largest weight is in [1/2, 1).

    Proved is the torus whose largest block seems least; which it is decides how tight the bound
    is, not whether it is one.
    """
    phases, reach = polyphase(conv)
    points = torus(conv, reach)
    grids = [frequencies(points, twist) for twist in TWISTS]
    if phases.shape[:2] == (1, 1):  # no frequency matters
        grids = [grids[0][:1]]
    stacks = [_Stack(phases, grid, points) for grid in grids]
    suggestions = [stack.suggestion() for stack in stacks]
    suggestion, stack = min(zip(suggestions, stacks, strict=True), key=lambda found: found[0])
    return stack.prove(suggestion)


def supremum(conv: Convolution, points: int = 64) -> float:
    """At least the norm of the convolution on the infinite grid, for every size of image.

    By M. Riesz's lemma a trigonometric polynomial T >= 0 of degree d with its maximum M at x is at
    least M cos(d (t - x) / 2)**2 for |t - x| <= pi / d. For each unit vector v, |A(w) v|**2 is one
    of degree q - 1 in each variable, and no w is further than pi / n from a grid point.

    Raises
    ------
    ValueError
        If `points` per axis do not exceed the degree.
    """
    phases, _ = polyphase(conv)
    degrees = phases.shape[0] - 1, phases.shape[1] - 1
    if points <= max(degrees):
        raise ValueError(f"points={points} needs to exceed the degree {max(degrees)}")
    grid = frequencies((points, points), (0, 0))
    stack = _Stack(phases, grid, (points, points))
    value = stack.prove(stack.suggestion())
    # cosines with their rounding, downwards
    loss = [math.cos(math.pi * d / (2 * points)) * (1 - 1e-14) for d in degrees]
    return proof.round_up(value / (loss[0] * loss[1]))


def polyphase(conv: Convolution) -> tuple[Tensor, tuple[int, int]]:
    """The kernel with the stride moved into the channels, and its reach per axis.

    Returns
    -------
    phases : (q_h, q_w, out, in * s_h * s_w)
    reach : (q_h - 1, q_w - 1)
    """
    out, channels, *kernel = conv.weight.shape
    reach = [(k - 1) * d // s for k, d, s in zip(kernel, conv.dilation, conv.stride, strict=True)]
    (dh, dw), (sh, sw) = conv.dilation, conv.stride
    full = torch.zeros(out, channels, (reach[0] + 1) * sh, (reach[1] + 1) * sw, dtype=torch.float64)
    full[:, :, : (kernel[0] - 1) * dh + 1 : dh, : (kernel[1] - 1) * dw + 1 : dw] = conv.weight
    split = full.view(out, channels, reach[0] + 1, sh, reach[1] + 1, sw)
    phases = split.permute(2, 4, 0, 1, 3, 5).reshape(reach[0] + 1, reach[1] + 1, out, -1)
    return phases, (reach[0], reach[1])


def torus(conv: Convolution, reach: tuple[int, int]) -> tuple[int, int]:
    """The smallest torus on which no kept output reads an input around it.

    In steps of the stride, inputs sit at p // s ... (H - 1 + p) // s, and output o reads o ...
    o + reach for o = 0 ... H_out - 1; neither may meet the other one turn later.
    """
    first, second = (
        max(
            (conv.size[a] - 1 + conv.padding[a]) // conv.stride[a] + 1,
            reach[a] + conv.out_size[a] - conv.padding[a] // conv.stride[a],
        )
        for a in (0, 1)
    )
    return first, second


def frequencies(points: tuple[int, int], twist: tuple[int, int]) -> Tensor:
    """(count, 2) int64: numbers of half steps pi / n; one of each pair w, -w."""
    axes = [2 * torch.arange(n) + t for n, t in zip(points, twist, strict=True)]
    grid = torch.cartesian_prod(*axes)
    opposite = torch.stack([-grid[:, a] % (2 * points[a]) for a in (0, 1)], 1)
    rank, other = (g[:, 0] * 2 * points[1] + g[:, 1] for g in (grid, opposite))
    return grid[rank <= other]


class _Stack:
    """The matrices A(w) of a grid, as real matrices of twice the size, with their error."""

    def __init__(self, phases: Tensor, grid: Tensor, points: tuple[int, int]) -> None:
        if phases.shape[2] > phases.shape[3]:
            phases = phases.transpose(2, 3)
        self.phases, self.grid, self.points = phases, grid, points

    def blocks(self, rows: Tensor) -> Tensor:
        """(len(rows), out, in) complex128 at some of the frequencies."""
        waves = []
        for axis in (0, 1):
            n = self.points[axis]
            # whole numbers modulo 2 n, so that the angle stays below 2 pi and its error below 20 u
            turns = torch.outer(rows[:, axis], torch.arange(self.phases.shape[axis])) % (2 * n)
            angle = turns.double() * (math.pi / n)
            waves.append(torch.complex(angle.cos(), angle.sin()))
        both = (waves[0][:, :, None] * waves[1][:, None, :]).flatten(1)
        flat = self.phases.flatten(0, 1).flatten(1)
        real, imaginary = both.real.contiguous() @ flat, both.imag.contiguous() @ flat
        return torch.complex(real, imaginary).view(len(rows), *self.phases.shape[2:])

    @property
    def error(self) -> float:
        """Frobenius norm of the rounding of one block, real and imaginary part together.

        Each wave errs by at most 24 u, a product of two by at most 56 u in modulus; the sum over
        taps by gamma(taps) in each part.
        """
        taps = self.phases.shape[0] * self.phases.shape[1]
        size = float(self.phases.abs().sum((0, 1)).norm())
        return (
            proof.round_up((60 * proof.UNIT + 2 * proof.gamma(taps)) * size, 4 * taps + 64) * 1.01
        )

    def chunks(self) -> list[Tensor]:
        """The grid in parts of bounded memory."""
        entries = 4 * self.phases.shape[2] * self.phases.shape[3]
        return list(self.grid.split(max(1, CHUNK // entries)))

    def suggestion(self) -> float:
        """About the largest squared norm of a block, from the eigenvalues of every one.

        The largest of a few by power iteration is not enough: nearly equal singular values slow
        it down just where the symbol is largest, and a proof that starts too low ends percents
        too high.
        """
        found = 0.0
        for rows in self.chunks():
            blocks = self.blocks(rows)
            found = max(found, float(torch.linalg.eigvalsh(blocks @ blocks.mH)[:, -1].max()))
        return found

    def prove(self, suggestion: float) -> float:
        """At least the largest norm of the exact blocks; the suggestion is not trusted."""
        return max(
            proof.stack_norm(_real(self.blocks(rows)), self.error, suggestion)
            for rows in self.chunks()
        )


def _real(blocks: Tensor) -> Tensor:
    """[[Re, -Im], [Im, Re]]: the same norm, in real arithmetic."""
    above = torch.cat([blocks.real, -blocks.imag], 2)
    return torch.cat([above, torch.cat([blocks.imag, blocks.real], 2)], 1)
