"""MinMax as one Triton kernel, for a GPU; nothing is imported or compiled before it is used.

In memory the two channels of a pair lie a fixed way apart, `inner`: half the channels of a pixel
where channels are last, half an image where they are first. So the kernel sees numbers
(outer, 2, inner) in a row, and needs no copy of either layout.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 1024
"""Pairs that one program of the kernel takes."""
FORMATS = (torch.float32, torch.bfloat16, torch.float16)
"""Formats that float32 holds exactly: pairs are compared in it."""


@cache
def _kernel() -> Any:
    """The kernel: where the first of a pair of x is not less, c and d as they lie, else swapped."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def route(x, cd, out, inner, pairs, block: tl.constexpr):  # type: ignore[no-untyped-def]
        pair = tl.program_id(0) * block + tl.arange(0, block)
        there = pair < pairs
        first = pair + (pair // inner) * inner
        a = tl.load(x + first, mask=there).to(tl.float32)
        b = tl.load(x + first + inner, mask=there).to(tl.float32)
        c = tl.load(cd + first, mask=there)
        d = tl.load(cd + first + inner, mask=there)
        tl.store(out + first, tl.where(a >= b, c, d), mask=there)
        tl.store(out + first + inner, tl.where(a >= b, d, c), mask=there)

    return route


def routed(x: Tensor, other: Tensor) -> Tensor:
    """Swap pairs of `other`, channel c and c + C/2, where x has the smaller of its pair first.

    The gradient of MinMax at x from that of its outputs; of x and x itself, the sorted pairs.

    Parameters
    ----------
    x, other : (batch, C, ...) of one shape and format, on a GPU

    Raises
    ------
    ImportError
        Where there is no Triton.
    ValueError
        For a format that float32 does not hold, or 2^31 numbers or more.
    """
    if x.dtype not in FORMATS or x.dtype != other.dtype or x.numel() >= 2**31:
        raise ValueError(
            f"the kernel takes fewer than 2^31 numbers of float32, bfloat16 or float16, got "
            f"{x.numel()} of {x.dtype} and {other.dtype}"
        )
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    x, other = x.contiguous(memory_format=layout), other.contiguous(memory_format=layout)
    out, pairs = torch.empty_like(x), x.numel() // 2
    inner = x.shape[1] // 2 if last else x[:1].numel() // 2
    if pairs:
        with torch.cuda.device_of(x):
            _kernel()[(-(-pairs // BLOCK),)](x, other, out, inner, pairs, block=BLOCK)
    return out


def sorted_halves(x: Tensor) -> Tensor:
    """The larger of each pair in the first half of the channels, the smaller in the second."""
    return routed(x, x)
