"""A trained net as data: a frozen configuration says how it is trained, the store keeps it.

One cell trains every such net, so a net is trained once, whoever asks for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from thesis_repro import data
from thesis_repro.lab.cells import Cell, Result, compute, current_workdir

History = list[dict[str, float]]
"""What a training did, epoch by epoch."""

M = TypeVar("M", bound=nn.Module, covariant=True)
N = TypeVar("N", bound=nn.Module)


class Named(Protocol[M]):
    """How a net is trained: a frozen dataclass of JSON-able fields with these methods."""

    @property
    def dataset(self) -> str:
        """The data set that it is trained on."""

    def build(self) -> M:
        """The net before training, on its device; the same each time."""

    def train(self, checkpoint: Path) -> tuple[M, History]:
        """Train a net of :meth:`build`; a killed training goes on from its checkpoint."""


def train(config: Named[nn.Module]) -> Result:
    """Cell: train; arrays are the weights, values the history."""
    net, history = config.train(checkpoint())
    weights = {name: value.cpu().contiguous().numpy() for name, value in net.state_dict().items()}
    return Result({"history": history}, weights)


def checkpoint() -> Path:
    """Where the training of the running cell keeps what lets it resume.

    Raises
    ------
    RuntimeError
        Outside a cell.
    """
    return current_workdir() / "checkpoint.safetensors"


def fingerprints(config: Named[nn.Module]) -> tuple[tuple[str, str], ...]:
    """The data set of a training with its fingerprint: for the keys of cells."""
    return ((config.dataset, data.fingerprint(config.dataset)),)


def cell(config: Named[nn.Module]) -> Cell:
    """The cell that trains a net."""
    return Cell(train, config, fingerprints(config))


def trained(config: Named[N]) -> N:
    """The trained net, from the store or trained now: in eval mode, on the device it names."""
    return loaded(config.build(), compute(cell(config)).arrays)


def loaded(net: N, weights: Mapping[str, np.ndarray[Any, Any]]) -> N:
    """A net with the weights that its training left, in eval mode."""
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return net.eval()
