"""Backward passes of the dual bound: all units of a layer, or those that are chosen."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.robustness.certifiers import Part, sliced, windows
from thesis_repro.robustness.certifiers.lines import Ball, Bounds, Lines, unit_rows
from thesis_repro.robustness.layers import padding_of
from thesis_repro.robustness.lipschitz import adjoint_map

Adjoint = Callable[[nn.Module, Tensor, tuple[int, ...]], Tensor]
"""The transpose of a linear layer, for rows and the shape of the layer's input."""


def bounds(
    chain: list[Part],
    slopes: Lines,
    ball: Ball,
    rows_of: Callable[[slice], Tensor],
    count: int,
    rows: int,
    adjoint: Adjoint,
) -> Bounds:
    """Bounds (n, count) of linear functions of what a chain of layers gives.

    rows_of gives some of the functions, (n or 1, rows, *shape); so many are passed at a time.
    """
    made = list(sliced(count, rows, lambda s: _whole(chain, slopes, ball, rows_of(s), adjoint)))
    low, high = zip(*made, strict=True)
    return torch.cat(low, 1), torch.cat(high, 1)


def every_unit(
    chain: list[Part], slopes: Lines, ball: Ball, shape: tuple[int, ...], rows: int
) -> Bounds:
    """Bounds (n, *shape) of all units that a chain of layers gives."""
    units = math.prod(shape)

    def rows_of(part: slice) -> Tensor:
        places = torch.arange(part.start, part.stop, device=ball.x.device)
        return unit_rows(places, shape, ball.x)

    low, high = bounds(chain, slopes, ball, rows_of, units, rows, adjoint_map)
    return low.view(-1, *shape), high.view(-1, *shape)


def chosen_units(chain: list[Part], slopes: Lines, ball: Ball, chosen: Tensor, rows: int) -> Bounds:
    """Bounds (k,) of those units that are chosen: (n, *shape) bool, k of them, in row order."""
    shape = tuple(chosen.shape[1:])
    seen, flat = windows.fit(chain, shape), chosen.flatten(1)
    together = windows.together(chain, shape) if seen else 1
    if not seen and 2 * len(flat) * int(flat.any(0).sum()) <= 3 * int(flat.sum()):
        together = len(flat)  # nearly the same units at all points
    made = [(ball.x.new_zeros(0), ball.x.new_zeros(0))]
    for first in range(0, len(flat), together):
        part = slice(first, first + together)
        own = {name: lines.at(part) for name, lines in slopes.items()}
        if seen:
            made.append(windows.bounds(chain, own, ball.at(part), chosen[part], rows))
            continue
        places = flat[part].any(0).nonzero()[:, 0]

        def rows_of(some: slice, places: Tensor = places) -> Tensor:
            return unit_rows(places[some], shape, ball.x)

        if len(places):
            found = bounds(chain, own, ball.at(part), rows_of, len(places), rows, correlated)
            wanted = flat[part][:, places]
            made.append((found[0][wanted], found[1][wanted]))
    return torch.cat([low for low, _ in made]), torch.cat([high for _, high in made])


def correlated(layer: nn.Module, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """As `adjoint_map`; of a convolution with stride 1 as another one, faster on many rows."""
    if isinstance(layer, nn.Conv2d) and layer.stride == layer.dilation == (1, 1):
        left = [k - 1 - m for k, m in zip(layer.kernel_size, padding_of(layer), strict=True)]
        if layer.groups == 1 and min(left) >= 0:
            return F.conv2d(y, layer.weight.flip(2, 3).transpose(0, 1), None, 1, left)
    found: Tensor = adjoint_map(layer, y, shape)
    return found


def _whole(chain: list[Part], slopes: Lines, ball: Ball, nu: Tensor, adjoint: Adjoint) -> Bounds:
    """The dual's value for the rows nu (n or 1, rows, *shape): least and largest.

    Both come from one pass, as the two lines of a ReLU are parallel.
    """
    centre = nu.new_zeros(1, 1)
    gap_low, gap_high = centre, centre
    for name, layer, shape in reversed(chain):
        if isinstance(layer, nn.ReLU):
            lines = slopes[name]
            nu = lines.slope * nu
            # a negative coefficient takes the upper line, which is higher by -slope * l
            low = lines.low.flatten(1)[:, :, None]
            negative = torch.bmm((-nu).clamp_min(0.0).flatten(2), low)[:, :, 0]
            gap_low = gap_low + negative
            gap_high = gap_high - negative - torch.bmm(nu.flatten(2), low)[:, :, 0]
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            if layer.bias is not None:
                summed = nu.sum((3, 4)) if isinstance(layer, nn.Conv2d) else nu
                centre = centre + summed @ layer.bias
            nu = adjoint(layer, nu.flatten(0, 1), shape).unflatten(0, nu.shape[:2])
        else:
            nu = nu.reshape(*nu.shape[:2], *shape)
    centre = centre + (nu.flatten(2) @ ball.x.flatten(1)[:, :, None])[:, :, 0]
    reach = ball.reach(nu.flatten(2))
    return centre + gap_low - reach, centre + gap_high + reach
