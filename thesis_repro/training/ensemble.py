"""Several nets of one recipe trained as one, for a GPU that a single small net leaves idle.

Weights, buffers and the optimizer's state get a dimension in front, one entry a net, and a step
takes a batch of each. Each net sees its own points in its own order, so it comes out as it would
alone, up to rounding. The loop is that of every training; only what is said here differs.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Called as loss(model, x, y, progress); returns a scalar to minimise."""

RANDOM = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class Ensemble(nn.Module):
    """Nets of one architecture as one module, with the loss that each of them is trained by.

    Parameters
    ----------
    nets : their weights are copied, on the device where they are
    loss : of one net, as in :func:`training.fit`

    Raises
    ------
    ValueError
        If there are no nets, their tensors have different shapes, or a layer draws at random.
    """

    losses: Tensor
    """(nets,), the sums of the losses of the points of this epoch."""

    def __init__(self, nets: Sequence[nn.Module], loss: Loss) -> None:
        super().__init__()
        shapes = [[(k, v.shape) for k, v in net.state_dict().items()] for net in nets]
        if not nets or any(other != shapes[0] for other in shapes):
            raise ValueError("an ensemble needs nets, all of one architecture")
        if any(isinstance(layer, RANDOM) for layer in nets[0].modules()):
            raise ValueError("an ensemble takes no dropout: a net alone would draw otherwise")
        weights, buffers = stack_module_state(list(nets))
        for name, weight in weights.items():
            trained = nets[0].get_parameter(name).requires_grad
            self.register_parameter(_flat(name), nn.Parameter(weight.detach(), trained))
        for name, buffer in buffers.items():
            self.register_buffer(_flat(name), buffer)
        device = next(nets[0].parameters()).device
        self.register_buffer("losses", torch.zeros(len(nets), device=device))
        self._one = (_WithLoss(copy.deepcopy(nets[0]).train(), loss),)  # no part of this module
        self._names = {"net." + name: _flat(name) for name in (*weights, *buffers)}

    def forward(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """The sum of the losses of all nets, of batches (nets n, ...) in the order of the nets."""
        count = len(self.losses)
        state = {name: getattr(self, flat) for name, flat in self._names.items()}

        def of_one(state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            found: Tensor = functional_call(self._one[0], state, (x, y, progress))
            return found

        each = torch.vmap(of_one)(state, x.unflatten(0, (count, -1)), y.view(count, -1))
        self.losses.add_(each.detach(), alpha=len(y) // count)
        return each.sum()

    @torch.no_grad()
    def clip(self, largest: float) -> None:
        """Bound the norm of the gradient of each net, as `clip_grad_norm_` does of one."""
        slopes = [p.grad for p in self.parameters() if p.grad is not None]
        parts = [torch.linalg.vector_norm(slope.flatten(1), dim=1) for slope in slopes]
        factor = (largest / (torch.stack(parts).norm(dim=0) + 1e-6)).clamp(max=1.0)
        for slope in slopes:
            slope.mul_(factor.view(-1, *[1] * (slope.ndim - 1)))

    @torch.no_grad()
    def hand_back(self, nets: Sequence[nn.Module]) -> None:
        """Copy weights and buffers to nets like those that it was made of."""
        for index, net in enumerate(nets):
            for name, tensor in (*net.named_parameters(), *net.named_buffers()):
                tensor.copy_(getattr(self, _flat(name))[index])


class _WithLoss(nn.Module):
    """A net whose output is its loss."""

    def __init__(self, net: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return self.loss(self.net, x, y, progress)


def summed(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """The loss of a training of an ensemble."""
    found: Tensor = model(x, y, progress)
    return found


def together(orders: Sequence[Tensor], batch_size: int) -> Tensor:
    """The orders (n,) of all nets as one (nets n,): a batch of each net after another, and on."""
    batches = torch.stack(list(orders)).split(batch_size, 1)
    return torch.cat([batch.flatten() for batch in batches])


def _flat(name: str) -> str:
    return name.replace(".", "/")
