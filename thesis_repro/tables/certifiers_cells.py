"""Cells of the chapter robustness/certifiers: one method on one net, timed, counted, weighed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.lab import timing
from thesis_repro.lab.engine import Result
from thesis_repro.robustness import GloroNet, certify, recipes
from thesis_repro.robustness.certifiers import bcp, dual, smoothing
from thesis_repro.robustness.recipes import Training

GLORO, BCP, KW, RS = "GloRo", "BCP (Lee et al.)", "KW (Wong et al.)", "RS (Cohen et al.)"
METHODS = (GLORO, BCP, KW, RS)
GUARANTEES = {
    GLORO: "always, rounding included",
    BCP: "always, up to rounding",
    KW: "always, up to rounding",
    RS: "with probability 1 − α per point",
}
N0, SAMPLES, ALPHA = 100, 100_000, 0.001
"""Of smoothing, as in its paper: copies that select, copies that estimate, and alpha."""


@dataclass(frozen=True)
class Method:
    """A certifier and how much of it is run.

    points : test points that are certified, evenly spread (0: all)
    calls : calls in which the points are timed, each its share of them; without points, each all
    batch_size : points at a time; of smoothing, noisy copies at a time
    samples, sigma : of smoothing: copies per point that are drawn here, and their noise
    """

    name: str
    points: int
    calls: int
    batch_size: int
    samples: int = 0
    sigma: float = 0.0


@dataclass(frozen=True)
class CostConfig:
    """One method on one net."""

    training: Training
    method: Method

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.training.device


Certifier = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From images to labels and which of them are certified."""


def certifier(
    method: Method, body: nn.Sequential, epsilon: float, shape: tuple[int, ...]
) -> tuple[Certifier, float]:
    """A method made ready for a net, and the seconds that this took once."""
    device = next(body.parameters()).device
    began = time.perf_counter()
    if method.name == GLORO:
        net = GloroNet(body, epsilon, (shape[0], shape[1], shape[2])).to(device)
        net.eval().bound()

        def certified(x: Tensor) -> tuple[Tensor, Tensor]:
            found = certify(net, x, batch_size=method.batch_size)
            return found.labels, found.certified

    elif method.name == BCP:
        prepared = bcp.prepare(body, shape)

        def certified(x: Tensor) -> tuple[Tensor, Tensor]:
            found = bcp.margins(body, x, epsilon, batch_size=method.batch_size, prepared=prepared)
            return found.argmax(1), found.amin(1) > 0  # the margin to the label itself is infinite

    elif method.name == KW:

        def certified(x: Tensor) -> tuple[Tensor, Tensor]:
            # to the letter: what the method costs as it is published
            size = method.batch_size
            known = dual.certify(body, x, epsilon, batch_size=size, every_unit=True)
            return body(x).argmax(1), known

    else:
        classes = body(torch.zeros(1, *shape, device=device)).shape[1]
        smooth = smoothing.Smooth(body, classes, method.sigma)

        def certified(x: Tensor) -> tuple[Tensor, Tensor]:
            generator = torch.Generator(x.device).manual_seed(0)
            found = [
                smooth.certify(one, N0, method.samples, ALPHA, method.batch_size, generator)
                for one in x
            ]
            labels, radii = zip(*found, strict=True)
            return torch.tensor(labels, device=x.device), torch.tensor(radii).to(x) > epsilon

    return certified, time.perf_counter() - began


def cost(config: CostConfig) -> Result:
    """Cell: seconds for the test set, memory per instance, and what was certified."""
    recipe, method = config.training.recipe, config.method
    body = recipes.trained(config.training)[0].body
    test = data.load(config.training.dataset).test
    total = len(test.y)
    chosen = torch.arange(total)
    if method.points:
        chosen = torch.arange(method.points) * total // method.points
    x, y = test.x[chosen].to(recipe.device), test.y[chosen].to(recipe.device)
    measured = measure(method, body, recipe.epsilon, x)
    scale: float = total / measured.points
    note = ""
    if len(y) < total:
        note = f"measured on {len(y):,} points, scaled to {total:,}"
    if method.name == RS:
        scale *= (N0 + SAMPLES) / (N0 + method.samples)
        note += f", and from {method.samples:,} copies of each to {SAMPLES:,}"
    right = measured.certified & (measured.labels == y)
    values = {
        "seconds": scale * measured.seconds,
        "spread": measured.spread,
        "floor": scale * measured.operations / timing.matrix_rate(recipe.device),
        "gflop": scale * measured.operations / total / 1e9,
        "mb": measured.mb,
        "one_off": measured.one_off,
        "vra": {"k": int(right.sum()), "n": len(y)},
        "guarantee": GUARANTEES[method.name],
        "note": note,
        "epochs_run": recipe.epochs,
        "epochs_paper": recipe.epochs_paper,
    }
    return Result(values)


@dataclass(frozen=True)
class Measured:
    """Of one call: seconds (median, quartiles apart in percent), operations, how many points.

    mb : megabytes per instance; one_off : seconds before the first point
    labels, certified : of all points
    """

    seconds: float
    spread: float
    operations: int
    points: int
    mb: float
    one_off: float
    labels: Tensor
    certified: Tensor


def measure(method: Method, body: nn.Sequential, epsilon: float, x: Tensor) -> Measured:
    """Run a method on points in equal calls.

    The first call is run once before, watched and not timed: it warms up.
    """
    certified, one_off = certifier(method, body, epsilon, tuple(x.shape[1:]))
    found: list[tuple[Tensor, Tensor]] = []
    shares = x.chunk(method.calls) if method.points else [x] * method.calls
    together = {GLORO: min(method.batch_size, len(x)), RS: 1}.get(
        method.name, min(method.batch_size, len(shares[0]))
    )

    def call(share: Tensor) -> None:
        with torch.no_grad():
            found.append(certified(share))

    with timing.peak(x.device.type) as peak:
        operations = timing.operations(lambda: call(shares[0]))
    found.clear()
    timed = timing.each([lambda s=share: call(s) for share in shares])  # type: ignore[misc]
    labels, known = zip(*(found if method.points else found[:1]), strict=True)
    return Measured(
        seconds=timed.seconds,
        spread=100 * (timed.high - timed.low) / timed.seconds,
        operations=operations,
        points=len(shares[0]),
        mb=peak.bytes / together / 1e6,
        one_off=one_off,
        labels=torch.cat(labels),
        certified=torch.cat(known),
    )


@dataclass(frozen=True)
class ScalingConfig:
    """One method on one untrained net: classes, convolutions before the dense layers, pixels."""

    method: Method
    classes: int
    depth: int
    pixels: int
    device: str = "cpu"


def untrained(classes: int, depth: int, pixels: int) -> nn.Sequential:
    """`depth` convolutions of 8 channels (3x3), a dense layer of 64 units, ReLU, random weights."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(8 if index else 3, 8, 3, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(8 * pixels**2, 64), nn.ReLU(), nn.Linear(64, classes)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers).eval()


def scaling(config: ScalingConfig) -> Result:
    """Cell: seconds, operations and memory per point of a method on a net of one size."""
    body = untrained(config.classes, config.depth, config.pixels).to(config.device)
    shape = (config.method.points, 3, config.pixels, config.pixels)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(config.device)
    found = measure(config.method, body, 36 / 255, x)
    per_point = {
        "seconds": found.seconds / found.points,
        "operations": found.operations / found.points,
    }
    return Result({**per_point, "mb": found.mb})
