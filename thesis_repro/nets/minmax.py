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
    """The two kernels for `torch.compile`; the same selections, so the same numbers."""
    return (
        torch.compile(_sorted_halves, dynamic=True),
        torch.compile(_routed_halves, dynamic=True),
    )


@cache
def _works(device: str) -> bool:
    """Whether the kernels compile for a kind of device, and select there what the eager ones do."""
    try:
        x = torch.tensor([3.0, -1.0, 0.0, 2.0, 1.0, -1.0, 0.0, 5.0], device=device)  # ties too
        x = x.view(1, 4, 2, 1).expand(3, 4, 2, 2).contiguous()
        grad = torch.arange(x.numel(), dtype=x.dtype, device=device).view_as(x)
        ours, routed = _compiled()
        same = torch.equal(ours(x), _sorted_halves(x))
        return same and torch.equal(routed(x, grad), _routed_halves(x, grad))
    except Exception:  # any failure of the compiler tool chain means: stay eager
        return False


_kernels: tuple[Any, Any] = (_sorted_halves, _routed_halves)


@contextmanager
def fused(enabled: bool = True, device: str = "cpu") -> Iterator[bool]:
    """Within the block, MinMax runs as fused kernels where a compiler is at hand.

    The numbers are the same. The first use on a kind of device compiles there, and there alone,
    for some seconds or up to a minute: this pays for trainings of minutes. Yields whether the
    fused kernels are in use: where they do not work the block runs on the eager ones.
    """
    global _kernels
    before = _kernels
    active = enabled and _works(device.partition(":")[0])
    if active:
        _kernels = _compiled()
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
