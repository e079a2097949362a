"""KW's bounds of layers estimated by random projections, which is cheaper and proves nothing."""

import math

import torch
from torch import Tensor, nn

from thesis_repro.robustness.certifiers import Part
from thesis_repro.robustness.certifiers.lines import Ball, Bounds, Lines
from thesis_repro.robustness.lipschitz import linear_map


def estimated(
    chain: list[Part],
    slopes: Lines,
    ball: Ball,
    projections: int,
    generator: torch.Generator | None,
) -> Bounds:
    """As `backward.every_unit`, with norms of rows from random projections.

    What is random goes forward through the linear net instead of an identity going backward: a
    few columns for the input, and a few for each layer of ReLUs before. ||r||_2 is the root mean
    square of r.g over Gaussian g, ||r||_1 the median of |r.c| over Cauchy c.

    References
    ----------
    Wong et al. 2018, section 3.2 (nonlinear random projections).
    """
    x = ball.x
    cauchy = ball.norm == math.inf

    def drawn(like: Tensor, heavy: bool) -> Tensor:
        size = (len(like), projections, *like.shape[2:])
        normal = torch.randn(size, generator=generator, device=x.device, dtype=x.dtype)
        if not heavy:
            return normal
        return normal / torch.randn(size, generator=generator, device=x.device, dtype=x.dtype)

    centre = x[:, None]
    inputs = drawn(centre, cauchy)
    sums: list[Tensor] = []  # for each ReLU layer before: columns l and c * l, through the net
    for name, layer, _ in chain:
        if isinstance(layer, nn.ReLU):
            lines = slopes[name]
            low = lines.low
            sums.append(torch.cat([low, low * drawn(low, heavy=True)], 1))
            columns = [lines.slope * part for part in (centre, inputs, *sums)]
        elif isinstance(layer, nn.Flatten):
            columns = [part.flatten(2) for part in (centre, inputs, *sums)]
        else:
            columns = [_forward(layer, part) for part in (centre, inputs, *sums)]
            columns[0] = layer(centre[:, 0])[:, None]
        centre, inputs, *sums = columns
    reach = inputs.abs().median(1).values if cauchy else inputs.square().mean(1).sqrt()
    low = high = centre[:, 0]
    for part in sums:
        plain, absolute = part[:, 0], part[:, 1:].abs().median(1).values
        low, high = low - (absolute + plain) / 2, high + (absolute - plain) / 2
    reach = ball.epsilon * reach
    return low - reach, high + reach


def _forward(layer: nn.Module, columns: Tensor) -> Tensor:
    moved: Tensor = linear_map(layer, columns.flatten(0, 1)).unflatten(0, columns.shape[:2])
    return moved
