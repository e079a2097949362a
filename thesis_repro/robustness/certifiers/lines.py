"""What the dual bound rests on: the ball, the lines around ReLUs, and a hull of the relaxed net.

The relaxed net takes any input of the ball, and at each ReLU whose sign is open any value between
two parallel lines. KW's bounds of a unit are its extremes over all that the relaxed net can do.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.robustness import proof
from thesis_repro.robustness.certifiers import row_lengths
from thesis_repro.robustness.layers import reweighted


@dataclass(frozen=True)
class Ball:
    """The inputs within epsilon of x (n, *shape), in the L2 or the maximum norm."""

    x: Tensor
    epsilon: float
    norm: float

    def reach(self, rows: Tensor) -> Tensor:
        """How far r.x moves within the ball, for rows r (..., rows, features): (..., rows)."""
        return self.epsilon * (proof.lengths(rows) if self.norm == 2 else rows.abs().sum(-1))

    def at(self, part: slice) -> "Ball":
        """The balls of some points."""
        return Ball(self.x[part], self.epsilon, self.norm)


@dataclass(frozen=True)
class Slopes:
    """The lines around a layer of ReLUs: slope of both, and l where the sign is open, else 0.

    slope, low : (n, 1, *shape)
    sent : (n,) int64, how many units were sent back for their bounds
    """

    slope: Tensor
    low: Tensor
    sent: Tensor

    def at(self, part: slice) -> "Slopes":
        """The lines of some points."""
        return Slopes(self.slope[part], self.low[part], self.sent[part])


Lines = dict[str, Slopes]
"""The lines around every ReLU, by the layer's name."""
Bounds = tuple[Tensor, Tensor]
"""Lower and upper bounds."""


def lines(low: Tensor, high: Tensor, sent: Tensor) -> Slopes:
    """Slope 1 where the input is never negative, 0 where never positive, else u / (u - l).

    low, high : (n, *shape), bounds of the inputs. NaN counts as open, and stays NaN.
    """
    low, high = low[:, None], high[:, None]
    crossing = unstable(low, high)
    slope = torch.where(crossing, high / (high - low), (low >= 0).to(low))
    return Slopes(slope, low.where(crossing, 0.0), sent)


def unstable(low: Tensor, high: Tensor) -> Tensor:
    """Where the bounds leave the sign open."""
    return ~((low >= 0) | (high <= 0))


@dataclass(frozen=True)
class Hull:
    """An interval for each activation of the relaxed net: centre - reach to centre + reach.

    centre, reach : (n or 1, *shape)
    passed : linear layers and layers of ReLUs so far; up to one linear layer the interval is
        exact, since it comes from the lengths of the layer's rows
    """

    centre: Tensor
    reach: Tensor
    passed: int = 0

    @property
    def exact(self) -> bool:
        """Whether no interval is wider than what the relaxed net does."""
        return self.passed <= 1

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each activation: two of (n, *shape)."""
        return self.centre - self.reach, self.centre + self.reach

    def through(self, layer: nn.Module, shape: tuple[int, ...], norm: float) -> "Hull":
        """Behind a layer that is no ReLU, with inputs of this shape."""
        if isinstance(layer, nn.Flatten):
            return Hull(layer(self.centre), layer(self.reach), self.passed)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if not self.passed:  # the ball itself: each row reaches as far as it is long
            epsilon = self.reach.flatten()[0]
            found = epsilon * row_lengths(layer, shape, norm)
        else:
            found = reweighted(layer, layer.weight.abs(), self.reach)
        return Hull(layer(self.centre), found, self.passed + 1)

    def between(self, low: Tensor, high: Tensor, slopes: Slopes) -> "Hull":
        """Behind a layer of ReLUs whose inputs lie between low and high, both (n, *shape)."""
        slope, gap = slopes.slope[:, 0], -slopes.slope[:, 0] * slopes.low[:, 0] / 2
        # a line is slope * z, the other one higher by 2 * gap
        centre, reach = (low + high) / 2, (high - low) / 2
        return Hull(slope * centre + gap, slope * reach + gap, self.passed + 1)


def hull_of(ball: Ball) -> Hull:
    """The hull of the inputs."""
    return Hull(ball.x, torch.full_like(ball.x[:1], ball.epsilon))


def unit_rows(places: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Unit vectors (1, len(places), *shape) of the units at these flat places."""
    one = like.new_zeros(len(places), math.prod(shape)).scatter_(1, places[:, None], 1.0)
    return one.view(1, len(places), *shape)
