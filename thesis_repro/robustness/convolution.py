"""A zero-padded convolution as a linear map."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Convolution:
    """One group of a convolution.

    weight : (out, in, k_h, k_w) float64 on the CPU
    stride, padding, dilation : per axis
    size : (height, width) of its input
    """

    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]

    @property
    def out_size(self) -> tuple[int, int]:
        """(height, width) of its output."""
        first, second = (
            (self.size[a] + 2 * self.padding[a] - self.dilation[a] * (self.kernel[a] - 1) - 1)
            // self.stride[a]
            + 1
            for a in (0, 1)
        )
        return first, second

    @property
    def kernel(self) -> tuple[int, int]:
        """(k_h, k_w)"""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def dimensions(self) -> tuple[int, int]:
        """Numbers of inputs and of outputs."""
        out, channels = self.weight.shape[:2]
        (h, w), (oh, ow) = self.size, self.out_size
        return channels * h * w, out * oh * ow

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to x (batch, in, height, width) float64."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)

    def matrix(self) -> Tensor:
        """(inputs, outputs); exact, since each entry is one weight times 1, or 0."""
        inputs = self.dimensions[0]
        unit = torch.eye(inputs, dtype=torch.float64)
        images = unit.view(inputs, self.weight.shape[1], *self.size)
        return torch.cat([self(part).flatten(1) for part in images.split(256)])
