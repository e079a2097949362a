"""Read a class back out of a model: climb its score from a start image, inside a ball.

Examples
--------
>>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
>>> reconstruct(net, [0, 2], torch.full((1, 4, 4), 0.5), steps=5).images.shape
torch.Size([2, 1, 4, 4])
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_repro.data.images import fitting, tensor
from thesis_repro.explanations.modules import evaluating
from thesis_repro.lab import checks

Model = Callable[[Tensor], Tensor]
"""Maps (batch, channels, height, width) to logits (batch, classes)."""

HALVINGS = 20
"""Bisections of a projection after a short step: s is exact to 2**-20, from below."""


@dataclass(frozen=True)
class Reconstruction:
    """What the climb gave.

    Parameters
    ----------
    images : (k, c, h, w) in [0, 1], the last point of each climb
    score : (steps + 1, k), the objective along the way, the start first
    path : (stages, k, c, h, w), the images at `stages`
    stages : the steps at which the path was kept; the last is `steps`
    """

    images: Tensor
    score: Tensor
    path: Tensor
    stages: tuple[int, ...]


def advantage(logits: Tensor, classes: Tensor) -> Tensor:
    """Logit of a class less the log-sum-exp of all others: its log-odds under softmax.

    logits (k, classes), classes (k,) int64 to (k,).

    Raises
    ------
    ValueError
        If a class does not exist.

    Examples
    --------
    >>> advantage(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([2.])
    """
    checks.labels("classes", classes, logits.shape[1])
    own = logits.gather(1, classes[:, None])[:, 0]
    return own - logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, (k, c, h, w) to (k,).

    Examples
    --------
    >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
    tensor([1.])
    """
    down, right = x.diff(dim=2).abs(), x.diff(dim=3).abs()
    return down.flatten(1).mean(1) + right.flatten(1).mean(1)


def project(x: Tensor, center: Tensor, radius: float, halvings: int = HALVINGS) -> Tensor:
    """The nearest point of the ball around `center` that also lies in [0, 1].

    The conditions of optimality give clip(center + s (x - center)) with one s in (0, 1] per
    image; the distance from the center grows with s, so s is found by bisection. To scale into
    the ball and clip afterwards would spend part of the radius on pixels that are clipped.

    Parameters
    ----------
    x : (k, c, h, w)
    center : the same shape, in [0, 1]
    radius : L2, > 0; may be infinite
    halvings : bisections

    Returns
    -------
    (k, c, h, w)

    Raises
    ------
    ValueError
        If an image is not finite, or the radius is not positive.

    Examples
    --------
    >>> center = torch.full((1, 1, 4, 4), 0.5)
    >>> moved = project(torch.ones(1, 1, 4, 4), center, radius=0.4)
    >>> round(float((moved - center).norm()), 4)
    0.4
    """
    checks.finite("x", x)
    checks.finite("center", center)
    if not radius > 0:
        raise ValueError(f"radius needs to be > 0, got {radius}")
    away = x - center
    inside = x.clamp(0, 1)
    far = (inside - center).flatten(1).norm(dim=1) > radius
    if not far.any():
        return inside
    low = torch.zeros(int(far.sum()), 1, 1, 1, dtype=x.dtype, device=x.device)
    high, middle, move = torch.ones_like(low), center[far], away[far]
    for _ in range(halvings):
        s = (low + high) / 2
        reach = ((middle + s * move).clamp(0, 1) - middle).flatten(1).norm(dim=1)
        outside = (reach > radius)[:, None, None, None]
        low, high = torch.where(outside, low, s), torch.where(outside, s, high)
    inside[far] = (middle + low * move).clamp(0, 1)
    return inside


def reconstruct(
    model: Model,
    classes: Sequence[int],
    start: Tensor,
    *,
    steps: int = 300,
    step: float = 0.5,
    radius: float = math.inf,
    smoothness: float = 0.0,
    stages: Sequence[int] = (),
) -> Reconstruction:
    """Climb the log-odds of each class by steps of one length along the gradient.

    Parameters
    ----------
    model : callable, images to logits, in eval mode
    classes : the class of each climb
    start : (c, h, w) for all, or (k, c, h, w), in [0, 1]; the ball is around it
    steps : >= 1
    step : L2 length of a step, > 0, finite
    radius : L2 radius of the ball, > 0
    smoothness : weight of the total variation that is taken off the objective, >= 0
    stages : steps after which to keep the images, besides the last

    Returns
    -------
    Reconstruction

    Raises
    ------
    ValueError
        If a parameter is out of its range, there is no class or one does not exist, the model is
        in training mode, or the objective or its gradient becomes NaN or infinite.

    References
    ----------
    The protocol is ours: for "Robust Models Can Leak Instances and Their Properties" (part III
    of the thesis) no text is public. Near to it: Mejia et al. 2019.
    """
    if steps < 1 or not 0 < step < math.inf or not radius > 0 or not 0 <= smoothness < math.inf:
        raise ValueError(
            f"a reconstruction needs steps >= 1, step > 0, radius > 0 and smoothness >= 0, got "
            f"steps={steps}, step={step}, radius={radius} and smoothness={smoothness}"
        )
    evaluating(model)
    start, wanted = _starts(model, classes, start)
    marks = sorted({*stages, steps})
    x, kept, scores = start.clone(), [], []
    for at in range(steps + 1):
        value, grad = _climb(model, x, wanted, smoothness, at)
        scores.append(value)
        if at in marks:
            kept.append(x)
        if at < steps:
            # a step of one length along the gradient, then back into the ball and to pixels
            length = grad.flatten(1).norm(dim=1).clamp_min(1e-30)
            x = project(x + grad * (step / length)[:, None, None, None], start, radius)
    return Reconstruction(x, torch.stack(scores), torch.stack(kept), tuple(marks))


def _starts(model: Model, classes: Sequence[int], start: Tensor) -> tuple[Tensor, Tensor]:
    """The start of each climb (k, c, h, w), and its class (k,)."""
    checks.labels("classes", np.asarray(classes))
    start = tensor("start images", start, model)
    checks.finite("start", start)
    wanted = torch.as_tensor(list(classes), dtype=torch.int64, device=start.device)
    if start.ndim == 3:
        start = start.expand(len(wanted), *start.shape)
    if start.ndim != 4 or len(start) != len(wanted) or not (0 <= start.min() <= start.max() <= 1):
        raise ValueError(
            f"a reconstruction of {len(wanted)} classes needs as many start images with pixels in "
            f"[0, 1], got shape {tuple(start.shape)}"
        )
    return start, wanted


def _climb(
    model: Model, x: Tensor, wanted: Tensor, smoothness: float, at: int
) -> tuple[Tensor, Tensor]:
    """The objective (k,) at x, and its gradient, shaped like x."""
    x = x.detach().requires_grad_()
    with fitting(x):
        logits = model(x)
    value = advantage(logits, wanted) - smoothness * total_variation(x)
    (grad,) = torch.autograd.grad(value.sum(), x)
    length = grad.flatten(1).norm(dim=1)
    bad = ~(value.isfinite() & length.isfinite())
    if bad.any():
        raise ValueError(
            f"the reconstruction of class {int(wanted[bad][0])} diverged at step {at}: its score "
            f"is {value[bad][0].item()}, its gradient has norm {length[bad][0].item()}"
        )
    return value.detach(), grad


def linear_optimum(weight: Tensor, start: Tensor, radius: float) -> Tensor:
    """The image in ball and box with the highest score <weight, x>: the closed form of a climb.

    It is clip(start + t weight), with t as large as the ball allows.

    Parameters
    ----------
    weight : (c, h, w), for two classes the difference of their rows
    start : (c, h, w) in [0, 1]
    radius : L2, > 0

    Returns
    -------
    (c, h, w)

    Raises
    ------
    ValueError
        If a value is not finite, the radius is not positive, or a weight is so small that another,
        in units of it, is infinite.

    Examples
    --------
    >>> linear_optimum(torch.ones(1, 2, 2), torch.full((1, 2, 2), 0.5), radius=0.2)
    tensor([[[0.6000, 0.6000],
             [0.6000, 0.6000]]])
    """
    checks.finite("weight", weight)
    checks.finite("start", start)
    if not radius > 0:
        raise ValueError(f"radius needs to be > 0, got {radius}")
    # beyond this t every pixel with a weight has met the box
    smallest = weight[weight != 0].abs().min() if (weight != 0).any() else torch.ones(())
    move = weight / smallest
    checks.finite("weight, in units of its smallest", move)
    # so many bisections lead near to the t that is looked for, and 60 more go on from there
    nearer = math.log2(max(1.0, float(move.abs().max()))) - math.log2(radius)
    halvings = 60 + math.ceil(max(0.0, nearer))
    far = (start + move)[None].double()
    return project(far, start[None].double(), radius, halvings)[0].to(start)


def high_pass(image: Tensor, size: int = 7) -> Tensor:
    """Grey level minus its mean over size x size pixels: (..., c, h, w) to (..., h, w).

    Beyond the border the image is mirrored.

    Examples
    --------
    >>> high_pass(torch.ones(1, 8, 8)).abs().max()
    tensor(0.)
    """
    grey = image.mean(-3)
    flat = grey.reshape(-1, 1, *grey.shape[-2:])
    around = F.avg_pool2d(F.pad(flat, (size // 2,) * 4, mode="reflect"), size, stride=1)
    return (flat - around).reshape(grey.shape)
