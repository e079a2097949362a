"""Backward passes of the dual bound through convolutions, within receptive fields.

A unit behind convolutions depends on a window of each layer before. Passing back that window alone
gives the same bound, as every coefficient outside is zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.robustness.certifiers import Part, sliced
from thesis_repro.robustness.certifiers.lines import Ball, Bounds, Lines
from thesis_repro.robustness.layers import padding_of


@dataclass(frozen=True)
class Window:
    """What units at all places (rows, columns) of a layer see of an earlier one.

    size : height and width; the window of the unit in row i begins in row i * step[0] - before[0]
    """

    places: tuple[int, int]
    size: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)

    def through(self, conv: nn.Conv2d) -> "Window":
        """One convolution further back."""
        padding = padding_of(conv)
        kernel, stride = conv.kernel_size, conv.stride
        axes = range(2)
        return Window(
            self.places,
            _two(*((self.size[a] - 1) * stride[a] + kernel[a] for a in axes)),
            _two(*(self.step[a] * stride[a] for a in axes)),
            _two(*(self.before[a] * stride[a] + padding[a] for a in axes)),
        )

    def cut(self, images: Tensor) -> Tensor:
        """The windows of images (n, channels, height, width), zero outside them.

        Returns (n * places, channels * size): a row for each place of each image.
        """
        margins = []
        for axis in (1, 0):  # F.pad begins with the last axis
            last = (self.places[axis] - 1) * self.step[axis] - self.before[axis]
            after = last + self.size[axis] - images.shape[2 + axis]
            margins += [self.before[axis], after]  # a margin below zero cuts off
        seen = F.pad(images, margins)
        for axis in (0, 1):
            seen = seen.unfold(2 + axis, self.size[axis], self.step[axis])
        return seen.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def _two(first: int, second: int) -> tuple[int, int]:
    return first, second


LARGEST = 2**21
"""Entries of a matrix that carries windows through a convolution; beyond, the kernel is used."""
HELD = 2**24
"""Numbers in the windows of all layers that are held at a time."""


def fit(chain: list[Part], shape: tuple[int, ...]) -> bool:
    """Whether units of this shape see at most half of the image.

    So it is if all layers are ReLUs and plain convolutions, and not too many.
    """
    if len(shape) != 3 or not chain:
        return False
    window = Window((shape[1], shape[2]))
    for _, layer, _ in reversed(chain):
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1):
            window = window.through(layer)
        elif not isinstance(layer, nn.ReLU):
            return False
    return 2 * math.prod(window.size) <= math.prod(chain[0][2][1:])


def together(chain: list[Part], shape: tuple[int, ...]) -> int:
    """How many points' windows, slope and line of each unit in them, may be held at a time."""
    window, numbers = Window((shape[1], shape[2])), 0
    for _, layer, before in reversed(chain):
        if isinstance(layer, nn.Conv2d):
            window = window.through(layer)
        numbers += 2 * shape[1] * shape[2] * before[0] * math.prod(window.size)
    return max(1, HELD // numbers)


@dataclass(frozen=True)
class Step:
    """One layer on the way back, with all that does not depend on the unit.

    A convolution has `back`, which carries rows (k, what it gives) to what they see, and `bias`
    (what it gives,) or None; a layer of ReLUs has `slope` and `low`, the windows of its lines.
    `inside` has zeros where windows leave the image; None where that needs no care.
    """

    back: Callable[[Tensor], Tensor] | None = None
    bias: Tensor | None = None
    slope: Tensor | None = None
    low: Tensor | None = None
    inside: Tensor | None = None


def _steps(
    chain: list[Part], slopes: Lines, shape: tuple[int, ...], like: Tensor
) -> tuple[list[Step], Window]:
    """The layers from the last one back, and the window of the input."""
    window = Window((shape[1], shape[2]))
    found = []
    for index in reversed(range(len(chain))):
        name, layer, before = chain[index]
        if isinstance(layer, nn.ReLU):
            cut = [window.cut(part[:, 0]) for part in (slopes[name].slope, slopes[name].low)]
            found.append(Step(slope=cut[0], low=cut[1]))
            continue
        assert isinstance(layer, nn.Conv2d)
        seen = layer.out_channels, *window.size
        bias = None
        if layer.bias is not None:
            bias = layer.bias.repeat_interleave(math.prod(window.size))
        window = window.through(layer)
        back = _back(layer, seen, math.prod(window.size), like)
        inside = None
        if not index or not isinstance(chain[index - 1][1], nn.ReLU):  # whose lines end there
            inside = window.cut(torch.ones(1, *before).to(like))
        found.append(Step(back=back, bias=bias, inside=inside))
    return found, window


def _back(
    conv: nn.Conv2d, gives: tuple[int, int, int], size: int, like: Tensor
) -> Callable[[Tensor], Tensor]:
    """The transpose of a convolution on windows: by a matrix, if it is small, as that is faster."""

    def spread(nu: Tensor) -> Tensor:
        return F.conv_transpose2d(nu.view(-1, *gives), conv.weight, None, conv.stride).flatten(1)

    width = math.prod(gives)
    if width * conv.in_channels * size > LARGEST:
        return spread
    matrix = spread(torch.eye(width).to(like))
    return lambda nu: nu @ matrix


def bounds(chain: list[Part], slopes: Lines, ball: Ball, chosen: Tensor, rows: int) -> Bounds:
    """Bounds (k,) of those units that are chosen: (n, *shape) bool, k of them, in row order."""
    shape = tuple(chosen.shape[1:])
    steps, window = _steps(chain, slopes, shape, ball.x)
    images = window.cut(ball.x)
    where = chosen.nonzero()

    def work(part: slice) -> Bounds:
        point, channel, row, column = where[part].unbind(1)
        place = row * shape[2] + column
        seen = point * (shape[1] * shape[2]) + place
        nu = F.one_hot(channel, shape[0]).to(ball.x)
        centre = low = high = nu.new_zeros(len(nu))
        for step in steps:
            if step.slope is not None and step.low is not None:
                nu = nu * step.slope[seen]
                # where this is positive the upper line counts for the least value
                gaps = nu * step.low[seen]
                low = low - gaps.clamp_min(0.0).sum(1)
                high = high - gaps.clamp_max(0.0).sum(1)
            elif step.back is not None:
                centre = centre if step.bias is None else centre + nu @ step.bias
                nu = step.back(nu)
            nu = nu if step.inside is None else nu * step.inside[place]
        centre = centre + (nu * images[seen]).sum(1)
        reach = ball.reach(nu)
        return centre + low - reach, centre + high + reach

    made = [(ball.x.new_zeros(0), ball.x.new_zeros(0)), *sliced(len(where), rows, work)]
    return torch.cat([low for low, _ in made]), torch.cat([high for _, high in made])
