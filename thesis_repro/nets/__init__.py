"""Architectures of the thesis and of LiResNet, and the layers that they are built from.

A net is an ``nn.Sequential`` that ends in ``nn.Linear`` or in :class:`UnitLinear`. Inputs are
pixels in [0, 1], shaped ``(batch, channels, height, width)``; nothing is normalised outside the
net.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.nets.blocks import LinearResidual, Residual, Scale, Sum, UnitLinear
from thesis_repro.nets.minmax import MinMax, fused
from thesis_repro.nets.stacks import ACTIVATIONS, activation_layer, cnn, orthogonal, uniform, zeros

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "LinearResidual",
    "MinMax",
    "Residual",
    "Scale",
    "Sum",
    "UnitLinear",
    "build",
    "cnn",
    "cnn_2c2f",
    "cnn_4c3f",
    "cnn_6c2f",
    "cnn_8c2f",
    "fused",
    "labels",
    "liresnet",
    "orthogonal",
    "uniform",
    "zeros",
]


def cnn_2c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """2C2F: 16 and 32 channels (4x4, stride 2), 100 units. For MNIST at radius 0.3.

    Source: Leino, Wang and Fredrikson 2021, appendix; the layer widths of the authors' code.

    Examples
    --------
    >>> [type(layer).__name__ for layer in cnn_2c2f("relu")]
    ['Conv2d', 'ReLU', 'Conv2d', 'ReLU', 'Flatten', 'Linear', 'ReLU', 'Linear']
    """
    return cnn([(16, 4, 2), (32, 4, 2)], [100], activation, in_shape, classes, generator)


def cnn_4c3f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """4C3F: 32 (3x3), 32 (4x4/2), 64 (3x3), 64 (4x4/2), then 512 and 512 units.

    For MNIST at radius 1.58. Source: as :func:`cnn_2c2f`.

    Examples
    --------
    >>> cnn_4c3f()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    convolutions = [(32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)]
    return cnn(convolutions, [512, 512], activation, in_shape, classes, generator)


def cnn_6c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """6C2F: 32, 32 (3x3), 32 (4x4/2), 64, 64 (3x3), 64 (4x4/2), then 512 units.

    For CIFAR-10 at radius 36/255. Source: as :func:`cnn_2c2f`.

    Examples
    --------
    >>> cnn_6c2f(classes=5)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    convolutions = [(32, 3, 1), (32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 3, 1), (64, 4, 2)]
    return cnn(convolutions, [512], activation, in_shape, classes, generator)


def cnn_8c2f(
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (3, 64, 64),
    classes: int = 200,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """8C2F: 64, 64, 64/2, 128, 128, 128/2, 256 and 256/2 channels, then 256 units.

    For Tiny-ImageNet at radius 36/255. Source: as :func:`cnn_2c2f`.

    Examples
    --------
    >>> sum(type(layer).__name__ == "Conv2d" for layer in cnn_8c2f())
    8
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
    return cnn(convolutions, [256], activation, in_shape, classes, generator)


def liresnet(
    depth: int,
    width: int,
    activation: str = "minmax",
    *,
    in_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    dense: int = 512,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """LiResNet: a stem (5x5, stride 2), `depth` linear residual blocks of `width` channels, a neck
    (4x4, stride 4), one dense layer, and a last layer with rows of norm 1.

    Pixels are centred at zero inside the net. Source: Hu et al. 2023; the layer sizes of the
    authors' code.

    Raises
    ------
    ValueError
        If depth is below 1, width is odd or below 2, or the input is too small.

    Examples
    --------
    >>> liresnet(2, 8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if depth < 1 or width < 2 or width % 2:
        raise ValueError(f"depth={depth} and width={width}: need depth >= 1 and an even width >= 2")
    channels, height, width_in = in_shape
    after = [((side + 4 - 5) // 2 + 1) // 4 for side in (height, width_in)]
    if min(after) < 1:
        raise ValueError(f"input shape {in_shape} is too small for this net")
    layers: list[nn.Module] = [
        Scale(1.0, -0.5),
        nn.Conv2d(channels, width, 5, 2, padding=2),
        activation_layer(activation),
    ]
    for _ in range(depth):
        layers += [
            LinearResidual(width, depth**-0.5, generator=generator),
            activation_layer(activation),
        ]
    layers += [nn.Conv2d(width, width, 4, 4), activation_layer(activation), nn.Flatten()]
    layers += [nn.Linear(width * after[0] * after[1], dense), activation_layer(activation)]
    layers.append(UnitLinear(dense, classes))
    orthogonal(layers, generator)
    return nn.Sequential(*layers)


ARCHITECTURES = {"2c2f": cnn_2c2f, "4c3f": cnn_4c3f, "6c2f": cnn_6c2f, "8c2f": cnn_8c2f}
LIRESNET = re.compile(r"liresnet-l(\d+)w(\d+)")
DENSE = re.compile(r"dense((?:-\d+)+)")


def build(name: str, activation: str = "minmax", **options: Any) -> nn.Sequential:
    """Build an architecture by its short name; options as in the function of that net.

    Names are the keys of `ARCHITECTURES`, liresnet-l6w64 for :func:`liresnet` of depth 6 and width
    64, and dense-32-16 for hidden dense layers of 32 and 16 units.

    Examples
    --------
    >>> net = build("dense-32-16", in_shape=(1, 8, 8), classes=3)
    >>> net(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """
    if found := LIRESNET.fullmatch(name):
        return liresnet(int(found[1]), int(found[2]), activation, **options)
    if found := DENSE.fullmatch(name):
        return cnn([], [int(units) for units in found[1].split("-")[1:]], activation, **options)
    if name not in ARCHITECTURES:
        raise ValueError(
            f"unknown net {name!r}; choose one of {', '.join(ARCHITECTURES)}, liresnet-l6w64 "
            f"(depth 6, width 64), dense-32-16 (hidden layers of 32 and 16 units)"
        )
    return ARCHITECTURES[name](activation, **options)


@torch.no_grad()
def labels(net: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """The class (n,) that a net gives each image (n, channels, height, width).

    Examples
    --------
    >>> labels(nn.Flatten(), torch.tensor([[[[0.1, 0.9]]], [[[0.8, 0.2]]]]))
    tensor([1, 0])
    """
    return torch.cat([net(part).argmax(1) for part in x.split(batch_size)])
