"""Relaxed robustness: a set of labels that no small change alters, where one label is too much.

Defined in the chapter robustness/relaxed. Sets are sets of class indices, never of logit values,
so a tie at the edge of a set is never a guarantee.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from thesis_repro.robustness.certifying import in_batches, ready, refinable, refined
from thesis_repro.robustness.gloro import EstimatedNet, GloroNet
from thesis_repro.robustness.guarantees import Guarantee, top, up_to, within
from thesis_repro.robustness.margins import REJECT, Bound, pairwise

__all__ = [
    "EstimatedRelaxedNet",
    "Guarantee",
    "RelaxedNet",
    "SetCertificate",
    "bottom_logit",
    "certify",
    "from_logits",
    "top",
    "top_sets",
    "up_to",
    "within",
]


@dataclass(frozen=True)
class SetCertificate:
    """What is guaranteed of n points; K is the largest size that the guarantee allows.

    Parameters
    ----------
    order : (n, K) int64
        The K classes of the largest logits, best first, ties by index: the first k are F^k.
    margin : (n, K) float64
        Column k - 1: how far the weakest label in F^k stays ahead of the strongest outside,
        anywhere in the ball; positive when F^k is guaranteed, minus infinity where it may not be.
    radii : (n, K) float64
        No point closer than this has another F^k; 0 where that may not be guaranteed.
    classes : int
    bound : Bound
        The Lipschitz bound that was used.
    """

    order: Tensor
    margin: Tensor
    radii: Tensor
    classes: int
    bound: Bound

    @property
    def guaranteed(self) -> Tensor:
        """(n, K) bool: which F^k stay the same throughout the ball."""
        return self.margin > 0

    @property
    def certified(self) -> Tensor:
        """(n,) bool: some F^k is guaranteed; the others are rejected."""
        return self.guaranteed.any(1)

    @property
    def radius(self) -> Tensor:
        """(n,) float64: the largest radius at which some F^k is guaranteed."""
        return self.radii.amax(1)

    @property
    def strictest(self) -> Tensor:
        """(n,) int64: the smallest guaranteed k; 0 where rejected."""
        return torch.where(self.certified, self.guaranteed.int().argmax(1) + 1, 0)

    @property
    def loosest(self) -> Tensor:
        """(n,) int64: the largest guaranteed k; 0 where rejected."""
        last = self.guaranteed.flip(1).int().argmax(1)
        return torch.where(self.certified, self.guaranteed.shape[1] - last, 0)

    def sets(self, k: Tensor | None = None) -> Tensor:
        """(n, classes) bool: F^k with k (n,) of each point, by default the strictest; k = 0: none.

        Raises
        ------
        ValueError
            If k is not in [0, K].
        """
        k = self.strictest if k is None else k
        largest = self.order.shape[1]
        if k.min() < 0 or k.max() > largest:
            raise ValueError(
                f"k needs to lie in [0, {largest}], got {k.min().item()} to {k.max().item()}"
            )
        chosen = torch.arange(largest, device=k.device)[None] < k[:, None]
        mask = torch.zeros(len(k), self.classes, dtype=torch.bool, device=k.device)
        return mask.scatter(1, self.order, chosen)


class EstimatedRelaxedNet(EstimatedNet):
    """A net whose bottom logit wins only where no set of the guarantee seems to be there.

    K is estimated, as in EstimatedNet: this is what is trained.

    Parameters
    ----------
    body, epsilon, input_shape, power_steps : as for EstimatedNet
    guarantee : from `top`, `up_to` or `within`

    Raises
    ------
    ValueError
        As for EstimatedNet; if the guarantee does not fit the classes, or leaves a class out of all
        affinity sets: training would have to reject all of its points.

    References
    ----------
    Leino and Fredrikson 2021.
    """

    def __init__(
        self,
        body: nn.Sequential,
        epsilon: float,
        input_shape: tuple[int, int, int],
        guarantee: Guarantee,
        power_steps: int = 5,
    ) -> None:
        super().__init__(body, epsilon, input_shape, power_steps)
        guarantee.check(self.classes)
        alone = set(range(self.classes)) - {i for chosen in guarantee.affinity for i in chosen}
        if guarantee.affinity and alone:
            raise ValueError(f"classes {sorted(alone)} are in no affinity set; give each one alone")
        self.guarantee = guarantee

    def bottom(self, logits: Tensor, epsilon: float) -> Tensor:
        """The bottom logit of the guarantee: (batch, classes) to (batch,)."""
        return bottom_logit(logits, self.k_ij(), epsilon, self.guarantee)


class RelaxedNet(EstimatedRelaxedNet, GloroNet):
    """A GloRo net whose bottom logit wins only where no set of the guarantee can be shown.

    Parameters
    ----------
    body, epsilon, input_shape, guarantee, power_steps : as for EstimatedRelaxedNet

    Raises
    ------
    ValueError
        As for EstimatedRelaxedNet.

    References
    ----------
    Leino and Fredrikson 2021.
    """

    def predict(self, x: Tensor, batch_size: int | None = None) -> Tensor:
        """(n, *input_shape) to (n,) int64: the top label where a set is guaranteed, or REJECT."""
        found = certify(self, x, batch_size=batch_size)
        return torch.where(found.certified, found.order[:, 0], REJECT)


def bottom_logit(logits: Tensor, k_ij: Tensor, epsilon: float, guarantee: Guarantee) -> Tensor:
    """The largest logit less the best m_k: at or above it where no set can be shown.

    m_k = min over j in F^k, i not in F^k of y_j - y_i - epsilon K_ij. Differentiable.

    logits (batch, classes), k_ij (classes, classes) to (batch,).
    """
    order = _ranked(logits)[:, : guarantee.sizes[-1]]
    weakest = torch.full_like(order, torch.inf, dtype=logits.dtype)
    for rank, member in enumerate(order.unbind(1)):
        ahead = logits.gather(1, member[:, None]) - logits - epsilon * k_ij[member]
        weakest = torch.minimum(weakest, _outside(ahead, order, rank))
    best = weakest.masked_fill(~_allowed(order, guarantee, logits.shape[1]), -torch.inf).amax(1)
    return logits.amax(1) - best


def certify(
    net: GloroNet,
    x: Tensor,
    *,
    k: int | None = None,
    exactly: int | None = None,
    affinity: Iterable[Iterable[int]] | None = None,
    guarantee: Guarantee | None = None,
    epsilon: float | None = None,
    batch_size: int | None = None,
    used: Bound | None = None,
) -> SetCertificate:
    """Find the sets of labels that stay on top within epsilon, by one forward pass.

    Parameters
    ----------
    net : GloroNet
        Trained with any objective.
    x : (n, *input_shape), pixels in [0, 1]
    k : relaxed top-K robustness; k=1 is what `robustness.certify` says
    exactly : top-k robustness for this k alone
    affinity : affinity robustness with these sets of class indices
    guarantee : from `top`, `up_to` or `within`
        Of the four, give one; none for a RelaxedNet's own guarantee.
    epsilon : radius > 0, the net's own by default
    batch_size : points at a time; by default as `batches.size` says
    used : another bound than the net's own; it is not checked

    Raises
    ------
    ValueError
        If a size is below 1 or not below the number of classes, an affinity set is empty or names
        an unknown label, not exactly one guarantee is given, or as for `robustness.certify`.

    References
    ----------
    Leino and Fredrikson 2021.
    """
    asked = _asked(net, k, exactly, affinity, guarantee)
    asked.check(net.classes)
    radius = net.epsilon if epsilon is None else epsilon
    x = ready(net, x, radius)
    known = net.bound() if used is None else used

    bare = replace(known, rounding=None)

    def judge(logits: Tensor, norms: Tensor) -> tuple[Tensor, ...]:
        found = from_logits(logits, asked, known, radius, norms)
        most = from_logits(logits, asked, bare, radius)
        return found.order, found.margin, found.radii, most.guaranteed

    judged = in_batches(net, x, batch_size, judge)
    order, margin, radii, most = (torch.cat(values) for values in zip(*judged, strict=True))
    left = (most & ~(margin > 0)).any(1)
    if left.any() and refinable(net, known):
        logits, norms, closer = refined(net, x[left], batch_size, known)
        found = from_logits(logits, asked, closer, radius, norms)
        order[left], margin[left], radii[left] = found.order, found.margin, found.radii
    return SetCertificate(order, margin, radii, net.classes, known)


def from_logits(
    logits: Tensor, guarantee: Guarantee, used: Bound, epsilon: float, norms: Tensor | None = None
) -> SetCertificate:
    """Certificates from what `certifying.measure` returns; memory grows as n * classes."""
    finite = logits.isfinite().all(1, keepdim=True)
    logits = torch.where(finite, logits, 0.0)
    order = _ranked(logits)[:, : guarantee.sizes[-1]]
    margin = torch.full_like(order, torch.inf, dtype=torch.float64)
    radii = margin
    for rank, member in enumerate(order.unbind(1)):
        ahead = pairwise(logits, member, used, epsilon, norms)
        margin = torch.minimum(margin, _outside(ahead.margin, order, rank))
        radii = torch.minimum(radii, _outside(ahead.radius, order, rank))
    allowed = finite & _allowed(order, guarantee, logits.shape[1])
    return SetCertificate(
        order,
        margin.masked_fill(~allowed, -torch.inf),
        radii.clamp_min(0.0).masked_fill(~allowed, 0.0),
        logits.shape[1],
        used,
    )


def top_sets(logits: Tensor, k: int) -> Tensor:
    """F^k of each point: (n, classes) to (n, classes) bool.

    Raises
    ------
    ValueError
        If k is not in [1, classes), or the k-th and the next logit of a point are equal, so that
        its F^k does not exist.
    """
    top(k).check(logits.shape[1])
    values, order = logits.sort(dim=1, descending=True, stable=True)
    tied = values[:, k - 1] <= values[:, k]
    if tied.any():
        row = int(tied.int().argmax())
        raise ValueError(
            f"point {row} has no top-{k} set: the logits of classes {order[row, k - 1].item()} and "
            f"{order[row, k].item()} are equal"
        )
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, order[:, :k], True)


def _asked(
    net: GloroNet,
    k: int | None,
    exactly: int | None,
    affinity: Iterable[Iterable[int]] | None,
    guarantee: Guarantee | None,
) -> Guarantee:
    given = [guarantee] if guarantee is not None else []
    given += [up_to(k)] if k is not None else []
    given += [top(exactly)] if exactly is not None else []
    given += [within(affinity)] if affinity is not None else []
    if not given and isinstance(net, RelaxedNet):
        return net.guarantee
    if len(given) != 1:
        raise ValueError(
            f"give one of k, exactly, affinity and guarantee, got {len(given)} of them"
        )
    return given[0]


def _ranked(logits: Tensor) -> Tensor:
    """Classes by falling logit; equal logits by index, as arg-max takes them."""
    return logits.sort(dim=1, descending=True, stable=True).indices


def _outside(ahead: Tensor, order: Tensor, rank: int) -> Tensor:
    """The smallest lead of the class of this rank over all outside F^k, for k = 1..K.

    ahead (n, classes), order (n, K) to (n, K); infinite for k <= rank, where F^k lacks the class.
    A class is outside F^k if it is not in `order` at all, or has a rank of k or more.
    """
    never_in = ahead.scatter(1, order, torch.inf).amin(1, keepdim=True)
    later = torch.cat([ahead.gather(1, order[:, 1:]), never_in], 1)
    running = later.flip(1).cummin(1).values.flip(1)
    return torch.cat([torch.full_like(running[:, :rank], torch.inf), running[:, rank:]], 1)


def _allowed(order: Tensor, guarantee: Guarantee, classes: int) -> Tensor:
    """Whether F^k may be guaranteed, for k = 1..K: (n, K) bool."""
    sizes = torch.zeros(order.shape[1], dtype=torch.bool, device=order.device)
    sizes[[size - 1 for size in guarantee.sizes]] = True
    if not guarantee.affinity:
        return sizes.expand(order.shape)
    found = torch.zeros_like(order, dtype=torch.bool)
    for chosen in guarantee.affinity:
        member = torch.zeros(classes, dtype=torch.bool, device=order.device)
        member[list(chosen)] = True
        found |= member[order].long().cumprod(1).bool()
    return found & sizes
