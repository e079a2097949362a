"""Power iteration of a whole net at once, for a GPU: equal layers are one map, and few kernels.

It estimates what `estimates.power` does layer by layer, from the same vectors. A step on one image
is a dozen tiny kernels there, which a GPU spends its time on starting: here it is five for all
layers of one shape, and merged kernels are made once.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from thesis_repro.nets import LinearResidual, Residual
from thesis_repro.robustness import estimates
from thesis_repro.robustness.estimates import Factor, Sigma
from thesis_repro.robustness.layers import Shape, padding_of, zero_padded
from thesis_repro.robustness.structure import UnknownLayer

Vectors = Callable[[str], Tensor]
"""The vector (1, *input shape) that is kept under a layer's name."""
TOLERANCE = 1e-3
"""How far the constant, its gradient and the vectors may lie from those of the plain iteration."""


@dataclass(frozen=True)
class _Map:
    """What linear layers need to have in common to be one map; without a stride they are dense.

    Of convolutions the channels of one layer lie after those of another, (1, layers x channels,
    height, width), in groups; of dense layers the vectors are rows, (layers, rows, features).
    """

    shape: Shape
    kernel: tuple[int, ...]
    identity: bool
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def weight(self, each: Iterable[Tensor]) -> Tensor:
        """The weights of all layers as one."""
        return torch.cat(list(each)) if self.stride else torch.stack(list(each))

    def vector(self, each: Iterable[Tensor]) -> Tensor:
        """Their vectors, each (1, *shape), as one."""
        if self.stride:
            return torch.cat(list(each), 1)
        return torch.cat([v.reshape(1, -1, self.shape[-1]) for v in each])

    def apply(self, weight: Tensor, v: Tensor) -> Tensor:
        """Map the vectors of all layers."""
        if not self.stride:
            y = v @ weight.mT
        else:
            y = F.conv2d(v, weight, None, self.stride, self.padding, self.dilation, self._many(v))
        return v + y if self.identity else y

    def transposed(self, weight: Tensor, y: Tensor, like: Tensor) -> Tensor:
        """Map back, to vectors of the shape of `like`."""
        if not self.stride:
            v = y @ weight
        else:
            about = self.stride, self.padding, self.dilation, self._many(like)
            v = conv2d_input(like.shape, weight, y, *about)
        return y + v if self.identity else v

    def _many(self, v: Tensor) -> int:
        return self.groups * (v.shape[1] // self.shape[0])

    def split(self, v: Tensor, count: int) -> Tensor:
        """The parts of the layers, along dimension 1."""
        return v.unflatten(1, (count, -1)) if self.stride else v[None]

    def norms(self, parts: Tensor, format: torch.dtype | None = None) -> Tensor:
        """The norm of each part, of a shape that divides parts."""
        dims = (0, *range(2, parts.ndim))
        found: Tensor = torch.linalg.vector_norm(parts, dim=dims, keepdim=True, dtype=format)
        return found

    def unit(self, y: Tensor, fallback: Tensor, count: int) -> Tensor:
        """Each part divided by its norm; where that is zero, the part of the fallback."""
        parts = self.split(y, count)
        norms = self.norms(parts, torch.float64)  # squares of tiny numbers do not underflow
        parts = torch.where(norms > 0, parts / norms.to(y.dtype), self.split(fallback, count))
        return parts.flatten(1, 2) if self.stride else parts[0]


def _map_of(layer: nn.Module, shape: Shape) -> tuple[_Map, Tensor]:
    """The map of a layer without bias, and its weight with gradients."""
    if isinstance(layer, LinearResidual):
        weight, side = layer.merged(), (layer.padding,) * 2
        return _Map(shape, tuple(weight.shape), False, (1, 1), side, (1, 1)), weight
    identity = isinstance(layer, Residual)
    if isinstance(layer, Residual):
        layer = layer.branch[0]
    if isinstance(layer, nn.Linear):
        return _Map(shape, tuple(layer.weight.shape), identity), layer.weight
    if not isinstance(layer, nn.Conv2d):
        raise UnknownLayer(f"{type(layer).__name__} is not a linear layer")
    conv = zero_padded(layer)
    about = conv.stride, padding_of(conv), conv.dilation, conv.groups
    return _Map(shape, tuple(conv.weight.shape), identity, *about), conv.weight


def power(body: nn.Module, parts: tuple[Factor, ...], steps: int, vectors: Vectors) -> Sigma:
    """As :func:`estimates.power`, with all layers of these factors estimated at once, and now."""
    groups: dict[_Map, dict[str, Tensor]] = {}
    for part in estimates.iterated(parts):
        about, weight = _map_of(body.get_submodule(part.name), part.shape)
        groups.setdefault(about, {})[part.name] = weight
    found: dict[str, Tensor] = {}
    for about, weights in groups.items():
        count, kept = len(weights), [vectors(name) for name in weights]
        weight = about.weight(weights.values())
        with torch.no_grad():
            v, fixed = about.vector(kept), weight.detach()
            for _ in range(steps):
                back = about.transposed(fixed, about.apply(fixed, v), v)
                v = about.unit(back, v, count)
            v = about.unit(v, v, count)
            moved = about.split(v, count).unbind(1)
            torch._foreach_copy_(kept, [m.view_as(k) for m, k in zip(moved, kept, strict=True)])
        sigma = about.norms(about.split(about.apply(weight, v), count)).flatten()
        found |= zip(weights, sigma.unbind(), strict=True)
    return lambda name, layer, shape: found[name]


def agrees(body: nn.Module, parts: tuple[Factor, ...], steps: int, vectors: Vectors) -> bool:
    """Whether a net's constant, its gradient and its vectors come out as by the plain iteration.

    What is kept under the names stays as it is. Where it does not agree, one line says so.
    """
    weights = list(body.parameters())

    def run(at_once: bool) -> list[Tensor]:
        kept = {part.name: vectors(part.name).clone() for part in estimates.iterated(parts)}
        plain = estimates.power(steps, kept.__getitem__)
        sigma = power(body, parts, steps, kept.__getitem__) if at_once else plain
        value = estimates.product(body, parts, sigma)
        slopes = torch.autograd.grad(value, weights, allow_unused=True)
        return [t.detach().double() for t in (value, *slopes, *kept.values()) if t is not None]

    try:
        pairs = zip(run(False), run(True), strict=True)
        off = max(float((a - b).norm() / a.norm()) for a, b in pairs if a.any())
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().split("\n")[0]
    else:
        if off <= TOLERANCE:
            return True
        said = f"it comes out {off:.1e} from that"
    warnings.warn(f"power iteration goes layer by layer, not all at once: {said}", stacklevel=2)
    return False
