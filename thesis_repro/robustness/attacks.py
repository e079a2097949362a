"""Attacks that look for a closer point of another class than a certificate allows.

A model that is a module is asked in eval mode, as certificates are. Logits that are not finite name
no class, so a point where they occur has fallen; a gradient that is not finite moves no point.

Examples
--------
>>> x, y, model = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0]), nn.Flatten()
>>> pgd_l2(model, x, y, 0.2, steps=5).argmax(), closest(model, x, y, torch.tensor([0.1]))[1] < 0.2
(tensor(1), tensor([True]))
>>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), 0.1, (1, 1, 2))
>>> break_certificates(net, x, steps=5, restarts=1)["broken"]
0
>>> adversarial_loss(lambda share: 0.1, steps=2)(model, x, y, 0.0) > F.cross_entropy(model(x), y)
tensor(True)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.data.images import images, labels
from thesis_repro.robustness import batches, proof
from thesis_repro.robustness.arithmetic import evaluated
from thesis_repro.robustness.gloro import GloroNet, certify
from thesis_repro.robustness.outputs import Model, ask, check_search, classified
from thesis_repro.training import Loss, Schedule

Judge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps logits (batch, classes) of the points with these row numbers (batch,) to the margin that an
attack lowers, and to whether the point has fallen; both (batch,)."""

INSIDE = 1 - 1e-6
"""Perturbations stay this factor inside the ball, so that rounding does not leave it."""


def pgd_l2(
    model: Model,
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor,
    steps: int,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    *,
    targets: Tensor | None = None,
    batch_size: int = 500,
) -> Tensor:
    """Projected gradient ascent on the best wrong logit minus the logit of y.

    Steps are normalised, of length 2.5 epsilon / steps; each iterate is projected to the L2 ball
    and clipped to [0, 1]. The first restart begins at x, the others at random points of the ball.

    Parameters
    ----------
    model : callable, images to logits
    x, y : (n, ...) in [0, 1]; (n,) int64, the labels to move away from
    epsilon : radius > 0, one for all or (n,)
    steps, restarts : >= 1
    generator : for the random starts; seed 0 without it
    targets : (n,) int64, classes whose logit to raise instead of the best wrong one
    batch_size : points whose random starts are drawn together

    Returns
    -------
    (n, ...)
        For each point the first iterate that the model does not label y, else the one with the
        smallest margin; within epsilon of x and in [0, 1].

    Raises
    ------
    ValueError
        On labels out of range, and as :func:`outputs.check_search`.

    Source: Madry et al. 2018, section 2.1.
    """
    x, radius, classes = check_search(model, x, epsilon, steps, restarts)
    generator = generator or torch.Generator(x.device).manual_seed(0)
    y = labels("y", y, x, classes)
    targets = None if targets is None else labels("targets", targets, x, classes)

    def judge(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        own = y[rows]
        margin = _margin(logits, own, None if targets is None else targets[rows])
        return margin, classified(logits) != own  # wrong, whatever was aimed at; so is NaN

    return descend(model, x, judge, radius, steps, restarts, generator, batch_size)


def descend(
    model: Model,
    x: Tensor,
    judge: Judge,
    radius: Tensor,
    steps: int,
    restarts: int,
    generator: torch.Generator,
    batch_size: int = 500,
) -> Tensor:
    """Projected gradient descent on the margin of any judge, radius (n,); as :func:`pgd_l2`."""
    found = []
    with evaluated(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size):

            def part(logits: Tensor, inside: Tensor, rows: Tensor = rows) -> tuple[Tensor, Tensor]:
                return judge(logits, rows[inside])

            found.append(_attack(model, x[rows], part, radius[rows], steps, restarts, generator))
    return torch.cat(found)


def closest(
    model: Model,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    *,
    growth: float = 1.15,
    rounds: int = 12,
    steps: int = 30,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Look for near points of another class: PGD in balls that grow from `start`.

    Parameters
    ----------
    model, x, y, generator : as for :func:`pgd_l2`
    start : (n,) first radius of each point, > 0, for instance the certified one
    growth, rounds, steps : factor from one radius to the next; how many; steps of PGD in each

    Returns
    -------
    found : (n, ...), a point that the model does not label y where one was found, else x
    distance : (n,), its L2 distance from x; infinite where none was found
    """
    x = images(x, tuple(getattr(x, "shape", ()))[1:], model)
    y = labels("y", y, x)
    found, distance = x.clone(), x.new_full((len(x),), torch.inf)
    radius = start.to(x)
    for _ in range(rounds):
        left = distance.isinf()
        if not left.any():
            break
        tried = pgd_l2(model, x[left], y[left], radius[left], steps, 2, generator)
        fell = classified(ask(model, tried)) != y[left]
        rows = left.nonzero()[:, 0][fell]
        found[rows] = tried[fell]
        distance[rows] = (tried[fell] - x[rows]).flatten(1).norm(dim=1)
        radius = radius * growth
    return found, distance


def _attack(
    model: Model,
    x: Tensor,
    judge: Judge,
    radius: Tensor,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Tensor:
    best, lowest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
    together = batches.size(model, x)
    for restart in range(restarts):
        alive = lowest > 0
        if not alive.any():
            break
        delta = _random_in_ball(x, radius, generator) if restart else torch.zeros_like(x)
        rows = alive.nonzero()[:, 0]  # of the points that have not fallen yet
        point = (x[rows] + delta[rows]).clamp(0, 1)
        for step in range(steps + 1):
            margin, fallen, grad = _margins(model, point, rows, judge, together)
            with torch.no_grad():
                value = torch.where(fallen, -torch.inf, margin.float().clamp_min(1e-30))
                # keep the best iterate; a fallen point counts as minus infinity, and is done
                better = value < lowest[rows]
                best[rows[better]] = point[better]
                lowest[rows[better]] = value[better]
                keep = ~fallen
                rows, point, grad = rows[keep], point[keep], grad[keep]
                if not len(rows) or step == steps:
                    break
                # a step down the gradient, back into the ball, back into the pixels' range
                point = point - _scale(grad, 2.5 * radius[rows] / steps)
                point = (x[rows] + _inside(point - x[rows], radius[rows])).clamp(0, 1)
    return best


def _margins(
    model: Model, points: Tensor, rows: Tensor, judge: Judge, together: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Margins (n,), whether points have fallen (n,), and gradients (n, ...) of points (n, ...)."""
    found = []
    for point, some in zip(points.split(together), rows.split(together), strict=True):
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            margin, fallen = judge(model(point), some)
            (grad,) = torch.autograd.grad(margin.sum(), point)
        found.append((margin.detach(), fallen, grad))
    margin, fallen, grad = (torch.cat(parts) for parts in zip(*found, strict=True))
    return margin, fallen, grad


def _margin(logits: Tensor, y: Tensor, targets: Tensor | None) -> Tensor:
    own = logits.gather(1, y[:, None])[:, 0]
    if targets is not None:
        return own - logits.gather(1, targets[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _scale(direction: Tensor, length: Tensor) -> Tensor:
    """Each direction with the given length; zero where it is zero or not finite."""
    flat = direction.flatten(1)
    flat = torch.where(flat.isfinite().all(1, keepdim=True), flat, 0.0)
    flat = flat / proof.scale_of(flat.abs().amax(1, keepdim=True))  # so that no square vanishes
    norm: Tensor = flat.norm(dim=1).clamp_min(1e-30)
    return (flat * (length / norm)[:, None]).view_as(direction)


def _project(delta: Tensor, radius: Tensor) -> Tensor:
    norm: Tensor = delta.flatten(1).norm(dim=1).clamp_min(1e-30)
    return delta * (INSIDE * radius / norm).clamp(max=1.0)[:, None, None, None]


def _inside(delta: Tensor, radius: Tensor) -> Tensor:
    """As :func:`_project`, which is of images, for points of any number of axes."""
    images = delta if delta.ndim == 4 else delta.flatten(1)[:, None, None]
    return _project(images, radius).view_as(delta)


def _random_in_ball(x: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    direction = torch.randn(x.shape, generator=generator, device=x.device)
    share = torch.rand(len(x), generator=generator, device=x.device) ** (1 / x[0].numel())
    return _scale(direction, INSIDE * radius * share)


def break_certificates(
    net: GloroNet,
    x: Tensor,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator | None = None,
    smallest: int | None = None,
    nearest: int = 0,
) -> dict[str, Any]:
    """Attack the certified points of x inside the net's epsilon; one success refutes the bound.

    Parameters
    ----------
    net, x : GloroNet, and (n, *input_shape) in [0, 1]
    steps, restarts : of :func:`pgd_l2`
    smallest : attack only this many points, those of the smallest margins
    nearest : also aim, once each, at this many classes with the smallest certified distance

    Returns
    -------
    dict
        attacked (int), broken (int), smallest_margin (float; infinite without certified points).
    """
    certificate = certify(net, x)
    x = images(x, net.input_shape, net.body)
    order = certificate.margin.argsort()
    order = order[certificate.certified[order]][:smallest]
    if not len(order):
        return {"attacked": 0, "broken": 0, "smallest_margin": float("inf")}
    chosen, top = x[order], certificate.labels[order]
    broken = torch.zeros(len(order), dtype=torch.bool, device=x.device)
    aims: list[Tensor | None] = [None]
    if nearest:
        logits = ask(net.body, chosen).double()
        gaps = (logits.gather(1, top[:, None]) - logits) / net.bound().k_ij.to(x.device)[top]
        ranked = gaps.scatter(1, top[:, None], torch.inf).argsort(1)
        aims += list(ranked[:, : min(nearest, logits.shape[1] - 1)].unbind(1))
    for targets in aims:
        count = restarts if targets is None else 1
        found = pgd_l2(net.body, chosen, top, net.epsilon, steps, count, generator, targets=targets)
        broken |= classified(ask(net.body, found)) != top
    margin = certificate.margin[order[0]].item()
    return {"attacked": len(order), "broken": int(broken.sum()), "smallest_margin": margin}


def adversarial_loss(epsilon: Schedule, steps: int) -> Loss:
    """Cross-entropy in nats at points that PGD finds in the radius (Madry et al. 2018, 2.1)."""

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        radius = torch.full((len(x),), epsilon(progress), device=x.device)
        point = x
        for _ in range(steps):
            point = point.detach().requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(model(point).float(), y), point)
            norm = grad.flatten(1).norm(dim=1).clamp_min(1e-30)
            moved = point.detach() + grad * (2.5 * radius / steps / norm)[:, None, None, None]
            point = (x + _project(moved - x, radius)).clamp(0, 1)
        return F.cross_entropy(model(point.detach()).float(), y)

    return loss
