"""Convolutions, then dense layers: the shape of every small net, and how weights start."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from thesis_repro.nets.minmax import MinMax

ACTIVATIONS = ("minmax", "relu")

Start = Callable[[Iterable[nn.Module], torch.Generator | None], None]
"""Gives layers their first weights, in their order."""


def activation_layer(name: str) -> nn.Module:
    """The activation of this name.

    Raises
    ------
    ValueError
        On an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return MinMax() if name == "minmax" else nn.ReLU()


def _weighted(layers: Iterable[nn.Module]) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]


def orthogonal(layers: Iterable[nn.Module], generator: torch.Generator | None) -> None:
    """Orthogonal weights, biases of zero."""
    for layer in _weighted(layers):
        nn.init.orthogonal_(layer.weight, generator=generator)
        nn.init.zeros_(cast(Tensor, layer.bias))


def uniform(layers: Iterable[nn.Module], generator: torch.Generator | None) -> None:
    """PyTorch's own start: weights and biases uniform within one over the root of the inputs."""
    for layer in _weighted(layers):
        bound = layer.weight[0].numel() ** -0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(cast(Tensor, layer.bias), -bound, bound, generator=generator)


def zeros(layers: Iterable[nn.Module], generator: torch.Generator | None) -> None:
    """Weights and biases of zero, for a linear net: made of nothing but what it is trained on."""
    for layer in _weighted(layers):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(cast(Tensor, layer.bias))


def cnn(
    convolutions: Sequence[tuple[int, int, int]],
    dense: Sequence[int],
    activation: str,
    in_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator | None = None,
    *,
    padding: int = 1,
    pool: int = 1,
    start: Start = orthogonal,
) -> nn.Sequential:
    """Convolutions, each with an activation and max-pooling, then dense layers, then logits.

    Parameters
    ----------
    convolutions : (channels, kernel, stride) of each; none for a dense or a linear net
    dense : units of each hidden layer
    padding : of every convolution, in pixels
    pool : side of the max-pooling after every convolution; 1: none
    start : how the weights start; draws from `generator`, layer by layer

    Raises
    ------
    ValueError
        On an unknown activation, or an input that the convolutions shrink to nothing.

    Examples
    --------
    >>> net = cnn([(4, 3, 2)], [8], "minmax", (1, 6, 6), 2)
    >>> [type(layer).__name__ for layer in net]
    ['Conv2d', 'MinMax', 'Flatten', 'Linear', 'MinMax', 'Linear']
    """
    channels, height, width = in_shape
    layers: list[nn.Module] = []
    for out_channels, kernel, stride in convolutions:
        layers.append(nn.Conv2d(channels, out_channels, kernel, stride, padding=padding))
        layers.append(activation_layer(activation))
        if pool > 1:
            layers.append(nn.MaxPool2d(pool))
        channels = out_channels
        height, width = (
            ((side + 2 * padding - kernel) // stride + 1) // pool for side in (height, width)
        )
    if min(height, width) < 1:
        raise ValueError(f"input shape {in_shape} is too small for this net")
    layers.append(nn.Flatten())
    features = channels * height * width
    for units in dense:
        layers += [nn.Linear(features, units), activation_layer(activation)]
        features = units
    layers.append(nn.Linear(features, classes))
    start(layers, generator)
    return nn.Sequential(*layers)
