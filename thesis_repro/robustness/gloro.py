"""Globally-robust (GloRo) nets: an extra class that wins wherever robustness cannot be shown.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.data.images import check_model, fitting
from thesis_repro.robustness import batched, estimates, structure
from thesis_repro.robustness.certifying import bound, certify, check_images, pairwise_norms
from thesis_repro.robustness.layers import head_weight
from thesis_repro.robustness.margins import REJECT, Bound, Certificate
from thesis_repro.training import Loss, Schedule

__all__ = [
    "REJECT",
    "Bound",
    "Certificate",
    "EstimatedNet",
    "GloroNet",
    "bottom_logit",
    "bound",
    "certify",
    "check_images",
    "cross_entropy",
    "emma",
    "pairwise_norms",
    "trades",
]


class EstimatedNet(nn.Module):
    """A body with a bottom logit: y_bottom = max over i != j of y_i + epsilon K_ij, j the arg-max.

    K comes from power iteration with persistent vectors, in training and in eval mode alike: this
    is what is trained. It proves nothing; :class:`GloroNet` does, and has the same weights.

    Parameters
    ----------
    body : nn.Sequential that ends in nn.Linear
    epsilon : radius > 0
    input_shape : shape of one input, (channels, height, width)
    power_steps : iterations per training step

    Raises
    ------
    ValueError
        If the body does not end in a linear layer, epsilon is not positive, or a layer is unknown.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3.

    Examples
    --------
    >>> net = EstimatedNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2))
    >>> net(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 4])
    """

    _at_once: bool = False

    def __init__(
        self,
        body: nn.Sequential,
        epsilon: float,
        input_shape: tuple[int, int, int],
        power_steps: int = 5,
    ) -> None:
        super().__init__()
        if not isinstance(body, nn.Sequential) or not isinstance(body[-1], nn.Linear):
            last = type(body[-1] if isinstance(body, nn.Sequential) else body).__name__
            raise ValueError(f"the body needs to be nn.Sequential ending in nn.Linear, got {last}")
        if not epsilon > 0:
            raise ValueError(f"epsilon needs to be positive, got {epsilon}")
        self.body = body
        self.epsilon = float(epsilon)
        self.input_shape = tuple(input_shape)
        self.power_steps = power_steps
        self._factors = estimates.factors(body[:-1], self.input_shape)
        generator = torch.Generator().manual_seed(0)
        for part in estimates.iterated(self._factors):
            start = torch.randn(1, *part.shape, generator=generator)
            device = next(body.parameters()).device
            self.register_buffer(_buffer(part.name), start.to(device))

    @property
    def classes(self) -> int:
        """Number of classes without the bottom class."""
        return self.head.out_features

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        return last

    def k_sub(self) -> Tensor:
        """Power-iteration estimate of the constant before the last layer, with gradients."""
        with torch.autocast(self.head.weight.device.type, enabled=False):
            if self._at_once:
                about = self.body, self._factors, self.power_steps, self._vector
                return estimates.product(*about[:2], batched.power(*about))
            sigma = estimates.power(self.power_steps, self._vector)
            return estimates.product(self.body, self._factors, sigma)

    def iterate_at_once(self) -> None:
        """From now on estimate equal layers at once, if that gives what the plain way gives."""
        about = self.body, self._factors, self.power_steps, self._vector
        self._at_once = batched.agrees(*about)

    def _vector(self, name: str) -> Tensor:
        return self.get_buffer(_buffer(name))

    def k_ij(self) -> Tensor:
        """(classes, classes) margin constants, estimated with gradients."""
        with torch.autocast(self.head.weight.device.type, enabled=False):
            return self.k_sub() * pairwise_norms(head_weight(self.head))

    def bottom(self, logits: Tensor, epsilon: float) -> Tensor:
        """The bottom logit: (batch, classes) to (batch,)."""
        return bottom_logit(logits, self.k_ij(), epsilon)

    def forward(self, x: Tensor, epsilon: float | None = None) -> Tensor:
        """Logits and the bottom logit: (batch, *input_shape) to (batch, classes + 1)."""
        logits = self.body(x).float()
        bottom = self.bottom(logits, self.epsilon if epsilon is None else epsilon)
        return torch.cat([logits, bottom[:, None]], 1)


class GloroNet(EstimatedNet):
    """A net with a bottom logit that proves what it rejects and certifies.

    While training, K is estimated as in :class:`EstimatedNet`. In eval mode it comes from the
    proven bound; `predict` and `certify` take the rounding budget off as well.

    Parameters
    ----------
    body, epsilon, input_shape, power_steps : as for EstimatedNet

    Raises
    ------
    ValueError
        As for EstimatedNet.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3.

    Examples
    --------
    >>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2)).eval()
    >>> net(torch.rand(5, 1, 2, 2)).shape, net.predict(torch.rand(5, 1, 2, 2)).shape
    (torch.Size([5, 4]), torch.Size([5]))
    """

    _cached: tuple[structure.Snapshot, Bound] | None = None

    def __init__(
        self,
        body: nn.Sequential,
        epsilon: float,
        input_shape: tuple[int, int, int],
        power_steps: int = 5,
    ) -> None:
        check_model(body)
        if not isinstance(body, nn.Sequential) or not len(body):
            raise ValueError(
                f"the body needs to be nn.Sequential ending in nn.Linear, got "
                f"{type(body).__name__}: adopt(module, input_shape) makes one"
            )
        structure.check_epsilon(epsilon)
        structure.check_shape(input_shape)
        structure.check_windows(body)
        with fitting(torch.empty(1, *input_shape)):
            super().__init__(body, epsilon, input_shape, power_steps)

    def k_ij(self) -> Tensor:
        """(classes, classes) margin constants: estimated with gradients in training, else sound."""
        return super().k_ij() if self.training else self.bound().k_ij.to(self.head.weight)

    def bound(self) -> Bound:
        """The upper bound that certificates use; computed once for a net that does not change."""
        if self._cached is None or not self._cached[0].matches(self.body, self.input_shape):
            found = bound(self.body, self.input_shape)
            self._cached = structure.snapshot(self.body, self.input_shape), found
        return self._cached[1]

    def predict(self, x: Tensor, batch_size: int | None = None) -> Tensor:
        """(n, *input_shape) to (n,) int64: the certified class, or REJECT."""
        certificate = certify(self, x, batch_size=batch_size)
        return torch.where(certificate.certified, certificate.labels, REJECT)


def _buffer(name: str) -> str:
    return f"vector_{name.replace('.', '_')}"


def bottom_logit(logits: Tensor, k_ij: Tensor, epsilon: float) -> Tensor:
    """The best logit that a class other than the arg-max could reach within epsilon.

    logits (batch, classes), k_ij (classes, classes) to (batch,). The arg-max is masked by its
    index, so an exact tie keeps the other tied class in the maximum.

    Examples
    --------
    >>> bottom_logit(torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]]), 0.5)
    tensor([2.])
    """
    top = logits.argmax(1)
    reach = logits + epsilon * k_ij[top]
    return reach.scatter(1, top[:, None], -torch.inf).amax(1)


def cross_entropy(schedule: Schedule) -> Loss:
    """Cross-entropy over the classes and the bottom class; `schedule` gives epsilon.

    Source: Leino, Wang and Fredrikson 2021, section 3.

    Examples
    --------
    >>> net = EstimatedNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2))
    >>> loss = cross_entropy(lambda progress: 0.1 * progress)
    >>> loss(net, torch.rand(5, 1, 2, 2), torch.arange(5) % 3, 0.5).shape
    torch.Size([])
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(model(x, schedule(progress)), y)

    return loss


def trades(schedule: Schedule, weight: Schedule) -> Loss:
    """Cross-entropy of the classes plus weight * KL(with bottom at minus infinity || with bottom).

    The divergence equals softplus(y_bottom - logsumexp(y)). `schedule` gives epsilon.

    Source: Leino, Wang and Fredrikson 2021, section 4 (the TRADES-style loss).

    Examples
    --------
    >>> from thesis_repro.training import constant, linear
    >>> net = EstimatedNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2))
    >>> loss = trades(constant(0.1), linear(0.0, 1.0))
    >>> loss(net, torch.rand(5, 1, 2, 2), torch.arange(5) % 3, 0.5).shape
    torch.Size([])
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        outputs = model(x, schedule(progress))
        logits, bottom = outputs[:, :-1], outputs[:, -1]
        divergence = F.softplus(bottom - logits.logsumexp(1)).mean()
        return F.cross_entropy(logits, y) + weight(progress) * divergence

    return loss


def emma(schedule: Schedule) -> Loss:
    """Cross-entropy where each class i gets the ground that it could gain within epsilon_i.

    With y the label, the logit of class i is raised by epsilon_i K_iy, where epsilon_i is the
    distance from class i as it stands, (f_y - f_i) / K_iy, kept between 1% of epsilon and epsilon
    and treated as a number. `schedule` gives epsilon.

    Source: Hu et al. 2023 (efficient margin maximization, EMMA).

    Examples
    --------
    >>> from thesis_repro.training import constant
    >>> net = EstimatedNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2))
    >>> emma(constant(0.1))(net, torch.rand(5, 1, 2, 2), torch.arange(5) % 3, 0.5).shape
    torch.Size([])
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        assert isinstance(model, EstimatedNet)
        epsilon = schedule(progress)
        logits, k = model.body(x).float(), model.k_ij()[y]
        with torch.no_grad():
            margins = logits.gather(1, y[:, None]) - logits
            reach = (margins / (epsilon * k)).nan_to_num(1.0).clamp(0.01, 1.0)
        return F.cross_entropy(logits + epsilon * reach * k, y)

    return loss
