"""A pass through a net, with what bounds of its rounding need to know of the point.

See `rounding` for what these norms and partial sums are good for.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thesis_repro.robustness import products, proof, rules, selfcheck
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.layer_rounding import SUMS

Absolute = Sequence[nn.Module | None]
"""Of each layer of a part of a net, as :func:`absolute_of` gives it."""


def passes(
    parts: Sequence[nn.Sequential], x: Tensor, batch_size: int, sums: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and norms, as `certifying.measure`, through consecutive parts of a net.

    Each later part is in float64. With `sums`, norms of partial sums follow those of inputs, for
    all layers but the last: (n, 2 layers - 1).
    """
    absolute = [[absolute_of(layer) for layer in part] for part in parts] if sums else None
    found = [one_pass(parts, some, absolute) for some in x.split(batch_size)]
    logits, norms = (torch.cat(each) for each in zip(*found, strict=True))
    return logits, norms


def one_pass(
    parts: Sequence[nn.Sequential], x: Tensor, absolute: Sequence[Absolute] | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`passes`, of points that are taken together.

    Raises
    ------
    ValueError
        If the net does not give (n, classes).
    """
    norms, sums = [], []
    for index, part in enumerate(parts):
        x, known, partial = part_pass(part, x, None if absolute is None else absolute[index])
        norms.append(known)
        sums.append(partial)
        x = x.to(torch.float64)
    if x.ndim != 2:
        raise ValueError(
            f"a net needs to give (n, classes), got shape {tuple(x.shape)}: put nn.Flatten() "
            f"before the last layer"
        )
    return x, torch.cat([*norms, torch.cat(sums, 1)[:, :-1]], 1)


def part_pass(
    body: nn.Sequential, x: Tensor, absolute: Absolute | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (n, ...), and norms (n, layers) of the inputs of the layers that round.

    With the layers' |W| and |b| also norms (n, layers) of their partial sums; else (n, 0).
    """
    zero = x.new_zeros(len(x), dtype=torch.float64)
    norms: list[Tensor] = []
    sums: list[Tensor] = []
    for index, layer in enumerate(body):
        norms.append(norms_of(x) if rounds(layer) else zero)
        y = products.through(layer, x, selfcheck.convolve)
        if absolute is not None:
            sizes = absolute[index]
            sums.append(zero if sizes is None else partial_sums(sizes, x, y))
        x = y
    return x, _columns(norms, x), _columns(sums, x)


def _columns(values: list[Tensor], x: Tensor) -> Tensor:
    return torch.stack(values, 1) if values else x.new_zeros(len(x), 0, dtype=torch.float64)


def absolute_of(layer: nn.Module) -> nn.Module | None:
    """The layer with |W| and |b|, if its outputs are plain sums; None of the others."""
    if type(layer) not in SUMS:
        return None
    found = copy.copy(layer)  # shares all but the parameters
    found._parameters = {
        name: None if value is None else nn.Parameter(value.detach().abs(), requires_grad=False)
        for name, value in layer._parameters.items()
    }
    return found


def partial_sums(absolute: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """At least the norm of the largest partial sums on the way to z = W x + b: (n,) float64.

    absolute : |W| and |b|; x, z : (n, ...)
    """
    terms = products.through(absolute, x.abs(), selfcheck.convolve)
    count = next(absolute.parameters())[0].numel()
    # the computed sums are off themselves, by less than this share
    lost = 4 * proof.gamma(count + 2, UNITS[z.dtype])
    return norms_of((terms + z.abs()) / 2) * (1 + lost if lost < 1 else math.inf)


def rounds(layer: nn.Module) -> bool:
    """Whether the layer rounds, so that the norm of its input matters."""
    return type(layer) not in rules.SELECTING and type(layer) is not nn.MaxPool2d


def norms_of(x: Tensor) -> Tensor:
    """At least the norm of each of x (n, ...): (n,) float64."""
    flat = x.flatten(1)
    loss = 2 * proof.gamma(flat.shape[1] + 2, UNITS[x.dtype])
    found: Tensor = torch.linalg.vector_norm(flat, dim=1).double()
    return found * (1 + loss) + 1e-16  # squares below the smallest number count as zero
