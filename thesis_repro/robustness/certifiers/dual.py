"""KW: the dual bound of the linear relaxation of ReLU, layer after layer.

Defined in the chapter robustness/certifiers. A ReLU whose input may have either sign is put
between two parallel lines of slope u / (u - l). Then the least value of any linear function of a
layer is had in closed form from one backward pass; the bounds l and u of each layer come from
such passes too, one for every unit, which is what the method costs. Most of these passes find out
a sign that is plain to see; :func:`relaxed` says which are left out here, and why nothing changes.

References
----------
Wong and Kolter 2018; Wong, Schmidt, Metzen and Kolter 2018 (L2 balls, random projections).
"""

import math

import torch
from torch import Tensor, nn

from thesis_repro.data.images import tensor
from thesis_repro.lab import threads
from thesis_repro.robustness.certifiers import (
    Part,
    backward,
    compared,
    full_precision,
    normalised,
    parts,
    power_of_two,
    settled,
    sliced,
)
from thesis_repro.robustness.certifiers.lines import Ball, Lines, hull_of, lines, unstable
from thesis_repro.robustness.certifiers.projections import estimated
from thesis_repro.robustness.lipschitz import adjoint_map
from thesis_repro.robustness.structure import check_epsilon

KNOWN = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten)
NORMS = (2.0, math.inf)


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
    every_unit: bool = False,
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
    every_unit : send every unit back, as the method is published: the same answer, at its price

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
    found = margins(
        model,
        x,
        epsilon,
        norm=norm,
        batch_size=batch_size,
        rows=rows,
        projections=projections,
        generator=generator,
        every_unit=every_unit,
    )
    return found.amin(1) > 0


@threads.limit(1)
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
    every_unit: bool = False,
) -> Tensor:
    """Lower bounds of y_j - y_i within the ball, j the label at x; as :func:`certify`.

    Returns
    -------
    (n, classes); infinite at j, minus infinity where a logit is NaN or infinite
    """
    x, epsilon = tensor("images", x, model), check_epsilon(epsilon)
    chain, scaled = compared(model, _chain(model, x, epsilon, norm)), normalised(model)
    lost = scaled.lost(chain, epsilon)
    chain = scaled.parts(chain)
    adjoint = adjoint_map if every_unit else backward.correlated

    def work(part: slice) -> Tensor:
        logits = scaled.body(x[part])
        own = logits.argmax(1)
        one = torch.eye(logits.shape[1]).to(logits)
        pairs = one[own][:, None] - one[None]
        ball = Ball(x[part], epsilon, norm)
        slopes = relaxed(chain, ball, rows, projections, generator, every_unit)
        low, _ = backward.bounds(
            chain, slopes, ball, lambda s: pairs[:, s], pairs.shape[1], rows, adjoint
        )
        return settled(power_of_two(low - lost, scaled.exponent), logits, model(x[part]))

    with full_precision(model), full_precision(scaled.body):
        return torch.cat(list(sliced(len(x), batch_size, work)))


@threads.limit(1)
def lower(
    model: nn.Sequential, x: Tensor, epsilon: float, functions: Tensor, *, norm: float = 2.0
) -> Tensor:
    """Lower bounds of linear functions c.f of the outputs over each ball.

    functions : (k, outputs), the vectors c; returns (n, k). Else as :func:`certify`.
    """
    x, epsilon = tensor("images", x, model), check_epsilon(epsilon)
    chain, scaled = _chain(model, x, epsilon, norm), normalised(model)
    lost = scaled.lost(chain, epsilon) * functions.abs().sum(1)
    chain, ball = scaled.parts(chain), Ball(x, epsilon, norm)
    with full_precision(scaled.body):
        slopes = relaxed(chain, ball)
        count = len(functions)
        found, _ = backward.bounds(
            chain,
            slopes,
            ball,
            lambda s: functions[None, s],
            count,
            count,
            backward.correlated,
        )
        return power_of_two(found - lost, scaled.exponent)


@threads.limit(1)
def sent(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    norm: float = 2.0,
    every_unit: bool = False,
) -> Tensor:
    """How many units of its ReLU layers :func:`certify` sends back for each point: (n,) int64."""
    x, epsilon = tensor("images", x, model), check_epsilon(epsilon)
    chain, scaled = _chain(model, x, epsilon, norm), normalised(model)
    with full_precision(scaled.body):
        ball = Ball(x, epsilon, norm)
        slopes = relaxed(scaled.parts(chain), ball, every_unit=every_unit)
    none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return sum((found.sent for found in slopes.values()), none)


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
    every_unit: bool = False,
) -> Lines:
    """The lines around every ReLU, by its name; each layer's bounds rest on those before it.

    Unless all are asked for, a unit whose sign is settled by a hull is not sent back. The lines are
    the same nevertheless, up to rounding. Say that they are for the layers before. KW's bounds
    of a unit are its least and largest value over the relaxed net, since its value is linear in the
    input and in the choices between two lines, which are free of each other. The hull holds all
    that the relaxed net does (and not just what the net does), so where it excludes a sign KW's
    bounds exclude it too, and the line is z or 0 either way. Where it does not, the unit is sent
    back, or its interval is exact: behind one linear layer it is the value at x, and epsilon times
    the length of the row. So the bounds are the same as well, and the lines.
    """
    slopes: Lines = {}
    hull = hull_of(ball)
    for index, (name, layer, shape) in enumerate(chain):
        if not isinstance(layer, nn.ReLU):
            hull = hull.through(layer, shape, ball.norm)
            continue
        before, count = chain[:index], torch.zeros(len(ball.x), dtype=torch.int64)
        low, high = hull.bounds
        if projections:
            low, high = estimated(before, slopes, ball, projections, generator)
        elif every_unit:
            low, high = backward.every_unit(before, slopes, ball, shape, rows)
            count += math.prod(shape)
        elif not hull.exact:
            chosen = unstable(low, high)
            found = backward.chosen_units(before, slopes, ball, chosen, rows)
            low, high = (
                end.masked_scatter(chosen, exact)
                for end, exact in zip((low, high), found, strict=True)
            )
            count = chosen.flatten(1).sum(1)
        slopes[name] = lines(low, high, count.to(ball.x.device))
        hull = hull.between(low, high, slopes[name])
    return slopes
