"""Is an explanation faithful? Delete or insert pixels in its order and watch the net.

An order that finds the pixels which matter makes the score fall fast under deletion (small
area) and rise fast under insertion (large area).

References
----------
Petsiuk, Das and Saenko 2018 (deletion and insertion).
"""

import torch
from torch import Tensor, nn

from thesis_repro.data.images import fitting, tensor
from thesis_repro.explanations.distributions import line, point
from thesis_repro.explanations.influence import class_score, internal_influence
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.quantities import check_logits
from thesis_repro.explanations.receptive import receptive, top_units
from thesis_repro.lab.checks import finite

METHODS = ("expert units", "integrated gradients", "saliency", "random")


def attribution(
    method: str,
    model: nn.Module,
    x: Tensor,
    slice: str,
    *,
    k: int = 5,
    points: int = 20,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What each pixel is worth to the class that the model gives, (n, h, w), at least 0.

    Parameters
    ----------
    method : one of METHODS; "expert units" asks for the pixels that drive the k units of the
        slice with the largest influence on the class, image by image
    model : nn.Module in eval mode
    x : (n, channels, h, w)
    slice : the layer of the expert units
    points : nodes on lines
    generator : for "random"

    Raises
    ------
    ValueError
        On an unknown method, no images, images that are not finite, or as for
        ``internal_influence``.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()
    >>> attribution("saliency", net, torch.rand(4, 1, 8, 8), "1").shape
    torch.Size([4, 8, 8])
    """
    x = _images(model, x)
    if method == "random":
        return torch.rand(x[:, 0].shape, generator=generator).to(x)
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    evaluating(model)
    labels = _logits(model, x, 256).argmax(1)
    worth = torch.empty_like(x)
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero()[:, 0]
        part, quantity = x[rows], class_score(c)
        if method == "saliency":
            worth[rows] = internal_influence(model, part, "", quantity, point())
        elif method == "integrated gradients":
            d = line(0.0, points, "input")
            worth[rows] = internal_influence(model, part, "", quantity, d, multiply=True)
        else:
            for row in rows:
                one = x[row : row + 1]
                units = top_units(model, one, slice, quantity, k)
                worth[row] = receptive(model, one, slice, units, points)[0]
    return worth.abs().sum(1)


def curves(
    model: nn.Module, x: Tensor, worth: Tensor, steps: int = 28, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Probability of the model's own label while pixels go (deletion) or come (insertion).

    Deleted pixels become 0. At step s, the s/steps most worthy pixels are gone, or there alone.

    Parameters
    ----------
    x : (n, channels, h, w)
    worth : (n, h, w)
    steps : >= 1

    Returns
    -------
    deletion, insertion : (n, steps + 1) each

    Raises
    ------
    ValueError
        On fewer than one step, no images, a worth of another shape, a model in training mode, or
        images, worth or logits that are not finite.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    >>> deletion, insertion = curves(net, torch.rand(4, 1, 8, 8), torch.rand(4, 8, 8), steps=4)
    >>> deletion.shape, torch.equal(deletion[:, 0], insertion[:, -1])
    (torch.Size([4, 5]), True)
    """
    x, worth = _images(model, x), tensor("worth", worth, model)
    if steps < 1 or worth.shape != x[:, 0].shape:
        raise ValueError(
            f"need steps >= 1 and a worth shaped {tuple(x[:, 0].shape)}, got {steps} and "
            f"{tuple(worth.shape)}"
        )
    finite("worth", worth)
    evaluating(model)
    rank = worth.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(worth)
    labels = _logits(model, x, batch_size).argmax(1)
    out: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in range(steps + 1):
        gone = (rank < round(step / steps * rank[0].numel()))[:, None]
        for part, kept in zip(out, (~gone, gone), strict=True):
            logits = _logits(model, x * kept, batch_size)
            part.append(logits.softmax(1).gather(1, labels[:, None])[:, 0])
    return torch.stack(out[0], 1), torch.stack(out[1], 1)


def area(curve: Tensor) -> Tensor:
    """Area under curves (n, steps + 1) over [0, 1] by the trapezoid rule, (n,).

    Raises
    ------
    ValueError
        Unless steps >= 1 and the curves are finite.

    Examples
    --------
    >>> area(torch.tensor([[0.0, 1.0, 1.0]]))
    tensor([0.7500])
    """
    if curve.ndim != 2 or curve.shape[1] < 2:
        raise ValueError(f"a curve needs shape (n, steps + 1), steps >= 1: {tuple(curve.shape)}")
    finite("curve", curve)
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _images(model: nn.Module, x: Tensor) -> Tensor:
    x = tensor("x", x, model)
    if x.ndim != 4 or not len(x):
        raise ValueError(f"x needs shape (n, channels, h, w) with n >= 1, got {tuple(x.shape)}")
    finite("x", x)
    return x


def _logits(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    with fitting(x), torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(batch_size)])
    check_logits(logits)
    finite("the model's logits", logits)
    return logits
