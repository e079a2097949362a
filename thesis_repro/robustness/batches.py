"""How many points a net is asked about at a time.

On a CPU the activations of a batch should stay in the cache, so the widest layer decides. What is
said of a point does not depend on its batch, but for the order in which a convolution adds up.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.lab.checks import whole
from thesis_repro.robustness.arithmetic import evaluated

BYTES = 50 * 2**17
"""Of the widest activation of a batch: 50 images of CIFAR-10 in 6C2F."""
MOST = 1000
"""Points in a batch at most; on a GPU, and of models that are no nn.Sequential, always so many."""
FEW = 20
"""So many points are one batch, whatever the net."""
JUDGED = 16
"""Numbers in float64 per point and class that a certificate is made from."""


def size(model: Callable[[Tensor], Any], x: Tensor, given: int | None = None) -> int:
    """How many of the points x (n, ...) to give to a model at a time, at least 1.

    Parameters
    ----------
    model : whose layers are asked about the first point
    given : the number that was asked for, if one was

    Raises
    ------
    ValueError
        If `given` is no whole number of at least 1.
    """
    if given is not None:
        return whole("batch_size", given)
    if len(x) <= FEW or x.device.type != "cpu" or not isinstance(model, nn.Sequential):
        return MOST
    point, widest = x[:1], x[:1].nbytes
    with evaluated(model), torch.no_grad():
        for layer in model:
            point = layer(point)
            widest = max(widest, point.nbytes)
    return min(MOST, max(1, BYTES // widest))


def judged(classes: int) -> int:
    """Of how many points to make certificates at a time, which takes room per class: at least 1."""
    return min(MOST, max(1, BYTES // (8 * JUDGED * classes)))
