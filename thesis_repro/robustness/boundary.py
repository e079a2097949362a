"""Counter-examples by rounding: points so close to a decision boundary that last digits matter.

PGD looks for a wrong bound. This search looks for a wrong rounding budget: it walks along segments
between images of different labels up to the boundary, asks the certifier for a radius there, and
moves inside that radius.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thesis_repro.robustness import certifying
from thesis_repro.robustness.attacks import INSIDE
from thesis_repro.robustness.gloro import GloroNet, certify
from thesis_repro.robustness.outputs import classified, per_point

HALVINGS = range(4, 40, 2)
"""Distances from the boundary that are tried: the segment's length over two to each of these."""


@dataclass(frozen=True)
class Found:
    """What the search did: points with a radius > 0, points tried inside those radii, flips."""

    certified: int
    tried: int
    broken: int


def search(
    net: GloroNet, x: Tensor, *, pairs: int = 100, trials: int = 4, generator: torch.Generator
) -> Found:
    """Try to change the computed label inside certified radii next to a decision boundary.

    Parameters
    ----------
    net : GloroNet
    x : (n, *input_shape) in [0, 1]
    pairs : segments between two points of different labels
    trials : points in each certified ball by moving last digits, besides the steepest step

    Returns
    -------
    Found

    References
    ----------
    Jin, Ohrimenko and Rubinstein 2022 (the idea: rounding breaks certificates near a boundary).
    """
    first, second = _crossing(net, x, pairs, generator)
    if not len(first):
        return Found(0, 0, 0)
    label = _labels(net, first)
    low = torch.zeros(len(first), dtype=torch.float64, device=x.device)
    high = torch.ones_like(low)
    for _ in range(60):
        middle = (low + high) / 2
        same = _labels(net, _between(first, second, middle)) == label
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    certified = tried = broken = 0
    for halvings in HALVINGS:
        points = _between(first, second, (low - 2.0**-halvings).clamp_min(0.0))
        certificate = certify(net, points)
        kept = certificate.radius > 0
        certified += int(kept.sum())
        points, radius, own = (v[kept] for v in (points, certificate.radius, certificate.labels))
        if not len(points):
            continue
        toward = second[kept] - points
        for trial in range(trials + 1):
            moved = _move(points, toward, radius, None if trial == 0 else generator)
            tried += len(moved)
            broken += int((_labels(net, moved) != own).sum())
    return Found(certified, tried, broken)


def _crossing(
    net: GloroNet, x: Tensor, pairs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pairs of points (m, ...) with different labels, m <= pairs."""
    order = torch.randint(len(x), (2, 4 * pairs), generator=generator, device=x.device)
    first, second = x[order[0]], x[order[1]]
    differ = (_labels(net, first) != _labels(net, second)).nonzero()[:pairs, 0]
    return first[differ], second[differ]


def _between(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    t = per_point(t, first)
    return ((1 - t) * first + t * second).to(first.dtype).clamp(0, 1)


def _move(
    points: Tensor, toward: Tensor, radius: Tensor, generator: torch.Generator | None
) -> Tensor:
    """A step of the radius towards the other label; with a generator, its last digits at random.

    Whatever leaves the ball, or [0, 1], is drawn back; distances are taken in float64.
    """
    step = toward.double()
    step = step / per_point(step.flatten(1).norm(dim=1).clamp_min(1e-300), step)
    step = step * per_point(INSIDE * radius, step)
    if generator is not None:
        noise = torch.randint(-2, 3, points.shape, generator=generator, device=points.device)
        step = step + noise * torch.finfo(points.dtype).eps * points.double()
    moved = (points.double() + step).clamp(0, 1).to(points.dtype)
    for _ in range(60):  # rounding to the format may have left the ball
        away = (moved.double() - points.double()).flatten(1).norm(dim=1) > radius
        if not away.any():
            break
        half = (points[away].double() + moved[away].double()) / 2
        moved[away] = half.to(points.dtype)
    away = (moved.double() - points.double()).flatten(1).norm(dim=1) > radius
    return torch.where(per_point(away, points), points, moved)


def _labels(net: GloroNet, x: Tensor) -> Tensor:
    """The classes of x by the function that certificates are about: (n,)."""
    return classified(certifying.measure(net, x, net.epsilon)[0])
