"""What this project does on this machine's GPU, right and fast, in two minutes and without data.

python benchmarks/gpu.py [--device cuda|cpu]

Images are random. Each figure is printed as soon as it is known; a part that fails says so in a
line and the others go on. Exits with 1 if something came out wrong. On a CPU the same parts run
with small nets on a few images.
"""

import time

BEGAN = time.perf_counter()

import argparse
import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro import nets, training
from thesis_repro.experiments.certifiers import methods
from thesis_repro.experiments.gloro.speed import loop_of, random_split, repeated
from thesis_repro.lab import timing
from thesis_repro.robustness import GloroNet, certify, gloro, selfcheck
from thesis_repro.robustness.layers import named_layers, padding_of
from thesis_repro.training import recording, steps
from thesis_repro.training.loop import Loop

SECONDS = {"cuda": 110, "cpu": 55}
"""No further part begins after so many."""
Line = tuple[str, str] | tuple[str, str, bool]
"""What was measured, its value, and whether that is right where there is something to check."""

EPSILON = 36 / 255
TRADES = gloro.trades(training.linear(0.01, EPSILON, 0.5), training.constant(1.2))
NETS = {
    "2C2F": ("2c2f", "minmax", (1, 28, 28), 5),
    "4C3F": ("4c3f", "minmax", (1, 28, 28), 2),
    "6C2F ReLU": ("6c2f", "relu", (3, 32, 32), 2),
    "6C2F MinMax": ("6c2f", "minmax", (3, 32, 32), 2),
    "LiResNet": ("liresnet-l6w128", "minmax", (3, 32, 32), 10),
}
"""Architecture, activation, shape of an image, power iterations a step."""
SMALL = {"2C2F": NETS["2C2F"], "LiResNet": ("liresnet-l1w8", "minmax", (3, 32, 32), 2)}
"""What a CPU trains here."""


class Machine:
    """A device and the sizes that it runs."""

    def __init__(self, device: str) -> None:
        self.device, self.gpu = device, device == "cuda"
        self.nets = NETS if self.gpu else SMALL
        self.batch = 256 if self.gpu else 8
        self.repeats = 10 if self.gpu else 2
        self.epochs = 4 if self.gpu else 2
        self.certified = NETS["6C2F MinMax"] if self.gpu else NETS["2C2F"]
        self.points = 10_000 if self.gpu else 200

    def net(self, about: tuple[str, str, tuple[int, int, int], int]) -> GloroNet:
        """A net with its first weights, on the device."""
        name, activation, shape, power_steps = about
        generator = torch.Generator().manual_seed(0)
        body = nets.build(name, activation, in_shape=shape, generator=generator)
        return GloroNet(body, EPSILON, shape, power_steps).to(self.device)

    def loop(self, net: GloroNet, points: int, loss: training.Loss = TRADES, **more: bool) -> Loop:
        """A training of a net on random images; recorded where the device can."""
        data = random_split(points, self.device, net.input_shape)
        return loop_of(net, loss, data, self.batch, **more)


def first_step(machine: Machine) -> Iterator[Line]:
    """From nothing to the first step, then to the recorded ones."""
    about = NETS["6C2F MinMax"] if machine.gpu else SMALL["2C2F"]
    loop = machine.loop(machine.net(about), 2 * recording.AT_ONCE * machine.batch)
    began = time.perf_counter()
    loop.plain(torch.arange(machine.batch, device=machine.device), 0.5, 1e-3)
    loop.total.item()
    yield "first step", f"{time.perf_counter() - began:.2f} s"
    yield "first step, from the start", f"{time.perf_counter() - BEGAN:.2f} s"
    began = time.perf_counter()
    loop.begin(0)
    loop.total.item()
    yield "recorded and compared", f"{time.perf_counter() - began:.2f} s"


def weights(net: nn.Module) -> Tensor:
    """All weights of a net, (n,) float64 on the CPU."""
    return torch.cat([p.detach().double().cpu().flatten() for p in net.parameters()])


def recorded_steps(machine: Machine) -> Iterator[Line]:
    """Three epochs as recorded against eager ones, by the spread of three eager runs."""
    points = (recording.AT_ONCE + 2) * machine.batch + 4  # eight at once, two, and a short batch
    start = weights(machine.net(NETS["2C2F"]))
    for name, half in (("float32", False), ("bfloat16", True)):
        if half and not (machine.gpu and training.fast_bfloat16(machine.device)):
            continue
        ends = []
        for recorded in (False, False, False, True):
            net = machine.net(NETS["2C2F"])
            loop = machine.loop(net, points, autocast=half, graph=recorded and machine.gpu)
            if recorded and not machine.gpu:  # the same steps, as they are written
                loop.optimizer.param_groups[0]["lr"] = torch.tensor(1e-3)
                loop.recording = loop.as_tensors()
            with steps.tf32(loop.device), warnings.catch_warnings():
                warnings.filterwarnings("error", ".*eager")  # it fell back to eager steps
                for _ in range(3):
                    loop.position.history.append(loop.epoch())
            ends.append(weights(net))
        way = float((ends[0] - start).norm())
        spread = max(float((a - b).norm()) for a, b in itertools.combinations(ends[:3], 2))
        off = float((ends[3] - ends[0]).norm())
        right = off <= max(recording.SPREAD * spread, recording.LEAST * way)
        said = f"{off / way:.1e} of the way apart; eager runs {spread / way:.1e}"
        yield f"recorded and eager steps, {name}", said, right


def resumed(machine: Machine) -> Iterator[Line]:
    """A checkpoint puts back weights and the optimizer's state to the bit, and a step follows."""
    index = torch.arange(machine.batch, device=machine.device)
    rate = training.constant(1e-3)
    for optimizer in training.OPTIMIZERS:
        settings = {"channels_last": True, "optimizer": optimizer, "graph": machine.gpu}
        config = training.TrainConfig(1, machine.batch, **settings)
        loops = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            for _ in range(2):
                net = machine.net(NETS["2C2F"]).to(memory_format=torch.channels_last)
                data = random_split(machine.batch, machine.device, net.input_shape)
                loop = Loop(net, TRADES, data.x, data.y, config, rate, None, path, "a training")
                if not loops:
                    loop.plain(index, 0.5, 1e-3)
                    loop.save()
                loops.append(loop)
        same = torch.equal(*(weights(loop.model) for loop in loops))
        for ours, theirs in zip(*(loop.optimizer.state.values() for loop in loops), strict=True):
            pairs = [(v, theirs[k]) for k, v in ours.items() if isinstance(v, Tensor)]
            same &= all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)
        loops[1].plain(index, 0.6, 1e-3)
        yield f"resumed, {optimizer}", "as it was saved" if same else "not as it was saved", same


def proven(machine: Machine) -> Iterator[Line]:
    """Certificates of the device against those of the same weights in float64 on a CPU."""
    net = machine.net(NETS["2C2F"])
    loop = machine.loop(net, 20 * machine.batch)
    for index in torch.arange(20 * machine.batch, device=machine.device).split(machine.batch):
        loop.plain(index, 0.5, 1e-3)
    x = random_split(machine.points, machine.device, net.input_shape).x
    ours = certify(net.eval(), x)
    reference = machine.net(NETS["2C2F"]).cpu().double()
    reference.load_state_dict(net.state_dict())
    exact = certify(reference.eval(), x.cpu().double())
    safe = ours.radius.cpu() > 0
    over = float((ours.radius.cpu()[safe] / exact.radius[safe]).max()) - 1
    right = bool(safe.any()) and over <= 1e-6
    right &= torch.equal(ours.labels.cpu()[safe], exact.labels[safe])
    share = 100 * safe.double().mean()
    said = f"{share:.1f}% have a radius, at most {over:+.1e} above the exact one"
    yield "certificates against float64 on a CPU", said, right
    right = all(
        selfcheck.conventional(
            *(shape, tuple(layer.weight.shape), layer.stride, padding_of(layer)),
            *(layer.dilation, layer.groups, dtype, machine.device),
            convolving=selfcheck.convolve,
        )
        for _, layer, shape in named_layers(net.body, net.input_shape)
        if isinstance(layer, nn.Conv2d)
        for dtype in (torch.float32, torch.float64)
    )
    yield "convolutions, self-check", "term by term", right


def training_steps(machine: Machine) -> Iterator[Line]:
    """A step of each net: plain, GloRo, and as a training takes it; what its arithmetic needs."""

    def on_body(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return training.classification(model.body, x, y, progress)

    half = training.fast_bfloat16(machine.device)
    size, first = 8192 if machine.gpu else 512, torch.arange(machine.batch, device=machine.device)
    rate = timing.matrix_rate(machine.device, size, format="bfloat16" if half else "float32")
    yield "matrix products", f"{rate / 1e12:.2f} TFLOP/s in {'bfloat16' if half else 'float32'}"
    for name, about in machine.nets.items():
        loss = gloro.emma(training.constant(EPSILON)) if name == "LiResNet" else TRADES
        points = recording.AT_ONCE * machine.batch
        loops = [machine.loop(machine.net(about), points, kind) for kind in (on_body, loss, loss)]
        fast = repeated(loops[2])
        calls = [lambda loop=loop: loop.plain(first, 0.5, 1e-3) for loop in loops[:2]]
        with steps.tf32(loops[0].device):
            found = timing.interleaved([*calls, fast], machine.repeats)
        plain, robust, whole = (1000 * timed.seconds for timed in found)
        least = 1000 * timing.operations(calls[1]) / rate
        with timing.peak(machine.device) as peak:
            calls[1]()
        said = f"{plain:.2f}, {robust:.2f}, {whole / fast():.2f}; arithmetic {least:.2f} ms"
        yield f"{name}: ms plain, GloRo, fast", f"{said}; {peak.bytes / 2**20:.0f} MiB"


WAYS: dict[str, tuple[dict[str, bool], bool, int]] = {
    "plain": ({}, False, 1),
    "recorded": ({"graph": True}, False, 1),
    "and MinMax as a kernel": ({"graph": True, "fused": True}, False, 1),
    "and equal layers at once": ({"graph": True, "fused": True}, True, 1),
    "three nets as one": ({"graph": True, "fused": True}, False, 3),
}
"""Ways to train: what the configuration says, whether power iteration takes equal layers at once,
and how many nets are trained together."""


def variants(machine: Machine) -> Iterator[Line]:
    """Milliseconds of a net's step in a training, each way; a way that falls back says so."""
    batches = 2 * recording.AT_ONCE
    for name, about in machine.nets.items():
        loss = gloro.emma(training.constant(EPSILON)) if name == "LiResNet" else TRADES
        data = random_split(batches * machine.batch, machine.device, about[2])
        for way, (more, at_once, count) in WAYS.items():
            models = [machine.net(about) for _ in range(count)]
            if at_once:
                models[0].iterate_at_once()
            half = training.fast_bfloat16(machine.device)
            settings = {"clip": 5.0, "autocast": half, "channels_last": True, **more}
            config = training.TrainConfig(machine.epochs, machine.batch, **settings)
            rate = training.constant(1e-3)
            try:
                if count == 1:
                    history = training.fit(models[0], loss, data, config, rate)
                else:
                    history = training.fit_seeds(models, loss, data, config, rate, range(count))[0]
                seconds = min(record["seconds"] for record in history[1:])
                said = f"{1000 * seconds / batches:.2f} ms a step"
            except Exception as error:  # the other ways go on
                said = f"FAILED: {str(error).strip().split(chr(10))[0]}"
            yield f"{name}: {way}", said


def certification(machine: Machine) -> Iterator[Line]:
    """Certifying a test set, the bare pass of the same images, in both formats; the bound."""
    net = machine.net(machine.certified).eval()
    began = time.perf_counter()
    net.bound()
    yield "bound, on the CPU", f"{time.perf_counter() - began:.2f} s"
    for double in (False, True):
        net = net.double() if double else net
        x = random_split(machine.points, machine.device, net.input_shape).x
        x = x.double() if double else x
        net.bound()

        @torch.no_grad()
        def bare(net: GloroNet = net, x: Tensor = x) -> object:
            return [net.body(part) for part in x.split(1000)]

        found = timing.interleaved([lambda net=net, x=x: certify(net, x), bare], 3, warmup=1)
        ours, pure = (1000 * timed.seconds for timed in found)
        with timing.peak(machine.device) as peak:
            certify(net, x)
        said = f"{ours:.1f} ms, bare pass {pure:.1f} ms; {peak.bytes / 2**20:.0f} MiB"
        yield f"certify {machine.points:,}, {'float64' if double else 'float32'}", said


def rivals(machine: Machine) -> Iterator[Line]:
    """A point by each other certifier, on a net with ReLU."""
    name, _, shape, _ = machine.certified
    body = nets.build(name, "relu", in_shape=shape).to(machine.device).eval()
    few, copies = (250, 2000) if machine.gpu else (4, 100)
    for method in (
        methods.Method(methods.BCP, 2 * few, 2, few),
        methods.Method(methods.KW, 2, 2, 1),
        methods.Method(methods.RS, 2, 2, copies, 50 * copies if machine.gpu else copies, 0.12),
    ):
        x = random_split(method.points, machine.device, shape).x
        found = methods.measure(method, body, EPSILON, x)
        said = f"{1000 * found.seconds / found.points:.3f} ms a point, {found.mb:.1f} MB each"
        yield method.name, said + (f", {method.samples:,} copies" if method.samples else "")


def kernels(machine: Machine) -> Iterator[Line]:
    """The twenty dearest kernels, of a GPU or of torch, of a training step and a certification."""
    net, points = machine.net(machine.certified).eval(), recording.AT_ONCE * machine.batch
    step = repeated(machine.loop(machine.net(machine.certified), points))
    x = random_split(machine.points, machine.device, net.input_shape).x
    kinds = torch.profiler.ProfilerActivity
    for title, call in (("training", step), ("certification", lambda: certify(net, x))):
        call()
        activities = [kinds.CPU, kinds.CUDA] if machine.gpu else [kinds.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            timing.clocked(call)
        column = "self_device_time_total" if machine.gpu else "self_cpu_time_total"
        events = [e for e in profile.key_averages() if getattr(e, column) > 0]
        if machine.gpu:  # operators of torch repeat what their kernels took
            events = [e for e in events if e.device_type != torch.autograd.DeviceType.CPU]
        events.sort(key=lambda event: -getattr(event, column))
        whole = sum(getattr(event, column) for event in events)
        yield f"{title}: kernels", f"{whole / 1000:.2f} ms, {sum(e.count for e in events)} in all"
        for event in events[:20]:
            took = getattr(event, column) / 1000
            yield f"  {event.key[:48]}", f"{took:.3f} ms, {event.count} times"


CHECKS: tuple[Callable[[Machine], Iterator[Line]], ...] = (recorded_steps, resumed, proven)
PARTS = (first_step, *CHECKS, training_steps, variants, certification, rivals, kernels)


def show(what: str, value: str) -> None:
    """Print a figure at once."""
    print(f"{what:50} {value}", flush=True)


def main() -> int:
    """Run all parts; 1 if something came out wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=found)
    machine, wrong = Machine(parser.parse_args().device), 0
    if not machine.gpu:
        torch.set_num_threads(1)  # so little work gains nothing from more
    name = torch.cuda.get_device_name() if machine.gpu else "CPU"
    show("device", f"{name}, torch {torch.__version__}")
    show("imports", f"{time.perf_counter() - BEGAN:.2f} s")
    for part in PARTS:
        if time.perf_counter() - BEGAN > SECONDS[machine.device]:
            show(part.__name__, "left out: the time is over")
            continue
        try:
            for what, value, *right in part(machine):
                wrong += right == [False]
                show(what, value + ("" if not right else ", right" if right[0] else ", WRONG"))
        except Exception as error:  # whatever it was, the other parts say what they can
            wrong += part in CHECKS
            said = str(error).strip().split("\n")[0]
            show(part.__name__, f"FAILED: {type(error).__name__}: {said}")
    show("all", f"{time.perf_counter() - BEGAN:.0f} s, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
