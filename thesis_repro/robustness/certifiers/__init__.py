"""Three other certifiers, each one file: `bcp`, `dual` and `smoothing`. Here is what they share.

Defined in the chapter robustness/certifiers. Radii are L2, in units of pixels in [0, 1].
"""

import copy
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from thesis_repro.lab.checks import whole
from thesis_repro.robustness import proof, structure
from thesis_repro.robustness.arithmetic import exact
from thesis_repro.robustness.certifying import check_images
from thesis_repro.robustness.layers import named_layers, reweighted

__all__ = [
    "Normalised",
    "backward",
    "bcp",
    "dual",
    "full_precision",
    "lines",
    "normalised",
    "out_of_memory",
    "parts",
    "power_of_two",
    "projections",
    "row_lengths",
    "settled",
    "sliced",
    "smoothing",
    "windows",
]

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
        If size is no whole number of at least 1.
    RuntimeError
        If one item alone does not fit into memory.
    """
    size = whole("batch_size", size)
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


def parts(model: nn.Module, x: Tensor, epsilon: float, known: tuple[type, ...]) -> list[Part]:
    """The layers of a net with their input shapes, after a look at all that is given.

    Raises
    ------
    ValueError
        If the model is no nn.Sequential of known layers that ends in nn.Linear; as
        `structure.check_certifiable`, what `robustness.certify` refuses too: hooks, replaced
        methods, weights that are not finite or neither float32 nor float64; if an image has
        another shape than the net takes, another format, or pixels outside [0, 1]; if a dense
        layer is given values that are not flat; or if epsilon is not positive and finite.
    """
    if type(model) is not nn.Sequential or not len(model) or type(model[-1]) is not nn.Linear:
        raise ValueError(
            f"the model needs to be nn.Sequential ending in nn.Linear, got {type(model).__name__}; "
            f"of a GloroNet give the body"
        )
    structure.check_epsilon(epsilon)
    structure.check_certifiable(model)
    weight = next(model.parameters())
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f"images need to be {weight.dtype} on {weight.device} as the net is, got {x.dtype} "
            f"on {x.device}"
        )
    for name, layer in model._modules.items():
        if type(layer) not in known:
            names = ", ".join(kind.__name__ for kind in known)
            raise ValueError(
                f"layer {name!r} is {type(layer).__name__}; this certifier knows {names}"
            )
    check_images(x, tuple(x.shape[1:]))
    try:
        found = list(named_layers(model, tuple(x.shape[1:])))
    except RuntimeError as error:
        raise ValueError(f"images {tuple(x.shape)} do not fit the net: {error}") from error
    for name, layer, shape in found:
        if isinstance(layer, nn.Linear) and len(shape) != 1:
            raise ValueError(
                f"layer {name!r} (Linear) is given values of shape {shape}, whose rows it would "
                f"take apart: put nn.Flatten() before it"
            )
    return found


def compared(model: nn.Sequential, chain: list[Part]) -> list[Part]:
    """The chain, if the net has two logits to compare: of one every point would be certified.

    Raises
    ------
    ValueError
    """
    head = model[-1]
    if isinstance(head, nn.Linear) and head.out_features < 2:
        raise ValueError(structure.ONE_LOGIT)
    return chain


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no autocast, and no TF32 within products; restored afterwards."""
    with exact(model, conventional=False), torch.no_grad():
        yield


@dataclass(frozen=True)
class Normalised:
    """A net of the same labels whose weights are near 1; its logits are the old times 2**-exponent.

    steps : what each linear layer adds to the exponent, by its name
    """

    body: nn.Sequential
    steps: dict[str, int]

    @property
    def exponent(self) -> int:
        """Of the logits."""
        return sum(self.steps.values())

    def parts(self, chain: list[Part]) -> list[Part]:
        """Its own layers, for a chain of layers of the old net."""
        return [(name, self.body.get_submodule(name), shape) for name, _, shape in chain]

    def lost(self, chain: list[Part], epsilon: float) -> float:
        """More than all underflow together may move a difference of its logits.

        A sum loses at most a smallest normal number per term, times the size of what it
        multiplies; what was lost before grows at most by the largest sum of absolute weights.
        """
        tiny = torch.finfo(next(self.body.parameters()).dtype).tiny
        units = max(math.prod(shape) for _, _, shape in chain)
        found, high = units * tiny, 1 + epsilon
        for layer in self.body:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                gain = float(layer.weight.detach().double().flatten(1).abs().sum(1).max())
                found = gain * found + 8 * (units + layer.weight[0].numel()) * tiny * (1 + high)
                high = gain * high
                if layer.bias is not None:
                    high += float(layer.bias.detach().double().abs().max())
        return 4 * found


def normalised(model: nn.Sequential) -> Normalised:
    """Bring the weights of each linear layer near 1, by a power of two.

    What is between linear layers has to commute with positive factors, as ReLU and MinMax do. No
    digit changes, so that whatever is computed with either net agrees to the last bit, unless it
    underflows or overflows.
    """
    # each place gets a layer of its own, also where one module stands in two
    body = nn.Sequential(OrderedDict((k, copy.deepcopy(v)) for k, v in model._modules.items()))
    steps: dict[str, int] = {}
    for name, layer in body._modules.items():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight, steps[name] = proof.normalised(layer.weight)
            with torch.no_grad():
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.copy_(power_of_two(layer.bias.double(), -sum(steps.values())))
    return Normalised(body, steps)


def power_of_two(values: Tensor, exponent: int) -> Tensor:
    """values * 2**exponent for any exponent, rounded where it leaves the normal numbers."""
    step = 60 if values.dtype == torch.float32 else 500
    while exponent:
        now = max(-step, min(step, exponent))
        values, exponent = values * 2.0**now, exponent - now
    return values


def row_lengths(layer: nn.Module, shape: tuple[int, ...], norm: float = 2.0) -> Tensor:
    """How far each output of a linear layer moves per unit of its input: (1, *output shape).

    The L2 norm of the output's row, or for balls in the maximum norm (`norm` infinite) the sum of
    its absolute values. At the border of an image padding cuts rows short, so that each output has
    a length of its own. Rows are normalised before they are squared: any scale of weights will do.
    """
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    with torch.no_grad():
        weight = layer.weight.abs()
        one = torch.ones(1, *shape).to(weight)
        if norm == math.inf:
            return reweighted(layer, weight, one)
        per_row = [-1, *[1] * (weight.ndim - 1)]
        largest = weight.flatten(1).amax(1)
        scale = proof.scale_of(largest)
        # what is left of a row at the border may be so small that its squares vanish
        missed = math.sqrt(weight[0].numel() * torch.finfo(weight.dtype).tiny)
        rows = reweighted(layer, (weight / scale.view(per_row)).square(), one).sqrt()
        per_output = [-1] if isinstance(layer, nn.Linear) else [-1, 1, 1]  # dense: the last axis
        rows = rows + missed * (largest > 0).to(rows).view(per_output)
        return rows * scale.view(per_output)


def settled(found: Tensor, logits: Tensor, asked: Tensor) -> Tensor:
    """Margins (n, classes) with infinity at the label; minus infinity where no label is sure.

    A label is sure if the logits of the normalised net are finite, and those that the net itself
    is asked for are too and have the same arg-max: neither overflows or underflows.
    """
    own = logits.argmax(1, keepdim=True)
    sure = (logits.isfinite() & asked.isfinite()).all(1, keepdim=True)
    sure = sure & (asked.argmax(1, keepdim=True) == own)
    found = found.nan_to_num(-torch.inf, torch.inf, -torch.inf).scatter(1, own, torch.inf)
    return found.masked_fill(~sure, -torch.inf)
