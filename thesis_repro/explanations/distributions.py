"""Distributions of interest: the inputs over which an explanation has to hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from thesis_repro.lab.checks import finite

Space = Literal["slice", "input"]
RULES = ("gausslegendre", "middle", "right", "trapezoid")

Batch = Tensor | np.ndarray
"""Inputs (n, ...)."""
Weighted = Iterator[tuple[float, Tensor]]
"""Points shaped like the origin, each with its probability."""


@dataclass(frozen=True)
class Point:
    """All mass on the input itself."""

    def around(self, origin: Tensor) -> Weighted:
        """The origin, with weight one."""
        yield 1.0, origin


@dataclass(frozen=True)
class Line:
    """Uniform on the straight line from a baseline, in input space or in slice space."""

    baseline: float | Tensor
    points: int
    space: Space
    rule: str

    def around(self, origin: Tensor) -> Weighted:
        """Nodes of the quadrature rule between baseline and origin."""
        start = self.start(origin)
        for node, weight in zip(*nodes(self.rule, self.points), strict=True):
            yield float(weight), torch.lerp(start, origin, float(node))

    def start(self, origin: Tensor) -> Tensor:
        """The baseline, shaped like the origin."""
        start = torch.as_tensor(self.baseline, dtype=origin.dtype, device=origin.device).detach()
        try:
            return start.expand_as(origin)
        except RuntimeError:
            raise ValueError(
                f"a baseline of shape {tuple(start.shape)} does not fit the "
                f"{self.space}'s shape {tuple(origin.shape)}"
            ) from None


@dataclass(frozen=True)
class Gaussian:
    """Normal noise of standard deviation sigma around the input; not clipped."""

    sigma: float
    samples: int
    generator: torch.Generator | None

    def around(self, origin: Tensor) -> Weighted:
        """Draws around the origin, each with the same weight."""
        for _ in range(self.samples):
            noise = torch.empty_like(origin).normal_(generator=self.generator)
            yield 1 / self.samples, origin + self.sigma * noise


@dataclass(frozen=True, eq=False)
class Empirical:
    """The inputs given, each with the same weight: a class, a data set."""

    batches: Iterable[Batch]


Distribution = Point | Line | Gaussian | Empirical


def point() -> Point:
    """The input itself: the explanation of one instance, at this instance alone.

    Examples
    --------
    >>> [weight for weight, _ in point().around(torch.ones(1, 2))]
    [1.0]
    """
    return Point()


def line(
    baseline: float | Tensor = 0.0,
    points: int = 50,
    space: Space = "slice",
    rule: str = "gausslegendre",
) -> Line:
    """The straight line from a baseline to the input, or to its activations at the slice.

    Completeness (the influences times the step sum to the difference of the quantity) holds in
    slice space alone, unless the slice is the input.

    Parameters
    ----------
    baseline : float or Tensor that broadcasts to the input (or to the activations)
    points : number of nodes, >= 1
    space : "slice" or "input"
    rule : "gausslegendre", "middle", "right" (i/n for i = 1..n), or "trapezoid" (both ends)

    Raises
    ------
    ValueError
        On fewer than one point, an unknown rule or space, a baseline that is not finite.

    Examples
    --------
    >>> [float(z) for _, z in line(0.0, 2, rule="right").around(torch.ones(1))]
    [0.5, 1.0]
    """
    finite("baseline", baseline)
    if points < 1:
        raise ValueError(f"a line of {points} points is a distribution of size zero; need >= 1")
    if space not in ("slice", "input"):
        raise ValueError(f"unknown space {space!r}; choose slice or input")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; choose one of {', '.join(RULES)}")
    if rule == "trapezoid" and points < 2:
        raise ValueError("the trapezoid rule needs at least 2 points")
    return Line(baseline, points, space, rule)


def gaussian(sigma: float, samples: int, generator: torch.Generator | None = None) -> Gaussian:
    """Normal noise around the input.

    Parameters
    ----------
    sigma : standard deviation, in units of the input, >= 0
    samples : number of draws, >= 1
    generator : source of the draws, on the input's device

    Raises
    ------
    ValueError
        On fewer than one sample, or a sigma that is negative or not finite.

    Examples
    --------
    >>> len(list(gaussian(0.1, 5).around(torch.zeros(1, 2))))
    5
    """
    if samples < 1:
        raise ValueError(f"{samples} samples are a distribution of size zero; need >= 1")
    finite("sigma", sigma)
    if sigma < 0:
        raise ValueError(f"sigma needs to be >= 0, got {sigma}")
    return Gaussian(sigma, samples, generator)


def empirical(batches: Batch | Iterable[Batch]) -> Empirical:
    """The inputs of a class or of a data set; the influence is the same for every x.

    Parameters
    ----------
    batches : inputs (n, ...), tensor or array, or an iterable of such batches

    Raises
    ------
    ValueError
        If it is neither; batches are looked at when they are run.

    Examples
    --------
    >>> distribution = empirical(torch.rand(8, 3))  # for internal_influence
    >>> [batch.shape for batch in distribution.batches]
    [torch.Size([8, 3])]
    """
    if not isinstance(batches, Iterable):
        raise ValueError(f"inputs (n, ...) are needed, or batches, got {type(batches).__name__}")
    return Empirical([batches] if isinstance(batches, Batch) else batches)


def nodes(rule: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights that sum to one."""
    if rule == "gausslegendre":
        at, weight = np.polynomial.legendre.leggauss(points)
        return (at + 1) / 2, weight / 2
    if rule == "trapezoid":
        weight = np.full(points, 1 / (points - 1))
        weight[[0, -1]] /= 2
        return np.linspace(0, 1, points), weight
    offset = 0.5 if rule == "middle" else 1.0
    return (np.arange(points) + offset) / points, np.full(points, 1 / points)
