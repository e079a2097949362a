"""Speed of GloRo training and certification, as ratios measured in one run.

A part of the chapter robustness/gloro. Timings are recorded and shown; no test asserts them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.timing import interleaved
from thesis_repro.robustness import GloroNet, certify, gloro
from thesis_repro.tables.spec import Column, Plan, Row, Table, TableSpec

SHAPE = (3, 32, 32)
BATCH = 256
POINTS = 10_000


@dataclass(frozen=True)
class SpeedConfig:
    """Which ratio to measure, on which device, with how many repeats."""

    what: str
    device: str
    repeats: int = 7


def gloro_step(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """A GloRo step with one warm power iteration, and the plain step of the same net."""
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE, power_steps=1).to(config.device)
    robust = gloro.trades(training.constant(0.1), training.constant(1.0))

    def plain(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return training.classification(net.body, x, y, progress)

    return _step(net, robust, config), _step(net, plain, config)


def minmax_step(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """Forward and backward of 6C2F with MinMax, and with ReLU."""
    steps = [
        _step(nets.cnn_6c2f(name).to(config.device), training.classification, config)
        for name in ("minmax", "relu")
    ]
    return steps[0], steps[1]


def gloro_minmax_step(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """The whole GloRo step with MinMax and five power iterations, and the plain ReLU step."""
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE, power_steps=5).to(config.device)
    robust = gloro.trades(training.constant(0.1), training.constant(1.0))
    plain = nets.cnn_6c2f("relu").to(config.device)
    return _step(net, robust, config), _step(plain, training.classification, config)


def certification(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """Certifying 10,000 images (the bound is computed once before), and the bare forward pass."""
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE).to(config.device).eval()
    x = torch.rand(POINTS, *SHAPE, device=config.device)
    net.bound()

    def bare() -> None:
        with torch.no_grad():
            for part in x.split(1000):
                net.body(part)

    return lambda: certify(net, x), bare


def _step(net: nn.Module, loss: training.Loss, config: SpeedConfig) -> Callable[[], object]:
    net.train().to(memory_format=torch.channels_last)
    x = torch.rand(BATCH, *SHAPE, device=config.device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), device=config.device)
    fast = training.fast_bfloat16(config.device)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with torch.autocast(config.device, torch.bfloat16, enabled=fast):
            value = loss(net, x, y, 0.5)
        value.backward()

    return step


RATIOS = {
    "GloRo step / plain step (6C2F, MinMax)": (gloro_step, 1.4),
    "MinMax / ReLU, forward and backward (6C2F)": (minmax_step, 1.6),
    "GloRo MinMax step / plain ReLU step (6C2F)": (gloro_minmax_step, 2.0),
    "certify 10,000 images / bare forward pass (6C2F)": (certification, 1.1),
}
"""What is measured, and the largest ratio that we aim for."""


def measure(config: SpeedConfig) -> Result:
    """Cell: one ratio."""
    make, limit = RATIOS[config.what]
    with nets.fused(device=config.device) as fused:
        first, second = interleaved(make(config), config.repeats)
    ratio = first.seconds / second.seconds
    values = {
        "seconds": first.seconds,
        "reference": second.seconds,
        "ratio": ratio,
        "limit": limit,
        "within": "yes" if ratio <= limit else "no",
        "note": "" if fused else "no compiler: eager MinMax",
        "training_format": "bfloat16" if training.fast_bfloat16(config.device) else "float32",
    }
    return Result(values)


def cells(profile: Profile) -> Plan:
    """One cell per ratio; only the paper profile measures."""
    if profile.name == "quick":
        return []
    return [(_row(what), Cell(measure, SpeedConfig(what, profile.device))) for what in RATIOS]


def _row(what: str) -> Row:
    return (what,)


TABLE = Table(
    TableSpec(
        name="gloro-speed",
        caption=(
            "Speed as ratios of medians, measured in turn in one run, batches of 256; training in "
            "bfloat16 autocast where the device has units for it, else in float32; certifying in "
            "float32; the limit is what this project aims for."
        ),
        chapter="robustness/gloro",
        keys=(Column("what", "compared", kind="key"),),
        columns=(
            Column("seconds", "first", "s", "{:.3f}"),
            Column("reference", "second", "s", "{:.3f}"),
            Column("ratio", "ratio", format="{:.2f}"),
            Column("limit", "limit", format="{:.1f}"),
            Column("within", "within", kind="text"),
            Column("training_format", "layers train in", kind="text"),
        ),
        rows=tuple(_row(what) for what in RATIOS),
    ),
    cells,
    timed=True,
)
