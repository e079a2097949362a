"""The pixels that an influential unit responds to: from a unit back to the picture.

First the units are found that matter most to the quantity; then the input's influence on the
activations of these units is measured. The picture is then masked where that is small.

References
----------
Leino et al. 2018, figures; the blur and the threshold follow the authors' visualisation code.
"""

import torch
from torch import Tensor, nn

from thesis_repro.explanations.distributions import Distribution, line, point
from thesis_repro.explanations.influence import internal_influence, per_unit, unit
from thesis_repro.explanations.modules import find
from thesis_repro.explanations.quantities import Quantity, Score
from thesis_repro.explanations.slicing import Cut
from thesis_repro.lab.checks import finite


def top_units(
    model: nn.Module,
    x: Tensor,
    slice: str,
    quantity: Quantity | Score,
    k: int = 1,
    distribution: Distribution | None = None,
    multiply: bool = False,
) -> Tensor:
    """The k units of a layer with the largest mean influence over x, (k,) int64.

    With `multiply`, influence times activation decides, summed over a channel's positions, so
    that a unit which is silent on x is never chosen.

    Raises
    ------
    ValueError
        If the layer has fewer units, or is nn.Linear and gives tokens; else as for
        ``internal_influence``.

    Examples
    --------
    >>> from thesis_repro.explanations.quantities import class_score
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> top_units(net, torch.rand(5, 3), "1", class_score(0), k=2).shape
    torch.Size([2])
    """
    d = distribution or point()
    found = internal_influence(model, x, slice, quantity, d, multiply=multiply)
    Cut(model, slice).check_units(found)
    scores = per_unit(found, "mean" if multiply else "max").mean(0)
    if not 1 <= k <= len(scores):
        raise ValueError(f"{k} top units are asked for, layer {slice!r} has {len(scores)}")
    return scores.argsort(descending=True, stable=True)[:k]


def receptive(
    model: nn.Module, x: Tensor, slice: str, units: Tensor, points: int = 20, over: str = "max"
) -> Tensor:
    """How much each input value adds to the activations of some units, shaped like x.

    The units' activations (a channel's maximum, or mean, by `over`) are summed; the attribution
    is the influence of the input on the line from zero, multiplied by the input.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> receptive(net, torch.rand(5, 3), "1", torch.tensor([0, 2])).shape
    torch.Size([5, 3])
    """
    find(model, slice)
    parts = [unit(slice, index, over) for index in units.tolist()]

    def total(z: Tensor) -> Tensor:
        return torch.stack([part(z) for part in parts]).sum(0)

    quantity = Quantity(total, slice, f"{len(parts)} units of {slice}")
    return internal_influence(model, x, "", quantity, line(0.0, points, "input"), multiply=True)


def heat(attribution: Tensor, sigma: float) -> Tensor:
    """Absolute attribution as a smooth map in [0, 1].

    Parameters
    ----------
    attribution : (n, channels, h, w)
    sigma : standard deviation of the blur, in pixels

    Returns
    -------
    (n, h, w)
        Mean of absolute values over channels, over its 99th percentile, clipped, blurred.

    Raises
    ------
    ValueError
        On an attribution of another shape, or one that is not finite, or a sigma that is no width.
    """
    _checked(attribution)
    flat = attribution.abs().mean(1)
    top = flat.flatten(1).quantile(0.99, dim=1).clamp(min=torch.finfo(flat.dtype).tiny)
    return blurred((flat / top[:, None, None]).clamp(max=1), sigma)


def mask(attribution: Tensor, sigma: float = 3.0, quantile: float = 0.9) -> Tensor:
    """A soft mask (n, h, w) in [0, 1] of the pixels above a quantile of the heat map.

    Raises
    ------
    ValueError
        As for :func:`heat`, and on a quantile outside [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile needs to lie in [0, 1], got {quantile}")
    warm = heat(attribution, sigma)
    limit = warm.flatten(1).quantile(quantile, dim=1)
    kept = (warm >= limit[:, None, None]) & (warm > 0)
    return blurred(kept.to(attribution.dtype), sigma / 2)


def share_on(attribution: Tensor, region: Tensor) -> Tensor:
    """Share of the absolute attribution inside a region, (n,) in [0, 1].

    Parameters
    ----------
    attribution : (n, channels, h, w)
    region : (n, h, w) bool

    Raises
    ------
    ValueError
        On shapes that do not fit, or an attribution that is not finite.
    """
    _checked(attribution)
    if region.shape != attribution[:, 0].shape or region.dtype != torch.bool:
        raise ValueError(
            f"region needs shape {tuple(attribution[:, 0].shape)} of bool, got "
            f"{tuple(region.shape)} of {region.dtype}"
        )
    flat = attribution.abs().sum(1)
    total = flat.flatten(1).sum(1).clamp(min=torch.finfo(flat.dtype).tiny)
    return (flat * region).flatten(1).sum(1) / total


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of maps (n, h, w).

    Raises
    ------
    ValueError
        On maps that are not finite, or a sigma that is negative or not finite.
    """
    from scipy.ndimage import gaussian_filter

    finite("maps", maps)
    finite("sigma", sigma)
    if sigma < 0:
        raise ValueError(f"sigma needs to be >= 0, got {sigma}")
    smooth = [gaussian_filter(m.cpu().numpy(), sigma) for m in maps]
    return torch.stack([torch.from_numpy(m) for m in smooth]).to(maps)


def _checked(attribution: Tensor) -> None:
    if attribution.ndim != 4 or not len(attribution):
        raise ValueError(
            f"attribution needs shape (n, channels, h, w) with n >= 1, got "
            f"{tuple(attribution.shape)}"
        )
    finite("attribution", attribution)
