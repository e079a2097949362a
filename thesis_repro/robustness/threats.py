"""Attacks that no L2 certificate promises anything about: other norms, a patch, turned pictures.

Each moves images (n, c, h, w) in [0, 1] of labels y (n,) away from their label and keeps, for each,
the first image that the model labels otherwise, else the last; `linf` and `l1` take inputs of any
shape. Defined in the chapter arc/arc.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from thesis_repro.data.images import labels
from thesis_repro.robustness.arithmetic import evaluated
from thesis_repro.robustness.outputs import Model, ask, check_search, classified, per_point
from thesis_repro.robustness.structure import check_epsilon
from thesis_repro.robustness.transformations import check_pictures, rotation

Move = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps a point, the gradient of its loss and the image to the next point, all (n, ...)."""


def linf(model: Model, x: Tensor, y: Tensor, epsilon: float, steps: int) -> Tensor:
    """Projected gradient ascent where each pixel moves by at most epsilon.

    Raises
    ------
    ValueError
        On labels out of range, steps below 1, epsilon <= 0, or pixels outside [0, 1].

    References
    ----------
    Madry et al. 2018, section 2.1.
    """
    epsilon = check_epsilon(epsilon)
    x, _, classes = check_search(model, x, epsilon, steps, 1)
    y = labels("y", y, x, classes)

    def move(point: Tensor, grad: Tensor, image: Tensor) -> Tensor:
        point = point + 2.5 * epsilon / steps * grad.sign()
        return torch.minimum(torch.maximum(point, image - epsilon), image + epsilon)

    return _climbed(model, x, y, steps, move)


def l1(
    model: Model, x: Tensor, y: Tensor, epsilon: float, steps: int, share: float = 0.03
) -> Tensor:
    """Projected gradient ascent inside an L1 ball, by sparse steps.

    A step moves the share of pixels with the largest gradients, as Tramèr and Boneh 2019 do; the
    projection is that of Duchi et al. 2008. Raises as :func:`linf`.
    """
    epsilon = check_epsilon(epsilon)
    x, _, classes = check_search(model, x, epsilon, steps, 1)
    y = labels("y", y, x, classes)
    many = max(1, round(share * x[0].numel()))

    def move(point: Tensor, grad: Tensor, image: Tensor) -> Tensor:
        flat = grad.flatten(1)
        # what a pixel at the end of its range cannot follow does not count
        free = ((point + grad.sign()).clamp(0, 1) != point).flatten(1)
        top = (flat.abs() * free).topk(many, dim=1).indices
        step = torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign())
        moved = point + (2.5 * epsilon / steps / many) * step.view_as(point)
        return image + project_l1(moved - image, epsilon)

    return _climbed(model, x, y, steps, move)


def project_l1(delta: Tensor, epsilon: float) -> Tensor:
    """The nearest point of the L1 ball of radius epsilon > 0: (n, ...) to the same.

    Source: Duchi et al. 2008, figure 1.

    Examples
    --------
    >>> import torch
    >>> project_l1(torch.tensor([[3.0, -1.0], [0.5, 0.25]]), 2.0).tolist()
    [[2.0, -0.0], [0.5, 0.25]]
    """
    flat = delta.flatten(1)
    sizes = flat.abs()
    ranked = sizes.sort(1, descending=True).values
    ranks = torch.arange(1, flat.shape[1] + 1, device=delta.device)
    excess = (ranked.cumsum(1) - epsilon) / ranks
    last = (ranked > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, last - 1).clamp_min(0)
    return (flat.sign() * (sizes - threshold).clamp_min(0)).view_as(delta)


def patch(
    model: Model, x: Tensor, y: Tensor, size: int, steps: int, places: int, seed: int = 0
) -> Tensor:
    """Paint a square of size x size pixels freely, at some random places one after another.

    Raises
    ------
    ValueError
        As :func:`linf`, and where the square does not fit or there is no place to try.
    """
    x, _, classes = check_search(model, x, 1.0, steps, 1)
    check_pictures("a patch", x)
    y = labels("y", y, x, classes)
    height, width = x.shape[2:]
    if not 1 <= size <= min(height, width) or places < 1:
        raise ValueError(
            f"a patch of {size} pixels at {places} places does not fit images of {height} x {width}"
        )
    generator = torch.Generator().manual_seed(seed)
    found = x.clone()
    for _ in range(places):
        rows, columns = (
            _run(torch.randint(side - size + 1, (len(x), 1), generator=generator), size, side)
            for side in (height, width)
        )
        left = classified(ask(model, found)) == y
        if not left.any():
            break
        inside = (rows[:, None, :, None] & columns[:, None, None, :]).to(x)[left]

        def move(point: Tensor, grad: Tensor, image: Tensor, inside: Tensor = inside) -> Tensor:
            return point + 0.3 * grad.sign() * inside

        found[left] = _climbed(model, x[left], y[left], steps, move)
    return found


def turned(model: Model, x: Tensor, y: Tensor, degrees: float, angles: int = 31) -> Tensor:
    """Turn by the angle, of evenly spaced ones up to `degrees` to both sides, that first does it.

    Raises
    ------
    ValueError
        As :func:`linf`, and where degrees are not positive or there are fewer than two angles.
    """
    x, _, classes = check_search(model, x, degrees, angles - 1, 1)
    check_pictures("a turn", x)
    y = labels("y", y, x, classes)
    path, found = rotation(-degrees, degrees), x.clone()
    for angle in torch.linspace(-degrees, degrees, angles).tolist():
        left = classified(ask(model, found)) == y
        if not left.any():
            break
        t = torch.full((int(left.sum()),), angle, dtype=torch.float64, device=x.device)
        found[left] = path.images(x[left].double(), t).to(x.dtype)
    return found


def _run(start: Tensor, size: int, side: int) -> Tensor:
    """Which of the pixels of a side lie in a run of `size` from start (n, 1): (n, side) bool."""
    at = torch.arange(side)
    return (at >= start) & (at < start + size)


def _climbed(model: Model, x: Tensor, y: Tensor, steps: int, move: Move) -> Tensor:
    """Steps that raise the best wrong logit over that of y; what has fallen is left alone."""
    point = x.clone()
    with evaluated(model), torch.enable_grad():
        for _ in range(steps):
            at = point.detach().requires_grad_()
            logits = model(at)
            own = logits.gather(1, y[:, None])[:, 0]
            lead = logits.scatter(1, y[:, None], -torch.inf).amax(1) - own
            (grad,) = torch.autograd.grad(lead.sum(), at)
            alive = per_point(classified(logits.detach()) == y, point)
            if not alive.any():
                break
            grad = grad.nan_to_num(0.0, 0.0, 0.0)
            point = torch.where(alive, move(point, grad, x).clamp(0, 1), point)
    return point.detach()
