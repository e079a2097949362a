"""Internal influence: how much each unit of a slice contributes to a behaviour of the net.

For a net f = g ∘ h, a quantity of interest q and a distribution of interest D,

    influence = E over x ~ D of the gradient of q ∘ g with respect to z, at z = h(x).

Explained in the chapter explanations/influence.

References
----------
Leino, Sen, Datta, Fredrikson and Li 2018, definition of influence; thesis, part I.
"""

import warnings

import torch
from torch import Tensor, nn

from thesis_repro.data.images import tensor
from thesis_repro.explanations.distributions import (
    Distribution,
    Empirical,
    Line,
    empirical,
    gaussian,
    line,
    point,
)
from thesis_repro.explanations.quantities import (
    REDUCTIONS,
    Quantity,
    Score,
    as_quantity,
    class_score,
    comparative,
    max_class,
    unit,
)
from thesis_repro.explanations.slicing import Cut, Slice
from thesis_repro.lab.checks import finite, whole

__all__ = [
    "Cut",
    "Distribution",
    "Quantity",
    "Slice",
    "ZeroInfluence",
    "class_score",
    "comparative",
    "empirical",
    "gaussian",
    "internal_influence",
    "line",
    "max_class",
    "per_unit",
    "point",
    "unit",
]


class ZeroInfluence(UserWarning):
    """Every gradient was exactly zero: saturated, or the slice does not matter here."""


def internal_influence(
    model: nn.Module,
    x: Tensor,
    slice: Slice,
    quantity: Quantity | Score,
    distribution: Distribution,
    *,
    multiply: bool = False,
    batch_size: int = 256,
) -> Tensor:
    """Mean gradient of a quantity with respect to the activations at a slice.

    Parameters
    ----------
    model : nn.Module, in eval mode, without in-place activations; it comes back as it was
    x : (n, ...) float tensor or array, the instances to explain; moved to the model's device
    slice : dotted name of the module whose output gets the credit, "" for the input, or two
        callables (h, g) with model(x) = g(h(x))
    quantity : Quantity or callable (n, classes) -> (n,)
    distribution : around each x, or one for all (``empirical``)
    multiply : multiply by the activations less the line's baseline (less zero in other cases),
        which turns influence into an attribution
    batch_size : most rows in one pass; memory does not grow with the number of points

    Returns
    -------
    Tensor shaped like the slice's activations at x, in x's dtype

    Raises
    ------
    ValueError
        On a batch size that is none, an unknown layer (close names are listed), a model in
        training mode, an in-place activation, a quantity that does not depend on the slice, or a
        distribution of size zero; on a slice, quantity or distribution that is none; where
        inputs, quantity or gradients are not finite.

    Warns
    -----
    ZeroInfluence
        If every gradient was exactly zero.

    References
    ----------
    Leino et al. 2018. Saliency (Simonyan et al. 2014) is slice "" at a point; integrated
    gradients (Sundararajan et al. 2017) is slice "" on a line, multiplied.

    Examples
    --------
    >>> net, x = torch.nn.Linear(3, 2).eval(), torch.ones(1, 3)
    >>> torch.equal(internal_influence(net, x, "", class_score(0), point())[0], net.weight[0])
    True
    """
    batch_size = whole("batch_size", batch_size)
    x = _instances(model, x)
    cut, wanted = Cut(model, slice), as_quantity(quantity)
    _check_distribution(distribution)
    found = _mean_gradient(cut, x, wanted, distribution, batch_size).to(x.dtype)
    if multiply:
        found = found * _moved(cut, x, distribution, batch_size)
    finite(f"the influence of {cut.said} on {wanted.name}", found)
    return found


def _check_distribution(given: object) -> None:
    if not isinstance(given, Distribution):
        said = getattr(given, "__name__", type(given).__name__)
        raise ValueError(
            f"a distribution is needed: point(), line(...), gaussian(...) or empirical(...), "
            f"got {said}"
        )


def _instances(model: nn.Module, x: Tensor) -> Tensor:
    """What is to be explained, on the model's device."""
    x = tensor("x", x, model)
    if not len(x):
        raise ValueError("x has no rows: there is nothing to explain")
    finite("x", x)
    return x


def _mean_gradient(
    cut: Cut, x: Tensor, quantity: Quantity, distribution: Distribution, batch_size: int
) -> Tensor:
    """The mean over the distribution around each x, or over one that they share."""
    if isinstance(distribution, Empirical):
        shape = cut.activations(x[:1]).shape[1:]
        mean: Tensor = _over_batches(cut, x, distribution, quantity, batch_size)
        if mean.shape != shape:
            raise ValueError(f"the distribution's units {mean.shape} are not those of x, {shape}")
        found = mean.expand(len(x), *shape).clone()
    else:
        found = _around(cut, x, quantity, distribution, batch_size)
    finite(f"the gradient of {quantity.name} at {cut.said}", found)
    if not found.any():
        warnings.warn(
            f"the influence of {cut.said} on {quantity.name} is zero everywhere",
            ZeroInfluence,
            stacklevel=3,
        )
    return found


def _moved(cut: Cut, x: Tensor, distribution: Distribution, batch_size: int) -> Tensor:
    """The activations, less the start of a line that runs in them."""
    z = cut.activations(x, batch_size)
    if isinstance(distribution, Line) and (distribution.space == "slice" or cut.name == ""):
        return z - distribution.start(z)
    return z


def _around(
    cut: Cut, x: Tensor, quantity: Quantity, distribution: Distribution, batch_size: int
) -> Tensor:
    """Sum weighted gradients over groups of points; a group has at most batch_size rows."""
    assert not isinstance(distribution, Empirical)
    at_slice = isinstance(distribution, Line) and distribution.space == "slice"
    origin = cut.activations(x, batch_size) if at_slice else x
    total: Tensor | None = None
    weights: list[float] = []
    points: list[Tensor] = []

    def flush() -> Tensor:
        # rows of one pass: all instances at the first point, then at the second, and so on
        rows = torch.cat(points)
        inputs = x.repeat(len(points), *[1] * (x.ndim - 1)) if at_slice else rows
        parts = zip(rows.split(batch_size), inputs.split(batch_size), strict=True)
        gradients = torch.cat(
            [
                cut.gradient_at(*p, quantity) if at_slice else cut.gradient(p[0], quantity)
                for p in parts
            ]
        )
        share = torch.tensor(weights, dtype=torch.float64, device=x.device)
        stacked = gradients.double().unflatten(0, (len(points), len(x)))
        weights.clear()
        points.clear()
        mean: Tensor = torch.tensordot(share, stacked, 1)
        return mean

    group = max(1, batch_size // len(x))
    for weight, moved in distribution.around(origin):
        weights.append(weight)
        points.append(moved)
        if len(points) == group:
            total = flush() if total is None else total + flush()
    if points:
        total = flush() if total is None else total + flush()
    assert total is not None
    return total


def _over_batches(
    cut: Cut, x: Tensor, distribution: Empirical, quantity: Quantity, batch_size: int
) -> Tensor:
    total, rows = None, 0
    for given in distribution.batches:
        batch = tensor("the distribution's inputs", given, cut.model)
        if batch.ndim != x.ndim:
            raise ValueError(
                f"the distribution's inputs need as many dimensions as x, {x.ndim}, in batches "
                f"(n, ...), got shape {tuple(batch.shape)}"
            )
        for part in batch.split(batch_size):
            if not len(part):
                continue
            finite("the distribution's inputs", part)
            gradient = cut.gradient(part, quantity).double().sum(0)
            total = gradient if total is None else total + gradient
            rows += len(part)
    if total is None:
        raise ValueError("the empirical distribution has no input: a distribution of size zero")
    return total / rows


def per_unit(influence: Tensor, over: str = "max") -> Tensor:
    """One number per unit: a feature map counts as one unit.

    Units lie along the second axis. That of tokens (n, tokens, features) has the tokens: give
    ``influence.movedim(-1, 1)`` for one number per feature.

    Parameters
    ----------
    influence : (n, units) or (n, channels, ...)
    over : "max" or "mean" over the positions of a channel

    Returns
    -------
    (n, units)

    Raises
    ------
    ValueError
        On an unknown reduction, or influence that is not finite.

    Examples
    --------
    >>> maps = torch.tensor([[[[0.1, 0.4]], [[0.0, -0.2]]]])  # (1, 2 channels, 1, 2)
    >>> per_unit(maps).shape
    torch.Size([1, 2])
    """
    finite("influence", influence)
    if over not in REDUCTIONS:
        raise ValueError(f"unknown reduction {over!r}; choose one of {', '.join(REDUCTIONS)}")
    if influence.ndim <= 2:
        return influence
    flat = influence.flatten(2)
    return flat.max(2).values if over == "max" else flat.mean(2)
