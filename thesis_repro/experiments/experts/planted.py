"""A small net whose right units are known: what another quantity, or distribution, changes.

Two layers of detectors, written down and not trained. For class a speak eight units of its own,
four of them only in one of its two populations and four only in the other, and six that speak
for class b as well. Eight others are loud and mean nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.explanations.experts import Experts
from thesis_repro.explanations.influence import Quantity, class_score, comparative
from thesis_repro.explanations.rankings import weights
from thesis_repro.lab.cells import Result

GROUPS = {"first": 4, "second": 4, "shared": 6, "b": 6, "markers": 2, "loud": 8, "rest": 10}
"""Units of the slice: those that speak for a in its first population alone, and so on."""
UNITS = sum(GROUPS.values())
SLICE, HIDDEN = "1", 5
IMAGES = 60
"""Images of each population of class a, and as many of class b."""
CROSSTALK = 0.01
SHUT, SHARED, LOUD = 8.0, 1.5, 4.0
"""How strongly a marker shuts the gate of the other population; weight of shared units; mean
activation of loud ones."""
QUANTITY, DISTRIBUTION = "planted: why a and not b", "planted: why a, in one population"
ASKED = ("influence", "influence, asked otherwise", "activation", "weights")


@dataclass(frozen=True)
class PlantedConfig:
    """Nets of other draws, from number `seed` times `nets` on."""

    nets: int
    seed: int


@dataclass(frozen=True)
class Planted:
    """A net, images (n, units) of classes a = 0 and b = 1, and the units of each group.

    population : (n,) 0 or 1 for class a, -1 for class b
    """

    net: nn.Sequential
    x: Tensor
    y: Tensor
    population: Tensor
    groups: dict[str, Tensor]


def plant(generator: torch.Generator) -> Planted:
    """Draw a net and its images."""
    order = torch.randperm(UNITS, generator=generator)
    groups = dict(zip(GROUPS, order.split(list(GROUPS.values())), strict=True))
    net = nn.Sequential(
        nn.Linear(UNITS, UNITS), nn.ReLU(), nn.Linear(UNITS, HIDDEN), nn.ReLU(),
        nn.Linear(HIDDEN, 3),
    )  # fmt: skip
    first, second, last = (part for part in net if isinstance(part, nn.Linear))

    def noise(weight: Tensor) -> Tensor:
        return CROSSTALK * torch.randn(weight.shape, generator=generator)

    with torch.no_grad():
        for part in (first, second, last):
            part.bias.zero_()
        first.weight.copy_(torch.eye(UNITS) + noise(first.weight))
        second.weight.copy_(noise(second.weight))
        for row, name in enumerate(("first", "second", "shared", "b", "rest")):
            drawn = 0.8 + 0.4 * torch.rand(len(groups[name]), generator=generator)
            second.weight[row, groups[name]] += drawn if name != "rest" else 0.1
        second.weight[0, groups["markers"][1]] -= SHUT  # each marker shuts the other's gate
        second.weight[1, groups["markers"][0]] -= SHUT
        last.weight.copy_(
            torch.tensor(
                [[1.0, 1.0, SHARED, 0.0, 0.0], [0.0, 0.0, SHARED, 1.0, 0.0], [0, 0, 0, 0, 1.0]]
            )
        )
    population = torch.tensor([0, 1, -1]).repeat_interleave(IMAGES)
    x = _images(population, groups, generator)
    return Planted(net.eval(), x, (population < 0).long(), population, groups)


def _images(population: Tensor, groups: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Features that are there lie in [0.5, 1.5]; of the others there is a trace."""
    n = len(population)
    there = 0.5 + torch.rand((n, UNITS), generator=generator)
    present = torch.zeros((n, UNITS))
    is_a = population >= 0
    for name, rows in (("first", is_a), ("second", is_a), ("b", ~is_a)):
        present[rows.nonzero(), groups[name]] = 1.0
    present[:, groups["shared"]] = 1.0
    for side in (0, 1):
        present[population == side, groups["markers"][side]] = 1.0
    present[:, groups["loud"]] = LOUD
    return there * (present + 0.02)


def asked(found: Planted) -> dict[tuple[str, str], float]:
    """The share of right units among as many of the highest scores, by question and ranking."""
    own = torch.cat([found.groups["first"], found.groups["second"]])
    here = torch.cat([found.groups["first"], found.groups["shared"]])
    a, not_b = class_score(0), comparative(0, 1)
    everyone = Experts(found.net, SLICE, found.x, found.y)
    one, other = (
        Experts(found.net, SLICE, found.x[found.population == p], found.y[found.population == p])
        for p in (0, 1)
    )

    def influence(layer: Experts, quantity: Quantity) -> Tensor:
        return layer.influence(0, quantity=quantity)

    row = weights(everyone, 0)
    scores = {
        QUANTITY: (
            influence(everyone, not_b), influence(everyone, a), everyone.activation(0),
            row - weights(everyone, 1),
        ),
        DISTRIBUTION: (influence(one, a), influence(other, a), one.activation(0), row),
    }  # fmt: skip
    right = {QUANTITY: own, DISTRIBUTION: here}
    return {
        (question, name): hit(score, right[question])
        for question, ranked in scores.items()
        for name, score in zip(ASKED, ranked, strict=True)
    }


def hit(scores: Tensor, right: Tensor) -> float:
    """The share of right units among the len(right) units of the highest scores, in [0, 1]."""
    top = set(scores.argsort(descending=True, stable=True)[: len(right)].tolist())
    return len(top & set(right.tolist())) / len(right)


def planted(config: PlantedConfig) -> Result:
    """Cell: the share of right units, net by net."""
    found: dict[str, list[float]] = {}
    for number in range(config.nets):
        generator = torch.Generator().manual_seed(config.seed * config.nets + number)
        for (question, name), share in asked(plant(generator)).items():
            found.setdefault(f"{question} / {name}", []).append(share)
    return Result({}, {name: np.array(one) for name, one in found.items()})
