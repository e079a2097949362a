"""Training against robustness: the converse of adversarial training (Torp et al. 2026).

Adversarial training takes from a net what a small push can turn. This rewards it: where a small
push leads towards another class, the net is to follow. The loss is that of the authors' public
code, with a ball in L2.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_repro.training import Loss, Schedule


def anti_adversarial_loss(epsilon: Schedule, steps: int, weight: float) -> Loss:
    """Cross-entropy, and that of wrong labels at points that were pushed towards them, in nats.

    Each image gets a wrong label, uniformly at random from torch's global generator, which a
    training seeds. Normalised steps of length 2.5 epsilon / steps lower its cross-entropy within
    the L2 ball and [0, 1]; what is left of it is lowered by the weights, too (Torp, Smith and
    Breuer 2026, anti-adversarial training).

    Parameters
    ----------
    epsilon : schedule
        Radius of the ball, L2, over the share of the training that is done; at least 0, and asked
        for at the start, in the middle and at the end. At 0 the wrong labels are all that is left.
    steps : int
        Steps of the push, at least 1.
    weight : float
        Of the second term, finite, at least 0; 0 is training as usual.

    Returns
    -------
    Loss
        Of a model, x (n, c, h, w) in [0, 1], y (n,) and the share that is done: a scalar.

    Raises
    ------
    ValueError
        Naming steps, weight or radii that are out of range; when it is called, for a model of one
        class.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])
    >>> loss = anti_adversarial_loss(lambda share: 0.1, steps=2, weight=0.5)
    >>> loss(model, x, y, 0.0) > F.cross_entropy(model(x), y)
    tensor(True)
    """
    if not (isinstance(steps, int | np.integer) and steps >= 1 and 0 <= weight < math.inf):
        raise ValueError(
            "a push needs steps, a whole number of at least 1, and a finite weight of at least 0; "
            f"got {steps} and {weight}"
        )
    radii = [float(epsilon(share)) for share in (0.0, 0.5, 1.0)]
    if not all(0 <= radius < math.inf for radius in radii):
        raise ValueError(
            "a radius has to be finite and at least 0; at the start, in the middle and at the end "
            f"of the training this schedule has {', '.join(f'{radius:g}' for radius in radii)}"
        )

    def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        logits = model(x).float()
        classes = logits.shape[1]
        if classes < 2:
            raise ValueError(f"a wrong label needs at least 2 classes, the model has {classes}")
        wrong = (y + torch.randint_like(y, 1, classes)) % classes
        pushed = _push(model, x, wrong, epsilon(progress), steps)
        return F.cross_entropy(logits, y) + weight * F.cross_entropy(model(pushed).float(), wrong)

    return loss


def _push(model: nn.Module, x: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """Points within the radius of x at which the cross-entropy of the labels is lower."""
    point = x
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(point).float(), labels), point)
        away = point.detach() - 2.5 * radius / steps * grad / _length(grad) - x
        point = (x + away * (radius / _length(away)).clamp_max(1)).clamp(0, 1)
    return point.detach()


def _length(images: Tensor) -> Tensor:
    """L2 norms, (n, 1, 1, 1); no less than what a division needs."""
    norms: Tensor = images.flatten(1).norm(dim=1)
    return norms.clamp_min(1e-30)[:, None, None, None]
