"""What VRA some classifier can attain on given points, and one with a global bound that does.

Two points of different labels within twice the radius cannot both be right and locally robust: the
balls around them meet, and a point where they meet would have both labels. A set without such a
pair is certified, whole, by the classifier that answers with the label of the nearest point, from
one global Lipschitz constant (Leino, Wang and Fredrikson 2021, on the expressiveness of global
bounds). So a global bound loses nothing in what can be attained.
"""

from dataclasses import dataclass

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor, nn

from thesis_repro.data.images import labels as as_labels
from thesis_repro.data.images import tensor
from thesis_repro.lab.checks import finite, whole
from thesis_repro.robustness.structure import check_epsilon


class ByDistance(nn.Module):
    """The logit of a class: minus the distance from its nearest point.

    A distance from a set moves by no more than the point does, so each logit is 1-Lipschitz, and
    the difference of two is `K` = 2 Lipschitz: everywhere, and not only near the points.

    Parameters
    ----------
    x : (n, ...) points
    y : (n,) int64 labels in [0, classes), each of which has a point

    Raises
    ------
    ValueError
        If a class has no point, labels do not fit, or points are no finite floats.

    Examples
    --------
    >>> net = ByDistance(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    >>> net(torch.tensor([[0.25]])).tolist()
    [[-0.25, -0.75]]
    """

    K = 2.0

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        x, y = _points(x, y)
        labels = y.unique()
        if len(labels) != int(labels.max()) + 1 or len(labels) < 2 or labels.min() < 0:
            raise ValueError(f"each of two or more classes needs a point, got {labels.tolist()}")
        self.of = [x[y == label].flatten(1).double() for label in labels]

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, classes) float64."""
        flat = x.flatten(1).double()
        near = [torch.cdist(flat, points).amin(1) for points in self.of]
        return -torch.stack(near, 1)

    def certified(self, x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Labels (n,), and whether the answer holds in the ball of radius epsilon (n,).

        The answer is ahead of the runner-up by more than the difference can change: K epsilon.

        Raises
        ------
        ValueError
            If epsilon is not above 0.
        """
        epsilon = check_epsilon(epsilon)
        first = self(x).topk(2)
        lead = first.values[:, 0] - first.values[:, 1]
        return first.indices[:, 0], lead > self.K * epsilon


def nearest_other(x: Tensor, y: Tensor, batch_size: int = 1000) -> Tensor:
    """The distance (L2) of each point from the nearest one of another label: (n,) float64.

    x : (n, ...); y : (n,). Infinite where all labels are one. From products of matrices, so that
    distances are known to about 1e-7 of the points' norm.

    Raises
    ------
    ValueError
        If labels do not fit, points are no finite floats, or batch_size is below 1.
    """
    batch_size = whole("batch_size", batch_size)
    x, y = _points(x, y)
    flat = x.flatten(1).double()
    found = []
    for part, label in zip(flat.split(batch_size), y.split(batch_size), strict=True):
        apart = torch.cdist(part, flat)
        found.append(apart.masked_fill(label[:, None] == y[None], torch.inf).amin(1))
    return torch.cat(found)


@dataclass(frozen=True)
class Attainable:
    """How many of n points some classifier can have right and robust at once: at least, at most."""

    least: int
    most: int
    n: int


def attainable(x: Tensor, y: Tensor, epsilon: float, near: Tensor | None = None) -> Attainable:
    """Bounds on the attainable VRA of points at a radius; near : of `nearest_other`, if known.

    At least: the points with no other label within 2 epsilon, which can be had all at once. At
    most: what is left by the least weights of points that add up to 1 or more in each such pair,
    since at least one point of a pair is lost. By duality these weights sum to half of the largest
    matching of points with points in which each takes part once on either side.

    Raises
    ------
    ValueError
        If epsilon is not above 0, or `near` is of other points; as :func:`nearest_other`.
    """
    epsilon = check_epsilon(epsilon)
    x, y = _points(x, y)
    near = nearest_other(x, y) if near is None else near
    if near.shape != y.shape:
        raise ValueError(f"near needs a distance for each of {len(y)} points: {tuple(near.shape)}")
    crowded = (near <= 2 * epsilon).nonzero()[:, 0]
    points, labels = x[crowded].flatten(1).double(), y[crowded]
    meets = torch.cdist(points, points) <= 2 * epsilon
    meets &= labels[:, None] != labels[None]
    matched = maximum_bipartite_matching(csr_matrix(meets.cpu().numpy())) >= 0
    lost = -(-int(matched.sum()) // 2)  # whole points: rounded up
    return Attainable(len(x) - len(crowded), len(x) - lost, len(x))


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Points and labels, after a look at both."""
    x = tensor("x", x)
    finite("x", x)
    return x, as_labels("y", y, x)
