"""Certificates: the proven bound of a net, and what one forward pass says of each point.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.lab import threads
from thesis_repro.robustness import batches, lipschitz, proof, rounding, structure
from thesis_repro.robustness.arithmetic import exact
from thesis_repro.robustness.lipschitz import LayerBound
from thesis_repro.robustness.rounding import Rounding

Made = TypeVar("Made")

REJECT = -1
"""The prediction where the bottom class wins."""

SAFE = 2.0**-50
"""Relative size of the few float64 roundings between logits and a certificate."""


@dataclass(frozen=True)
class Bound:
    """How far each difference of two logits can move per unit of input.

    k_sub : Lipschitz bound of everything before the last layer.
    k_ij : (classes, classes) float64; k_sub * ||w_i - w_j||, zero on the diagonal.
    layers : how the factors of k_sub were got.
    rounding : how far floating point may carry the logits; None: not accounted for.
    """

    k_sub: float
    k_ij: Tensor
    layers: tuple[LayerBound, ...]
    rounding: Rounding | None = None


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
        The radius exceeds epsilon.
    margin : (n,) float64
        Min over i of y_j - y_i - epsilon K_ij - rounding of the pair; positive when certified.
    bound : Bound
        The Lipschitz bound that was used.
    budget : (n,) float64
        The rounding that was taken off the smallest margin, at x and in the ball together.
    """

    labels: Tensor
    radius: Tensor
    certified: Tensor
    margin: Tensor
    bound: Bound
    budget: Tensor


class Certifiable(Protocol):
    """What is certified: a body that ends in a linear layer, a radius, and a bound."""

    @property
    def body(self) -> nn.Sequential:
        """From inputs to the logits."""

    @property
    def epsilon(self) -> float:
        """Radius > 0."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (channels, height, width)."""

    def bound(self) -> Bound:
        """The proven bound of the weights as they are."""


def pairwise_norms(weight: Tensor) -> Tensor:
    """(classes, features) to (classes, classes): ||w_i - w_j||, row by row, zero diagonal.

    With gradients, for training; certificates take `rounding.differences`, which underflows
    nowhere.
    """
    return torch.stack([(weight - row).norm(dim=1) for row in weight])


@threads.limit(1)
def bound(
    body: nn.Sequential, input_shape: tuple[int, ...], method: str = "auto", seconds: float = 0.5
) -> Bound:
    """Bound the net layer by layer; the last layer enters by its differences of rows.

    `method` and `seconds` are those of `lipschitz.upper_bound`, per layer.

    Raises
    ------
    ValueError
        If a layer is unknown, a weight is not finite, or the weights are neither float32 nor
        float64.
    """
    structure.admitted(body)
    parts = list(lipschitz.layers(body, input_shape))
    head = lipschitz.plain_linear(*parts[-1][:2])
    bounds = tuple(lipschitz.layer_bound(*part, method, seconds) for part in parts[:-1])
    k_sub = 1.0
    for part in bounds:
        k_sub = proof.times(k_sub, part.value)
    weight, roundings = rounding.last(head)
    apart = rounding.differences(weight) * (1 + proof.gamma(weight.shape[1] + 5))
    apart = apart + 3 * proof.gamma(roundings) * (1 - torch.eye(len(weight)))
    k_ij = k_sub * apart * (1 + 2 * proof.UNIT)
    if k_sub > 0:  # what would underflow
        k_ij = torch.where(apart > 0, k_ij.clamp_min(proof.TINY), k_ij)
    values = [part.value for part in bounds]
    return Bound(k_sub, k_ij, bounds, rounding.of(body, input_shape, values, head))


def certify(
    net: Certifiable,
    x: Tensor,
    epsilon: float | None = None,
    batch_size: int | None = None,
    used: Bound | None = None,
) -> Certificate:
    """Certify each point by one forward pass.

    Parameters
    ----------
    net : Certifiable, a GloroNet for one
    x : (n, *input_shape), pixels in [0, 1]
    epsilon : radius > 0, the net's own by default
    batch_size : points at a time; by default as `batches.size` says. No certificate depends on
        it; radii may in their last digits, by the order in which convolutions add up
    used : another bound than the net's own, to see what it would say; it is not checked

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        On a wrong shape, pixels outside [0, 1], epsilon <= 0, weights that are not finite, or
        weights or images in another format than float32 or float64.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3: the point is certified when the bottom logit is
    below the top logit, which is to say min over i of (y_j - y_i) / K_ij > epsilon.
    """
    radius = net.epsilon if epsilon is None else epsilon
    x = ready(net, x, radius)
    known = net.bound() if used is None else used

    def judge(logits: Tensor, norms: Tensor) -> Certificate:
        return _from_logits(logits, known, radius, norms)

    found = in_batches(net, x, batch_size, judge)
    names = [field.name for field in fields(Certificate) if field.name != "bound"]
    joined = {name: torch.cat([getattr(part, name) for part in found]) for name in names}
    return Certificate(**joined, bound=known)


def measure(
    net: Certifiable, x: Tensor, epsilon: float, batch_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """What certificates are made of, by one forward pass in the arithmetic that they are about.

    Parameters
    ----------
    net, x, epsilon, batch_size : as for :func:`certify`

    Returns
    -------
    logits : (n, classes) float64
    norms : (n, layers) float64
        At least the norm of the input of each layer that rounds; zero for the others.

    Raises
    ------
    ValueError
        As for :func:`certify`.
    """
    x = ready(net, x, epsilon)
    passes = in_batches(net, x, batch_size, lambda logits, norms: (logits, norms))
    logits, norms = (torch.cat(parts) for parts in zip(*passes, strict=True))
    return logits, norms


def in_batches(
    net: Certifiable,
    x: Tensor,
    batch_size: int | None,
    judge: Callable[[Tensor, Tensor], Made],
) -> list[Made]:
    """What `judge` makes of logits and norms as :func:`measure` gives them, batch by batch.

    x is what :func:`ready` returned. Memory grows with a batch times classes, and what is made.
    """
    with exact(net.body), torch.no_grad():
        together = batches.size(net.body, x, True) if batch_size is None else batch_size
        passes = (_forward(net.body, part) for part in x.split(together))
        return [judge(logits.double(), norms) for logits, norms in passes]


def ready(net: Certifiable, x: Tensor, epsilon: float) -> Tensor:
    """The images in the net's format, after a look at all that is given.

    Raises
    ------
    ValueError
        As for :func:`certify`.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon needs to be positive, got {epsilon}")
    check_images(x, net.input_shape)
    structure.check(net.body)
    return _widened(x, structure.precision(net.body))


def _forward(body: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, classes), and the norms (n, layers) of the inputs of the layers that round."""
    norms = []
    for layer in body:
        known = rounding.measured(layer)
        norms.append(rounding.norms(x) if known else x.new_zeros(len(x), dtype=torch.float64))
        x = layer(x)
    if x.ndim != 2:
        raise ValueError(
            f"a net needs to give (n, classes), got shape {tuple(x.shape)}: put nn.Flatten() "
            f"before the last layer"
        )
    return x, torch.stack(norms, 1)


def _widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The images in the net's format, if none of their digits is lost."""
    if torch.promote_types(x.dtype, dtype) != dtype or not x.is_floating_point():
        raise ValueError(
            f"images need to be {str(dtype).removeprefix('torch.')} as the net is, got "
            f"{str(x.dtype).removeprefix('torch.')}"
        )
    return x.to(dtype)


@dataclass(frozen=True)
class Lead:
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


def lead(
    logits: Tensor, member: Tensor, used: Bound, epsilon: float, norms: Tensor | None = None
) -> Lead:
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
    return Lead(
        radius.masked_fill(own, torch.inf).nan_to_num(0.0, torch.inf, 0.0),
        margin.nan_to_num(-torch.inf, torch.inf, -torch.inf).masked_fill(own, torch.inf),
        fixed + epsilon * (constants - k_ij),
    )


def _from_logits(
    logits: Tensor, used: Bound, epsilon: float, norms: Tensor | None = None
) -> Certificate:
    """Certificates from logits (n, classes) float64 and the norms (n, layers) of `measure`."""
    finite = logits.isfinite().all(1)
    logits = torch.where(finite[:, None], logits, 0.0)
    top = logits.argmax(1)
    ahead = lead(logits, top, used, epsilon, norms)
    margin, rival = ahead.margin.min(1)
    return Certificate(
        labels=torch.where(finite, top, REJECT),
        radius=torch.where(finite, ahead.radius.amin(1).clamp_min(0.0), 0.0),
        certified=finite & (margin > 0),
        margin=torch.where(finite, margin, -torch.inf),
        bound=used,
        budget=ahead.budget.gather(1, rival[:, None])[:, 0],
    )


def check_images(x: Tensor, input_shape: tuple[int, ...]) -> None:
    """Refuse what is no tensor, inputs of a wrong shape, and pixels outside [0, 1]."""
    if not isinstance(x, Tensor):
        raise ValueError(f"images need to be a torch tensor, got {type(x).__name__}")
    if tuple(x.shape[1:]) != tuple(input_shape) or not len(x):
        raise ValueError(
            f"images need shape (n, {', '.join(map(str, input_shape))}) with n >= 1, got "
            f"{tuple(x.shape)}"
        )
    low, high = (end.item() for end in x.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels need to lie in [0, 1], got values from {low:.3g} to {high:.3g}")
