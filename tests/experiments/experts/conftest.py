"""What the tests of both tables need: pictures that stand for CIFAR-10."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_repro import data
from thesis_repro.experiments import nets as experts_nets


@pytest.fixture
def made_up_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in place of CIFAR-10, and a store in which nets are trained on it for one epoch."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(120, 3, 32, 32, generator=generator), torch.arange(120) % 10
    noise = data.Dataset(
        "cifar10", data.Split(x[:60], y[:60]), data.Split(x[60:], y[60:]),
        tuple(str(c) for c in range(10)),
    )  # fmt: skip
    monkeypatch.setattr(data, "available", lambda name: name == "cifar10")
    monkeypatch.setattr(data, "fingerprint", lambda name: "0" * 64)
    monkeypatch.setattr(data, "load", lambda name: noise)
    short = experts_nets.paper_training

    def one_epoch(*about: Any, **options: Any) -> experts_nets.Training:
        found = short(*about, **options)
        return replace(found, recipe=replace(found.recipe, epochs=1, fused=False))

    monkeypatch.setattr(experts_nets, "paper_training", one_epoch)
    monkeypatch.setattr(experts_nets, "PLAIN_EPOCHS", {"cpu": {"36/255": 1}})
