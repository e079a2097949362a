"""The loop of a training, step by step: it can stop between any two steps and go on from there."""

import math
import time
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
from thesis_repro.training.schedules import Schedule
from thesis_repro.training.steps import Step, TrainConfig

COMPILING_PAYS = {"cpu": 120.0, "cuda": 600.0}
"""Seconds that a training has to go on after an epoch, for faster kernels to be worth the time
that compiling them takes: up to a minute where no kernel is cached."""


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
        loss: steps.Loss,
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
        self.recorded: Step | None = None
        self.records = config.graph and self.device.type == "cuda"
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
        total = position.total.to(self.device, copy=True)
        self.model.train()
        generator = _epoch_generator(config.seed, at, self.device)
        order = torch.randperm(len(self.y), generator=_epoch_generator(config.seed, at, "cpu"))
        _set_random(position.random, generator)
        count = math.ceil(len(self.y) / config.batch_size)
        rate = math.nan
        for number, index in enumerate(order.to(self.device).split(config.batch_size)):
            progress = (at + number / count) / config.epochs
            rate = self.lr(progress)
            if number < position.steps:
                continue
            if timebox.wanted():
                seconds = time.perf_counter() - began
                states = _random(generator)
                self.position = Position(position.history, number, seconds, total, states)
                self.save()
                raise timebox.Stop
            steps.set_lr(self.optimizer, rate)
            batch = self.x[index]
            if self.augment is not None:
                batch = self.augment(batch, generator)
            if config.channels_last:
                batch = batch.contiguous(memory_format=torch.channels_last)
            step = self._step(batch, self.y[index])
            total += step(batch, self.y[index], progress) * len(index)
        mean = total.item() / len(self.y)
        if not math.isfinite(mean):
            raise ValueError(f"training diverged: loss {mean} in epoch {at + 1} of {config.epochs}")
        self.position = Position(position.history)
        return {
            "epoch": at + 1.0,
            "loss": mean,
            "lr": float(rate),
            "seconds": time.perf_counter() - began,
        }

    def _step(self, x: Tensor, y: Tensor) -> Step:
        """The recorded step where this batch fits it, else the eager one."""
        if not self.records or len(y) != self.config.batch_size:
            return self.eager
        if self.recorded is None:
            replay = steps.recorded(self.model, self.optimizer, self.eager, x, y)
            short = len(self.y) % self.config.batch_size
            if not steps.faithful(self.model, self.optimizer, self.eager, replay, x, y, short):
                self.records = False
                return self.eager
            self.recorded = replay
        return self.recorded

    def compile(self, kernels: ExitStack, seconds: float) -> None:
        """After an epoch of so many seconds: compile kernels if that pays for those to come."""
        left = self.config.epochs - len(self.position.history)
        pays = left * seconds > COMPILING_PAYS.get(self.device.type, math.inf)
        if pays and kernels.enter_context(nets.fused(device=self.device.type)):
            self.recorded = None  # it has the kernels of before


def _epoch_generator(seed: int, epoch: int, device: torch.device | str) -> torch.Generator:
    torch.manual_seed(seed * 100_003 + epoch)  # dropout draws from the global generator
    return torch.Generator(device).manual_seed(seed * 100_003 + epoch)


def _random(generator: torch.Generator) -> dict[str, Tensor]:
    """The states of what an epoch draws from, by name and kind of device."""
    kind = generator.device.type
    states = {f"augment.{kind}": generator.get_state(), "global.cpu": torch.get_rng_state()}
    return states | ({"global.cuda": torch.cuda.get_rng_state()} if kind == "cuda" else {})


def _set_random(states: dict[str, Tensor], generator: torch.Generator) -> None:
    """Put states back; those of another kind of device are left, and draw as from the start."""
    kind = generator.device.type
    if f"augment.{kind}" in states:
        generator.set_state(states[f"augment.{kind}"])
    if "global.cpu" in states:
        torch.set_rng_state(states["global.cpu"])
    if "global.cuda" in states and kind == "cuda":
        torch.cuda.set_rng_state(states["global.cuda"])
