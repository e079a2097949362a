"""Random small nets over every layer that certificates know, at ordinary and extreme scales."""

import math

import numpy as np
import torch
from torch import nn

from thesis_repro import nets

EXPONENTS = {torch.float32: (0.3, 0.3, 15.0, 30.0), torch.float64: (0.3, 0.3, 100.0, 170.0)}
"""Powers of ten of the weights of one layer, either way."""


class Builder:
    """Adds layers that fit, and knows the shape behind them."""

    def __init__(self, rng, shape):
        self.rng, self.shape, self.layers = rng, shape, []

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def add(self, layer):
        with torch.no_grad():
            shape = tuple(layer.eval()(torch.zeros(1, *self.shape)).shape[1:])
        if math.prod(shape):
            self.layers.append(layer)
            self.shape = shape

    def conv(self):
        c, height, width = self.shape
        groups = self.pick(1, 1, c)
        kernel = [int(self.rng.integers(1, min(side, 3) + 1)) for side in (height, width)]
        dilation = [
            self.pick(1, 2) if (k - 1) * 2 < s else 1
            for k, s in zip(kernel, self.shape[1:], strict=True)
        ]
        out = groups * int(self.rng.integers(1, 4))
        stride, padding = self.pick(1, 2, (2, 1)), self.pick(0, 1, (1, 0))
        self.add(
            nn.Conv2d(
                c, out, kernel, stride, padding, dilation, groups, bias=self.pick(True, False)
            )
        )

    def average(self):
        kernel, stride = self.pick(1, 2, (2, 1)), self.pick(1, 2, 3)
        inside, divisor = self.pick(True, False), self.pick(None, None, 1, 3)
        self.add(nn.AvgPool2d(kernel, stride, 0, self.pick(True, False), inside, divisor))

    def maximum(self):
        kernel, stride, padding = self.pick(2, 3, (2, 1)), self.pick(1, 2, 3), self.pick(0, 0, 1)
        self.add(nn.MaxPool2d(kernel, stride, padding, 1, ceil_mode=self.pick(True, False)))

    def activation(self):
        even = self.shape[0] % 2 == 0
        self.add(self.pick(nn.ReLU(), nn.ReLU(inplace=True), nets.MinMax() if even else nn.ReLU()))

    def normalisation(self):
        layer = nn.BatchNorm2d(self.shape[0], eps=self.pick(1e-5, 1e-2))
        with torch.no_grad():
            layer.running_mean.copy_(self.normal(self.shape[0]))
            layer.running_var.copy_(self.normal(self.shape[0]).abs() + 0.05)
            layer.weight.copy_(self.normal(self.shape[0]))
            layer.bias.copy_(self.normal(self.shape[0]))
        self.add(layer)

    def scale(self):
        c = self.shape[0]
        channels = 3 if c == 1 and self.rng.random() < 0.5 else c  # of one channel this makes three
        factor = self.normal(channels).view(-1, 1, 1) + 1
        self.add(nets.Scale(factor, self.normal(channels).view(-1, 1, 1)))

    def residual(self):
        c = self.shape[0]
        one = nn.Conv2d(c, c, 3, padding=1, groups=self.pick(1, c), bias=self.pick(True, False))
        two = [nn.Conv2d(c, 2, 1), nn.ReLU(), nn.Conv2d(2, c, 1)]
        self.add(nets.Residual(*self.pick([one], two, [nn.ReLU()], [nn.Identity(), one])))

    def summed(self):
        c, out = self.shape[0], int(self.rng.integers(1, 4))
        one = nn.Conv2d(c, out, 1, 2, bias=self.pick(True, False))
        two = [nn.Conv2d(c, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, out, 1)]
        self.add(nets.Sum(one, nn.Sequential(*two), *self.pick([], [nn.Conv2d(c, out, 3, 2, 1)])))

    def merged(self):
        block = nets.LinearResidual(self.shape[0], float(self.rng.uniform(0.1, 2)))
        with torch.no_grad():
            block.gain.copy_(self.normal(self.shape[0]))
            block.bias.copy_(self.normal(self.shape[0]))
        self.add(block)

    def rearranged(self):
        if self.shape[1] % 2 == 0 and self.shape[2] % 2 == 0:
            self.add(nn.PixelUnshuffle(2))
        else:
            self.add(self.pick(nn.Identity(), nn.Dropout(0.5)))

    def normal(self, *size):
        return torch.from_numpy(self.rng.standard_normal(size)).float()


KINDS = ("conv", "conv", "activation", "average", "maximum", "normalisation", "scale", "residual")
KINDS += ("merged", "rearranged", "activation", "summed")


def dense(builder, rng, simple):
    """Flatten, some dense layers, and the last one of 2 to 4 classes."""
    builder.add(nn.Flatten())
    for _ in range(rng.integers(3)):
        width = int(rng.integers(2, 9))
        builder.add(nn.Linear(builder.shape[0], width, bias=builder.pick(True, False)))
        if not simple and rng.random() < 0.2:
            builder.add(nn.BatchNorm1d(width))
        builder.activation()
    classes = int(rng.integers(2, 5))
    unit = not simple and rng.random() < 0.15
    builder.add((nets.UnitLinear if unit else nn.Linear)(builder.shape[0], classes))


def random_net(seed):
    """A body, images (n, *shape) that lie near its boundaries, both in its format; and a rng.

    Half of the nets have weights of extreme scale: each layer's own, drawn anew per row in some,
    and made up for by the last layer, so that logits stay in range. Every third net has layers
    alone that all certifiers know.
    """
    rng = np.random.default_rng(seed)
    dtype = torch.float32 if rng.random() < 0.6 else torch.float64
    simple = seed % 3 == 0
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    builder = Builder(rng, shape)
    kinds = ("conv", "activation") if simple else KINDS
    for _ in range(rng.integers(0, 4 if simple else 6)):
        try:
            getattr(builder, builder.pick(*kinds))()
        except (RuntimeError, ValueError):  # it does not fit this shape
            continue
    dense(builder, rng, simple)
    body = nn.Sequential(*builder.layers).eval().double()
    rescale(body, rng, builder.pick(*EXPONENTS[dtype]))
    x = torch.from_numpy(rng.random((4, *shape)))
    approach(body, x, rng)
    return body.to(dtype), x.to(dtype), rng


def rescale(body, rng, reach):
    """Give each layer another power of ten, and the last one what undoes it."""
    layers = [part for part in body.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    total = 0.0
    uneven = rng.random() < 0.3
    with torch.no_grad(), np.errstate(over="ignore"):  # what overflows is refused
        for layer in layers:
            exponent = -total if layer is layers[-1] else rng.uniform(-reach, reach)
            exponent = float(np.clip(exponent, -2 * reach, 2 * reach))
            total += exponent
            layer.weight.copy_(torch.from_numpy(rng.standard_normal(tuple(layer.weight.shape))))
            rows = rng.uniform(-reach / 2, 0, len(layer.weight)) if uneven else 0.0
            layer.weight *= torch.as_tensor(np.power(10.0, exponent + rows)).view(
                -1, *[1] * (layer.weight.ndim - 1)
            )
            if layer.bias is not None:
                size = np.power(10.0, total if rng.random() < 0.7 else rng.uniform(-reach, reach))
                layer.bias.copy_(size * torch.from_numpy(rng.standard_normal(len(layer.bias))))


def approach(body, x, rng):
    """Move the last biases so that the logits of the first image nearly tie."""
    with torch.no_grad():
        logits = body(x.double())
        spread = (logits - logits[:1]).abs().max()
        if logits.isfinite().all() and body[-1].bias is not None:
            ease = spread if spread > 0 else logits.abs().max()
            noise = torch.from_numpy(rng.standard_normal(logits.shape[1]))
            body[-1].bias += -logits[0] + 0.2 * ease * noise
