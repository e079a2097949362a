"""Sets of labels that no small change alters: what logits say of them, and the certificate.

Sets are sets of class indices, never of logit values, so a tie at the edge of a set is never a
guarantee.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from thesis_repro.robustness.guarantees import Guarantee
from thesis_repro.robustness.margins import Bound, pairwise


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

    Examples
    --------
    >>> from thesis_repro import data, robustness
    >>> from thesis_repro.robustness import relaxed
    >>> net, x = robustness.load("mnist-2c2f-gloro"), data.load("mnist-5k").test.x[:20]
    >>> found = relaxed.certify(net, x, k=2, epsilon=1.0)
    >>> found.sets().shape, bool((found.sets().sum(1) == found.strictest).all())
    (torch.Size([20, 10]), True)
    """

    order: Tensor
    margin: Tensor
    radii: Tensor
    classes: int
    bound: Bound = field(repr=False)

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


def from_logits(
    logits: Tensor, guarantee: Guarantee, used: Bound, epsilon: float, norms: Tensor | None = None
) -> SetCertificate:
    """Certificates from what `certifying.measure` returns; memory grows as n * classes."""
    finite = logits.isfinite().all(1, keepdim=True)
    logits = torch.where(finite, logits, 0.0)
    order = ranked(logits)[:, : guarantee.sizes[-1]]
    margin = torch.full_like(order, torch.inf, dtype=torch.float64)
    radii = margin
    for rank, member in enumerate(order.unbind(1)):
        ahead = pairwise(logits, member, used, epsilon, norms)
        margin = torch.minimum(margin, outside(ahead.margin, order, rank))
        radii = torch.minimum(radii, outside(ahead.radius, order, rank))
    may_be = finite & allowed(order, guarantee, logits.shape[1])
    return SetCertificate(
        order,
        margin.masked_fill(~may_be, -torch.inf),
        radii.clamp_min(0.0).masked_fill(~may_be, 0.0),
        logits.shape[1],
        used,
    )


def ranked(logits: Tensor) -> Tensor:
    """Classes by falling logit; equal logits by index, as arg-max takes them."""
    return logits.sort(dim=1, descending=True, stable=True).indices


def outside(ahead: Tensor, order: Tensor, rank: int) -> Tensor:
    """The smallest lead of the class of this rank over all outside F^k, for k = 1..K.

    ahead (n, classes), order (n, K) to (n, K); infinite for k <= rank, where F^k lacks the class.
    A class is outside F^k if it is not in `order` at all, or has a rank of k or more.
    """
    never_in = ahead.scatter(1, order, torch.inf).amin(1, keepdim=True)
    later = torch.cat([ahead.gather(1, order[:, 1:]), never_in], 1)
    running = later.flip(1).cummin(1).values.flip(1)
    return torch.cat([torch.full_like(running[:, :rank], torch.inf), running[:, rank:]], 1)


def allowed(order: Tensor, guarantee: Guarantee, classes: int) -> Tensor:
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
