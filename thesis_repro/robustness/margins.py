"""What logits, and the norms on the way to them, say of each point.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].

A certificate is about one function. That of a net whose float32 weights are widened to float64 is
another one than the float32 net, and points proved for one of the two are no proof for the other.
Still a pass in float32 says something of the float64 net: its logits differ from the exact ones by
the rounding at x, and the statement itself loses only the rounding of float64 in the ball.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_repro.robustness.lipschitz import LayerBound
from thesis_repro.robustness.rounding import Rounding

REJECT = -1
"""The prediction where the bottom class wins."""

SAFE = 2.0**-50
"""Relative size of the few float64 roundings between logits and a certificate."""


@dataclass(frozen=True)
class Bound:
    """How far each difference of two logits can move per unit of input.

    Each reading of `k_ij` gives a copy: a net keeps its bound, and what is written into a copy
    changes no certificate.

    k_sub : Lipschitz bound of everything before the last layer.
    k_ij : (classes, classes) float64; k_sub * ||w_i - w_j||, zero on the diagonal.
    layers : how the factors of k_sub were got.
    rounding : how far floating point may carry the logits; None: not accounted for.

    Examples
    --------
    >>> from thesis_repro.robustness import load
    >>> bound = load("mnist-2c2f-gloro").bound()
    >>> 0 < bound.k_sub < 100, bound.k_ij.shape
    (True, torch.Size([10, 10]))
    """

    k_sub: float
    k_ij: Tensor = field(repr=False)
    layers: tuple[LayerBound, ...]
    rounding: Rounding | None = field(default=None, repr=False)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value.clone() if name == "k_ij" else value


@dataclass(frozen=True)
class Certificate:
    """What is known of each of n points.

    Parameters
    ----------
    labels : (n,) int64
        The arg-max class; REJECT where a logit is NaN or infinite.
    radius : (n,) float64
        No point closer than this gets another label, neither in exact arithmetic nor as
        computed; 0 on a tie. It ends where the format might overflow.
    certified : (n,) bool
        The margin is positive: no point within epsilon gets another label. The radius, which is
        rounded down, exceeds epsilon then but for last digits: where the two are equal it may not.
    margin : (n,) float64
        Min over i of y_j - y_i - epsilon K_ij - rounding of the pair; positive when certified.
    bound : Bound
        The Lipschitz bound that was used.
    budget : (n,) float64
        The rounding that was taken off the smallest margin, at x and in the ball together.

    Examples
    --------
    >>> from thesis_repro import data, robustness
    >>> net, x = robustness.load("mnist-2c2f-gloro"), data.load("mnist-5k").test.x[:5]
    >>> found = robustness.certify(net, x)
    >>> torch.equal(found.certified, found.radius > net.epsilon), found.arithmetic
    (True, 'float32')
    """

    labels: Tensor
    radius: Tensor
    certified: Tensor
    margin: Tensor
    bound: Bound = field(repr=False)
    budget: Tensor

    @property
    def arithmetic(self) -> str:
        """The format, "float32" or "float64", of the one function that all of it is about.

        That is the net's weights, widened to this format if need be, and evaluated in it;
        "unknown" for a bound that does not account for rounding.
        """
        return "unknown" if self.bound.rounding is None else self.bound.rounding.ball.name


@dataclass(frozen=True)
class Pairwise:
    """How safely one class is ahead of each other class, at n points; all (n, classes) float64.

    Parameters
    ----------
    radius
        How near a point may be at which the other class has caught up, at most as far as
        overflow is excluded; infinite for the class itself, below 0 where the other is ahead.
    margin
        The difference of logits less epsilon K_ij and rounding; infinite for the class itself.
    budget
        The rounding that was taken off.
    """

    radius: Tensor
    margin: Tensor
    budget: Tensor


def pairwise(
    logits: Tensor, member: Tensor, used: Bound, epsilon: float, norms: Tensor | None = None
) -> Pairwise:
    """Compare class `member` (n,) with every class, from what :func:`measure` returns.

    Logits need to be finite. Whatever this computes in float64 is rounded to the safe side by a
    factor of 1 + 2**-50.
    """
    k_ij = used.k_ij.to(logits.device)[member]
    constants, fixed = k_ij, torch.zeros_like(k_ij)
    room = torch.full_like(k_ij[:, :1], torch.inf)
    if used.rounding is not None and norms is not None:
        found = used.rounding.budget(norms.cpu(), member.cpu())
        fixed, slope, reach = (part.to(logits.device) for part in found)
        constants, room = k_ij + slope, reach[:, None]
    gaps = logits.gather(1, member[:, None]) - logits
    own = F.one_hot(member, logits.shape[1]).bool()
    radius = (1 - SAFE) * (gaps - fixed - SAFE * gaps.abs()) / constants
    radius = torch.minimum(radius, room)
    margin = gaps - epsilon * constants - fixed
    margin = margin - SAFE * (gaps.abs() + epsilon * constants + fixed)
    margin = margin.masked_fill(room < epsilon, -torch.inf)
    return Pairwise(
        radius.masked_fill(own, torch.inf).nan_to_num(0.0, torch.inf, 0.0),
        margin.nan_to_num(-torch.inf, torch.inf, -torch.inf).masked_fill(own, torch.inf),
        fixed + epsilon * (constants - k_ij),
    )


def from_logits(
    logits: Tensor, used: Bound, epsilon: float, norms: Tensor | None = None
) -> Certificate:
    """Certificates from logits (n, classes) float64 and norms as `Rounding.budget` takes them."""
    finite = logits.isfinite().all(1)
    logits = torch.where(finite[:, None], logits, 0.0)
    top = logits.argmax(1)
    ahead = pairwise(logits, top, used, epsilon, norms)
    margin, rival = ahead.margin.min(1)
    return Certificate(
        labels=torch.where(finite, top, REJECT),
        radius=torch.where(finite, ahead.radius.amin(1).clamp_min(0.0), 0.0),
        certified=finite & (margin > 0),
        margin=torch.where(finite, margin, -torch.inf),
        bound=used,
        budget=ahead.budget.gather(1, rival[:, None])[:, 0],
    )


def filtered(
    logits: Tensor, used: Bound, epsilon: float, norms: Tensor
) -> tuple[Certificate, Tensor]:
    """Certificates of the widened net from a pass in a narrower format, and the points left open.

    Outside these points label and verdict are those that a pass in float64 gives: with E the
    rounding at x in the narrower format and e that of float64 in the ball, which x is in, a gap y
    of logits is there between y - E - e and y + E + e. Radius and margin are less by E.

    Parameters
    ----------
    logits, norms : of a pass in the narrower format, as `certifying.measure` returns them
    used : a bound whose rounding is `Rounding.filtering`

    Returns
    -------
    certificate : of n points
    left : (n,) bool; what the certificate says of these is not to be used
    """
    assert used.rounding is not None
    found = from_logits(logits, used, epsilon, norms)
    top = found.labels.clamp_min(0)
    parts = used.rounding.parts(norms.cpu(), top.cpu())
    here, ball = (part.to(logits.device) for part in parts[:2])
    gaps, reach = logits.gather(1, top[:, None]) - logits, epsilon * used.k_ij.to(top.device)[top]
    few = 4 * SAFE * (gaps.abs() + reach)
    off = here + ball + few
    own = F.one_hot(top, logits.shape[1]).bool()
    same = ((gaps > off) | own).all(1)
    # the pass in float64 takes off its rounding at x and in the ball, and may be off by the former
    certified = (found.margin[:, None] > 3 * ball + few).all(1)
    rejected = (gaps + off < reach).any(1)
    left = (found.labels == REJECT) | ~(certified | (rejected & same))
    return replace(found, certified=certified), left


def concatenated(parts: Sequence[Certificate]) -> Certificate:
    """One certificate of all points, from those of batches under the same bound."""
    names = [field.name for field in fields(Certificate) if field.name != "bound"]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Certificate(**whole, bound=parts[0].bound)


def replaced(found: Certificate, where: Tensor, other: Certificate) -> Certificate:
    """The certificate with other verdicts at the points of the mask `where` (n,)."""
    names = ("labels", "radius", "certified", "margin", "budget")
    values = {name: getattr(found, name).clone() for name in names}
    for name, value in values.items():
        value[where] = getattr(other, name)
    return replace(found, **values)
