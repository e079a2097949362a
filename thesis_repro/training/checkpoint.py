"""Checkpoints of a training: weights, the optimizer's state and the history, in one file."""

import hashlib
import json
import struct
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn


def pack(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    identity: str,
) -> bytes:
    """The bytes of a checkpoint; `identity` says which training it belongs to."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
    about = {"history": json.dumps(history), "identity": identity}
    return save(tensors, {**about, "sha256": _digest(save(tensors, about))})


def _digest(content: bytes) -> str:
    """SHA-256 of the tensors of a safetensors file, without its header."""
    (length,) = struct.unpack("<Q", content[:8])
    return hashlib.sha256(content[8 + length :]).hexdigest()


def restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: str
) -> list[dict[str, float]]:
    """Load a checkpoint into model and optimizer, and return the history.

    Raises
    ------
    ValueError
        If the file is damaged or belongs to another training.
    """
    content = path.read_bytes()
    try:
        tensors = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    except Exception as error:
        raise ValueError(f"checkpoint {path.name} is damaged ({error}); delete it") from error
    if metadata.get("sha256") != _digest(content):
        raise ValueError(f"checkpoint {path.name} is damaged (its bytes were altered); delete it")
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
