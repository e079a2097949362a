"""The MinMax activation, with a backward pass of its own and kernels that can be fused."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn


def _sorted_halves(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 1)


def _routed_halves(x: Tensor, grad: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    to_max, to_min = grad.chunk(2, 1)
    kept = first >= second
    return torch.cat([torch.where(kept, to_max, to_min), torch.where(kept, to_min, to_max)], 1)


@cache
def _compiled() -> tuple[Any, Any]:
    """The two kernels, fused by the C++ back end; the same selections, so the same numbers."""
    return (
        torch.compile(_sorted_halves, dynamic=True),
        torch.compile(_routed_halves, dynamic=True),
    )


_kernels: tuple[Any, Any] = (_sorted_halves, _routed_halves)


@contextmanager
def fused(enabled: bool = True) -> Iterator[bool]:
    """Within the block, MinMax runs as fused kernels where a compiler is at hand.

    The numbers are the same; the first use compiles for some seconds, so this pays for trainings
    of minutes. Yields whether the fused kernels are in use: without a working compiler the block
    runs on the eager kernels.
    """
    global _kernels
    before = _kernels
    active = False
    if enabled:
        try:
            candidate = _compiled()
            probe = torch.zeros(2, 4)
            candidate[1](probe, candidate[0](probe))
            _kernels, active = candidate, True
        except Exception:  # any failure of the compiler tool chain means: stay eager
            active = False
    try:
        yield active
    finally:
        _kernels = before


class _MinMaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return cast(Tensor, _kernels[0](x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cast(Tensor, _kernels[1](x, grad))


class MinMax(nn.Module):
    """Sort channel c against channel c + C/2: the maxima first, the minima second.

    The map permutes its inputs at every point, so it is 1-Lipschitz and keeps the norm of
    gradients. Its backward pass routes each gradient to the input that was selected; on a tie the
    first input counts as the larger one.

    Shapes: ``(batch, C, ...)`` to the same; C must be even.

    Raises
    ------
    ValueError
        If C is odd.

    References
    ----------
    Anil, Lucas and Grosse 2019, section 4 (GroupSort with groups of two).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] % 2:
            raise ValueError(
                f"MinMax needs an even number of channels in dimension 1, got shape "
                f"{tuple(x.shape)}"
            )
        return cast(Tensor, _MinMaxFunction.apply(x))
