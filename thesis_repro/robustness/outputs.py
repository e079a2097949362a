"""Asking a model for logits, and what every search among its inputs needs to be given."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.data.images import fitting, images
from thesis_repro.robustness import batches, structure
from thesis_repro.robustness.arithmetic import evaluated, exact
from thesis_repro.robustness.margins import REJECT

Model = Callable[[Tensor], Tensor]
"""Maps images, or inputs of another shape, (batch, ...) to logits (batch, classes)."""


def ask(model: Model, x: Tensor, batch_size: int | None = None) -> Tensor:
    """The logits of x (n, ...), in eval mode and without gradients: (n, classes).

    A module answers in the format of its weights, on a GPU too: without autocast or TF32.

    batch_size : points at a time; by default as `batches.size` says
    """
    state = exact(model, conventional=False) if isinstance(model, nn.Module) else evaluated(model)
    with fitting(x), state, torch.no_grad():
        together = batches.size(model, x, batch_size)
        return torch.cat([model(part) for part in x.split(together)])


def classified(logits: Tensor) -> Tensor:
    """The class of each row (n, classes): (n,) int64, REJECT where a logit is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), REJECT)


def per_point(values: Tensor, points: Tensor) -> Tensor:
    """One number for each point, (n,), in the shape that goes with points (n, ...).

    Examples
    --------
    >>> per_point(torch.ones(2), torch.rand(2, 20)).shape
    torch.Size([2, 1])
    """
    return values.view(-1, *[1] * (points.ndim - 1))


def check_search(
    model: Model, x: Tensor, epsilon: float | Tensor, steps: int, restarts: int
) -> tuple[Tensor, Tensor, int]:
    """What every search needs: the images on the model's device, a radius of each, the classes.

    Raises
    ------
    ValueError
        If steps or restarts are below 1, a radius is not positive and finite, the images are not
        as `data.images` needs them, in half precision, or the model gives one logit.
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps={steps} and restarts={restarts}: both need to be at least 1")
    x = images(x, tuple(getattr(x, "shape", ()))[1:], model)
    given = epsilon if np.ndim(epsilon) else structure.check_epsilon(epsilon)
    radius = torch.as_tensor(given, dtype=x.dtype, device=x.device).expand(len(x))
    if not ((radius > 0) & radius.isfinite()).all():
        wrong = radius[~((radius > 0) & radius.isfinite())][0].item()
        raise ValueError(f"epsilon needs to be positive and finite, got {wrong:.3g}")
    if (classes := ask(model, x[:1]).shape[1]) < 2:
        raise ValueError(structure.ONE_LOGIT)
    if x.dtype not in (torch.float32, torch.float64):
        kind = str(x.dtype).removeprefix("torch.")
        raise ValueError(f"a search needs float32 or float64, got {kind}: net.float(), x.float()")
    return x, radius, classes
