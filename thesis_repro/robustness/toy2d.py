"""Two-dimensional classification in the unit square, where a reader sees every region.

A point of the plane is an image of shape (1, 1, 2): everything that works on images works here.
"""

from functools import cache

import torch
from torch import Tensor

from thesis_repro.data import Split
from thesis_repro.robustness import recipes
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.robustness.relaxed import Guarantee

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
    recipe = Recipe(
        net="dense-32-32",
        epsilon=epsilon,
        train_epsilon=epsilon,
        epochs=60,
        epochs_paper=0,
        batch_size=50,
        seed=seed,
        trades=(1.0, 1.0),
        lr=1e-2,
        lr_end=1e-4,
        power_steps=2,
        guarantee=guarantee,
    )
    net = recipes.build(recipe, SHAPE, len(CENTERS))
    recipes.fit(net, recipe, blobs(seed=seed))
    return net


def grid(side: int = 200) -> Tensor:
    """The centers of side x side cells of the unit square, row by row: (side^2, 1, 1, 2)."""
    line = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns, rows], -1).view(-1, *SHAPE)
