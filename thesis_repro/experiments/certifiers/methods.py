"""The four certifiers of the chapter robustness/certifiers: one on one net, timed and weighed."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
    calls : calls in which the points are timed
    batch_size : points at a time; of smoothing, noisy copies at a time
    samples, sigma : of smoothing: copies per point that are drawn here, and their noise
    split : whether each call takes its share of the points, or all of them
    """

    name: str
    points: int
    calls: int
    batch_size: int
    samples: int = 0
    sigma: float = 0.0
    split: bool = True


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
        classes = body(torch.zeros(1, *shape).to(next(body.parameters()))).shape[1]
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

    calls : seconds of each; mb : megabytes per instance; one_off : seconds before the first point
    """

    seconds: float
    spread: float
    operations: int
    points: int
    mb: float
    one_off: float
    calls: tuple[float, ...] = ()


def measure(
    method: Method,
    body: nn.Sequential,
    epsilon: float,
    x: Tensor,
    widest: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Run a method on points in equal calls.

    The first call is run once before, watched and not timed: it warms up. With `widest` the
    operations are counted at this batch size, whichever is timed: what does not depend on the
    points is done once for each batch.
    """
    certified, one_off = certifier(method, body, epsilon, tuple(x.shape[1:]))
    shares = shares_of(method, x)
    batch = {GLORO: min(method.batch_size, len(x)), RS: 1}.get(
        method.name, min(method.batch_size, len(shares[0]))
    )

    def call(share: Tensor) -> None:
        with torch.no_grad():
            certified(share)

    with timing.peak(x.device.type) as peak:
        operations = timing.operations(lambda: call(shares[0]))
    if widest not in (0, method.batch_size):
        wide, _ = certifier(replace(method, batch_size=widest), body, epsilon, tuple(x.shape[1:]))
        with torch.no_grad():
            operations = timing.operations(lambda: wide(shares[0]))
    timed = timing.once([partial(call, share) for share in shares], clock)
    return Measured(
        seconds=timed.seconds,
        spread=100 * (timed.high - timed.low) / timed.seconds,
        operations=operations,
        points=len(shares[0]),
        mb=peak.bytes / batch / 1e6,
        one_off=one_off,
        calls=timed.calls,
    )


def shares_of(method: Method, x: Tensor) -> list[Tensor]:
    """The points of each call."""
    return list(x.chunk(method.calls)) if method.split else [x] * method.calls


def fastest(
    method: Method, sizes: Sequence[int], body: nn.Sequential, epsilon: float, x: Tensor
) -> Method:
    """The method with the batch size that is fastest on the points of one call.

    Each size has calls of its own: a first one that is not counted, and the faster of the next
    two; a call that takes longer than `LONG` seconds is made once. So the calls that are reported
    did not choose the size.
    """
    share, seconds = shares_of(method, x)[0], {}
    for size in sizes:
        tried = replace(method, batch_size=size)
        certified, _ = certifier(tried, body, epsilon, tuple(x.shape[1:]))
        with torch.no_grad():
            call = partial(certified, share)
            seconds[size] = timing.clocked(call)
            if seconds[size] < LONG:
                seconds[size] = min(timing.clocked(call) for _ in range(2))
    return replace(method, batch_size=min(seconds, key=lambda size: seconds[size]))


LONG = 10.0


def certificates(
    method: Method, body: nn.Sequential, epsilon: float, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels and what is certified (n,), of the same weights in float64 whatever the method.

    In float32 one method takes the worst case of rounding off and the others do not; in float64
    what rounding can do is too small to matter for any.
    """
    exact = copy.deepcopy(body).double()
    certified, _ = certifier(method, exact, epsilon, tuple(x.shape[1:]))
    with torch.no_grad():
        return certified(x.double())
