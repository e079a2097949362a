"""Lower bounds of a net's Lipschitz constants, from pairs of points that are driven apart."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.data.images import images
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.structure import check_given


@dataclass(frozen=True)
class SteepestSlope:
    """The steepest that was found, and its share of what the bound allows for that pair of logits.

    steepest : max |margin(x1) - margin(x2)| / ||x1 - x2|| over points and rivals
    share : max of the same over K_ij, in (0, 1] if the bound is true
    """

    steepest: float
    share: float


def steepest(
    net: GloroNet,
    x: Tensor,
    *,
    steps: int,
    lr: float = 1e-3,
    radius: float | None = None,
    k_ij: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> SteepestSlope:
    """Climb the slope of the margins between two batches of points, by Adam.

    For the top class j at x and each rival i, the slope of y_j - y_i between x1 and x2 is at most
    K_ij, so what is found bounds K_ij from below. Everything is computed in float64.

    Parameters
    ----------
    net : GloroNet
    x : (n, *input_shape), tensor or array, pixels in [0, 1]; moved to the net's device
    steps : of Adam, on both points of each pair
    lr : step size, in pixels
    radius : both points stay within this distance of x; without it they go anywhere
    k_ij : (classes, classes), what the slopes are compared with; the net's bound without it
    generator : for the first difference of each pair; seed 0 without it

    Raises
    ------
    ValueError
        If a slope is not finite, as of a net that overflows; on what is no GloroNet, and on one of
        one logit; on a wrong shape, or pixels outside [0, 1].

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 5 (tightness), after the authors' code.
    """
    check_given(net)
    body, x = copy.deepcopy(net.body).double().eval(), images(x, net.input_shape, net.body).double()
    k_ij = (net.bound().k_ij if k_ij is None else k_ij).to(x)
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        top = body(x).argmax(1)
    allowed = k_ij[top].scatter(1, top[:, None], torch.inf)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x)
    first = x.clone().requires_grad_()
    second = (x + 0.1 * _unit(noise)).requires_grad_()
    optimizer = torch.optim.Adam([first, second], lr)
    best, share = 0.0, 0.0
    for step in range(steps + 1):
        if radius is not None:
            _project((first, second), x, radius)
        slopes = _slopes(body, first, second, top)
        with torch.no_grad():
            if not slopes.isfinite().all():
                raise ValueError(f"a slope is not finite: {slopes.max().item()}")
            best = max(best, slopes.max().item())
            share = max(share, torch.where(slopes > 0, slopes / allowed, 0.0).max().item())
        if step == steps:
            break
        optimizer.zero_grad()
        (-(slopes / allowed).amax(1).log().sum()).backward()
        optimizer.step()
    return SteepestSlope(best, share)


def _slopes(body: nn.Module, first: Tensor, second: Tensor, top: Tensor) -> Tensor:
    """How steep the margin of the top class over each other is between two points."""
    logits = [body(points) for points in (first, second)]
    margins = [found.gather(1, top[:, None]) - found for found in logits]
    distance: Tensor = (first - second).flatten(1).norm(dim=1).clamp_min(1e-6)
    slopes: Tensor = (margins[0] - margins[1]).abs() / distance[:, None]
    return slopes


@torch.no_grad()
def _project(moving: Iterable[Tensor], x: Tensor, radius: float) -> None:
    """Move points that left the balls around x back to them, in place."""
    for points in moving:
        away = points - x
        length = away.flatten(1).norm(dim=1).clamp_min(1e-30)
        kept = (radius / length).clamp(max=1.0).view(-1, *[1] * (x.ndim - 1))
        points.copy_(x + away * kept)


def _unit(x: Tensor) -> Tensor:
    length: Tensor = x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    return x / length
