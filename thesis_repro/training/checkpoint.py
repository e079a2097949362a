"""Checkpoints of a training: weights, the optimizer's state, and where the training stands."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn


@dataclass
class Position:
    """Where a training stands.

    history : one record for each epoch that is over
    steps : steps taken in the epoch after these
    seconds, total : of those steps, the time, and the sum of the losses of their points, a scalar
    random : states of the random generators, by name, as bytes (n,) uint8
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    random: Mapping[str, Tensor] = field(default_factory=dict)


def pack(
    model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, identity: str
) -> bytes:
    """The bytes of a checkpoint; `identity` says which training it belongs to."""
    tensors = {f"model.{k}": _plain(v) for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = _plain(value)
    tensors["position.total"] = _plain(position.total)
    tensors |= {f"random.{name}": _plain(state) for name, state in position.random.items()}
    about = {
        "history": json.dumps(position.history),
        "identity": identity,
        "within": json.dumps([position.steps, position.seconds]),
    }
    return save(tensors, {**about, "sha256": _digest(save(tensors, about))})


def _plain(value: Tensor) -> Tensor:
    """A copy as the file holds it: on the CPU, contiguous."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _digest(content: bytes) -> str:
    """SHA-256 of the tensors of a safetensors file, without its header."""
    (length,) = struct.unpack("<Q", content[:8])
    return hashlib.sha256(content[8 + length :]).hexdigest()


def restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: str
) -> Position:
    """Load a checkpoint into model and optimizer, and return where the training stands.

    The optimizer's state lies in tensors that the optimizer made itself, so it has the strides,
    the dtype and the device that the optimizer needs, whatever it was saved from.

    Raises
    ------
    ValueError
        If the file is damaged or belongs to another training.
    """
    tensors, metadata = _read(path)
    if metadata.get("identity") != identity:
        raise ValueError(
            f"checkpoint {path.name} belongs to a training with another configuration, net or "
            f"data size; delete it or restore the configuration"
        )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    try:
        _fill(optimizer, state)
        model.load_state_dict(_named(tensors, "model."))  # last: making the state moved weights
        steps, seconds = json.loads(metadata["within"])
        total = tensors["position.total"]
    except (KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"checkpoint {path.name} does not fit this version's nets and optimizers ({said}); "
            f"delete it"
        ) from error
    history: list[dict[str, float]] = json.loads(metadata["history"])
    return Position(history, int(steps), float(seconds), total, _named(tensors, "random."))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = path.read_bytes()
    try:
        tensors = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    except Exception as error:
        raise ValueError(f"checkpoint {path.name} is damaged ({error}); delete it") from error
    if metadata.get("sha256") != _digest(content):
        raise ValueError(f"checkpoint {path.name} is damaged (its bytes were altered); delete it")
    return tensors, metadata


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


@torch.no_grad()
def _fill(optimizer: torch.optim.Optimizer, saved: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Let the optimizer make its state by a step without gradient, then copy what was saved."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for index in saved:
        weights[index].grad = torch.zeros_like(weights[index])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for index, values in saved.items():
        made = {k: v for k, v in optimizer.state[weights[index]].items() if isinstance(v, Tensor)}
        if made.keys() != values.keys():
            raise RuntimeError(f"state {', '.join(values)} where {', '.join(made)} is needed")
        for name, value in values.items():
            made[name].copy_(value)
