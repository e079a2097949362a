"""Labels proved along a path of images: a picture that turns, shifts, darkens or loses contrast.

A path maps a parameter t to an image x_t, with t = 0 the image as it is. Where certified balls
around images x_a and x_b reach so far that every image between lies in one of them, the label is
proved for every t in [a, b]. How far images between can be is bounded by a Lipschitz constant in t
that is proved for the interpolation, never sampled. Defined in the chapter arc/arc.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thesis_repro.data.images import images
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.certifying import certify
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.outputs import ask, classified
from thesis_repro.robustness.transformations import SAFE, Path, check_end

ROUNDED = 1e-9
"""At least what float64 puts on a pixel of x_t, coordinates included, before it is rounded to the
net's format; in truth about 1e-13."""

ROOM = 0.97
"""Share of a certified radius that a proof uses: a checker with looser bounds can still confirm."""

STRIDE = 0.8
"""Share of both radii that a step is planned to use, so that balls are not certified in vain, and
few radii do for all certificate files."""


@dataclass(frozen=True)
class Balls:
    """Certified balls that prove paths; all (m,).

    image : index of the image whose path it is on
    at : its parameter t
    radius : the certified radius there
    needed : the radius that the proof uses, at most `ROOM` of it
    """

    image: Tensor
    at: Tensor
    radius: Tensor
    needed: Tensor


@dataclass(frozen=True)
class Proved:
    """What is proved of the paths of n images.

    Parameters
    ----------
    labels : (n,) int64, at t = 0
    low, high : (n,) float64
        For every real t in [low, high] the image x_t, exact or as computed, has the label: of the
        net in exact arithmetic and as computed, as certificates have it. Both 0 where no step
        could be proved.
    balls : Balls
        The proof; :func:`files` groups it for certificate files.
    """

    labels: Tensor
    low: Tensor
    high: Tensor
    balls: Balls


def certify_path(
    net: GloroNet,
    x: Tensor,
    path: Path,
    step: float | None = None,
    finest: float | None = None,
) -> Proved:
    """Prove labels along a path, from t = 0 to both sides as far as certified balls can be chained.

    Parameters
    ----------
    net : GloroNet
    x : (n, c, h, w), array or tensor of pixels in [0, 1]
    path : e.g. ``rotation(-30, 30)``
    step : distance of neighbouring balls, in units of t; by default as far apart as each pair of
        radii lets them be
    finest : a smaller distance than this is not tried; by default 1/2000 of the path's range

    Returns
    -------
    Proved

    Raises
    ------
    ValueError
        If the path leaves [0, 1] or the image's shape within its range, or `step` is too coarse
        for an image that has a radius at t = 0: the line says up to where, or which step, would
        do. Also where step or finest are not positive, and on images that `certify` or the path
        refuses.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from thesis_repro.robustness.transformations import brightness
    >>> body = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = torch.nn.init.eye_(body[1].weight), torch.nn.init.zeros_(body[1].bias)
    >>> x = torch.tensor([[[[0.5, 0.25], [0.0, 0.0]]]])
    >>> found = certify_path(GloroNet(body, 0.1, (1, 2, 2)).eval(), x, brightness(-90, 90))
    >>> found.labels.item(), found.low.item() < -85, found.high.item()
    (0, True, 90.0)
    """
    for name, value in (("step", step), ("finest", finest)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} needs to be positive and finite, got {value}")
    x = images(x, net.input_shape, net)
    for end in (path.low, path.high):
        check_end(x, path, end)
    walk = _Walk(net, x, path)
    smallest = (path.high - path.low) / 2000 if finest is None else finest
    while walk.open.any():
        walk.advance(smallest, step)
    n = len(x)
    low, high = walk.at[:n], walk.at[n:]
    if step is not None:
        _check_step(net, x, path, step, (low == 0) & (high == 0) & (walk.first > 0))
    return Proved(walk.labels[:n], low, high, walk.balls())


class _Walk:
    """Two walkers an image, to the low and to the high end, each on its last ball."""

    def __init__(self, net: GloroNet, x: Tensor, path: Path) -> None:
        self.net, self.path, self.n = net, path, len(x)
        self.x = torch.cat([x, x]).double()
        ends = torch.tensor([path.low, path.high], dtype=torch.float64, device=x.device)
        self.end = ends.repeat_interleave(self.n)
        self.at = torch.zeros_like(self.end)
        unit = UNITS[next(net.parameters()).dtype]
        self.slack = math.sqrt(x[0].numel()) * (ROUNDED + unit)
        labels, radius = self._certified(self.x[: self.n], self.at[: self.n])
        self.labels, self.radius, self.first = labels.repeat(2), radius.repeat(2), radius
        self.needed = torch.zeros_like(self.at)
        self.length = torch.full_like(self.at, math.inf)  # of the next step
        self.open = (self.at != self.end) & (self.radius > 0)
        self.done: list[tuple[Tensor, ...]] = []  # balls: image, parameter, radius, needed

    def _certified(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and radii at parameters t (n,) of the paths of images x (n, ...)."""
        image = self.path.images(x, t).to(next(self.net.parameters()).dtype)
        found = certify(self.net, image)
        return found.labels, found.radius

    def advance(self, finest: float, step: float | None) -> None:
        """One step of every walker that is still open, where it can be proved."""
        rows = self.open.nonzero()[:, 0]
        x, at, end, radius = (v[rows] for v in (self.x, self.at, self.end, self.radius))
        length = self._lengths(rows, finest, step)
        there = torch.where(
            end > at, torch.minimum(at + length, end), torch.maximum(at - length, end)
        )
        apart = SAFE * self.path.speed(x, torch.minimum(at, there), torch.maximum(at, there))
        apart = apart * (there - at).abs() + 4 * self.slack
        labels, reached = self._certified(x, there)
        same = (labels == self.labels[rows]) & (reached > 0)
        both = ROOM * (radius + reached)
        proved = same & (apart <= both)
        self._record(rows, proved, there, apart, reached)
        # what the next step may be: as long as the radii seen here would let it be
        rate = apart / (there - at).abs()
        guess = torch.where(same, (radius + reached) / rate, 0.0)
        shorter = torch.maximum(torch.minimum(STRIDE * guess, 0.8 * length), 0.4 * length)
        self.length[rows] = torch.where(proved, STRIDE * 2 * reached / rate, shorter)
        small = (~proved & (shorter < finest)) if step is None else ~proved
        self.open[rows] = ~small & (self.at[rows] != end)

    def _lengths(self, rows: Tensor, finest: float, step: float | None) -> Tensor:
        if step is not None:
            return torch.full_like(self.at[rows], step)
        known = self.length[rows]
        begins = known.isinf()
        if begins.any():
            at, end, x = self.at[rows], self.end[rows], self.x[rows]
            near = at + finest * (end - at).sign()
            speed = self.path.speed(x, torch.minimum(at, near), torch.maximum(at, near))
            known = torch.where(begins, STRIDE * 2 * self.radius[rows] / speed, known)
        return (
            known.nan_to_num(math.inf, math.inf)
            .clamp_min(finest)
            .clamp_max(self.path.high - self.path.low)
        )

    def _record(
        self, rows: Tensor, proved: Tensor, there: Tensor, apart: Tensor, reached: Tensor
    ) -> None:
        """Move to the new ball; the old one is part of the proof with what it has to reach."""
        rows, there, apart, reached = (v[proved] for v in (rows, there, apart, reached))
        share = apart / (self.radius[rows] + reached)
        needed = torch.maximum(self.needed[rows], share * self.radius[rows])
        self.done.append((rows % self.n, self.at[rows], self.radius[rows], needed))
        self.at[rows], self.radius[rows], self.needed[rows] = there, reached, share * reached

    def balls(self) -> Balls:
        """All balls of walkers that moved, each once: an image's first one serves both sides."""
        moved = (self.at != 0).nonzero()[:, 0]
        last = (moved % self.n, self.at[moved], self.radius[moved], self.needed[moved])
        image, at, radius, needed = (torch.cat(v) for v in zip(*self.done, last, strict=True))
        inner = at != 0
        most = torch.zeros_like(self.first)
        most = most.scatter_reduce(0, image[~inner], needed[~inner], "amax")
        begun = most.nonzero()[:, 0]
        return Balls(
            torch.cat([begun, image[inner]]),
            torch.cat([torch.zeros_like(most[begun]), at[inner]]),
            torch.cat([self.first[begun], radius[inner]]),
            torch.cat([most[begun], needed[inner]]),
        )


def files(balls: Balls) -> list[tuple[float, Tensor]]:
    """Radii, and the balls (rows) to certify at each, so that few certificate files hold a proof.

    Each ball is in one group, whose radius is at least what the ball needs, and certified for it.

    Examples
    --------
    >>> import torch
    >>> needed, radius = torch.tensor([1.0, 1.5, 3.0]), torch.tensor([2.0, 2.5, 4.0])
    >>> [(r, rows.tolist()) for r, rows in files(Balls(needed, needed, radius, needed))]
    [(1.5, [0, 1]), (3.0, [2])]
    """
    groups = []
    left = balls.radius.argsort()
    while len(left):
        inside = balls.needed[left] <= ROOM * balls.radius[left[0]]
        chosen = left[inside]
        groups.append((float(balls.needed[chosen].max()), chosen.sort().values))
        left = left[~inside]
    return groups


def broken(net: GloroNet, x: Tensor, path: Path, proved: Proved, count: int) -> Tensor:
    """Which proofs a dense search refutes: (n,) bool.

    Parameters
    ----------
    net, x, path, proved : as for :func:`certify_path`, and what it gave
    count : parameters that are tried for each image, evenly spaced over its proved interval, both
        ends included; at least 2

    Raises
    ------
    ValueError
        If count is below 2.
    """
    if count < 2:
        raise ValueError(f"a search tries 2 parameters or more, got {count}")
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    share = torch.linspace(0, 1, count, dtype=torch.float64, device=x.device)
    for i in (proved.low < proved.high).nonzero()[:, 0].tolist():
        low, high = proved.low[i], proved.high[i]
        for t in (low + share * (high - low)).clamp(low, high).split(1000):
            images = path.images(x[i : i + 1].double().expand(len(t), *x.shape[1:]), t)
            labels = classified(ask(net.body, images.to(x.dtype)))
            found[i] |= bool((labels != proved.labels[i]).any())
    return found


def _check_step(net: GloroNet, x: Tensor, path: Path, step: float, stuck: Tensor) -> None:
    """Refuse a step that moves no walker of an image; say which step would do for all."""
    if not stuck.any():
        return

    def moves(tried: float) -> bool:
        walk = _Walk(net, x[stuck], path)
        walk.advance(tried, tried)
        return bool((walk.at != 0).view(2, -1).any(0).all())

    good, bad = step / 2, step
    while not moves(good):
        good, bad = good / 2, good
        if good < 1e-6 * step:
            raise ValueError(f"steps of {step:g} {path.unit} are too coarse, and so are {good:g}")
    for _ in range(12):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if moves(middle) else (good, middle)
    raise ValueError(
        f"steps of {step:g} {path.unit} are too coarse for {int(stuck.sum())} of {len(x)} images: "
        f"balls of neighbours do not meet; the largest step that would do is {good:.4g}"
    )
