"""Paths of images, each with a proved bound of how fast it moves: turning, shifting, blending.

A path maps a parameter t to an image x_t, with x_0 the image as it is. Pixels are in [0, 1], and
so are those of x_t. Defined in the chapter arc/arc.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SAFE = 1 + 1e-9
"""More than the float64 roundings of a bound."""


@dataclass(frozen=True)
class Path:
    """A path of images and the range of its parameter t.

    Parameters
    ----------
    name, unit : of the path and of t, e.g. "rotation" and "degrees"
    low, high : low <= 0 <= high, not both 0
    images : x (n, c, h, w) float64 and t (n,) to x_t, of the same shape; x itself at t = 0
    speed : x, a and b (n,) to (n,): an upper bound of ||x_s - x_t|| / |s - t| over s, t in [a, b],
        for images in exact arithmetic

    Raises
    ------
    ValueError
        If the range does not hold 0, or is empty or infinite.
    """

    name: str
    unit: str
    low: float
    high: float
    images: Callable[[Tensor, Tensor], Tensor]
    speed: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        if not (-math.inf < self.low <= 0 <= self.high < math.inf and self.low < self.high):
            raise ValueError(
                f"{self.name} needs a finite range around 0, got {self.low} to {self.high}"
            )


def check_pictures(what: str, x: Tensor) -> None:
    """Refuse what has no height and width.

    Raises
    ------
    ValueError
        Unless x is (n, channels, height, width).

    Examples
    --------
    >>> check_pictures("rotation", torch.rand(5, 20))
    Traceback (most recent call last):
    ValueError: rotation is of images (n, channels, height, width), got shape (5, 20)
    """
    if x.ndim != 4:
        raise ValueError(
            f"{what} is of images (n, channels, height, width), got shape {tuple(x.shape)}"
        )


def check_end(x: Tensor, path: Path, end: float) -> None:
    """Refuse a path whose images are none at an end.

    Parameters
    ----------
    x : (n, c, h, w), pixels in [0, 1]
    path : Path
    end : t, in units of the path

    Raises
    ------
    ValueError
        If x_t is of another shape than x, or leaves [0, 1]; the line says up to which t it does
        not, found by bisection.

    Examples
    --------
    >>> check_end(torch.ones(1, 1, 2, 2), rotation(-30, 30), 30.0)
    """
    wrong = _fits(x, path, end)
    if not wrong:
        return
    if at_start := _fits(x, path, 0.0):
        raise ValueError(f"{path.name} {at_start}, even at 0")
    good, bad = 0.0, end
    for _ in range(40):
        middle = (good + bad) / 2
        good, bad = (good, middle) if _fits(x, path, middle) else (middle, bad)
    raise ValueError(
        f"{path.name} by {end:g} {path.unit} {wrong}; the largest that would do is {good:.4g}"
    )


def _fits(x: Tensor, path: Path, t: float) -> str:
    """What is wrong with the images of a path at t; empty where they are images like x."""
    images = path.images(x.double(), torch.full((len(x),), t, dtype=torch.float64, device=x.device))
    if images.shape != x.shape:
        return f"gives images of shape {tuple(images.shape[1:])}, needs {tuple(x.shape[1:])}"
    lowest, highest = (v.item() for v in images.aminmax())
    if not (lowest >= 0 and highest <= 1):
        return f"leaves [0, 1]: pixels from {lowest:.4g} to {highest:.4g}"
    return ""


def rotation(low: float, high: float) -> Path:
    """Turning about the middle by t degrees, counter-clockwise; bilinear, black from outside."""

    def warp(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = _offsets(x)
        angle = torch.deg2rad(t)[:, None, None]
        cos, sin = angle.cos(), angle.sin()
        place = torch.stack([rows * cos + columns * sin, columns * cos - rows * sin], -1)
        turned = torch.stack([place[..., 1], -place[..., 0]], -1)  # the derivative by the angle
        return place, turned * (math.pi / 180)

    return _warped("rotation", "degrees", low, high, warp, math.pi / 180)


def translation(low: float, high: float, direction: tuple[float, float] = (0.0, 1.0)) -> Path:
    """Shifting by t pixels along `direction` (down, right); bilinear, black from outside.

    Raises
    ------
    ValueError
        If the direction has not length 1.
    """
    if not math.isclose(math.hypot(*direction), 1.0, rel_tol=1e-9):
        raise ValueError(f"a direction has length 1, got {direction}")

    def warp(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        along = torch.tensor(direction, dtype=torch.float64, device=x.device)
        place = torch.stack(_offsets(x), -1) - t[:, None, None, None] * along
        return place, (-along).expand_as(place)

    return _warped("translation", "pixels", low, high, warp, 0.0)


def brightness(low: float, high: float) -> Path:
    """Pixels times 1 + t / 100, cut off at white, t >= -100: torchvision's `adjust_brightness`."""
    return _blended("brightness", low, high, torch.zeros_like)


def contrast(low: float, high: float) -> Path:
    """Distances from the mean times 1 + t / 100, cut off at black and white, t >= -100.

    The mean is over pixels and channels; for grey images this is torchvision's `adjust_contrast`.
    """
    return _blended("contrast", low, high, _grey)


PATHS: dict[str, Callable[[float, float], Path]] = {
    "rotation": rotation,
    "translation": translation,
    "brightness": brightness,
    "contrast": contrast,
}
"""Paths by name; each takes the range of its parameter."""


def _offsets(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of x (n, c, h, w), from the middle: (1, h, w) each."""
    height, width = x.shape[2:]
    rows = torch.arange(height, dtype=torch.float64, device=x.device) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64, device=x.device) - (width - 1) / 2
    return rows[None, :, None].expand(1, height, width), columns[None, None].expand(
        1, height, width
    )


Warp = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps x (n, c, h, w) and t (n,) to where each pixel reads, from the middle, and how fast this
place moves with t: (n, h, w, 2) each, rows first."""


def _warped(name: str, unit: str, low: float, high: float, warp: Warp, turn: float) -> Path:
    """A path of bilinear interpolation; `turn`: how fast velocities turn, in radians per t."""

    def images(x: Tensor, t: Tensor) -> Tensor:
        check_pictures(name, x)
        height, width = x.shape[2:]
        place = warp(x, t)[0].flip(-1)  # grid_sample wants columns first, in [-1, 1]
        half = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=x.device) / 2
        found = F.grid_sample(
            x, (place / half).expand(len(x), -1, -1, -1), "bilinear", "zeros", align_corners=True
        )
        return found.clamp(0, 1)

    def speed(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        half = (b - a)[:, None, None] / 2
        place, velocity = (v.expand(len(x), -1, -1, -1) for v in warp(x, (a + b) / 2))
        size = velocity.norm(dim=-1)
        middle = torch.tensor([(s - 1) / 2 for s in x.shape[2:]], device=x.device)
        reach = size * half * SAFE + 1e-6
        return _rates(x, place + middle, velocity, reach, size * turn * half)

    return Path(name, unit, low, high, images, speed)


def _rates(x: Tensor, place: Tensor, velocity: Tensor, reach: Tensor, turn: Tensor) -> Tensor:
    """A bound of the norm of d x_t / dt, over what pixels can read on the way: (n,).

    In a cell between four pixels both derivatives of the interpolation lie between those along
    two edges. A pixel that reads within `reach` of `place` (n, h, w) meets the cells there, at
    velocities within `turn` of `velocity`.
    """
    padded = F.pad(x, (2, 2, 2, 2))
    down, right = padded.diff(dim=2), padded.diff(dim=3)
    corner = torch.stack([down[..., :-1], down[..., 1:], right[:, :, :-1], right[:, :, 1:]])
    middle = torch.stack([(corner[0] + corner[1]) / 2, (corner[2] + corner[3]) / 2]).flatten(3)
    spread = torch.stack([corner[0] - corner[1], corner[2] - corner[3]]).flatten(3).abs() / 2
    steepest = (middle.abs() + spread).norm(dim=0)
    height, width = corner.shape[-2:]
    sides = torch.tensor([height - 1, width - 1], device=x.device)
    first = ((place - reach[..., None]).floor() + 2).clamp_min(0).minimum(sides).long()
    last = ((place + reach[..., None]).floor() + 2).clamp_min(0).minimum(sides).long()
    along = velocity.flatten(1, 2).movedim(-1, 0)[:, :, None]  # (2, n, 1, pixels)
    most = torch.zeros_like(x).flatten(2)
    reached = int((last - first).max()) + 1
    for row in range(reached):
        for column in range(reached):
            offset = torch.tensor([row, column], device=x.device)
            cell = torch.minimum(first + offset, last)
            index = (cell[..., 0] * width + cell[..., 1]).flatten(1)[:, None].expand_as(most)
            mean = torch.stack([m.gather(2, index) for m in middle])
            rest = torch.stack([s.gather(2, index) for s in spread])
            rate = (mean * along).sum(0).abs() + (rest * along.abs()).sum(0)
            rate = rate + steepest.gather(2, index) * turn.flatten(1)[:, None]
            most = torch.maximum(most, rate)
    length: Tensor = most.flatten(1).norm(dim=1)
    return length


def _grey(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3), keepdim=True).expand_as(x)


def _blended(name: str, low: float, high: float, middle: Callable[[Tensor], Tensor]) -> Path:
    """x + t / 100 (x - m) with m from `middle`, cut off at black and white."""
    if low < -100:
        raise ValueError(f"{name} needs a range from -100% or above, got {low}")

    def uncut(x: Tensor, t: Tensor) -> Tensor:
        check_pictures(name, x)
        return x + t[:, None, None, None] / 100 * (x - middle(x))

    def speed(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        first, last = uncut(x, a), uncut(x, b)
        # a pixel that is cut off at both ends is so all the way
        still = ((first >= 1) & (last >= 1)) | ((first <= 0) & (last <= 0))
        rate = (x - middle(x)).abs().masked_fill(still, 0.0) / 100
        length: Tensor = rate.flatten(1).norm(dim=1)
        return length

    return Path(name, "%", low, high, lambda x, t: uncut(x, t).clamp(0, 1), speed)
