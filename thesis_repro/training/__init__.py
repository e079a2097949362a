"""One training loop for every model of the book.

The loss is a callable, so the loop knows nothing of robustness, privacy or explanations.
Randomness restarts from the seed at each epoch; a training that was killed and resumed from its
checkpoint therefore ends with the same weights, bit for bit on a CPU with one thread count.

Examples
--------
>>> few = Split(torch.rand(40, 1, 4, 4), torch.arange(40) % 2)
>>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
>>> config = TrainConfig(epochs=2, batch_size=10, seed=0)
>>> [record["epoch"] for record in fit(net, classification, few, config, constant(0.01))]
[1.0, 2.0]
>>> models = [nn.Sequential(nn.Flatten(), nn.Linear(16, 2)) for _ in range(3)]
>>> len(fit_seeds(models, classification, few, config, constant(0.01), seeds=[0, 1, 2]))
3
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from thesis_repro.data import Split
from thesis_repro.lab import memory, timebox
from thesis_repro.training.augment import AUGMENTATIONS, CROP, Augment, crop_flip, with_noise
from thesis_repro.training.ensemble import Ensemble, Loss, summed
from thesis_repro.training.loop import Loop, OnEpoch, SeedsLoop
from thesis_repro.training.schedules import (
    Schedule,
    constant,
    cosine,
    decay_after,
    linear,
    logarithmic,
)
from thesis_repro.training.steps import OPTIMIZERS, TrainConfig, fast_bfloat16

__all__ = [
    "AUGMENTATIONS",
    "CROP",
    "OPTIMIZERS",
    "Augment",
    "Loss",
    "Schedule",
    "TrainConfig",
    "classification",
    "constant",
    "cosine",
    "crop_flip",
    "decay_after",
    "fast_bfloat16",
    "fit",
    "fit_seeds",
    "linear",
    "logarithmic",
    "with_noise",
]


def classification(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the model's logits: the standard loss.

    Examples
    --------
    >>> net = nn.Flatten()
    >>> round(classification(net, torch.zeros(1, 1, 1, 2), torch.tensor([0]), 0.0).item(), 4)
    0.6931
    """
    return nn.functional.cross_entropy(model(x).float(), y)


def fit(
    model: nn.Module,
    loss: Loss,
    data: Split,
    config: TrainConfig,
    lr: Schedule,
    *,
    augment: Augment | None = None,
    checkpoint: Path | str | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place and return one record per epoch.

    Parameters
    ----------
    model : nn.Module
        Stays on its device; the data is moved there once.
    loss : callable (model, x, y, progress) -> scalar
    data : Split
        x (n, c, h, w) in [0, 1], y (n,) int64.
    config : TrainConfig
    lr : Schedule
        Learning rate over progress in [0, 1].
    augment : callable, optional
        Applied to each batch on the device.
    checkpoint : path, optional
        Written atomically every 20 seconds and at the end, and before the next step when the run
        is to stop (:mod:`lab.timebox`); a training with the same config goes on from it, on
        another device too.
    on_epoch : callable, optional
        Called as on_epoch(model, record) after each epoch; may add fields to the record.

    Returns
    -------
    list of dict
        epoch, loss, lr, seconds, and what `on_epoch` added.

    Raises
    ------
    ValueError
        If the data does not fit (its types, its pixels, its labels), the checkpoint is damaged or
        belongs to another training, the loss becomes NaN or infinite, or the GPU's memory does
        not suffice.
    lab.timebox.Stop
        If the run is to stop.
    """
    _check(data)
    memory.keep_freed()
    device = next(model.parameters()).device
    x, y = data.x.to(device), data.y.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    identity = json.dumps([repr(config), [list(p.shape) for p in model.parameters()], len(y)])
    place = None if checkpoint is None else Path(checkpoint)
    loop = Loop(model, loss, x, y, config, lr, augment, place, identity)
    with _one_line(device, config), timebox.deferred():
        history = loop.run(on_epoch)
    model.eval()
    return history


def fit_seeds(
    models: Sequence[nn.Module],
    loss: Loss,
    data: Split,
    config: TrainConfig,
    lr: Schedule,
    seeds: Sequence[int],
    *,
    checkpoint: Path | None = None,
) -> list[list[dict[str, float]]]:
    """Train nets of one architecture at once, each as :func:`fit` would with its own seed.

    The weights are those of single trainings up to rounding. On a GPU several small nets cost
    little more than one; `benchmarks/gpu.py` measures how much.

    Parameters
    ----------
    models : one net for each seed, trained in place
    loss, data, config, lr, checkpoint : as for `fit`; the seed of `config` does not count

    Returns
    -------
    list of list of dict
        For each net its records; the seconds are its share.

    Raises
    ------
    ValueError
        As `fit`, and if nets and seeds do not match, or a layer draws at random.
    lab.timebox.Stop
        If the run is to stop.
    """
    _check(data)
    count, device = len(models), next(models[0].parameters()).device
    if count != len(seeds):
        raise ValueError(f"each net needs its seed, got {count} nets and {len(seeds)} seeds")
    together = Ensemble(models, loss)
    x, y = data.x.to(device), data.y.to(device).repeat(count)
    shapes = [list(p.shape) for p in together.parameters()]
    identity = json.dumps([repr(config), shapes, len(y), list(seeds)])
    wide = dataclasses.replace(config, batch_size=count * config.batch_size, seed=seeds[0])
    loop = SeedsLoop(together, summed, x, y, wide, lr, None, checkpoint, identity)
    loop.seeds = tuple(seeds)
    each: list[list[dict[str, float]]] = [[] for _ in models]

    def on_epoch(model: nn.Module, record: dict[str, float]) -> None:
        losses = (together.losses / len(data.y)).tolist()
        together.losses.zero_()
        record |= {f"loss {seed}": value for seed, value in zip(seeds, losses, strict=True)}

    with _one_line(device, config), timebox.deferred():
        for record in loop.run(on_epoch):
            share = {"lr": record["lr"], "seconds": record["seconds"] / count}
            for seed, own in zip(seeds, each, strict=True):
                own.append({"epoch": record["epoch"], "loss": record[f"loss {seed}"], **share})
    together.hand_back(models)
    for model in models:
        model.eval()
    return each


@contextmanager
def _one_line(device: torch.device, config: TrainConfig) -> Iterator[None]:
    """Say in one line what to do where memory runs out, or a label has no output."""
    try:
        yield
    except IndexError as error:
        if "out of bounds" not in str(error):
            raise
        raise ValueError(
            f"labels need to lie in [0, classes) of the net's outputs: {error}"
        ) from error
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"the memory of {device} does not suffice for a training in batches of "
            f"{config.batch_size}: ask for smaller batches or for the CPU"
        ) from error


def _check(data: Split) -> None:
    if not isinstance(data.x, Tensor) or not isinstance(data.y, Tensor):
        raise ValueError(
            f"training data needs tensors, got x of {type(data.x).__name__} and y of "
            f"{type(data.y).__name__}: torch.from_numpy makes one"
        )
    if data.y.dtype != torch.int64 or not data.x.is_floating_point():
        raise ValueError(
            f"training data needs floating x and int64 y, got {data.x.dtype} and {data.y.dtype}"
        )
    if data.x.ndim != 4 or len(data.x) != len(data.y) or not len(data.y):
        raise ValueError(
            f"training data needs x (n, c, h, w) and y (n,) with n >= 1, got x "
            f"{tuple(data.x.shape)} and y {tuple(data.y.shape)}"
        )
    low, high = data.x.min().item(), data.x.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels need to lie in [0, 1], got values from {low:.3g} to {high:.3g}")
    if data.y.min() < 0:
        raise ValueError(f"labels need to be >= 0, got {int(data.y.min())}")
