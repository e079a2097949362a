"""Architectures of the thesis: the GloRo convolutional nets and the MinMax activation.

A net is an ``nn.Sequential`` that ends in ``nn.Linear``. Inputs are pixels in [0, 1], shaped
``(batch, channels, height, width)``; nothing is normalised outside the net.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

ACTIVATIONS = ("minmax", "relu")


def _sorted_halves(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 1)


def _routed_halves(x: Tensor, grad: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    to_max, to_min = grad.chunk(2, 1)
    kept = first >= second
    return torch.cat([torch.where(kept, to_max, to_min), torch.where(kept, to_min, to_max)], 1)


@cache
def _compiled() -> tuple[Any, Any]:
    """The two kernels, fused by the C++ back end; the same selections, so the same numbers."""
    return (
        torch.compile(_sorted_halves, dynamic=True),
        torch.compile(_routed_halves, dynamic=True),
    )


_kernels: tuple[Any, Any] = (_sorted_halves, _routed_halves)


@contextmanager
def fused(enabled: bool = True) -> Iterator[bool]:
    """Within the block, MinMax runs as fused kernels where a compiler is at hand.

    The numbers are the same; the first use compiles for some seconds, so this pays for trainings
    of minutes. Yields whether the fused kernels are in use: without a working compiler the block
    runs on the eager kernels.
    """
    global _kernels
    before = _kernels
    active = False
    if enabled:
        try:
            candidate = _compiled()
            probe = torch.zeros(2, 4)
            candidate[1](probe, candidate[0](probe))
            _kernels, active = candidate, True
        except Exception:  # any failure of the compiler tool chain means: stay eager
            active = False
    try:
        yield active
    finally:
        _kernels = before


class _MinMaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return cast(Tensor, _kernels[0](x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cast(Tensor, _kernels[1](x, grad))


class MinMax(nn.Module):
    """Sort channel c against channel c + C/2: the maxima first, the minima second.

    The map permutes its inputs at every point, so it is 1-Lipschitz and keeps the norm of
    gradients. Its backward pass routes each gradient to the input that was selected; on a tie the
    first input counts as the larger one.

    Shapes: ``(batch, C, ...)`` to the same; C must be even.

    Raises
    ------
    ValueError
        If C is odd.

    References
    ----------
    Anil, Lucas and Grosse 2019, section 4 (GroupSort with groups of two).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] % 2:
            raise ValueError(
                f"MinMax needs an even number of channels in dimension 1, got shape "
                f"{tuple(x.shape)}"
            )
        return cast(Tensor, _MinMaxFunction.apply(x))


class Scale(nn.Module):
    """A fixed map factor * x + offset, for inputs that a net wants in other units than pixels.

    factor, offset : float, or tensors that broadcast against one input; not trained
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: float | Tensor, offset: float | Tensor = 0.0) -> None:
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.get_default_dtype()))
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


class Residual(nn.Module):
    """x + branch(x). With one convolution as the branch this is the block of LiResNet.

    Raises
    ------
    ValueError
        If the branch changes the shape.

    References
    ----------
    Hu et al. 2023 (the linear residual block).
    """

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if y.shape != x.shape:
            raise ValueError(
                f"the branch of a residual sum needs to keep the shape {tuple(x.shape)}, "
                f"got {tuple(y.shape)}"
            )
        return cast(Tensor, x + y)


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return MinMax() if name == "minmax" else nn.ReLU()


def _cnn(
    convolutions: Sequence[tuple[int, int, int]],
    dense: Sequence[int],
    in_shape: tuple[int, int, int],
    classes: int,
    activation: str,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Stack (channels, kernel, stride) convolutions, then dense layers; orthogonal start."""
    channels, height, width = in_shape
    layers: list[nn.Module] = []
    for out_channels, kernel, stride in convolutions:
        layers += [
            nn.Conv2d(channels, out_channels, kernel, stride, padding=1),
            _activation(activation),
        ]
        channels = out_channels
        height = (height + 2 - kernel) // stride + 1
        width = (width + 2 - kernel) // stride + 1
    if min(height, width) < 1:
        raise ValueError(f"input shape {in_shape} is too small for this net")
    layers.append(nn.Flatten())
    features = channels * height * width
    for units in dense:
        layers += [nn.Linear(features, units), _activation(activation)]
        features = units
    layers.append(nn.Linear(features, classes))
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def cnn_2c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """2C2F: 16 and 32 channels (4x4, stride 2), 100 units. For MNIST at radius 0.3.

    Source: Leino, Wang and Fredrikson 2021, appendix; the layer widths of the authors' code.
    """
    return _cnn([(16, 4, 2), (32, 4, 2)], [100], in_shape, classes, activation, generator)


def cnn_4c3f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """4C3F: 32 (3x3), 32 (4x4/2), 64 (3x3), 64 (4x4/2), then 512 and 512 units.

    For MNIST at radius 1.58. Source: as :func:`cnn_2c2f`.
    """
    convolutions = [(32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)]
    return _cnn(convolutions, [512, 512], in_shape, classes, activation, generator)


def cnn_6c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """6C2F: 32, 32 (3x3), 32 (4x4/2), 64, 64 (3x3), 64 (4x4/2), then 512 units.

    For CIFAR-10 at radius 36/255. Source: as :func:`cnn_2c2f`.
    """
    convolutions = [(32, 3, 1), (32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 3, 1), (64, 4, 2)]
    return _cnn(convolutions, [512], in_shape, classes, activation, generator)


def cnn_8c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (3, 64, 64),
    classes: int = 200,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """8C2F: 64, 64, 64/2, 128, 128, 128/2, 256 and 256/2 channels, then 256 units.

    For Tiny-ImageNet at radius 36/255. Source: as :func:`cnn_2c2f`.
    """
    convolutions = [
        (64, 3, 1),
        (64, 3, 1),
        (64, 4, 2),
        (128, 3, 1),
        (128, 3, 1),
        (128, 4, 2),
        (256, 3, 1),
        (256, 4, 2),
    ]
    return _cnn(convolutions, [256], in_shape, classes, activation, generator)


ARCHITECTURES = {"2c2f": cnn_2c2f, "4c3f": cnn_4c3f, "6c2f": cnn_6c2f, "8c2f": cnn_8c2f}


def build(name: str, activation: str = "minmax", **options: Any) -> nn.Sequential:
    """Build an architecture by its short name; options as in the function of that net."""
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown net {name!r}; choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](activation, **options)
