"""Convolutions as matrix products: each output is a plain sum of products, whatever a library does.

The images lie channels-last, padded, and flattened to rows of pixels. One tap of the kernel then
is a product of a (channels, outputs) matrix with the same rows, shifted; the taps are added up. A
stride splits rows and columns into phases, each of which is an image of its own. What is computed
beyond the edges of the output is left out at the end, and nothing is copied for a tap.
"""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, Residual, Sum
from thesis_repro.robustness.arithmetic import evaluated
from thesis_repro.robustness.layers import padding_of

Pair = tuple[int, int]
Convolving = Callable[..., Tensor]


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve as `torch.nn.functional.conv2d` does, zero padding included.

    Parameters
    ----------
    x : (n, in, height, width)
    weight : (out, in / groups, kernel height, kernel width)

    Returns
    -------
    Tensor
        (n, out, ...), channels-last in memory; each entry is within gamma(terms) times the sum of
        the absolute values of its terms, in any order of additions (Higham 2002, section 3.1).

    Raises
    ------
    ValueError
        If the kernel is larger than the padded image.
    """
    (n, _, *sides), (out, inside, *kernel) = x.shape, weight.shape
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padded = [side + 2 * p for side, p in zip(sides, padding, strict=True)]
    if any(size <= r for size, r in zip(padded, reach, strict=True)):
        raise ValueError(f"a kernel that reaches {reach} is larger than images of {padded}")
    size = [(all_ - r - 1) // s + 1 for all_, r, s in zip(padded, reach, stride, strict=True)]
    grid = [-(-all_ // s) for all_, s in zip(padded, stride, strict=True)]
    phases = _phases(x, stride, padding, grid)
    offset = (reach[0] // stride[0]) * grid[1] + reach[1] // stride[1]
    rows, per = n * grid[0] * grid[1] - offset, out // groups
    found = x.new_zeros(rows + offset, out)
    if bias is not None:
        found += bias
    taps = weight.permute(2, 3, 1, 0)  # (kernel height, kernel width, in / groups, out)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            down, right = i * dilation[0], j * dilation[1]
            phase = phases[down % stride[0]][right % stride[1]]
            start = (down // stride[0]) * grid[1] + right // stride[1]
            for group in range(groups):
                into = found[:rows, group * per : (group + 1) * per]
                pixels = phase[start : start + rows, group * inside : (group + 1) * inside]
                into.addmm_(pixels, taps[i, j, :, group * per : (group + 1) * per])
    return found.view(n, *grid, out)[:, : size[0], : size[1]].permute(0, 3, 1, 2)


def _phases(x: Tensor, stride: Pair, padding: Pair, grid: list[int]) -> list[list[Tensor]]:
    """By row and column within a stride: its pixels (n grid[0] grid[1], channels)."""
    height, width = (g * s for g, s in zip(grid, stride, strict=True))
    down, right = padding
    last = x.new_zeros(len(x), height, width, x.shape[1])
    last[:, down : down + x.shape[2], right : right + x.shape[3]] = x.permute(0, 2, 3, 1)
    return [
        [last[:, i :: stride[0], j :: stride[1]].reshape(-1, x.shape[1]) for j in range(stride[1])]
        for i in range(stride[0])
    ]


def through(layer: nn.Module, x: Tensor, convolving: Convolving = convolve) -> Tensor:
    """What a layer makes of x in eval mode, its convolutions and those inside it by products.

    convolving : (x, weight, bias, stride, padding, dilation, groups), as :func:`convolve`
    """
    with evaluated(layer):
        return _through(layer, x, convolving)


def _through(layer: nn.Module, x: Tensor, convolving: Convolving) -> Tensor:
    if type(layer) is nn.Conv2d:
        about = layer.stride, padding_of(layer), layer.dilation
        return convolving(x, layer.weight, layer.bias, *about, layer.groups)
    if type(layer) is LinearResidual:
        side = (layer.padding, layer.padding)
        return convolving(x, layer.merged(), layer.bias, (1, 1), side, (1, 1), 1)
    if type(layer) is nn.Sequential:
        for part in layer:
            x = _through(part, x, convolving)
        return x
    if type(layer) is Residual:
        return x + _through(layer.branch, x, convolving)
    if type(layer) is Sum:
        first, *others = (_through(branch, x, convolving) for branch in layer.branches)
        return sum(others, first)
    return cast(Tensor, layer(x))
