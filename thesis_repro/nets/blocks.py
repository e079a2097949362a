"""Layers beyond those of torch: fixed scaling, residual sums, unit rows."""

from typing import cast

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A fixed map factor * x + offset, for inputs that a net wants in other units than pixels.

    factor, offset : float, or tensors that broadcast against one input; not trained

    Examples
    --------
    >>> Scale(2.0, -1.0)(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-1.,  0.,  1.])
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

    Examples
    --------
    >>> layer, x = Residual(nn.Linear(3, 3), nn.ReLU()), torch.rand(2, 3)
    >>> torch.equal(layer(x), x + layer.branch(x))
    True
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


class Sum(nn.Module):
    """The sum of what branches make of one input: a residual block whose shortcut is a map too.

    Parameters
    ----------
    branches : at least two, each one module or an nn.Sequential; an empty one passes its input on

    Raises
    ------
    ValueError
        If there are fewer than two, or their outputs differ in shape.

    Examples
    --------
    >>> block = Sum(nn.Conv2d(1, 2, 1), nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()))
    >>> block(torch.zeros(1, 1, 3, 3)).shape
    torch.Size([1, 2, 3, 3])
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if len(branches) < 2:
            raise ValueError(f"a sum needs at least two branches, got {len(branches)}")
        self.branches = nn.ModuleList(
            branch if isinstance(branch, nn.Sequential) else nn.Sequential(branch)
            for branch in branches
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.branches)
        for other in others:
            if other.shape != first.shape:
                raise ValueError(
                    f"the branches of a sum need to give one shape, got {tuple(first.shape)} and "
                    f"{tuple(other.shape)}"
                )
            first = first + other
        return cast(Tensor, first)


class LinearResidual(nn.Module):
    """The block of LiResNet, x + scale * gain * conv(x) + bias, as one convolution.

    The kernel I + scale gain W is merged before it is applied, so that the block has the exact
    Lipschitz constant of one convolution, where a sum of two maps would get 1 + ||branch||.
    `weight` (channels, channels, kernel, kernel), `gain` (channels,), per output, and `bias`
    (channels,) are trained.

    Parameters
    ----------
    channels : of input and output
    scale : fixed factor of the branch; depth ** -0.5 in a net of so many blocks
    kernel : odd size; zero padding keeps height and width

    Raises
    ------
    ValueError
        If the kernel is even.

    References
    ----------
    Hu et al. 2023 (the linear residual block).

    Examples
    --------
    >>> layer = LinearResidual(4, 0.5)
    >>> layer.merged().shape, layer(torch.rand(1, 4, 8, 8)).shape
    (torch.Size([4, 4, 3, 3]), torch.Size([1, 4, 8, 8]))
    """

    scale: Tensor

    def __init__(
        self,
        channels: int,
        scale: float,
        kernel: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of a residual block needs an odd size, got {kernel}")
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.empty(channels, channels, kernel, kernel))
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.orthogonal_(self.weight, generator=generator)

    def branch(self) -> Tensor:
        """scale gain W, (channels, channels, kernel, kernel)."""
        return self.scale * self.gain[:, None, None, None] * self.weight

    def merged(self) -> Tensor:
        """The kernel I + scale gain W."""
        one = torch.eye(len(self.weight), dtype=self.weight.dtype, device=self.weight.device)
        side = (self.padding,) * 4
        return self.branch() + nn.functional.pad(one[:, :, None, None], side)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.merged(), self.bias, padding=self.padding)


class UnitLinear(nn.Linear):
    """A last layer whose rows are divided by their L2 norms: logits w_i / ||w_i|| . x + b_i.

    Raises
    ------
    ValueError
        If a row is zero, when the layer is certified.

    References
    ----------
    Hu et al. 2023, the authors' code (last-layer normalization).

    Examples
    --------
    >>> bool((UnitLinear(5, 3).rows().norm(dim=1) - 1).abs().max() < 1e-6)
    True
    """

    def rows(self) -> Tensor:
        """The rows that count, (classes, features), each of norm 1."""
        return cast(Tensor, self.weight / self.weight.norm(dim=1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.rows(), self.bias)
