"""The steps of a training as a GPU takes them by itself: recorded once, then replayed.

What decides a step lies in tensors of the device: the order of the points, the progress and the
rate of each step, a counter, the sum of the losses. So the gather of the batch, its augmentation,
the rate and the sum are part of the recording, and the host starts several steps at a time. The
short batch at the end of an epoch is a recording of its own.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from thesis_repro.training.augment import Augment
from thesis_repro.training.steps import Step, TrainConfig

AT_ONCE = 8
"""Steps of one replay, as long as so many are left."""
WARMUP = 3
"""Steps of each size before the recording, undone afterwards: what is made lazily is there then."""
SPREAD, LEAST = 10.0, 1e-2
"""How far recorded steps may lie from eager ones: see :func:`faithful`."""


def batch_of(
    x: Tensor, index: Tensor, config: TrainConfig, augment: Augment | None, random: torch.Generator
) -> Tensor:
    """The points of an index (n,), augmented and laid out as the model takes them."""
    batch = x[index]
    if augment is not None:
        batch = augment(batch, random)
    if config.channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    return batch


class Recording:
    """The steps of an epoch; after :meth:`record` as CUDA graphs, before as they are written.

    Parameters
    ----------
    step : an eager step, whose loss takes its progress from a scalar tensor
    optimizer : with its rates in tensors of the device
    x, y : all points, on the device of the model; at least one whole batch
    random : what the augmentation draws from, on that device; a replay goes on in its sequence
    total : scalar to which each step adds the losses of its points
    """

    def __init__(
        self,
        step: Step,
        optimizer: torch.optim.Optimizer,
        x: Tensor,
        y: Tensor,
        config: TrainConfig,
        augment: Augment | None,
        random: torch.Generator,
        total: Tensor,
    ) -> None:
        self._step, self.optimizer, self.config = step, optimizer, config
        self.x, self.y, self.augment, self.random, self.total = x, y, augment, random, total
        self.whole, self.short = divmod(len(y), config.batch_size)
        self.count = self.whole + (self.short > 0)
        self.order = torch.zeros(len(y), dtype=torch.int64, device=x.device)
        self.places = torch.arange(config.batch_size, device=x.device)
        self.progress, self.rates = torch.zeros(2, self.count, device=x.device)
        self.next = torch.zeros(1, dtype=torch.int64, device=x.device)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}

    def load(
        self, order: Tensor, progress: Sequence[float], rates: Sequence[float], at: int = 0
    ) -> None:
        """Lay down the steps of an epoch, of which the one at `at` is the next.

        order : (n,) indices of all points
        progress, rates : of each step
        """
        self.order.copy_(order)
        self.progress.copy_(torch.tensor(progress))
        self.rates.copy_(torch.tensor(rates))
        self.next.fill_(at)

    def step(self, size: int) -> None:
        """Take the next step, of so many points; no value is looked at, so a graph may hold it."""
        index = self.order[self.places[:size] + self.next * self.config.batch_size]
        rate = self.rates.index_select(0, self.next)[0]
        for group in self.optimizer.param_groups:
            group["lr"].copy_(rate)
        batch = batch_of(self.x, index, self.config, self.augment, self.random)
        progress = cast(float, self.progress.index_select(0, self.next)[0])
        value = self._step(batch, self.y[index], progress)
        self.total.add_(value.float(), alpha=size)
        self.next.add_(1)

    def ahead(self, at: int) -> tuple[int, int]:
        """The points of the step at `at`, and how many like it are taken at once."""
        if at == self.whole:
            return self.short, 1
        return self.config.batch_size, AT_ONCE if self.whole - at >= AT_ONCE else 1

    def record(self, model: nn.Module) -> None:
        """Record each kind of :meth:`ahead`; all is afterwards as before."""
        restore = remembered(model, self.optimizer)
        kinds = sorted({self.ahead(at) for at in range(self.count)}, reverse=True)
        try:
            with _same_draws(self.random):
                self._warm_up()
                restore()
                pool = None
                for size, count in kinds:
                    graph = torch.cuda.CUDAGraph()
                    graph.register_generator_state(self.random)
                    with torch.cuda.graph(graph, pool=pool):  # nothing of one outlives its replay
                        for _ in range(count):
                            self.step(size)
                    self.graphs[size, count], pool = graph, graph.pool()
        finally:
            restore()

    def _warm_up(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for at in {0, self.count - 1}:
                for _ in range(WARMUP):
                    self.next.fill_(at)
                    self.step(self.ahead(at)[0])
        torch.cuda.current_stream().wait_stream(side)

    def advance(self, at: int) -> int:
        """Take the step at `at`, or `AT_ONCE` from there; returns how many were taken."""
        size, count = self.ahead(at)
        if self.graphs:
            self.graphs[size, count].replay()
        else:
            for _ in range(count):
                self.step(size)
        return count


@contextmanager
def _same_draws(random: torch.Generator) -> Iterator[None]:
    """Put the random generators back after the block."""
    state, devices = random.get_state(), [random.device] if random.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.set_state(state)


def faithful(
    model: nn.Module,
    recording: Recording,
    plain: Callable[[Tensor, float, float], object],
    lr: Callable[[float], float],
) -> bool:
    """Whether recorded steps move the weights as eager ones do, up to rounding.

    From one state, batches are trained on twice by eager steps and once by recorded ones: as many
    whole ones as one replay takes and one more, the short one if there is one, and again a whole
    one.
    Rounding on a GPU varies from run to run, and an optimizer that divides by the size of a
    gradient makes much of it where that is near zero; so the recorded steps may lie `SPREAD` times
    as far from the eager weights as these from each other, and `LEAST` of the way that they went.
    All is afterwards as before, but for the sum of losses and what :meth:`Recording.load` lays
    down.

    Parameters
    ----------
    plain : an eager step, called as plain(index, progress, rate)
    lr : learning rate over progress
    """
    few = min(recording.whole, AT_ONCE + 1)
    first, last = recording.whole - few, recording.count
    shares = [max(n - first, 0) / few for n in range(last)]  # each step its own
    progress = [0.25 + 0.5 * share for share in shares]
    rates = [(lr(at) or 1e-3) * (1 + share) for at, share in zip(progress, shares, strict=True)]
    order = torch.arange(len(recording.y), device=recording.x.device).flip(0) % len(recording.x)
    batches = order.split(recording.config.batch_size)

    def eager() -> None:
        for n in [*range(first, last), recording.whole - 1]:
            plain(batches[n], progress[n], rates[n])

    def replayed() -> None:
        recording.load(order, progress, rates, first)
        at = first
        while at < last:
            at += recording.advance(at)
        recording.load(order, progress, rates, recording.whole - 1)
        recording.advance(recording.whole - 1)

    restore, start, ends = remembered(model, recording.optimizer), _weights(model), []
    for run in (eager, eager, replayed):
        try:
            with _same_draws(recording.random):
                run()
            ends.append(_weights(model))
        finally:
            restore()
    way, spread, off = (float((a - ends[0]).norm()) for a in (start, ends[1], ends[2]))
    if off <= max(SPREAD * spread, LEAST * way):
        return True
    warnings.warn(
        f"recorded steps left the eager ones by {off / way:.1e} of the way, two eager runs by "
        f"{spread / way:.1e}: this training goes on with eager steps",
        stacklevel=2,
    )
    return False


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def remembered(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Remember weights, buffers and the optimizer's state; the call returned puts them back."""
    kept = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers())]
    states = {
        p: {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
        for p, state in optimizer.state.items()
    }

    @torch.no_grad()
    def restore() -> None:
        for tensor, value in kept:
            tensor.copy_(value)
        for p, state in optimizer.state.items():
            for name, value in state.items():
                assert isinstance(value, Tensor)
                first = torch.full_like(value, float(name == "mu_product"))  # 1 before any step
                value.copy_(states.get(p, {}).get(name, first))

    return restore
