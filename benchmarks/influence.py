"""Internal influence against Captum: throughput on one slice, and memory over the points.

Run as ``python benchmarks/influence.py``; one thread, ratios from one run. The two alternate, and
the least of the rounds counts. Memory is the peak of a process of its own, less that of one point.
Exits with 1 if we are slower than Captum, or if memory grows with the points.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from thesis_repro import nets
from thesis_repro.explanations.influence import class_score, internal_influence, line

IMAGES, POINTS, ROUNDS, BATCH = 32, 50, 7, 256
SLICE = 3
SLACK_MB = 20


def net() -> torch.nn.Sequential:
    """The 2C2F net with ReLU; weights do not matter for the time."""
    return nets.cnn_2c2f("relu", generator=torch.Generator().manual_seed(0)).eval()


def ours(model: torch.nn.Sequential, x: torch.Tensor, points: int) -> torch.Tensor:
    """The line of inputs, credit at the second convolution's ReLU."""
    d = line(0.0, points, "input")
    return internal_influence(model, x, str(SLICE), class_score(3), d, batch_size=BATCH)


def captums(model: torch.nn.Sequential, x: torch.Tensor, points: int) -> torch.Tensor:
    """Captum's InternalInfluence, in one piece, as its default."""
    from captum.attr import InternalInfluence

    method = InternalInfluence(model, model[SLICE])
    return method.attribute(x, target=3, n_steps=points)


def captums_batched(model: torch.nn.Sequential, x: torch.Tensor, points: int) -> torch.Tensor:
    """The same with its bound on the rows of a pass."""
    from captum.attr import InternalInfluence

    method = InternalInfluence(model, model[SLICE])
    return method.attribute(x, target=3, n_steps=points, internal_batch_size=BATCH)


METHODS: dict[str, Callable[[torch.nn.Sequential, torch.Tensor, int], torch.Tensor]] = {
    "ours": ours,
    "captum": captums,
    "captum, batched": captums_batched,
}


def images() -> torch.Tensor:
    """Random images; the values do not matter for the time."""
    return torch.rand(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def throughput() -> dict[str, float]:
    """Images per second of each method."""
    model, x = net(), images()
    best = dict.fromkeys(METHODS, float("inf"))
    reference = ours(model, x, POINTS)
    for round_ in range(ROUNDS + 1):
        for name, method in METHODS.items():
            began = time.perf_counter()
            found = method(model, x, POINTS)
            took = time.perf_counter() - began
            assert (found - reference).abs().max() < 1e-5, name
            if round_:
                best[name] = min(best[name], took)
    return {name: IMAGES / seconds for name, seconds in best.items()}


def peak(name: str, points: int) -> float:
    """Peak memory in MB of a process that runs one method."""
    command = [sys.executable, __file__, name, str(points)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print throughputs, ratios and memory as JSON."""
    rates = throughput()
    memory = {
        name: {points: round(peak(name, points) - peak(name, 1), 1) for points in (10, 50, 500)}
        for name in METHODS
    }
    result = {
        "images per second": {name: round(rate, 1) for name, rate in rates.items()},
        "ours over captum": round(rates["ours"] / rates["captum"], 2),
        "ours over captum, batched": round(rates["ours"] / rates["captum, batched"], 2),
        "MB above one point, by points": memory,
    }
    print(json.dumps(result, indent=1))
    if rates["ours"] < rates["captum"] or memory["ours"][500] > memory["ours"][50] + SLACK_MB:
        sys.exit(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        METHODS[sys.argv[1]](net(), images(), int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
