"""KW: the dual bound of the linear relaxation of ReLU, layer after layer.

Defined in the chapter robustness/certifiers. A ReLU whose input may have either sign is put
between two parallel lines of slope u / (u - l). Then the least value of any linear function of a
layer is had in closed form from one backward pass; the bounds l and u of each layer come from
such passes too, one for every unit, which is what the method costs.

References
----------
Wong and Kolter 2018; Wong, Schmidt, Metzen and Kolter 2018 (L2 balls, random projections).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.robustness import proof
from thesis_repro.robustness.certifiers import (
    Part,
    full_precision,
    normalised,
    parts,
    power_of_two,
    settled,
    sliced,
)
from thesis_repro.robustness.lipschitz import adjoint_map, linear_map

KNOWN = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten)
NORMS = (2.0, math.inf)


@dataclass(frozen=True)
class Ball:
    """The inputs within epsilon of x (n, *shape), in the L2 or the maximum norm."""

    x: Tensor
    epsilon: float
    norm: float

    def reach(self, rows: Tensor) -> Tensor:
        """How far r.x moves within the ball, for rows r (n or 1, rows, *shape): (n or 1, rows)."""
        flat = rows.flatten(2)
        return self.epsilon * (proof.lengths(flat) if self.norm == 2 else flat.abs().sum(2))


@dataclass(frozen=True)
class Slopes:
    """The lines around a layer of ReLUs: slope of both, and l where the sign is open, else 0.

    slope, low : (n, 1, *shape)
    """

    slope: Tensor
    low: Tensor


def certify(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    norm: float = 2.0,
    batch_size: int = 8,
    rows: int = 512,
    projections: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Whether each point keeps its label throughout the ball of radius epsilon.

    Sound up to the rounding of floating-point numbers, whatever the scale of the weights, unless
    projections are asked for.

    Parameters
    ----------
    model : nn.Sequential of Conv2d, Linear, ReLU and Flatten that ends in Linear
    x : (n, *input_shape), pixels in [0, 1]
    epsilon : radius > 0, in units of pixels
    norm : 2.0 or math.inf, of the ball
    batch_size, rows : points, and units of a layer, that are passed backward at a time
    projections : 0 for exact bounds of the layers; else so many random projections estimate
        them, which is cheaper and proves nothing
    generator : of the projections, on the device of x

    Returns
    -------
    (n,) bool

    Raises
    ------
    ValueError
        On a layer of another type (named; MinMax is one), whatever else `robustness.certify`
        refuses of a net, a wrong shape, pixels outside [0, 1], epsilon <= 0, or another norm.

    References
    ----------
    Wong et al. 2018, section 3 and algorithm 1.
    """
    options = {"batch_size": batch_size, "rows": rows, "projections": projections}
    found = margins(model, x, epsilon, norm=norm, generator=generator, **options)
    return found.amin(1) > 0


def margins(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    norm: float = 2.0,
    batch_size: int = 8,
    rows: int = 512,
    projections: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Lower bounds of y_j - y_i within the ball, j the label at x; as :func:`certify`.

    Returns
    -------
    (n, classes); infinite at j, minus infinity where a logit is NaN or infinite
    """
    chain, scaled = _chain(model, x, epsilon, norm), normalised(model)
    lost = scaled.lost(chain, epsilon)
    chain = scaled.parts(chain)

    def work(part: slice) -> Tensor:
        logits = scaled.body(x[part])
        own = logits.argmax(1)
        one = torch.eye(logits.shape[1]).to(logits)
        pairs = one[own][:, None] - one[None]
        ball = Ball(x[part], epsilon, norm)
        slopes = relaxed(chain, ball, rows, projections, generator)
        low, _ = _bounds(chain, slopes, ball, lambda s: pairs[:, s], logits.shape[1], rows)
        return settled(power_of_two(low - lost, scaled.exponent), logits, model(x[part]))

    with full_precision(model), full_precision(scaled.body):
        return torch.cat(list(sliced(len(x), batch_size, work)))


def lower(
    model: nn.Sequential, x: Tensor, epsilon: float, functions: Tensor, *, norm: float = 2.0
) -> Tensor:
    """Lower bounds of linear functions c.f of the outputs over each ball.

    functions : (k, outputs), the vectors c; returns (n, k). Else as :func:`certify`.
    """
    chain, scaled = _chain(model, x, epsilon, norm), normalised(model)
    lost = scaled.lost(chain, epsilon) * functions.abs().sum(1)
    chain, ball = scaled.parts(chain), Ball(x, epsilon, norm)
    with full_precision(scaled.body):
        slopes = relaxed(chain, ball)
        found, _ = _bounds(
            chain, slopes, ball, lambda s: functions[None, s], len(functions), len(functions)
        )
        return power_of_two(found - lost, scaled.exponent)


def _chain(model: nn.Sequential, x: Tensor, epsilon: float, norm: float) -> list[Part]:
    if norm not in NORMS:
        raise ValueError(f"the norm of the ball needs to be 2 or infinity, got {norm}")
    return parts(model, x, epsilon, KNOWN)


def relaxed(
    chain: list[Part],
    ball: Ball,
    rows: int = 512,
    projections: int = 0,
    generator: torch.Generator | None = None,
) -> dict[str, Slopes]:
    """The lines around every ReLU, by its name; each layer's bounds rest on those before it."""
    slopes: dict[str, Slopes] = {}
    for index, (name, layer, shape) in enumerate(chain):
        if not isinstance(layer, nn.ReLU):
            continue
        units = math.prod(shape)
        if projections:
            low, high = _estimated(chain[:index], slopes, ball, projections, generator)
        else:
            low, high = _bounds(
                chain[:index], slopes, ball, _identity(units, shape, ball.x), units, rows
            )
        slopes[name] = _lines(low.view(len(ball.x), 1, *shape), high.view(-1, 1, *shape))
    return slopes


def _lines(low: Tensor, high: Tensor) -> Slopes:
    """Slope 1 where the input is never negative, 0 where never positive, else u / (u - l)."""
    crossing = (low < 0) & (high > 0)
    slope = torch.where(crossing, high / (high - low), (low >= 0).to(low))
    return Slopes(slope, low.where(crossing, 0.0))


def _identity(units: int, shape: tuple[int, ...], like: Tensor) -> Callable[[slice], Tensor]:
    """Unit vectors of a layer, some rows at a time."""

    def rows(part: slice) -> Tensor:
        places = torch.arange(part.start, part.stop, device=like.device)
        one = like.new_zeros(len(places), units).scatter_(1, places[:, None], 1.0)
        return one.view(1, len(places), *shape)

    return rows


def _bounds(
    chain: list[Part],
    slopes: dict[str, Slopes],
    ball: Ball,
    rows_of: Callable[[slice], Tensor],
    count: int,
    rows: int,
) -> tuple[Tensor, Tensor]:
    """Bounds (n, count) of linear functions of what a chain of layers gives."""
    made = list(sliced(count, rows, lambda s: _backward(chain, slopes, ball, rows_of(s))))
    low, high = zip(*made, strict=True)
    return torch.cat(low, 1), torch.cat(high, 1)


def _backward(
    chain: list[Part], slopes: dict[str, Slopes], ball: Ball, nu: Tensor
) -> tuple[Tensor, Tensor]:
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
            nu = adjoint_map(layer, nu.flatten(0, 1), shape).unflatten(0, nu.shape[:2])
        else:
            nu = nu.reshape(*nu.shape[:2], *shape)
    centre = centre + (nu.flatten(2) @ ball.x.flatten(1)[:, :, None])[:, :, 0]
    reach = ball.reach(nu)
    return centre + gap_low - reach, centre + gap_high + reach


def _estimated(
    chain: list[Part],
    slopes: dict[str, Slopes],
    ball: Ball,
    projections: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """As `_bounds` for all units, with norms of rows from random projections.

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
    return (low - reach).flatten(1), (high + reach).flatten(1)


def _forward(layer: nn.Module, columns: Tensor) -> Tensor:
    moved: Tensor = linear_map(layer, columns.flatten(0, 1)).unflatten(0, columns.shape[:2])
    return moved
