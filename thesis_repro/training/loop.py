"""The loop of a training, step by step: it can stop between any two steps and go on from there."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.lab import timebox
from thesis_repro.lab.store import write_atomic
from thesis_repro.training import checkpoint as checkpoints
from thesis_repro.training import steps
from thesis_repro.training.augment import Augment
from thesis_repro.training.checkpoint import Position
from thesis_repro.training.ensemble import Loss, together
from thesis_repro.training.recording import Recording, batch_of, faithful
from thesis_repro.training.schedules import Schedule
from thesis_repro.training.steps import TrainConfig

CHECKPOINT_SECONDS = 20.0
COMPILING_PAYS = 120.0
"""Seconds that a training on a CPU has to go on after an epoch, for faster kernels to be worth the
time that compiling them takes: up to a minute where no kernel is cached. A GPU has them at once."""

OnEpoch = Callable[[nn.Module, dict[str, float]], None]


class Loop:
    """One training: model and optimizer, the data on their device, and where it stands.

    Parameters
    ----------
    x, y : all points, on the device of the model
    checkpoint : where `save` writes; None: nowhere
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        config: TrainConfig,
        lr: Schedule,
        augment: Augment | None,
        checkpoint: Path | None,
        identity: str,
    ) -> None:
        self.model, self.x, self.y, self.config = model, x, y, config
        self.lr, self.augment = lr, augment
        self.checkpoint, self.identity = checkpoint, identity
        self.device = next(model.parameters()).device
        self.optimizer = steps.optimizer_of(model, config, lr(0.0))
        self.eager = steps.eager(model, loss, self.optimizer, config)
        self.random = torch.Generator(self.device)
        self.total = torch.zeros((), device=self.device)
        self.batches: tuple[Tensor, ...] = ()
        self.progress: list[float] = []
        self.rates: list[float] = []
        self.recording: Recording | None = None
        self.records = config.graph and self.device.type == "cuda" and len(y) >= config.batch_size
        self.position = Position()
        if checkpoint is not None and checkpoint.exists():
            self.position = checkpoints.restore(checkpoint, model, self.optimizer, identity)
        self.saved = time.monotonic()

    def save(self) -> None:
        """Write the checkpoint."""
        if self.checkpoint is not None:
            about = (self.model, self.optimizer, self.position, self.identity)
            write_atomic(self.checkpoint, checkpoints.pack(*about))
        self.saved = time.monotonic()

    def run(self, on_epoch: OnEpoch | None) -> list[dict[str, float]]:
        """Take all epochs that are left; returns the records of all."""
        history = self.position.history
        begun, epochs = len(history), self.config.epochs
        with ExitStack() as kernels, steps.tf32(self.device):
            self.fuse(kernels)
            for epoch in range(begun, epochs):
                record = self.epoch()
                if on_epoch is not None:
                    on_epoch(self.model, record)
                history.append(record)
                if epoch + 1 == epochs or time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                    self.save()
                if epoch == begun:
                    self.fuse(kernels, record["seconds"])
        return history

    def epoch(self) -> dict[str, float]:
        """Take the steps that are left of an epoch; returns its record.

        Raises
        ------
        ValueError
            If the loss becomes NaN or infinite.
        lab.timebox.Stop
            Between two steps, if the run is to stop: the checkpoint is written then.
        """
        config, position, at = self.config, self.position, len(self.position.history)
        began = time.perf_counter() - position.seconds
        count, number = self.begin(at), position.steps
        while number < count:
            if timebox.wanted():
                seconds, states = time.perf_counter() - began, _random(self.random)
                total = self.total.clone()
                self.position = Position(position.history, number, seconds, total, states)
                self.save()
                raise timebox.Stop
            number += self.take(number)
        mean = self.total.item() / len(self.y)
        if not math.isfinite(mean):
            raise ValueError(f"training diverged: loss {mean} in epoch {at + 1} of {config.epochs}")
        self.position = Position(position.history)
        return {
            "epoch": at + 1.0,
            "loss": mean,
            "lr": float(self.rates[-1]),
            "seconds": time.perf_counter() - began,
        }

    def begin(self, at: int) -> int:
        """Lay down the steps of an epoch that are left; returns how many it has in all."""
        config, position = self.config, self.position
        self.model.train()
        seed = seed_of(config.seed, at)
        torch.manual_seed(seed)  # dropout draws from the global generator
        self.random.manual_seed(seed)
        order = self.order(at).to(self.device)
        _set_random(position.random, self.random)
        self.batches = order.split(config.batch_size)
        count = len(self.batches)
        self.progress = [(at + number / count) / config.epochs for number in range(count)]
        self.rates = [self.lr(progress) for progress in self.progress]
        if self.records and self.recording is None:
            self._record()
        if self.recording is not None:
            self.recording.load(order, self.progress, self.rates, position.steps)
        self.total.copy_(position.total)
        return count

    def order(self, at: int) -> Tensor:
        """The points of an epoch in their order, on the CPU."""
        return shuffled(len(self.y), seed_of(self.config.seed, at))

    def take(self, number: int) -> int:
        """Take the next steps of the epoch, of which `number` are taken; returns how many."""
        if self.recording is not None:
            return self.recording.advance(number)
        self.plain(self.batches[number], self.progress[number], self.rates[number])
        return 1

    def plain(self, index: Tensor, progress: float, rate: float) -> None:
        """Take one step as it is written, on the points of an index."""
        steps.set_lr(self.optimizer, rate)
        batch = batch_of(self.x, index, self.config, self.augment, self.random)
        self.total += self.eager(batch, self.y[index], progress) * len(index)

    def as_tensors(self) -> Recording:
        """The steps of an epoch, to be recorded."""
        about = (self.eager, self.optimizer, self.x, self.y, self.config, self.augment)
        return Recording(*about, self.random, self.total)

    def _record(self) -> None:
        """Record the steps of an epoch, if they do then what the plain ones do."""
        recording, state = self.as_tensors(), self.random.get_state()
        try:
            recording.record(self.model)
            self.records = faithful(self.model, recording, self.plain, self.lr)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a loss that reads a value back, for one
            said = str(error).strip().split("\n")[0]
            warnings.warn(f"no step was recorded, so all are eager ones: {said}", stacklevel=2)
            self.records, self.random = False, torch.Generator(self.device)
            self.random.set_state(state)
        self.recording = recording if self.records else None

    def fuse(self, kernels: ExitStack, seconds: float | None = None) -> None:
        """Use fused kernels: on a GPU from the start, elsewhere after an epoch of so many seconds,
        if compiling them pays for those to come.
        """
        kind, left = self.device.type, self.config.epochs - len(self.position.history)
        due = kind == "cuda"
        if seconds is not None:
            due = kind == "cpu" and left * seconds > COMPILING_PAYS
        if self.config.fused and due:
            kernels.enter_context(nets.fused(device=kind))


class SeedsLoop(Loop):
    """A training of an ensemble: each net has the order of its own seed.

    `y` is there once for each net, and a batch of `config` holds one batch of each.
    """

    seeds: tuple[int, ...] = ()

    def order(self, at: int) -> Tensor:
        points = len(self.y) // len(self.seeds)
        orders = [shuffled(points, seed_of(seed, at)) for seed in self.seeds]
        return together(orders, self.config.batch_size // len(self.seeds))


def seed_of(seed: int, epoch: int) -> int:
    """What the draws of an epoch, counted from 0, start from."""
    return seed * 100_003 + epoch


def shuffled(points: int, seed: int) -> Tensor:
    """A permutation (points,) on the CPU."""
    return torch.randperm(points, generator=torch.Generator().manual_seed(seed))


def _random(generator: torch.Generator) -> dict[str, Tensor]:
    """The states of what an epoch draws from, by name and kind of device."""
    kind = generator.device.type
    states = {f"augment.{kind}": generator.get_state(), "global.cpu": torch.get_rng_state()}
    return states | ({"global.cuda": torch.cuda.get_rng_state()} if kind == "cuda" else {})


def _set_random(states: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Put states back; those of another kind of device are left, and draw as from the start."""
    kind = generator.device.type
    if f"augment.{kind}" in states:
        generator.set_state(states[f"augment.{kind}"])
    if "global.cpu" in states:
        torch.set_rng_state(states["global.cpu"])
    if "global.cuda" in states and kind == "cuda":
        torch.cuda.set_rng_state(states["global.cuda"])
