"""What is known of a type of layer, in one place: every fact that a certificate rests on.

A layer that is to be certified needs seven facts, each where it is used: a training asks for the
estimate alone, so that no proof stands in its key. Here they come together. Who adds a type of
layer asks :func:`lacking` what is still missing, and where it goes.

Examples
--------
>>> facts_of(nn.Conv2d).estimate, lacking(nn.Conv2d)
('power', ())
>>> lacking(nn.Tanh)[0]
'bound: RULES in robustness/rules.py'
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from thesis_repro.nets import LinearResidual, Residual, Sum
from thesis_repro.robustness import certificate, layer_rounding, rules, stated, steps
from thesis_repro.robustness.checker import nets as checked

HOLDING = (nn.Sequential, Residual, Sum)
"""Layers with others inside: these are gone through one by one."""

EXACT = (*rules.SELECTING, nn.MaxPool2d)
"""Layers that round nothing."""

ESTIMATES: dict[type[nn.Module], str] = {
    **dict.fromkeys(rules.FIXED, "fixed"),
    **dict.fromkeys((nn.Linear, nn.Conv2d, LinearResidual), "power"),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), "batch norm"),
    nn.Sequential: "inside",
    Residual: "sum",
    Sum: "branches",
}
"""Kinds of :class:`estimates.Factor`; "inside": the factors of the layers that it holds."""


PLACES = {
    "bound": "RULES in robustness/rules.py",
    "rounding": "STEPS in robustness/layer_rounding.py",
    "estimate": "_of in robustness/estimates.py, and ESTIMATES here",
    "way_in": "MODULES in robustness/steps.py",
    "description": "GEOMETRY in robustness/certificate.py",
    "maker": "MAKERS in robustness/stated.py",
    "check": "KINDS in robustness/checker/nets.py",
}
"""Where each fact is stated."""


@dataclass(frozen=True)
class Facts:
    """What is known of one type of layer; None is not.

    bound : rule of an upper bound of its norm, in float64
    rounding : what it may err by rounding in a format; "exact", or "inside" where it holds others
    estimate : kind of the factor that a training multiplies
    way_in : how a module of a user's net becomes such a layer
    description : what decides its map beside its weights, as its file states it
    maker : how it is made again from such a file
    check : how the checker, which shares no code with the certifier, reads and bounds it

    Examples
    --------
    >>> Facts(None, "exact", None, None, None, None, None).rounding
    'exact'
    """

    bound: Callable[..., tuple[float, str]] | None
    rounding: Callable[..., layer_rounding.Step] | str | None
    estimate: str | None
    way_in: Callable[..., list[nn.Module]] | None
    description: tuple[str, ...] | None
    maker: stated.Maker | None
    check: Callable[..., Any] | None


def facts_of(kind: type[nn.Module]) -> Facts:
    """What is known of a type of layer."""
    exact = "exact" if kind in EXACT else "inside" if kind in HOLDING else None
    return Facts(
        bound=rules.RULES.get(kind),
        rounding=layer_rounding.STEPS.get(kind, exact),
        estimate=ESTIMATES.get(kind),
        # the layers that a Sequential holds are taken in one by one
        way_in=steps.layers_of if kind is nn.Sequential else steps.known(kind),
        description=certificate.GEOMETRY.get(kind),
        maker=stated.MAKERS.get(kind.__name__),
        check=checked.KINDS[kind.__name__][0] if kind.__name__ in checked.KINDS else None,
    )


def lacking(kind: type[nn.Module]) -> tuple[str, ...]:
    """The facts that a type of layer lacks, each "name: where it is stated"; none of one known."""
    found = facts_of(kind)
    return tuple(f"{name}: {PLACES[name]}" for name in PLACES if getattr(found, name) is None)
