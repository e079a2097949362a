"""Two-dimensional classification in the unit square, where a reader sees every region.

A point of the plane is an image of shape (1, 1, 2): everything that works on images works here.
"""

from functools import cache

import torch
from torch import Tensor, nn

from thesis_repro import training
from thesis_repro.data import Split
from thesis_repro.nets import MinMax
from thesis_repro.robustness import gloro
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.relaxed import Guarantee, RelaxedNet
from thesis_repro.training import TrainConfig

SHAPE = (1, 1, 2)
CENTERS = ((0.25, 0.28), (0.75, 0.28), (0.5, 0.75))


def blobs(n: int = 300, spread: float = 0.09, seed: int = 0) -> Split:
    """n points around three centers of the unit square; x (n, 1, 1, 2), y (n,) in [0, 3)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % len(CENTERS)
    noise = spread * torch.randn(n, 2, generator=generator)
    return Split((torch.tensor(CENTERS)[y] + noise).clamp(0, 1).view(n, *SHAPE), y)


@cache
def trained(epsilon: float, seed: int = 0, guarantee: Guarantee | None = None) -> GloroNet:
    """A small GloRo net (2-32-32-3), or a relaxed one, trained on :func:`blobs` at a radius."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (2, 32):
        layers += [nn.Linear(width, 32), MinMax()]
    layers.append(nn.Linear(32, len(CENTERS)))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    body = nn.Sequential(*layers)
    net = (
        GloroNet(body, epsilon, SHAPE, power_steps=2)
        if guarantee is None
        else RelaxedNet(body, epsilon, SHAPE, guarantee, power_steps=2)
    )
    schedule = training.linear(0.01 * epsilon, epsilon, 0.5)
    training.fit(
        net,
        gloro.trades(schedule, training.constant(1.0)),
        blobs(seed=seed),
        TrainConfig(epochs=60, batch_size=50, seed=seed),
        training.decay_after(1e-2, 1e-4),
    )
    return net


def grid(side: int = 200) -> Tensor:
    """The centers of side x side cells of the unit square, row by row: (side^2, 1, 1, 2)."""
    line = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns, rows], -1).view(-1, *SHAPE)
