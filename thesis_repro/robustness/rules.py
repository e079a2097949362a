"""The Lipschitz bound of each layer that is known, by its exact type."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, Sum
from thesis_repro.robustness import operators, proof
from thesis_repro.robustness.convolution import Convolution
from thesis_repro.robustness.layers import Shape, check_shape, convolutions, named_layers
from thesis_repro.robustness.structure import UnknownLayer, check_unmodified

SELECTING = (MinMax, nn.ReLU, nn.Identity, nn.PixelUnshuffle, nn.Flatten, nn.Dropout)
"""Layers that select, permute or drop values: 1-Lipschitz, and without rounding; nn.Dropout is
the identity in eval mode."""


SMALLEST_GAIN = 2.0**-60


def bound_of(name: str, layer: nn.Module, shape: Shape, method: str, seconds: float) -> "Rule":
    """The bound of a layer, and how it was got.

    Raises
    ------
    UnknownLayer, ValueError
        As `lipschitz.upper_bound`.
    """
    return _apply(RULES, name, layer, shape, method, seconds)


def fixed(name: str, layer: nn.Module, shape: Shape) -> float:
    """The bound of a layer without weights to train.

    Raises
    ------
    UnknownLayer, ValueError
        As `lipschitz.upper_bound`; for a layer with weights too.
    """
    return _apply(FIXED, name, layer, shape, "fast", 0.0)[0]


def _apply(
    rules: "Rules", name: str, layer: nn.Module, shape: Shape, method: str, seconds: float
) -> "Rule":
    kind = type(layer).__name__
    rule = rules.get(type(layer))
    if rule is None:
        raise UnknownLayer(
            f"layer {name!r} ({kind}): no Lipschitz constant is known for this layer"
        )
    check_unmodified(name, layer)
    try:
        found = rule(layer, shape, method, seconds)
        check_shape(name, layer, shape)
        return found
    except UnknownLayer:
        raise
    except ValueError as error:
        raise ValueError(f"layer {name!r} ({kind}): {error}") from None


Rule = tuple[float, str]


def _one(layer: nn.Module, shape: Shape, method: str, seconds: float) -> Rule:
    if isinstance(layer, nn.Flatten) and layer.start_dim < 1:
        raise UnknownLayer("Flatten from dimension 0 mixes the images of a batch")
    return 1.0, "1-Lipschitz"


def _linear(layer: nn.Linear, shape: Shape, method: str, seconds: float) -> Rule:
    return proof.matrix_norm(layer.weight), "dense"


def _conv2d(layer: nn.Conv2d, shape: Shape, method: str, seconds: float) -> Rule:
    groups = convolutions(layer, shape)
    found = [operators.norm(group, method, seconds / len(groups)) for group in groups]
    return max(found)


def _max_pool(layer: nn.MaxPool2d, shape: Shape, method: str, seconds: float) -> Rule:
    if layer.return_indices:
        raise UnknownLayer("MaxPool2d with return_indices has two outputs")
    kernel, stride, dilation = map(pair, (layer.kernel_size, layer.stride, layer.dilation))
    windows = 1
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        # a pixel is read at the offsets j d that agree modulo s: every s / gcd(s, d)-th j
        windows *= -(-k // (s // math.gcd(s, d)))
    return (
        1.0 if windows == 1 else proof.round_up(math.sqrt(windows))
    ), f"{windows} windows per pixel"


def _avg_pool(layer: nn.AvgPool2d, shape: Shape, method: str, seconds: float) -> Rule:
    kernel, stride, padding = map(pair, (layer.kernel_size, layer.stride, layer.padding))
    value = 1.0
    for axis in (0, 1):
        value *= proof.matrix_norm(
            averages(
                shape[1 + axis],
                kernel[axis],
                stride[axis],
                padding[axis],
                layer.ceil_mode,
                layer.count_include_pad,
                bool(layer.divisor_override),
            )
        )
    return proof.round_up(value / abs(layer.divisor_override or 1)), "averages"


def averages(
    size: int, kernel: int, stride: int, padding: int, ceil: bool, with_padding: bool, plain: bool
) -> Tensor:
    """One axis of average pooling as a matrix (outputs, inputs); `plain`: sums instead."""
    steps = size + 2 * padding - kernel
    count = (-(-steps // stride) if ceil else steps // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1  # no window begins in the padding at the far end
    matrix = torch.zeros(count, size, dtype=torch.float64)
    for row in range(count):
        first = row * stride - padding
        last = min(first + kernel, size + padding)
        inside = slice(max(first, 0), min(last, size))
        length = last - first if with_padding else inside.stop - inside.start
        matrix[row, inside] = 1.0 if plain else 1.0 / length
    return matrix


def pair(value: Any) -> tuple[int, int]:
    """A number for both directions, or the two as they are."""
    return value if isinstance(value, tuple) else (value, value)


def _batch_norm(layer: nn.BatchNorm2d, shape: Shape, method: str, seconds: float) -> Rule:
    factor, *_ = batch_norm_terms(layer)
    return proof.round_up(float(factor.abs().max())), "largest factor"


def batch_norm_terms(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """What eval mode multiplies by and takes off before, and 1 / std, per channel, float64.

    The layer adds its eps as a number of its own format, the widened net as it is; the smaller one
    is added here, so that the factor is at least that of either.
    """
    if layer.running_var is None or layer.running_mean is None:
        raise UnknownLayer(f"{type(layer).__name__} without running statistics mixes a batch")
    kind = layer.running_var.dtype
    spread = layer.running_var.detach().to("cpu", torch.float64)
    rounded = float(torch.tensor(layer.eps, dtype=kind).double())
    variance = spread + min(layer.eps, rounded)
    mean = layer.running_mean.detach().to("cpu", torch.float64)
    gain = torch.ones_like(mean) if layer.weight is None else layer.weight.detach().cpu().double()
    inverse = 1 / variance.sqrt()
    factor = gain * inverse
    # denormal numbers would lose digits, or count as zero
    tiny = torch.finfo(kind).tiny
    flushed = ((spread > 0) & (spread < tiny)) | (0 < rounded < tiny)
    small = ~(spread + rounded >= torch.where(flushed, 2.0**60 * tiny, tiny))
    if small.any() or not (factor.isfinite().all() and mean.isfinite().all()):
        raise ValueError(
            f"statistics and weights need to be finite, the variance positive (with eps at least "
            f"{tiny:.1e}, and far more where one of the two is below that)"
        )
    return factor, mean, inverse


def _scale(layer: Scale, shape: Shape, method: str, seconds: float) -> Rule:
    scaled, exponent = proof.normalised(layer.factor)
    return proof.restored(float(scaled.abs().max()), exponent), "largest factor"


def _residual(layer: Residual, shape: Shape, method: str, seconds: float) -> Rule:
    check_unmodified("branch", layer.branch)
    _not_in_place(layer)
    kernel = merged(layer.branch, shape)
    if kernel is None:
        value, _ = _sequence(layer.branch, shape, method, seconds)
        return proof.round_up(1 + value), "1 + branch"
    if isinstance(kernel, Tensor):
        value, how = proof.matrix_norm(kernel), "dense"
        largest = float(kernel.abs().max())
    else:
        value, how = operators.norm(kernel, method, seconds)
        largest = float(kernel.weight.abs().max())
    # each diagonal entry of I + W was rounded once
    return proof.round_up(value + proof.UNIT * largest), f"merged kernel, {how}"


def _sum(layer: Sum, shape: Shape, method: str, seconds: float) -> Rule:
    _not_in_place(layer)
    value = 0.0
    for branch in layer.branches:
        assert isinstance(branch, nn.Sequential)
        check_unmodified("branch", branch)
        value = proof.round_up(value + _sequence(branch, shape, method, seconds)[0])
    return value, "sum of branches"


def _not_in_place(layer: nn.Module) -> None:
    if any(getattr(part, "inplace", False) for part in layer.modules()):
        raise UnknownLayer("a branch with an in-place layer changes what the others are given")


def merged(branch: nn.Sequential, shape: Shape) -> Tensor | Convolution | None:
    """I + W of a branch that is one linear layer, up to one rounding per diagonal entry."""
    if len(branch) != 1:
        return None
    layer = branch[0]
    check_unmodified("branch", layer)
    if type(layer) is nn.Linear:
        weight = layer.weight.detach().to("cpu", torch.float64)
        return weight + torch.eye(len(weight), dtype=torch.float64)
    if type(layer) is not nn.Conv2d or layer.groups > 1:
        return None
    (conv,) = convolutions(layer, shape)
    centre = [p / d for p, d in zip(conv.padding, conv.dilation, strict=True)]
    fits = all(c == int(c) and c < k for c, k in zip(centre, conv.kernel, strict=True))
    if conv.stride != (1, 1) or not fits:
        return None
    kernel = conv.weight.clone()
    kernel[:, :, int(centre[0]), int(centre[1])] += torch.eye(len(kernel), dtype=torch.float64)
    return replace(conv, weight=kernel)


def _linear_residual(layer: LinearResidual, shape: Shape, method: str, seconds: float) -> Rule:
    conv, sizes = linear_residual(layer, shape)
    value, how = operators.norm(conv, method, seconds)
    # I + s g W was rounded three times; the norm is at most the sum over the taps of Frobenius's
    taps = sizes.weight.flatten(2).permute(2, 0, 1).flatten(1)
    lost = proof.gamma(3) * float(proof.lengths(taps).sum())
    return proof.round_up(value + lost, sizes.weight.numel()), f"merged kernel, {how}"


def linear_residual(layer: LinearResidual, shape: Shape) -> tuple[Convolution, Convolution]:
    """The merged kernel in float64; and |I| + |s g W|, what a computed one may err against.

    Raises
    ------
    ValueError
        If a gain is so small that its products underflow.
    """
    small = layer.gain.detach().abs()
    if ((small > 0) & (small < SMALLEST_GAIN)).any():
        raise ValueError(f"gains need to be 0 or at least {SMALLEST_GAIN:.1e}")
    exact = copy.deepcopy(layer).to("cpu", torch.float64)
    with torch.no_grad():
        merged, branch = exact.merged(), exact.branch().abs()
    pads = layer.padding, layer.padding
    branch[:, :, *pads] += torch.eye(len(branch), dtype=torch.float64)
    conv = Convolution(merged, (1, 1), pads, (1, 1), (shape[1], shape[2]))
    return conv, replace(conv, weight=branch)


def _sequence(layer: nn.Sequential, shape: Shape, method: str, seconds: float) -> Rule:
    value = 1.0
    for part in named_layers(layer, shape) if len(layer) else ():
        value = proof.multiply_up(value, bound_of(*part, method, seconds)[0])
    return value, "product"


Rules = dict[type[nn.Module], Callable[[Any, Shape, str, float], Rule]]

FIXED: Rules = {
    **dict.fromkeys(SELECTING, _one),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    Scale: _scale,
}
"""Layers without weights to train: their bound stays as it is."""

RULES: Rules = {
    **FIXED,
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Residual: _residual,
    Sum: _sum,
    LinearResidual: _linear_residual,
    nn.Sequential: _sequence,
}
