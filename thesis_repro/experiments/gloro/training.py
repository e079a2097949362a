"""The table gloro-training: what an epoch costs by the method of training, on the same net.

A part of the chapter robustness/gloro. Timings are recorded and shown; no test asserts them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.timing import interleaved, peak
from thesis_repro.robustness import GloroNet, attacks, gloro
from thesis_repro.tables.spec import Column, Plan, Quoted, Row, Table, TableSpec
from thesis_repro.training import Loss, steps

BCP = "Lee, Lee and Park 2020, README of the authors' code"
SIZES = {"6c2f": ((3, 32, 32), 50_000), "2c2f": ((1, 28, 28), 4_000)}
"""Shape of an image and images in an epoch: CIFAR-10, and MNIST-5k."""


@dataclass(frozen=True)
class StepsConfig:
    """Which net is trained, in which batches, on which device; how often each step is timed."""

    net: str
    batch: int
    device: str
    repeats: int = 5


def _plain(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    assert isinstance(model, GloroNet)
    return training.classification(model.body, x, y, progress)


def _adversarial(epsilon: float) -> Loss:
    attacked = attacks.adversarial_loss(training.constant(epsilon), 7)

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        assert isinstance(model, GloroNet)
        return attacked(model.body, x, y, progress)

    return loss


EPSILON = 36 / 255
LOSSES: dict[str, Loss] = {
    "plain": _plain,
    "GloRo": gloro.trades(training.constant(EPSILON), training.constant(1.2)),
    "PGD, 7 steps": _adversarial(EPSILON),
}
"""The methods that are measured; the first is what the others are compared with."""


def measure(config: StepsConfig) -> Result:
    """Cell: seconds of one step of each method, timed in turn, and the memory that it takes."""
    shape, images = SIZES[config.net]
    x = torch.rand(config.batch, *shape, device=config.device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (config.batch,), device=config.device)
    calls = [_step(config, loss, x, y) for loss in LOSSES.values()]
    with nets.fused(config.net != "2c2f", config.device) as fused:
        clock = time.perf_counter if config.device == "cuda" else time.process_time
        timings = interleaved(calls, config.repeats, clock=clock)
        memory = [most_held(call, config.device) for call in calls]
    count = math.ceil(images / config.batch)
    found = {
        name: {
            "seconds": timing.seconds * count,
            "ratio": timing.seconds / timings[0].seconds,
            "memory": held / 2**20,
        }
        for name, timing, held in zip(LOSSES, timings, memory, strict=True)
    }
    return Result({"methods": found, "fused": fused})


@dataclass(frozen=True)
class MethodConfig:
    """One method's row out of the steps that were timed together."""

    timed: StepsConfig
    method: str


def of_method(config: MethodConfig) -> Result:
    """Cell: one method's seconds an epoch, the ratio to plain training, and its memory."""
    result = compute(Cell(measure, config.timed))
    note = "" if result.values["fused"] or config.timed.net == "2c2f" else "eager MinMax"
    return Result({**result.values["methods"][config.method], "note": note})


def _step(config: StepsConfig, loss: Loss, x: Tensor, y: Tensor) -> Callable[[], object]:
    shape, _ = SIZES[config.net]
    net = GloroNet(nets.build(config.net), EPSILON, shape, power_steps=2).to(config.device)
    net.train().to(memory_format=torch.channels_last)
    settings = training.TrainConfig(
        1, config.batch, autocast=training.fast_bfloat16(config.device) and config.net != "2c2f"
    )
    optimizer = steps.optimizer_of(net, settings, 1e-3)
    step = steps.eager(net, loss, optimizer, settings)

    def run() -> None:
        with steps.tf32(x.device):
            step(x, y, 0.5)

    return run


def most_held(call: Callable[[], object], device: str) -> int:
    """The most bytes that a call holds at once, beyond what was held before it."""
    with peak(device) as found:
        call()
    return found.bytes


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-training`: 6C2F in batches of 256, or 2C2F in batches of 128."""
    if profile.name == "quick":
        timed = StepsConfig("2c2f", 128, profile.device)
    else:
        timed = StepsConfig("6c2f", 256, profile.device)
    return [
        (_row(timed.net, method), Cell(of_method, MethodConfig(timed, method))) for method in LOSSES
    ]


def _row(net: str, method: str) -> Row:
    return net.upper(), method


TABLE = Table(
    TableSpec(
        name="gloro-training",
        caption=(
            "What an epoch of training costs on the same MinMax net: 6C2F on the 50,000 images of "
            "CIFAR-10 in batches of 256, 2C2F on the 4,000 digits of MNIST-5k in batches of 128. "
            "Seconds from the median step, on a CPU of processor time on one core; memory is what "
            "one step holds at most, beyond weights and data. Published seconds are those of the "
            "authors' machines."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("net", "net", kind="key"),
            Column("method", "training", kind="key"),
        ),
        columns=(
            Column("seconds", "an epoch", "s", "{:.1f}"),
            Column("ratio", "times plain", format="{:.2f}"),
            Column("memory", "memory", "MiB", "{:.0f}"),
        ),
        rows=tuple(_row("6c2f", method) for method in LOSSES),
        quoted=(
            Quoted(_row("6c2f", "BCP"), {"seconds": 56.5}, BCP),
            Quoted(_row("6c2f", "KW"), {"seconds": 1369.0}, BCP),
        ),
    ),
    cells,
    timed=True,
)
