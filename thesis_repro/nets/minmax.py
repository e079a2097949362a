"""The MinMax activation, with a backward pass of its own and kernels that can be fused."""

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from thesis_repro.nets import kernels


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


def _for(kind: str) -> tuple[Any, Any]:
    """The two fused kernels of a kind of device: Triton's on a GPU, else compiled ones."""
    return (kernels.sorted_halves, kernels.routed) if kind == "cuda" else _compiled()


def _probes(kind: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs with ties and gradients, as the kernels of a kind of device will get them."""
    x = torch.tensor([3.0, -1.0, 0.0, 2.0, 1.0, -1.0, 0.0, 5.0], device=kind)
    x = x.view(1, 4, 2, 1).expand(3, 4, 2, 2).contiguous()
    grad = torch.arange(x.numel(), dtype=x.dtype, device=kind).view_as(x)
    if kind != "cuda":
        yield x, grad
        return
    layouts = (torch.contiguous_format, torch.channels_last)
    for layout, format in itertools.product(layouts, (torch.float32, torch.bfloat16)):
        yield x.to(format, memory_format=layout), grad.to(format, memory_format=layout)
        yield x.to(format, memory_format=layout), grad.to(format)  # as autograd may give it


@cache
def _works(kind: str) -> bool:
    """Whether the kernels compile for a kind of device, and select there what the eager ones do."""
    said = "they select other numbers"
    try:
        ours, routed = _for(kind)
        if all(
            torch.equal(ours(x), _sorted_halves(x))
            and torch.equal(routed(x, grad), _routed_halves(x, grad))
            for x, grad in _probes(kind)
        ):
            return True
    except Exception as error:  # any failure of the compiler tool chain means: stay eager
        said = str(error).strip().split("\n")[0]
    if kind == "cuda":
        warnings.warn(f"MinMax stays with the kernels of torch on this GPU: {said}", stacklevel=2)
    return False


_kernels: tuple[Any, Any] = (_sorted_halves, _routed_halves)


@contextmanager
def fused(enabled: bool = True, device: str = "cpu") -> Iterator[bool]:
    """Within the block, MinMax runs as fused kernels where a compiler is at hand.

    The numbers are the same. The first use on a kind of device compiles there, and there alone:
    on a GPU for a second, on a CPU for some or up to a minute, which pays for trainings of minutes.
    Yields whether the fused kernels are in use: where they do not work the block runs on the eager
    ones, and of a GPU that is said in a line.
    """
    global _kernels
    before = _kernels
    kind = device.partition(":")[0]
    active = enabled and _works(kind)
    if active:
        _kernels = _for(kind)
    try:
        yield active
    finally:
        _kernels = before


class _MinMaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return cast(Tensor, _kernels[0](x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this one is wanted
            return _routed_halves(x, grad)
        return cast(Tensor, _kernels[1](x, grad))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        y = _MinMaxFunction.apply(x.flatten(0, 1))
        return y.view(x.shape), 0


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

    Examples
    --------
    >>> MinMax()(torch.tensor([[3.0, 1.0, 2.0, 5.0]]))
    tensor([[3., 5., 2., 1.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] % 2:
            raise ValueError(
                f"MinMax needs an even number of channels in dimension 1, got shape "
                f"{tuple(x.shape)}"
            )
        return cast(Tensor, _MinMaxFunction.apply(x))
