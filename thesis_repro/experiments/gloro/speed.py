"""Speed of GloRo training and certification, as ratios measured in one run.

A part of the chapter robustness/gloro. Timings are recorded and shown; no test asserts them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.data import Split
from thesis_repro.experiments.certifiers import methods
from thesis_repro.explanations import influence
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.timing import clock_of, interleaved, operations
from thesis_repro.robustness import GloroNet, certify, gloro
from thesis_repro.tables import published
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec
from thesis_repro.training import steps
from thesis_repro.training.loop import Loop
from thesis_repro.training.recording import AT_ONCE

SHAPE = (3, 32, 32)
BATCH = 256
POINTS = 10_000
RIVALS = {methods.BCP: 100, methods.KW: 1, methods.RS: 1}
"""Points in one call of a certifier that is no GloRo net."""
COPIES = 2000
"""Noisy copies of a point of RS, one batch."""
IMAGES, LINE = 32, 50
"""Images whose influence is measured, and points on the line of each."""


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
    """Certifying 10,000 images (the bound is computed once before), and the bare forward pass.

    Each runs in batches that suit it: those that `certify` chooses, and the fastest of `BATCHES`.
    """
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE).to(config.device).eval()
    x = torch.rand(POINTS, *SHAPE, device=config.device)
    net.bound()
    size = fastest_batch(net.body, x[: max(BATCHES)], clock_of(config.device))
    return lambda: certify(net, x), lambda: bare(net.body, x, size)


BATCHES = (20, 50, 100, 200, 500, 1000)


@torch.no_grad()
def bare(net: nn.Module, x: Tensor, size: int) -> None:
    """Forward passes alone, of so many points at a time."""
    for part in x.split(size):
        net(part)


def fastest_batch(net: nn.Module, x: Tensor, clock: Callable[[], float]) -> int:
    """The size of batches in which the bare net is fastest here, by medians of three calls."""
    calls = [partial(bare, net, x, size) for size in BATCHES]
    found = [timing.seconds for timing in interleaved(calls, 3, warmup=1, clock=clock)]
    return BATCHES[found.index(min(found))]


def whole_step(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """Steps of a GloRo training as `training.fit` takes them, and matrix products of their work.

    On a GPU the steps are recorded ones; the optimizer, the gather of the batch and its
    augmentation are in them.
    """
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE, power_steps=2).to(config.device).train()
    net.to(memory_format=torch.channels_last)
    robust = gloro.trades(training.constant(0.1), training.constant(1.0))
    loop = loop_of(net, robust, random_split(AT_ONCE * BATCH, config.device), BATCH)
    call = repeated(loop)
    work = operations(lambda: loop.plain(loop.batches[0], 0.5, 1e-3))
    return call, products(call() * work, config.device, half=loop.config.autocast)


def bounding(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """The proven bound of a net, which is computed once, and certifying 10,000 images with it."""
    net = GloroNet(nets.cnn_6c2f(), 36 / 255, SHAPE).to(config.device).eval()
    x = torch.rand(POINTS, *SHAPE, device=config.device)
    net.bound()
    return lambda: gloro.bound(net.body, SHAPE), lambda: certify(net, x)


def rival(name: str, config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """Another certifier on a few points, and as many bare forward passes as it is to equal.

    A pass is that of GloRo's batches; a certifier by samples equals a pass for each copy.
    """
    body = nets.cnn_6c2f("relu").to(config.device).eval()
    points = RIVALS[name]
    copies = methods.N0 + COPIES if name == methods.RS else 1
    method = methods.Method(name, points, 1, COPIES if name == methods.RS else points, COPIES, 0.12)
    call, _ = methods.certifier(method, body, 36 / 255, SHAPE)
    x = torch.rand(points, *SHAPE, device=config.device)
    images = torch.rand(points * copies, *SHAPE, device=config.device)

    return torch.no_grad()(partial(call, x)), partial(bare, body, images, COPIES)


def influenced(config: SpeedConfig) -> tuple[Callable[[], object], Callable[[], object]]:
    """Internal influence on the line of each image, and bare passes there and back of as many."""
    body = nets.cnn_2c2f("relu").to(config.device).eval()
    x = torch.rand(IMAGES, 1, 28, 28, device=config.device)
    rows = torch.rand(IMAGES * LINE, 1, 28, 28, device=config.device)
    distribution = influence.line(0.0, LINE, "input")
    score = influence.class_score(3)

    def bare() -> None:
        for part in rows.split(256):
            part.requires_grad_()
            torch.autograd.grad(body(part)[:, 3].sum(), part)

    return (
        lambda: influence.internal_influence(body, x, "3", score, distribution, batch_size=256),
        bare,
    )


def random_split(points: int, device: str, shape: tuple[int, int, int] = SHAPE) -> Split:
    """Random images with random labels: speed does not depend on what is learned."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(points, *shape, generator=generator)
    return Split(x.to(device), torch.randint(10, (points,), generator=generator).to(device))


def loop_of(net: nn.Module, loss: training.Loss, data: Split, batch: int, **more: Any) -> Loop:
    """A training of a net as it runs at the paper's scale, ready for its first step.

    more : fields of its `TrainConfig` that are otherwise chosen for the device
    """
    device = data.x.device.type
    chosen: dict[str, Any] = {
        "autocast": training.fast_bfloat16(device),
        "channels_last": True,
        "graph": device == "cuda",
    }
    config = training.TrainConfig(1, batch, clip=5.0, **(chosen | more))
    rate = training.constant(1e-3)
    return Loop(net, loss, data.x, data.y, config, rate, training.crop_flip, None, "")


def repeated(loop: Loop) -> Callable[[], int]:
    """The first steps of a training, as many as it takes at once, each time it is called."""
    loop.begin(0)

    def call() -> int:
        if loop.recording is not None:
            loop.recording.next.zero_()
        with steps.tf32(loop.device):
            return loop.take(0)

    return call


def products(work: int, device: str, half: bool, size: int = 1024) -> Callable[[], object]:
    """Matrix products of about so many operations: what this device needs for them at the least."""
    a = torch.rand(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    rounds = max(1, round(work / (2 * size**3)))
    return lambda: [a @ a for _ in range(rounds)]


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


Calls = tuple[Callable[[], object], Callable[[], object]]
RATIOS: dict[str, tuple[Callable[[SpeedConfig], Calls], float]] = {
    "GloRo step / plain step (6C2F, MinMax)": (gloro_step, 1.4),
    "MinMax / ReLU, forward and backward (6C2F)": (minmax_step, 1.6),
    "GloRo MinMax step / plain ReLU step (6C2F)": (gloro_minmax_step, 2.0),
    "certify 10,000 images / bare forward pass (6C2F)": (certification, 1.1),
    "GloRo training step / matrix products of its work (6C2F, MinMax)": (whole_step, 4.0),
    "bound, once for a net / certify 10,000 images (6C2F)": (bounding, 1.0),
    "BCP / bare forward pass of its points (6C2F, ReLU)": (partial(rival, methods.BCP), 15.0),
    "KW / bare forward pass of its points (6C2F, ReLU)": (partial(rival, methods.KW), 6000.0),
    "RS / bare forward pass of its copies (6C2F, ReLU)": (partial(rival, methods.RS), 1.2),
    "internal influence / bare passes there and back (2C2F, ReLU)": (influenced, 1.0),
}
"""What is measured, and the largest ratio that we aim for: of BCP and KW what the thesis publishes
over a GloRo net."""
REPEATS = {"certify": 3, "bound": 3, "KW": 2}
"""How often those are timed on a CPU that take long there, by how their names begin; others 7."""


def measure(config: SpeedConfig) -> Result:
    """Cell: one ratio."""
    make, limit = RATIOS[config.what]
    with nets.fused(device=config.device) as fused:
        clock = clock_of(config.device)
        first, second = interleaved(make(config), config.repeats, 1, clock)
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
    return [((what,), Cell(measure, config_of(what, profile.device))) for what in RATIOS]


def config_of(what: str, device: str) -> SpeedConfig:
    """Few repeats of what takes long on this device."""
    slow = [count for name, count in REPEATS.items() if what.startswith(name)]
    return SpeedConfig(what, device, *(slow if device == "cpu" else []))


TABLE = Table(
    TableSpec(
        name="gloro-speed",
        caption=(
            "Speed as ratios of medians, measured in turn in one run, on a CPU in seconds of its "
            "processor on one thread; batches of 256; training in "
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
        rows=tuple((what,) for what in RATIOS),
        claims=published.claims("gloro-speed"),
    ),
    cells,
    timed=True,
)
