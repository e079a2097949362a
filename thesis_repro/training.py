"""One training loop for every model of the book.

The loss is a callable, so the loop knows nothing of robustness, privacy or explanations.
Randomness restarts from the seed at each epoch; a training that was killed and resumed from its
checkpoint therefore ends with the same weights, bit for bit on a CPU with one thread count.
"""

import json
import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.data import Split
from thesis_repro.lab import memory
from thesis_repro.lab.store import write_atomic

Schedule = Callable[[float], float]
"""Maps progress in [0, 1] through the whole training to a value."""

Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Called as loss(model, x, y, progress); returns a scalar to minimise."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Maps a batch (n, c, h, w) in [0, 1] to another one of that shape and range."""

CHECKPOINT_SECONDS = 20.0
CROP = 4
"""Black pixels on each side of an image before a random crop of the old size."""


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random from one with a black border, and mirror half of them.

    (n, c, h, w) to the same, on the device of x; `generator` is on that device too.
    """
    n, _, height, width = x.shape
    device = x.device
    top, left = torch.randint(0, 2 * CROP + 1, (2, n), generator=generator, device=device)
    mirrored = torch.rand(n, generator=generator, device=device) < 0.5
    columns = torch.arange(width, device=device).expand(n, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + left[:, None]
    rows = torch.arange(height, device=device) + top[:, None]
    padded = nn.functional.pad(x, (CROP,) * 4)
    images = torch.arange(n, device=device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None]]
    return cut.permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Augment | None] = {"none": None, "crop-flip": crop_flip}
"""Augmentations by the name that a configuration holds."""


def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 layers are faster than float32 here: a GPU, or a CPU with AMX.

    Without such units a CPU emulates bfloat16, an order of magnitude slower than float32.
    """
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return lambda progress: value


def linear(start: float, stop: float, until: float = 1.0) -> Schedule:
    """From start to stop in a straight line over the first `until` of training, then stop."""
    return lambda progress: start + (stop - start) * min(progress / until, 1.0)


def logarithmic(stop: float, until: float = 1.0) -> Schedule:
    """Rise fast, then slowly, to `stop` at progress `until`, and stay there.

    The value is stop * ln((e - e^0.01) t + e^0.01): 1% of stop at the start.

    Source: the "logarithmic" epsilon schedule of Leino, Wang and Fredrikson 2021.
    """

    def value(progress: float) -> float:
        t = min(progress / until, 1.0)
        return stop * math.log((math.e - math.exp(0.01)) * t + math.exp(0.01))

    return value


def decay_after(start: float, stop: float, since: float = 0.5) -> Schedule:
    """Keep start until progress `since`, then fall exponentially to stop at the end."""

    def value(progress: float) -> float:
        t = max(progress - since, 0.0) / (1.0 - since)
        return float(start * (stop / start) ** t)

    return value


def cosine(start: float, warmup: float = 0.0) -> Schedule:
    """Rise linearly during `warmup`, then fall to zero along half a cosine."""

    def value(progress: float) -> float:
        if progress < warmup:
            return start * progress / warmup
        return start * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return value


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; what the loss is stays outside.

    `autocast` runs the model's layers in bfloat16 with float32 weights; `fused` uses compiled
    MinMax kernels (same numbers); `clip` bounds the norm of the gradient, 0 switches it off.
    """

    epochs: int
    batch_size: int
    seed: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    autocast: bool = False
    channels_last: bool = False
    fused: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise ValueError(
                f"epochs={self.epochs} and batch_size={self.batch_size}: need epochs >= 0 and "
                f"batch_size >= 1"
            )
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}; choose adam or sgd")


def classification(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the model's logits: the standard loss."""
    return nn.functional.cross_entropy(model(x).float(), y)


def fit(
    model: nn.Module,
    loss: Loss,
    data: Split,
    config: TrainConfig,
    lr: Schedule,
    *,
    augment: Augment | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[nn.Module, dict[str, float]], None] | None = None,
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
        Written atomically every 20 seconds and at the end; a training with the same config goes
        on from it.
    on_epoch : callable, optional
        Called as on_epoch(model, record) after each epoch; may add fields to the record.

    Returns
    -------
    list of dict
        epoch, loss, lr, seconds, and what `on_epoch` added.

    Raises
    ------
    ValueError
        If the data does not fit, the checkpoint belongs to another training, or the loss becomes
        NaN or infinite.
    """
    _check(data)
    memory.keep_freed()
    device = next(model.parameters()).device
    x, y = data.x.to(device), data.y.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, config, lr(0.0))
    history: list[dict[str, float]] = []
    identity = json.dumps([repr(config), [list(p.shape) for p in model.parameters()], len(y)])
    if checkpoint is not None and checkpoint.exists():
        history = _restore(checkpoint, model, optimizer, identity)
    steps = math.ceil(len(y) / config.batch_size)
    saved = time.monotonic()
    with nets.fused(config.fused):
        for epoch in range(len(history), config.epochs):
            began = time.perf_counter()
            total = torch.zeros((), device=device)
            model.train()
            generator = _epoch_generator(config.seed, epoch, device)
            order = torch.randperm(len(y), generator=_epoch_generator(config.seed, epoch, "cpu"))
            for step, index in enumerate(order.to(device).split(config.batch_size)):
                progress = (epoch + step / steps) / config.epochs
                for group in optimizer.param_groups:
                    group["lr"] = lr(progress)
                batch = x[index] if augment is None else augment(x[index], generator)
                if config.channels_last:
                    batch = batch.contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
                    value = loss(model, batch, y[index], progress)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                if config.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                total += value.detach() * len(index)
            mean = total.item() / len(y)
            if not math.isfinite(mean):
                raise ValueError(
                    f"training diverged: loss {mean} in epoch {epoch + 1} of {config.epochs}"
                )
            record = {
                "epoch": epoch + 1.0,
                "loss": mean,
                "lr": optimizer.param_groups[0]["lr"],
                "seconds": time.perf_counter() - began,
            }
            if on_epoch is not None:
                on_epoch(model, record)
            history.append(record)
            due = time.monotonic() - saved > CHECKPOINT_SECONDS or epoch + 1 == config.epochs
            if checkpoint is not None and due:
                write_atomic(checkpoint, _pack(model, optimizer, history, identity))
                saved = time.monotonic()
    model.eval()
    return history


def _check(data: Split) -> None:
    if data.x.ndim != 4 or len(data.x) != len(data.y) or not len(data.y):
        raise ValueError(
            f"training data needs x (n, c, h, w) and y (n,) with n >= 1, got x "
            f"{tuple(data.x.shape)} and y {tuple(data.y.shape)}"
        )
    low, high = data.x.min().item(), data.x.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels need to lie in [0, 1], got values from {low:.3g} to {high:.3g}")


def _epoch_generator(seed: int, epoch: int, device: torch.device | str) -> torch.Generator:
    torch.manual_seed(seed * 100_003 + epoch)  # dropout draws from the global generator
    return torch.Generator(device).manual_seed(seed * 100_003 + epoch)


def _optimizer(model: nn.Module, config: TrainConfig, lr: float) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr, momentum=config.momentum, weight_decay=config.weight_decay
    )


def _pack(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    identity: str,
) -> bytes:
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
    return save(tensors, {"history": json.dumps(history), "identity": identity})


def _restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: str
) -> list[dict[str, float]]:
    content = path.read_bytes()
    try:
        tensors = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    except Exception as error:
        raise ValueError(f"checkpoint {path.name} is damaged ({error}); delete it") from error
    if metadata["identity"] != identity:
        raise ValueError(
            f"checkpoint {path.name} belongs to a training with another configuration, net or "
            f"data size; delete it or restore the configuration"
        )
    device = next(model.parameters()).device
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value.to(device)
    packed = optimizer.state_dict()
    packed["state"] = state
    optimizer.load_state_dict(packed)
    history: list[dict[str, float]] = json.loads(metadata["history"])
    return history
