"""The four certifiers of the chapter robustness/certifiers: one on one net, timed and weighed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.lab import timing
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.certifiers import bcp, dual, smoothing

GLORO, BCP, KW, RS = "GloRo", "BCP (Lee et al.)", "KW (Wong et al.)", "RS (Cohen et al.)"
METHODS = (GLORO, BCP, KW, RS)
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
    batch = {GLORO: min(method.batch_size, len(x)), RS: 1}.get(
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
        mb=peak.bytes / batch / 1e6,
        one_off=one_off,
        labels=torch.cat(labels),
        certified=torch.cat(known),
    )
