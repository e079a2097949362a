"""The table gloro-training: what an epoch costs by the method of training, on the same net.

A part of the chapter robustness/gloro. Timings are recorded and shown; no test asserts them.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.timing import interleaved, peak
from thesis_repro.robustness import GloroNet, attacks, gloro, relaxed
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.robustness.relaxed import RelaxedNet
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, every, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import Loss, steps

SIZES = {"6c2f": ((3, 32, 32), 50_000), "2c2f": ((1, 28, 28), 4_000)}
"""Shape of an image and images in an epoch: CIFAR-10, and MNIST-5k."""


@dataclass(frozen=True)
class StepsConfig:
    """Which net is trained, in which batches, on which device; rounds in which steps are timed."""

    net: str
    batch: int
    device: str
    repeats: int = 5


MARGIN_ROUNDS = 5
"""The margins of rivals are slower, and farther from a step of ours: fewer rounds do."""


def _plain(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    assert isinstance(model, GloroNet)
    return training.classification(model.body, x, y, progress)


def _adversarial(epsilon: float) -> Loss:
    attacked = attacks.adversarial_loss(training.constant(epsilon), 7)

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        assert isinstance(model, GloroNet)
        return attacked(model.body, x, y, progress)

    return loss


def _noisy(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    return _plain(model, x + SIGMA * torch.randn_like(x), y, progress)


EPSILON, SIGMA = 36 / 255, 0.12
GROUPS = ((0, 1, 8, 9), (2, 3, 4, 5, 6, 7))
"""Affinity sets: the vehicles and the animals of CIFAR-10."""
ROBUST = gloro.trades(training.constant(EPSILON), training.constant(1.2))
PLAIN, GLORO, NOISE = "plain", "GloRo", "noise (RS)"
RELAXED = {"GloRo, RT3": relaxed.up_to(3), "GloRo, affinity": relaxed.within(GROUPS)}
LOSSES: dict[str, Loss] = {
    PLAIN: _plain,
    GLORO: ROBUST,
    "PGD, 7 steps": _adversarial(EPSILON),
    NOISE: _noisy,
    **dict.fromkeys(RELAXED, ROBUST),
}
"""The methods that are measured; the first is what the others are compared with."""
MARGINS: dict[str, tuple[Callable[[nn.Sequential, Tensor], Tensor], int]] = {
    "BCP, margins alone": (lambda net, x: bcp.margins(net, x, EPSILON), 0),
    "KW, margins alone": (lambda net, x: dual.margins(net, x, EPSILON), 1),
}
"""What a step of these trainings computes before it goes back, on so many points (0: the batch)."""
METHODS = (*LOSSES, *MARGINS)


def measure(config: StepsConfig) -> Result:
    """Cell: seconds of one step of each method, timed in turn, and the memory that it takes."""
    shape, images = SIZES[config.net]
    x = torch.rand(config.batch, *shape, device=config.device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (config.batch,), device=config.device)
    calls = [_step(config, name, x, y) for name in LOSSES]
    parts, factors = zip(*(_margins(config, name, x) for name in MARGINS), strict=True)
    with nets.fused(config.net != "2c2f", config.device) as fused:
        clock = time.perf_counter if config.device == "cuda" else time.process_time
        timings = interleaved(calls, config.repeats, clock=clock)
        timings += interleaved(parts, MARGIN_ROUNDS, warmup=1, clock=clock)
        memory = [most_held(call, config.device) for call in (*calls, *parts)]
    count = math.ceil(images / config.batch)
    found = {
        name: {
            "seconds": timing.seconds * count * times,
            "calls": [seconds * count * times for seconds in timing.calls],
            "memory": held * times / 2**20,
        }
        for name, timing, held, times in zip(
            METHODS, timings, memory, (*[1.0] * len(calls), *factors), strict=True
        )
    }
    return Result({"methods": found, "fused": fused})


def _margins(config: StepsConfig, name: str, x: Tensor) -> tuple[Callable[[], object], float]:
    """A rival's margins on the same net with ReLU, and how many such calls make a batch."""
    margins, points = MARGINS[name]
    body = nets.build(config.net, "relu").to(config.device).eval()
    part = x[: points or len(x)]
    return lambda: margins(body, part), len(x) / len(part)


@dataclass(frozen=True)
class MethodConfig:
    """One method's row out of the steps that were timed together."""

    timed: StepsConfig
    method: str


def of_method(config: MethodConfig) -> Result:
    """Cell: one method's seconds an epoch, from each step that was timed, and its memory."""
    result = compute(Cell(measure, config.timed))
    note = "" if result.values["fused"] or config.timed.net == "2c2f" else "eager MinMax"
    return Result({**result.values["methods"][config.method], "note": note})


def _step(config: StepsConfig, name: str, x: Tensor, y: Tensor) -> Callable[[], object]:
    shape, _ = SIZES[config.net]
    about, loss = (nets.build(config.net), EPSILON, shape), LOSSES[name]
    net = RelaxedNet(*about, RELAXED[name], 2) if name in RELAXED else GloroNet(*about, 2)
    net.to(config.device).train().to(memory_format=torch.channels_last)
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
        timed = StepsConfig("6c2f", 256, profile.device, repeats=25)
    return [
        (_row(timed.net, method), Cell(of_method, MethodConfig(timed, method)))
        for method in METHODS
    ]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each method, with its time over that of plain and of GloRo training of the same net."""
    measured = summarise(TABLE.spec, gathered)
    calls = {row: results[0].values["calls"] for row, results in gathered.items()}
    for row, found in measured.items():
        ratios: dict[str, Estimate | str] = {}
        for name, base in (("ratio", PLAIN), ("over", GLORO)):
            first = calls.get((row[0], base))
            if first is not None and row[1] == base:
                ratios[name] = Estimate(1.0)
            elif first is not None:
                in_turn = row[1] in LOSSES and len(first) == len(calls[row])
                over = statistics.ratio_in_turn if in_turn else statistics.ratio_of_medians
                ratio = over(calls[row], first)
                ratios[name] = replace(ratio, how=f"ratios: {ratio.how}")
        measured[row] = replace(found, values={**found.values, **ratios})
    return measured


LITTLE = 1.25
"""Times a step of plain training, or of GloRo, that count as little more."""
MORE = 1 + 1e-9
"""What is more than one time."""


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """That relaxed steps cost little more than plain and GloRo's, those of other certifiers more.

    The whole interval of a ratio has to be on one side, else it is not judged.
    """
    by = rows.set_index("method")
    little = f"at most {LITTLE:g} times, with the interval"
    sides: list[tuple[str, str, str, Sequence[str], Callable[[pd.Series], bool | None]]] = [
        (
            "steps of relaxed training cost little more than plain ones",
            little,
            "ratio",
            tuple(RELAXED),
            lambda row: reaches(of(row, "ratio"), LITTLE, at_most=True),
        ),
        (
            "steps of relaxed training cost little more than those of GloRo",
            little,
            "over",
            tuple(RELAXED),
            lambda row: reaches(of(row, "over"), LITTLE, at_most=True),
        ),
        (
            "the margins of BCP and KW alone take longer and more memory than a whole GloRo step",
            "more than 1 time, with the interval, and more bytes",
            "over",
            tuple(MARGINS),
            lambda row: every(
                (reaches(of(row, "over"), MORE), bool(row["memory"] > by.loc[GLORO, "memory"]))
            ),
        ),
        (
            "a training step of RS takes longer than one of GloRo",
            "more than 1 time, with the interval",
            "over",
            (NOISE,),
            lambda row: reaches(of(row, "over"), MORE),
        ),
    ]
    found = []
    for says, needed, times, names, enough in sides:
        low = f"{times}_low"
        mine = [by.loc[name] for name in names if name in by.index and low in by]
        if len(mine) < len(names) or any(pd.isna(row[low]) for row in mine):
            found.append(Condition(says, needed, "not in this run", None))
            continue
        measured = ", ".join(f"{row.name} {said(of(row, times), 2)}" for row in mine)
        found.append(Condition(says, needed, measured, every(map(enough, mine))))
    return found


def _row(net: str, method: str) -> Row:
    return net.upper(), method


TABLE = Table(
    TableSpec(
        name="gloro-training",
        caption=(
            "What an epoch of training costs on the same MinMax net: 6C2F on the 50,000 images of "
            "CIFAR-10 in batches of 256, 2C2F on the 4,000 digits of MNIST-5k in batches of 128. "
            "Seconds from the median step, on a CPU of processor time on one core; memory is what "
            "one step holds at most, beyond weights and data. BCP and KW: their margins alone, "
            "without the way back, on the same net with ReLU; of KW one point, times the batch. "
            "Published seconds are those of the authors' machines."
        ),
        chapter="robustness/gloro",
        keys=(
            Column("net", "net", kind="key"),
            Column("method", "training", kind="key"),
        ),
        columns=(
            Column("seconds", "an epoch", "s", "{:.1f}"),
            Column("ratio", "times plain", format="{:,.2f}"),
            Column("over", "times GloRo", format="{:,.2f}", later=True, of_training=False),
            Column("memory", "memory", "MiB", "{:,.0f}"),
        ),
        rows=tuple(_row("6c2f", method) for method in METHODS),
        claims=published.claims("gloro-training"),
        quoted=published.quoted("gloro-training"),
        conditions=conditions,
    ),
    cells,
    assemble,
    timed=True,
)
