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

from thesis_repro.data.images import tensor
from thesis_repro.lab import threads
from thesis_repro.nets import MinMax
from thesis_repro.robustness import proof, structure
from thesis_repro.robustness.certifiers import (
    Normalised,
    Part,
    compared,
    full_precision,
    normalised,
    parts,
    power_of_two,
    row_lengths,
    settled,
    sliced,
)
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
class Prepared:
    """What no point enters, of a net as it was.

    scaled : the net with weights near 1; layers : its linear layers but the last, by name
    """

    net: structure.Snapshot
    scaled: Normalised
    layers: dict[str, Linear]


@dataclass(frozen=True)
class Region:
    """Ball and box of n points: activations lie within `radius` of `centre`, and in the box.

    centre, low, high : (n, *shape); radius : (n,)
    """

    centre: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor


@threads.limit(1)
def prepare(model: nn.Sequential, input_shape: tuple[int, ...]) -> Prepared:
    """The part of the work that no point enters: proven norms of all layers but the last.

    Raises
    ------
    ValueError
        As :func:`certify`.
    """
    zero = torch.zeros(1, *input_shape).to(next(model.parameters()))
    chain, scaled = parts(model, zero, 1.0, KNOWN)[:-1], normalised(model)
    found = {
        part[0]: _linear(*part)
        for part in scaled.parts(chain)
        if isinstance(part[1], nn.Conv2d | nn.Linear)
    }
    return Prepared(structure.snapshot(model, input_shape), scaled, found)


def _linear(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Linear:
    """What `Linear` says of one layer."""
    absolute = copy.deepcopy(layer)
    assert isinstance(absolute, nn.Conv2d | nn.Linear)
    with torch.no_grad():
        absolute.weight.abs_()
    return Linear(absolute, row_lengths(layer, shape), layer_bound(name, layer, shape).value)


def certify(
    model: nn.Sequential,
    x: Tensor,
    epsilon: float,
    *,
    batch_size: int = 100,
    steps: int = STEPS,
    prepared: Prepared | None = None,
) -> Tensor:
    """Whether each point keeps its label throughout the ball of radius epsilon.

    Sound up to the rounding of floating-point numbers, whatever the scale of the weights. With
    the ball alone it would be the certificate of a GloRo net; the box makes it certify no fewer
    points.

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
        On a layer of another type (named), whatever else `robustness.certify` refuses of a net, a
        wrong shape, pixels outside [0, 1], epsilon <= 0, or what was prepared of another net or
        of this one before it changed.

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
    prepared: Prepared | None = None,
) -> Tensor:
    """Lower bounds of y_j - y_i within the ball, j the label at x; as :func:`certify`.

    Returns
    -------
    (n, classes); infinite at j, minus infinity where a logit is NaN or infinite
    """
    x, epsilon = tensor("images", x, model), structure.check_epsilon(epsilon)
    chain = compared(model, parts(model, x, epsilon, KNOWN))
    shape = tuple(x.shape[1:])
    known = prepare(model, shape) if prepared is None else prepared
    if not known.net.matches(model, shape):
        raise ValueError("what was prepared is not about this net as it is now: prepare it again")
    scaled = known.scaled
    before, lost = scaled.parts(chain[:-1]), scaled.lost(chain, epsilon)
    head = scaled.body[-1]
    assert isinstance(head, nn.Linear)

    def work(part: slice) -> Tensor:
        last = _region(before, known.layers, x[part], epsilon)
        logits = head(last.centre)
        found = _last(head, last, logits, steps) - lost
        return settled(power_of_two(found, scaled.exponent), logits, model(x[part]))

    with full_precision(model), full_precision(scaled.body):
        return torch.cat(list(sliced(len(x), batch_size, work)))


def region(chain: list[Part], known: Prepared, x: Tensor, epsilon: float) -> Region:
    """Ball and box behind the layers of a chain, for the ball of radius epsilon around x."""
    epsilon = structure.check_epsilon(epsilon)
    found = _region(known.scaled.parts(chain), known.layers, x, epsilon)
    exponent = sum(known.scaled.steps.get(name, 0) for name, _, _ in chain)
    return Region(*(power_of_two(value, exponent) for value in vars(found).values()))


def _region(chain: list[Part], known: dict[str, Linear], x: Tensor, epsilon: float) -> Region:
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


def _last(head: nn.Linear, last: Region, logits: Tensor, steps: int) -> Tensor:
    """Margins behind the last layer, from the region before it."""
    own = logits.argmax(1, keepdim=True)
    direction = head.weight[None] - head.weight[own]  # (n, classes, features): w_i - w_j
    gain = furthest(direction, last.radius, last.low - last.centre, last.high - last.centre, steps)
    return logits.gather(1, own) - logits - gain


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
    # any scale will do: powers of two are taken out, and put back at the end
    sizes = proof.scale_of(direction.abs().amax(2))
    lengths = proof.scale_of(radius)
    direction, radius = direction / sizes[:, :, None], radius / lengths
    # the centre is in the box; rounding may say otherwise by a hair
    low = (low / lengths[:, None]).clamp_max(0.0)[:, None]
    high = (high / lengths[:, None]).clamp_min(0.0)[:, None]
    square = radius.square()[:, None]
    clipped = torch.zeros_like(direction, dtype=torch.bool)
    for _ in range(steps):
        fixed = torch.where(direction > 0, high, low).where(clipped, 0.0)
        free = direction.masked_fill(clipped, 0.0)
        unit = proof.scale_of(free.abs().amax(2))
        free = free / unit[:, :, None]
        length = free.square().sum(2)
        rest = (square - fixed.square().sum(2)).clamp_min(0.0)
        scale = (rest / length).sqrt().where(length > 0, 0.0)
        point = scale[:, :, None] * free
        out = (point < low) | (point > high)
        if not out.any():
            break
        clipped |= out
    gain = (fixed * direction).sum(2) + scale * length * unit
    return gain * sizes * lengths[:, None]
