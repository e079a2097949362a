"""Proven upper bounds of operator norms of matrices, in float64 with rounding accounted for.

The one idea: t**2 I - A A^T is positive definite exactly when t exceeds the norm of A, and a
Cholesky factorisation in floating point that runs to its end proves this up to a shift that is
known before it starts. Nothing else that is computed here needs to be trusted to be accurate;
an eigenvalue solver only suggests the t.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, eigsh
from torch import Tensor

UNIT = 2.0**-53
"""Half the distance from 1 to the next float64: the relative error of one operation."""

TINY = 2.0**-1000
"""Above all that underflow can add, once the largest entry is near 1."""

DENSE_SOLVE = 300
"""Up to this size the suggestion comes from a full eigenvalue solve."""


def gamma(n: float, unit: float = UNIT) -> float:
    """n u / (1 - n u): relative error of n roundings, e.g. of an inner product in any order.

    Infinite where n u >= 1. Source: Higham 2002, lemma 3.1.
    """
    return n * unit / (1 - n * unit) * (1 + 4 * UNIT) if n * unit < 1 else math.inf


def round_up(value: float, operations: int = 8) -> float:
    """At least the exact value of a sum, product or root of non-negative terms."""
    return value * (1 + 2 * (operations + 1) * UNIT)


def multiply_up(first: float, second: float) -> float:
    """At least the product of two numbers >= 0, also where it underflows."""
    if first == 0 or second == 0:
        return 0.0
    return round_up(max(first * second, TINY))


def scale_of(largest: Tensor) -> Tensor:
    """For each number >= 0 a power of two within a factor of two of it; 1 for 0, NaN or infinity.

    Dividing by it loses nothing, and then squares neither overflow nor vanish. Of float32 or
    float64 numbers; kept within the format's normal numbers, below a quarter of the largest.
    """
    bits, half, kind = (23, 127, torch.int32)
    if largest.dtype == torch.float64:
        bits, half, kind = 52, 1023, torch.int64
    sound = largest.isfinite() & (largest > 0)
    exponent = torch.frexp(largest.detach().where(sound, 1.0)).exponent.to(kind)
    exponent = exponent.clamp(2 - half, half - 2)
    return ((exponent + half) << bits).view(largest.dtype).where(sound, 1.0)


def lengths(rows: Tensor) -> Tensor:
    """The L2 norm of each row (..., n) to (...), up to gamma(n + 4), for numbers of any size."""
    if not rows.shape[-1]:
        return rows.new_zeros(rows.shape[:-1])
    scale = scale_of(rows.abs().amax(-1))
    norms: Tensor = torch.linalg.vector_norm(rows / scale[..., None], dim=-1)
    return norms * scale


def length(values: Tensor) -> float:
    """At least the L2 norm of all numbers of a tensor, in float64."""
    flat = values.detach().to("cpu", torch.float64).flatten()
    return multiply_up(float(lengths(flat)), 1 + gamma(flat.numel() + 4))


def normalised(weight: Tensor) -> tuple[Tensor, int]:
    """The weight in float64 times 2**-e, its largest entry in [1/2, 1); and e.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite, or torch flushes denormal numbers to zero.
    """
    if not (torch.tensor([2.0**-1074], dtype=torch.float64) * 1).all():
        raise ValueError("bounds need denormal numbers: call torch.set_flush_denormal(False)")
    weight = weight.detach().to("cpu", torch.float64)
    largest = weight.abs().max().item() if weight.numel() else 0.0
    if not math.isfinite(largest):
        raise ValueError("weights need to be finite, got NaN or infinity")
    exponent = math.frexp(largest)[1]
    half = exponent // 2  # two steps, so that no power of two overflows
    return weight * 2.0**-half * 2.0 ** (half - exponent), exponent


def restored(value: float, exponent: int) -> float:
    """value * 2**exponent, rounded up; infinite on overflow."""
    try:
        scaled = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return math.nextafter(scaled, math.inf) if scaled < 2.0**-1000 else scaled


def matrix_norm(matrix: Tensor) -> float:
    """At least the operator norm of a (rows, columns) matrix, by at most about 1e-9 more.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite.
    """
    scaled, exponent = normalised(matrix)
    if not scaled.any():
        return 0.0
    return restored(stack_norm(scaled[None]), exponent)


def stack_norm(stack: Tensor, error: float = 0.0, suggestion: float | None = None) -> float:
    """At least the largest operator norm of the matrices of a stack.

    Parameters
    ----------
    stack : (count, rows, columns) float64, entries of size about 1 or less
    error : Frobenius norm by which each true matrix may differ from the stacked one
    suggestion : about the largest squared norm; found here without it

    Notes
    -----
    With G the computed A A^T (of the smaller side, n), S = t**2 I - G and S = R^T R the Cholesky
    factorisation that ran to its end in floating point, the exact S is at least
    -gamma(n+1) / (1 - gamma(n+1)) trace(S), because |S - R^T R| <= gamma(n+1) |R^T| |R| and the
    columns of R have squared norms of at most S_ii / (1 - gamma(n+1)). Forming G errs by at most
    gamma(columns) times the squared Frobenius norm of A, the diagonal of S by u t**2.

    References
    ----------
    Rump 2006, "Verification of positive definiteness", theorem 2.3; Higham 2002, theorem 10.3.
    """
    if stack.shape[1] > stack.shape[2]:
        stack = stack.transpose(1, 2)
    n, width = stack.shape[1:]
    gram = stack @ stack.transpose(1, 2)
    frobenius = round_up(float(gram.diagonal(dim1=1, dim2=2).sum(1).max()), width * n)
    if suggestion is None:
        suggestion = _suggest(gram)
    forming = gamma(width) * frobenius + TINY
    for square in ladder(suggestion, frobenius, 8 * n * UNIT if n <= DENSE_SOLVE else 1e-9):
        shifted = -gram
        shifted.diagonal(dim1=1, dim2=2).add_(square)
        factor, info = torch.linalg.cholesky_ex(shifted)
        if not info.any() and bool(factor.isfinite().all()):
            return round_up(
                math.sqrt(round_up(square * (1 + n * shift(n) + UNIT) + forming)) + error
            )
    raise ArithmeticError("no bound below the Frobenius norm could be proved")


def shift(n: int) -> float:
    """Rump's constant over the largest diagonal entry, per diagonal entry: see `stack_norm`."""
    g = gamma(n + 1)
    return g / (1 - g) * (1 + 4 * UNIT) if g < 1 else math.inf


def ladder(suggestion: float, largest: float, first: float) -> list[float]:
    """Values of t**2 to try: just above the suggestion, then further off, then far too large."""
    factors = [first * 10.0**k for k in range(40) if first * 10.0**k < 0.5]
    return [suggestion * (1 + factor) + TINY for factor in factors] + [2 * largest + TINY]


def _suggest(gram: Tensor) -> float:
    n = gram.shape[-1]
    if n <= DENSE_SOLVE:
        return float(torch.linalg.eigvalsh(gram)[:, -1].max())
    start = np.random.default_rng(0).standard_normal(n)
    return max(lanczos(matrix.numpy(), start) for matrix in gram)


def lanczos(operator: Any, start: np.ndarray, tolerance: float = 1e-10) -> float:
    """About the largest eigenvalue of a symmetric positive operator; deterministic."""
    if len(start) < 20:
        return float(np.linalg.eigvalsh(operator @ np.eye(len(start)))[-1])
    try:
        found = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, maxiter=100)[0]
        return max(float(found[-1]), 0.0)
    except ArpackError:  # not converged: power iteration does for a suggestion
        for _ in range(100):
            start = operator @ (start / np.linalg.norm(start))
        return float(np.linalg.norm(start))
