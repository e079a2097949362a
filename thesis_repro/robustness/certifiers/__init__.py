"""Three other certifiers, each one file: `bcp`, `dual` and `smoothing`. Here is what they share.

Defined in the chapter robustness/certifiers. Radii are L2, in units of pixels in [0, 1].
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from thesis_repro.robustness.certifying import check_images
from thesis_repro.robustness.lipschitz import layers

LOG = logging.getLogger(__name__)
Made = TypeVar("Made")
Part = tuple[str, nn.Module, tuple[int, ...]]
"""Name, layer and input shape of a layer."""


def sliced(total: int, size: int, work: Callable[[slice], Made]) -> Iterator[Made]:
    """Do work on consecutive slices of range(total); out of memory halves the slices, and goes on.

    Parameters
    ----------
    total : how much there is to do
    size : the largest slice, >= 1
    work : called once for each slice that it finishes; a slice that failed is tried in halves

    Yields
    ------
    What `work` returned, in order. A halving is said in the log as a warning.

    Raises
    ------
    ValueError
        If size is below 1.
    RuntimeError
        If one item alone does not fit into memory.
    """
    if size < 1:
        raise ValueError(f"a batch needs at least 1 item, got {size}")
    done = 0
    while done < total:
        size = min(size, total - done)
        try:
            made = work(slice(done, done + size))
        except RuntimeError as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2
            LOG.warning("out of memory: going on with batches of %d", size)
            continue
        done += size
        yield made


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch found no room: a GPU's own error, or what the CPU's allocator says."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def largest_radius(
    certified: Callable[[float, Tensor], Tensor], x: Tensor, high: float, steps: int = 12
) -> Tensor:
    """The largest radius that a certifier grants to each point, by bisection.

    Parameters
    ----------
    certified : from a radius and points (k, ...) to (k,) bool
    x : (n, ...) points
    high : no larger radius is looked for
    steps : bisections; the answer is high / 2**steps too small at most, if what is certified at
        a radius is certified at each smaller one

    Returns
    -------
    (n,) float64; 0 where no radius that was tried is certified. Every positive value was certified.
    """
    low = torch.zeros(len(x), dtype=torch.float64)
    for index in range(len(x)):
        below, above = 0.0, high
        for _ in range(steps):
            middle = (below + above) / 2
            if certified(middle, x[index : index + 1]).item():
                below = middle
            else:
                above = middle
        low[index] = below
    return low


def parts(model: nn.Module, x: Tensor, epsilon: float, known: tuple[type, ...]) -> list[Part]:
    """The layers of a net with their input shapes, after a look at all that is given.

    Raises
    ------
    ValueError
        If the model is no nn.Sequential of known layers that ends in nn.Linear; if an image has
        another shape than the net takes, another format, or pixels outside [0, 1]; or if epsilon
        is not positive and finite.
    """
    if type(model) is not nn.Sequential or not len(model) or type(model[-1]) is not nn.Linear:
        raise ValueError(
            f"the model needs to be nn.Sequential ending in nn.Linear, got {type(model).__name__}; "
            f"of a GloroNet give the body"
        )
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon needs to be positive and finite, got {epsilon}")
    weight = next(model.parameters())
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f"images need to be {weight.dtype} on {weight.device} as the net is, got {x.dtype} "
            f"on {x.device}"
        )
    for name, layer in model.named_children():
        if type(layer) not in known:
            names = ", ".join(kind.__name__ for kind in known)
            raise ValueError(
                f"layer {name!r} is {type(layer).__name__}; this certifier knows {names}"
            )
    check_images(x, tuple(x.shape[1:]))
    try:
        return list(layers(model, tuple(x.shape[1:])))
    except RuntimeError as error:
        raise ValueError(f"images {tuple(x.shape)} do not fit the net: {error}") from error


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no autocast, and no TF32 within products; restored afterwards."""
    device = next(model.parameters()).device.type
    training = model.training
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        model.train(training)
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
