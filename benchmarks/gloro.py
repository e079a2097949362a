"""Print the ratios of the table gloro-speed, measured now, beside their limits.

python benchmarks/gloro.py [cpu|cuda]

Of training steps also how long one takes, and how many epochs of CIFAR-10 that makes an hour. On a
GPU an epoch of 6C2F by the paper's recipe is timed as well, each step recorded.
"""

import dataclasses
import math
import sys

import torch

from thesis_repro.data import Dataset, Split
from thesis_repro.experiments.gloro.speed import BATCH, RATIOS, config_of, measure
from thesis_repro.experiments.nets import PAPER, at_scale
from thesis_repro.robustness import recipes

IMAGES = 50_000


def an_hour(step: float) -> str:
    """Epochs of CIFAR-10 an hour, at so many seconds a step."""
    return f"{3600 / (step * math.ceil(IMAGES / BATCH)):.1f} epochs an hour"


def recorded_epoch(device: str) -> float:
    """Seconds of the second epoch of 6C2F on random images; the first one records the step."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(IMAGES, 3, 32, 32, generator=generator)
    y = torch.randint(10, (IMAGES,), generator=generator)
    recipe = dataclasses.replace(at_scale(PAPER["36/255"], 0, device), epochs=2)
    dataset = Dataset("random", Split(x, y), Split(x[:10], y[:10]), tuple("abcdefghij"))
    return recipes.train(recipe, dataset)[1][1]["seconds"]


device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
for what, (_, limit) in RATIOS.items():
    values = measure(config_of(what, device)).values
    speed = f"{values['seconds']:.3f} s"
    if "certify" not in what:
        speed += f" a step, {an_hour(values['seconds'])}"
    print(f"{values['ratio']:.2f} (limit {limit})  {what}: {speed}  {values['note']}", flush=True)
if device == "cuda":
    seconds = recorded_epoch(device)
    print(f"{seconds:.2f} s an epoch by the recipe, {800 * seconds / 60:.1f} min for 800")
