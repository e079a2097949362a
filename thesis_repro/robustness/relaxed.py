"""Relaxed robustness: a set of labels that no small change alters, where one label is too much.

Defined in the chapter robustness/relaxed. Sets are sets of class indices, never of logit values,
so a tie at the edge of a set is never a guarantee.

Examples
--------
>>> from thesis_repro import data, robustness
>>> net, x = robustness.load("mnist-2c2f-gloro"), data.load("mnist-5k").test.x[:20]
>>> one, two = (certify(net, x, k=k, epsilon=0.8).certified.sum() for k in (1, 2))
>>> bool(one <= two)
True
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from thesis_repro.robustness.certifying import closer, in_batches, ready
from thesis_repro.robustness.gloro import EstimatedNet, GloroNet
from thesis_repro.robustness.guarantees import Guarantee, top, up_to, within
from thesis_repro.robustness.label_sets import (
    SetCertificate,
    allowed,
    from_logits,
    outside,
    ranked,
)
from thesis_repro.robustness.margins import REJECT, Bound
from thesis_repro.robustness.structure import check_epsilon, check_given

__all__ = [
    "EstimatedRelaxedNet",
    "Guarantee",
    "RelaxedNet",
    "SetCertificate",
    "bottom_logit",
    "certify",
    "from_logits",
    "top",
    "up_to",
    "within",
]


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

    Examples
    --------
    >>> body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> EstimatedRelaxedNet(body, 0.1, (1, 2, 2), up_to(2))(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 4])
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

    Examples
    --------
    >>> body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> RelaxedNet(body, 0.1, (1, 2, 2), up_to(2)).eval().predict(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5])
    """

    def predict(self, x: Tensor, batch_size: int | None = None) -> Tensor:
        """(n, *input_shape) to (n,) int64: the top label where a set is guaranteed, or REJECT."""
        found = certify(self, x, batch_size=batch_size)
        return torch.where(found.certified, found.order[:, 0], REJECT)


def bottom_logit(logits: Tensor, k_ij: Tensor, epsilon: float, guarantee: Guarantee) -> Tensor:
    """The largest logit less the best m_k: at or above it where no set can be shown.

    m_k = min over j in F^k, i not in F^k of y_j - y_i - epsilon K_ij. Differentiable.

    logits (batch, classes), k_ij (classes, classes) to (batch,).

    Examples
    --------
    >>> k_ij = 2 * (1 - torch.eye(3))
    >>> bottom_logit(torch.tensor([[3.0, 2.5, 1.0]]), k_ij, 0.5, up_to(2))
    tensor([2.5000])
    """
    order = ranked(logits)[:, : guarantee.sizes[-1]]
    weakest = torch.full_like(order, torch.inf, dtype=logits.dtype)
    for rank, member in enumerate(order.unbind(1)):
        ahead = logits.gather(1, member[:, None]) - logits - epsilon * k_ij[member]
        weakest = torch.minimum(weakest, outside(ahead, order, rank))
    best = weakest.masked_fill(~allowed(order, guarantee, logits.shape[1]), -torch.inf).amax(1)
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
        an unknown label, k is no whole number, not exactly one guarantee is given, or as for
        `robustness.certify`.

    References
    ----------
    Leino and Fredrikson 2021.
    """
    asked = _asked(net, k, exactly, affinity, guarantee)
    asked.check(net.classes)
    radius = check_epsilon(net.epsilon if epsilon is None else epsilon)
    x = ready(net, x, radius)
    known = net.bound() if used is None else used

    def judge(used: Bound) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
        def judged(logits: Tensor, norms: Tensor) -> tuple[Tensor, ...]:
            found = from_logits(logits, asked, used, radius, norms)
            most = from_logits(logits, asked, replace(used, rounding=None), radius)
            return found.order, found.margin, found.radii, most.guaranteed

        return judged

    made = in_batches(net, x, batch_size, judge(known))
    order, margin, radii, most = (torch.cat(values) for values in zip(*made, strict=True))
    left = (most & ~(margin > 0)).any(1)
    if left.any() and (refined := closer(net, known)):
        made = in_batches(net, x[left], batch_size, judge(refined), closer=True)
        again = [torch.cat(values) for values in zip(*made, strict=True)]
        order[left], margin[left], radii[left] = again[:3]
    return SetCertificate(order, margin, radii, net.classes, known)


def _asked(
    net: GloroNet,
    k: int | None,
    exactly: int | None,
    affinity: Iterable[Iterable[int]] | None,
    guarantee: Guarantee | None,
) -> Guarantee:
    check_given(net)
    if guarantee is not None and not isinstance(guarantee, Guarantee):
        raise ValueError(
            f"guarantee comes from top, up_to or within, as up_to(3); got {guarantee!r}"
        )
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
