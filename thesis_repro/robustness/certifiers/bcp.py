"""BCP: a ball and a box that hold all a layer can say within the radius.

Defined in the chapter robustness/certifiers. A box costs little and cuts away those parts of the
Lipschitz ball that no input reaches; the last layer is optimised over what is left of both.

References
----------
Lee, Lee and Park 2020, "Lipschitz-certifiable training with a tight outer bound".
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.nets import MinMax
from thesis_repro.robustness.certifiers import Part, full_precision, parts, sliced
from thesis_repro.robustness.lipschitz import layer_bound, linear_map

KNOWN = (nn.Conv2d, nn.Linear, nn.ReLU, MinMax, nn.Flatten)
"""Layers that are linear, or that keep order and distances of coordinates and of vectors."""
STEPS = 1000
"""Clippings of the last layer; it stops earlier when no coordinate leaves its box."""


@dataclass(frozen=True)
class Linear:
    """What is known of a linear layer before any point: |W|, the norms of its rows, its norm."""

    absolute: nn.Module
    rows: Tensor
    norm: float


@dataclass(frozen=True)
class Region:
    """Ball and box of n points: activations lie within `radius` of `centre`, and in the box.

    centre, low, high : (n, *shape); radius : (n,)
    """

    centre: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor


def prepare(model: nn.Sequential, input_shape: tuple[int, ...]) -> dict[str, Linear]:
    """The part of the work that no point enters: proven norms of all layers but the last."""
    zero = torch.zeros(1, *input_shape).to(next(model.parameters()))
    found = {}
    for name, layer, shape in parts(model, zero, 1.0, KNOWN)[:-1]:
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        absolute, squared = copy.deepcopy(layer), copy.deepcopy(layer)
        with torch.no_grad():
            absolute.weight.abs_()
            squared.weight.square_()
            # at the border the padding cuts rows short, so each output has a norm of its own
            rows = linear_map(squared, torch.ones(1, *shape).to(layer.weight)).sqrt()
        found[name] = Linear(absolute, rows, layer_bound(name, layer, shape).value)
    return found


def certify(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    batch_size: int = 100,
    steps: int = STEPS,
    prepared: dict[str, Linear] | None = None,
) -> Tensor:
    """Whether each point keeps its label throughout the ball of radius epsilon.

    Sound up to the rounding of floating-point numbers. With ball alone it would be the certificate
    of a GloRo net; the box makes it certify no fewer points.

    Parameters
    ----------
    model : nn.Sequential of Conv2d, Linear, ReLU, MinMax and Flatten that ends in Linear
    x : (n, *input_shape), pixels in [0, 1]
    epsilon : L2 radius > 0, in units of pixels
    batch_size : points at a time; memory grows with it times classes times units of the last layer
    steps : most clippings per pair of classes; fewer make the answer weaker, not wrong
    prepared : what `prepare` returned for this model

    Returns
    -------
    (n,) bool

    Raises
    ------
    ValueError
        On a layer of another type (named), a wrong shape, pixels outside [0, 1], epsilon <= 0.

    References
    ----------
    Lee, Lee and Park 2020, section 3.
    """
    options = {"batch_size": batch_size, "steps": steps}
    return margins(model, x, epsilon, prepared=prepared, **options).amin(1) > 0


def margins(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    batch_size: int = 100,
    steps: int = STEPS,
    prepared: dict[str, Linear] | None = None,
) -> Tensor:
    """Lower bounds of y_j - y_i within the ball, j the label at x; as :func:`certify`.

    Returns
    -------
    (n, classes); infinite at j, minus infinity where a logit is NaN or infinite
    """
    chain = parts(model, x, epsilon, KNOWN)
    known = prepare(model, tuple(x.shape[1:])) if prepared is None else prepared
    head = model[-1]
    assert isinstance(head, nn.Linear)
    with full_precision(model):
        return torch.cat(
            list(
                sliced(
                    len(x),
                    batch_size,
                    lambda part: _last(head, region(chain[:-1], known, x[part], epsilon), steps),
                )
            )
        )


def region(chain: list[Part], known: dict[str, Linear], x: Tensor, epsilon: float) -> Region:
    """Ball and box behind the layers of a chain, for the ball of radius epsilon around x."""
    radius = torch.full((len(x),), epsilon, dtype=x.dtype, device=x.device)
    now = Region(x, radius, x - epsilon, x + epsilon)
    for name, layer, _ in chain:
        now = _through(layer, now, known.get(name))
    return now


def _through(layer: nn.Module, now: Region, linear: Linear | None) -> Region:
    """The next region: what the layer makes of the box, cut with the box around the ball."""
    centre = layer(now.centre)
    radius = now.radius.view(-1, *[1] * (centre.ndim - 1))
    if linear is None:  # monotone in each coordinate, and 1-Lipschitz
        low, high, reach, grown = layer(now.low), layer(now.high), radius, now.radius
    else:
        middle = layer((now.low + now.high) / 2)
        half = linear_map(linear.absolute, (now.high - now.low) / 2)
        low, high = middle - half, middle + half
        reach, grown = radius * linear.rows, now.radius * linear.norm
    return Region(
        centre, grown, torch.maximum(low, centre - reach), torch.minimum(high, centre + reach)
    )


def _last(head: nn.Linear, last: Region, steps: int) -> Tensor:
    """Margins behind the last layer, from the region before it."""
    logits: Tensor = head(last.centre)
    own = logits.argmax(1, keepdim=True)
    direction = head.weight[None] - head.weight[own]  # (n, classes, features): w_i - w_j
    gain = furthest(direction, last.radius, last.low - last.centre, last.high - last.centre, steps)
    found = logits.gather(1, own) - logits - gain
    found = found.nan_to_num(-torch.inf, torch.inf, -torch.inf).scatter(1, own, torch.inf)
    return found.masked_fill(~logits.isfinite().all(1, keepdim=True), -torch.inf)


def furthest(
    direction: Tensor, radius: Tensor, low: Tensor, high: Tensor, steps: int = STEPS
) -> Tensor:
    """Max of d.z over ||z|| <= radius and low <= z <= high, by iterated clipping.

    Take the best point of the ball, s d; clip the coordinates that leave the box; stretch the
    others until the whole has length `radius` again; repeat. The stretch s only grows, so what is
    clipped stays clipped. Each step solves the problem with those sides of the box alone that it
    has met, so it is never below the maximum; when nothing leaves the box it is the maximum.

    Parameters
    ----------
    direction : (n, classes, features)
    radius : (n,), >= 0
    low, high : (n, features), low <= 0 <= high
    steps : >= 1

    Returns
    -------
    (n, classes)

    References
    ----------
    Lee, Lee and Park 2020, algorithm for the outer bound of the last layer.
    """
    if steps < 1:
        raise ValueError(f"clipping needs at least 1 step, got {steps}")
    # the centre is in the box; rounding may say otherwise by a hair
    low, high = low.clamp_max(0.0)[:, None], high.clamp_min(0.0)[:, None]
    square = radius.square()[:, None]
    clipped = torch.zeros_like(direction, dtype=torch.bool)
    for _ in range(steps):
        fixed = torch.where(direction > 0, high, low).where(clipped, 0.0)
        free = direction.masked_fill(clipped, 0.0)
        length = free.square().sum(2)
        rest = (square - fixed.square().sum(2)).clamp_min(0.0)
        scale = (rest / length).sqrt().where(length > 0, 0.0)
        point = scale[:, :, None] * free
        out = (point < low) | (point > high)
        if not out.any():
            break
        clipped |= out
    else:
        return (fixed * direction).sum(2) + scale * length
    return (fixed * direction).sum(2) + scale * length
