"""One step of training, as it is written; `recording` replays it on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.training.ensemble import Ensemble, Loss

Step = Callable[[Tensor, Tensor, float], Tensor]
"""Called as step(x, y, progress); moves the weights and returns the loss, detached."""

OPTIMIZERS = ("adam", "adamw", "nadam", "sgd")


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; what the loss is stays outside.

    `autocast` runs the model's layers in bfloat16 with float32 weights; `fused` uses compiled
    MinMax kernels (same numbers); `clip` bounds the norm of the gradient, 0 switches it off;
    `graph` records the whole step once and replays it, on a GPU, for losses that read no value
    back to the CPU. Weight decay is decoupled for adamw and nadam.

    Examples
    --------
    >>> TrainConfig(epochs=10, batch_size=128, seed=0).optimizer
    'adam'
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
    graph: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise ValueError(
                f"epochs={self.epochs} and batch_size={self.batch_size}: need epochs >= 0 and "
                f"batch_size >= 1"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}"
            )


def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 layers are faster than float32 here: a GPU, or a CPU with AMX or with the
    bfloat16 instructions of AVX-512.

    Without such units a CPU emulates bfloat16, an order of magnitude slower than float32.
    """
    units = torch.cpu.get_capabilities()
    return device != "cpu" or bool(units.get("amx_bf16") or units.get("avx512_bf16"))


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Within the block a GPU may multiply in TF32; for training, never for certificates."""
    if device.type != "cuda":
        yield
        return
    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def optimizer_of(model: nn.Module, config: TrainConfig, lr: float) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over the weights that are trained."""
    weights = [p for p in model.parameters() if p.requires_grad]
    decay = config.weight_decay
    recorded = config.graph and weights[0].is_cuda
    rate = torch.tensor(lr, device=weights[0].device) if recorded else lr
    if config.optimizer == "sgd":  # only the fused kernel reads its rate from a tensor
        return torch.optim.SGD(
            weights, rate, momentum=config.momentum, weight_decay=decay, fused=recorded or None
        )
    if config.optimizer == "nadam":
        return torch.optim.NAdam(
            weights, rate, weight_decay=decay, decoupled_weight_decay=True, capturable=recorded
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, rate, weight_decay=decay, fused=True, capturable=recorded)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, in place where a recorded step reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def clip(model: nn.Module, largest: float) -> None:
    """Bound the norm of the gradient; of nets that are trained as one, of each."""
    if isinstance(model, Ensemble):
        model.clip(largest)
    else:
        nn.utils.clip_grad_norm_(model.parameters(), largest)


def eager(
    model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> Step:
    """A step that runs as it is written."""

    def step(x: Tensor, y: Tensor, progress: float) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=config.autocast):
            value = loss(model, x, y, progress)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if config.clip:
            clip(model, config.clip)
        optimizer.step()
        return value.detach()

    return step
