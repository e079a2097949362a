"""Moving figure of the chapter explanations/influence: slice, quantity and distribution."""

import torch
from torch import Tensor, nn

from thesis_repro.explanations import influence
from thesis_repro.figures.moving import Moving

SLICES = {"pixels": "", "channels of a convolution": "3", "hidden units": "6"}


def of_choices(net: nn.Module, x: Tensor, same_class: Tensor, c: int, other: int) -> Moving:
    """One digit x (1, 1, 28, 28) of class c: its influence for each of the three choices."""
    quantities: dict[str, influence.Quantity] = {
        f"Why a “{c}”?": influence.class_score(c),
        f"Why a “{other}”?": influence.class_score(other),
        f"Why a “{c}” and not a “{other}”?": influence.comparative(c, other),
    }
    distributions: dict[str, influence.Distribution] = {
        "the point": influence.point(),
        "noise around it": influence.gaussian(0.2, 50, torch.Generator().manual_seed(0)),
        "the line from black": influence.line(),
        "its whole class": influence.empirical(same_class),
    }
    maps = [
        [
            [_hundredths(_units(net, x, name, q, d)) for d in distributions.values()]
            for q in quantities.values()
        ]
        for name in SLICES.values()
    ]
    data = {
        "image": bytes((255 * x.flatten()).round().byte().tolist()).hex(),
        "slices": list(SLICES),
        "quantities": list(quantities),
        "distributions": list(distributions),
        "maps": maps,
    }
    return Moving("maps", "choose slice, quantity and distribution", data)


def _units(
    net: nn.Module, x: Tensor, name: str, q: influence.Quantity, d: influence.Distribution
) -> Tensor:
    chi = influence.internal_influence(net, x, name, q, d)
    return chi[0].flatten() if not name else influence.per_unit(chi, "mean")[0]


def _hundredths(values: Tensor) -> list[int]:
    """Whole hundredths of the largest size."""
    return (100 * values / values.abs().max().clamp_min(1e-12)).round().int().tolist()
