"""Times of bounds and of certifying, against the limits that the project sets itself.

    OMP_NUM_THREADS=2 python benchmarks/lipschitz.py [--tight]

Every line prints what was measured and its limit; times are the best of several runs.
"""

import sys
import time
from collections.abc import Callable

import torch

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certify, gloro, lipschitz

NETS = {"2c2f": 1.0, "4c3f": 1.0, "6c2f": 5.0}
TIGHT = 180.0
RATIO = 1.1


def best(function: Callable[[], object], runs: int = 3) -> float:
    """The smallest time of several runs: what the machine can do when left alone."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def build(name: str) -> GloroNet:
    shape = (3, 32, 32) if name == "6c2f" else (1, 28, 28)
    body = nets.build(name, generator=torch.Generator().manual_seed(0))
    return GloroNet(body, 0.3, shape).eval()


def product(net: GloroNet, method: str) -> float:
    return gloro.bound(net.body, net.input_shape, method).k_sub


def converged(net: GloroNet, steps: int = 3000) -> float:
    """The product of converged power iterations of the finite operators, in float64."""
    value = 1.0
    for _, layer, shape in list(lipschitz.layers(net.body, net.input_shape))[:-1]:
        if hasattr(layer, "weight"):
            start = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).double()
            value *= lipschitz.estimate(layer, shape, steps, start)[0].item()
    return value


def main() -> None:
    for name, limit in NETS.items():
        net = build(name)
        seconds = best(lambda net=net: product(net, "fast"))
        print(f"fast bound, {name}: {seconds:.2f} s (limit {limit:.0f} s)")
    ratios, x = {}, torch.rand(10_000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name in ("2c2f", "4c3f"):
        net, images = build(name), x if name == "2c2f" else x[:1000]
        net.bound()
        bare, full = [], []
        for _ in range(7):  # in turns, so that other work on the machine hits both
            with torch.no_grad():
                bare.append(best(lambda: [net.body(p) for p in images.split(1000)], 1))  # noqa: B023
            full.append(best(lambda: certify(net, images), 1))  # noqa: B023
        ratios[name] = min(full) / min(bare)
        print(
            f"certify, {name}, {len(images):,} images: {min(full):.2f} s, {ratios[name]:.2f} of a "
            f"bare forward pass (limit {RATIO})"
        )
    if "--tight" in sys.argv:
        net = build("6c2f")
        start = time.perf_counter()
        tight = product(net, "tight")
        seconds = time.perf_counter() - start
        below = converged(net)
        print(f"tight bound, 6c2f: {seconds:.0f} s (limit {TIGHT:.0f} s)")
        print(f"slack over power iteration: tight {100 * (tight / below - 1):.4f}% (limit 0.1%)")
        print(f"fast {100 * (product(net, 'fast') / below - 1):.2f}% (limit 4% for a trained net)")


if __name__ == "__main__":
    main()
