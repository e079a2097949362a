"""Globally-robust (GloRo) nets: an extra class that wins wherever robustness cannot be shown.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.robustness import lipschitz
from thesis_repro.robustness.lipschitz import LayerBound
from thesis_repro.training import Loss, Schedule

REJECT = -1
"""The prediction where the bottom class wins."""


@dataclass(frozen=True)
class Bound:
    """How far each difference of two logits can move per unit of input.

    k_sub : Lipschitz bound of everything before the last layer.
    k_ij : (classes, classes) float64; k_sub * ||w_i - w_j||, zero on the diagonal.
    layers : how the factors of k_sub were got.
    """

    k_sub: float
    k_ij: Tensor
    layers: tuple[LayerBound, ...]


@dataclass(frozen=True)
class Certificate:
    """What is known of each of n points.

    labels : (n,) int64, the arg-max class; REJECT where a logit is NaN or infinite.
    radius : (n,) float64, no point closer than this gets another label; 0 on a tie.
    certified : (n,) bool, the radius exceeds epsilon.
    margin : (n,) float64, min over i of y_j - y_i - epsilon K_ij; positive when certified.
    bound : the Lipschitz bound that was used.
    """

    labels: Tensor
    radius: Tensor
    certified: Tensor
    margin: Tensor
    bound: Bound


def pairwise_norms(weight: Tensor) -> Tensor:
    """(classes, features) to (classes, classes): ||w_i - w_j||, row by row, zero diagonal."""
    return torch.stack([(weight - row).norm(dim=1) for row in weight])


class GloroNet(nn.Module):
    """A body with a bottom logit: y_bottom = max over i != j of y_i + epsilon K_ij, j the arg-max.

    While training, K comes from power iteration with persistent vectors. In eval mode it comes
    from `lipschitz.upper_bound`, so that what the net does not reject is certified.

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
    """

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
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._cached: tuple[str, Bound] | None = None
        generator = torch.Generator().manual_seed(0)
        for name, layer, shape in list(lipschitz.layers(body, self.input_shape))[:-1]:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                start = torch.randn(1, *shape, generator=generator).to(layer.weight.device)
                self._shapes[name] = shape
                self.register_buffer(f"vector_{name}", start)
            else:
                lipschitz.layer_bound(name, layer, shape)  # refuses what it does not know

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
        device = self.head.weight.device
        with torch.autocast(device.type, enabled=False):
            total = torch.ones((), device=device)
            for name, shape in self._shapes.items():
                layer = self.body.get_submodule(name)
                vector = self.get_buffer(f"vector_{name}")
                sigma, vector = lipschitz.estimate(layer, shape, self.power_steps, vector)
                setattr(self, f"vector_{name}", vector)
                total = total * sigma
        return total

    def k_ij(self) -> Tensor:
        """(classes, classes) margin constants: estimated with gradients in training, else sound."""
        if self.training:
            with torch.autocast(self.head.weight.device.type, enabled=False):
                return self.k_sub() * pairwise_norms(self.head.weight)
        return self.bound().k_ij.to(self.head.weight)

    def bound(self) -> Bound:
        """The upper bound that certificates use; computed once for given weights."""
        digest = _weights_hash(self.body)
        if self._cached is None or self._cached[0] != digest:
            self._cached = (digest, bound(self.body, self.input_shape))
        return self._cached[1]

    def forward(self, x: Tensor, epsilon: float | None = None) -> Tensor:
        """Logits and the bottom logit: (batch, *input_shape) to (batch, classes + 1)."""
        logits = self.body(x).float()
        bottom = bottom_logit(logits, self.k_ij(), self.epsilon if epsilon is None else epsilon)
        return torch.cat([logits, bottom[:, None]], 1)

    def predict(self, x: Tensor, batch_size: int = 1000) -> Tensor:
        """(n, *input_shape) to (n,) int64: the certified class, or REJECT."""
        certificate = certify(self, x, batch_size=batch_size)
        return torch.where(certificate.certified, certificate.labels, REJECT)


def bottom_logit(logits: Tensor, k_ij: Tensor, epsilon: float) -> Tensor:
    """The best logit that a class other than the arg-max could reach within epsilon.

    logits (batch, classes), k_ij (classes, classes) to (batch,). The arg-max is masked by its
    index, so an exact tie keeps the other tied class in the maximum.
    """
    top = logits.argmax(1)
    reach = logits + epsilon * k_ij[top]
    return reach.scatter(1, top[:, None], -torch.inf).amax(1)


def cross_entropy(schedule: Schedule) -> Loss:
    """Cross-entropy over the classes and the bottom class; `schedule` gives epsilon.

    Source: Leino, Wang and Fredrikson 2021, section 3.
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(model(x, schedule(progress)), y)

    return loss


def trades(schedule: Schedule, weight: Schedule) -> Loss:
    """Cross-entropy of the classes plus weight * KL(with bottom at minus infinity || with bottom).

    The divergence equals softplus(y_bottom - logsumexp(y)). `schedule` gives epsilon.

    Source: Leino, Wang and Fredrikson 2021, section 4 (the TRADES-style loss).
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        outputs = model(x, schedule(progress))
        logits, bottom = outputs[:, :-1], outputs[:, -1]
        divergence = F.softplus(bottom - logits.logsumexp(1)).mean()
        return F.cross_entropy(logits, y) + weight(progress) * divergence

    return loss


def bound(body: nn.Sequential, input_shape: tuple[int, ...]) -> Bound:
    """Bound the net layer by layer; the last layer enters by its differences of rows."""
    parts = list(lipschitz.layers(body, input_shape))
    bounds = tuple(lipschitz.layer_bound(*part) for part in parts[:-1])
    k_sub = 1.0
    for part in bounds:
        k_sub *= part.value
    head = parts[-1][1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        k_ij = k_sub * pairwise_norms(head.weight.double())
    return Bound(k_sub, k_ij, bounds)


def certify(
    net: GloroNet, x: Tensor, epsilon: float | None = None, batch_size: int = 1000
) -> Certificate:
    """Certify each point by one forward pass.

    Parameters
    ----------
    net : GloroNet
    x : (n, *input_shape), pixels in [0, 1]
    epsilon : radius > 0, the net's own by default
    batch_size : points per forward pass

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        On a wrong shape, pixels outside [0, 1], or epsilon <= 0.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3: the point is certified when the bottom logit is
    below the top logit, which is to say min over i of (y_j - y_i) / K_ij > epsilon.
    """
    radius = net.epsilon if epsilon is None else epsilon
    if not radius > 0:
        raise ValueError(f"epsilon needs to be positive, got {radius}")
    check_images(x, net.input_shape)
    used = net.bound()
    with _exact(net), torch.no_grad():
        logits = torch.cat([net.body(part) for part in x.split(batch_size)]).double()
    return _from_logits(logits, used, radius)


def _from_logits(logits: Tensor, used: Bound, epsilon: float) -> Certificate:
    finite = logits.isfinite().all(1)
    logits = torch.where(finite[:, None], logits, 0.0)
    top = logits.argmax(1)
    constants = used.k_ij.to(logits.device)[top]
    gaps = logits.gather(1, top[:, None]) - logits
    own = F.one_hot(top, logits.shape[1]).bool()
    radius = (gaps / constants).masked_fill(own, torch.inf).nan_to_num(0.0, torch.inf).amin(1)
    margin = (gaps - epsilon * constants).masked_fill(own, torch.inf).amin(1)
    return Certificate(
        labels=torch.where(finite, top, REJECT),
        radius=torch.where(finite, radius, 0.0),
        certified=finite & (margin > 0),
        margin=torch.where(finite, margin, -torch.inf),
        bound=used,
    )


def check_images(x: Tensor, input_shape: tuple[int, ...]) -> None:
    """Refuse inputs of a wrong shape or with pixels outside [0, 1]."""
    if tuple(x.shape[1:]) != tuple(input_shape) or not len(x):
        raise ValueError(
            f"images need shape (n, {', '.join(map(str, input_shape))}) with n >= 1, got "
            f"{tuple(x.shape)}"
        )
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels need to lie in [0, 1], got values from {low:.3g} to {high:.3g}")


def _weights_hash(body: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in body.state_dict().items():
        digest.update(name.encode() + str(tuple(value.shape)).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _exact(net: nn.Module) -> Iterator[None]:
    """Eval mode, no autocast, no TF32 inside the block; all restored after it."""
    device = next(net.parameters()).device
    training = net.training
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    net.eval()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        net.train(training)
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = cudnn
