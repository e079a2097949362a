"""Times of bounds and of certifying, against the limits that the project sets itself.

    OMP_NUM_THREADS=2 python benchmarks/lipschitz.py [--tight]

Every line prints what was measured and its limit; times are the best of several runs.
"""

import sys
import time
from collections.abc import Callable

import torch

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certify, gloro
from thesis_repro.robustness.lanczos import converged

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


def certify_over_forward(net: GloroNet, x: torch.Tensor, rounds: int = 9) -> float:
    """The median over rounds of the ratio of processor times, on one thread."""

    def bare() -> None:
        with torch.no_grad():
            torch.cat([net.body(part) for part in x.split(1000)])

    torch.set_num_threads(1)
    ratios = []
    for _ in range(rounds):
        times = []
        for function in (bare, lambda: certify(net, x)):
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
        ratios.append(times[1] / times[0])
    return sorted(ratios)[rounds // 2]


def main() -> None:
    for name, limit in NETS.items():
        net = build(name)
        seconds = best(lambda net=net: product(net, "fast"))
        print(f"fast bound, {name}: {seconds:.2f} s (limit {limit:.0f} s)")
    for name, count in (("2c2f", 10_000), ("4c3f", 1000), ("6c2f", 100), ("2c2f", 100)):
        net = build(name)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(count, *net.input_shape, generator=generator)
        net.bound()
        ratio = certify_over_forward(net, images)
        print(f"certify, {name}, {count:,} images: {ratio:.2f} of a bare pass (limit {RATIO})")
    if "--tight" in sys.argv:
        net = build("6c2f")
        start = time.perf_counter()
        tight = product(net, "tight")
        seconds = time.perf_counter() - start
        below = converged(net)
        print(f"tight bound, 6c2f: {seconds:.0f} s (limit {TIGHT:.0f} s)")
        print(f"slack over Lanczos iteration: tight {100 * (tight / below - 1):.4f}% (limit 0.1%)")
        print(f"fast {100 * (product(net, 'fast') / below - 1):.2f}% (limit 4% for a trained net)")


if __name__ == "__main__":
    main()
