"""Rankings of the units of a slice for one class: what else could choose them than influence.

Each gives a score for each unit, over the images of the class that a layer holds. A feature map is
one unit, as it is when units are masked: its positions are averaged, and for attributions summed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from thesis_repro.explanations.experts import Experts, masked
from thesis_repro.explanations.hooks import differentiating
from thesis_repro.explanations.influence import class_score, internal_influence, point
from thesis_repro.explanations.modules import untouched
from thesis_repro.explanations.quantities import class_index
from thesis_repro.explanations.rivals import conductance as conductance_of
from thesis_repro.lab.checks import finite

NODES = 8
"""Points on the line of the conductance."""
LINEAR = (nn.Linear, nn.Conv2d, nn.Flatten, nn.AvgPool2d, nn.Identity)


def attribution(layer: Experts, c: int) -> Tensor:
    """Mean influence times activation of each unit, (units,): what it adds, to first order.

    Attribution patching with zero (Nanda 2023; Syed, Rager and Conmy 2023) is this.
    """
    return _attribution(layer, c).mean(0)


def size_of_attribution(layer: Experts, c: int) -> Tensor:
    """Mean absolute influence times activation of each unit, (units,)."""
    return _attribution(layer, c).abs().mean(0)


def _attribution(layer: Experts, c: int) -> Tensor:
    x = layer.of_class(c)
    found = internal_influence(layer.model, x, layer.slice, class_score(c), point(), multiply=True)
    return _summed(found)


def conductance(layer: Experts, c: int) -> Tensor:
    """Mean conductance of each unit on the line from the black image, (units,).

    Raises
    ------
    ValueError
        If the net is no plain sequence that has the slice as a member.

    References
    ----------
    Dhamdhere, Sundararajan and Yan 2019.
    """
    x, net = layer.of_class(c), layer.model
    if not isinstance(net, nn.Sequential) or layer.slice not in net._modules:
        raise ValueError(
            f"conductance needs a plain sequence of layers, with {layer.slice!r} in it"
        )
    cut = list(net._modules).index(layer.slice) + 1
    return _summed(conductance_of(net, cut, x, c, NODES)).mean(0)


def weights(layer: Experts, c: int) -> Tensor:
    """The weight from each unit to the class where no ReLU is in the way, (units,).

    After the last hidden layer that is the class's row of weights; before it, the product of the
    weights that follow. No image is looked at.

    Raises
    ------
    ValueError
        Where what follows the slice is no plain sequence of linear layers and ReLU.
    """
    rest = layer.cut.after
    layers: list[nn.Module | None] = [rest]
    if isinstance(rest, nn.Sequential) and untouched(rest):
        layers = list(rest) if type(rest).forward is nn.Sequential.forward else layers
    parts = [part for part in layers if isinstance(part, LINEAR)]
    if not all(isinstance(part, (nn.ReLU, *LINEAR)) for part in layers):
        raise ValueError(f"weights need linear layers and ReLU after the slice {layer.slice!r}")
    layer.of_class(c)
    with differentiating():
        leaf = torch.zeros_like(layer.z[:1]).requires_grad_()
        (found,) = torch.autograd.grad(nn.Sequential(*parts)(leaf)[:, c].sum(), leaf)
    return found.flatten(2).mean(2)[0] if found.ndim > 2 else found[0]


def patching(layer: Experts, c: int) -> Tensor:
    """Mean fall of the class's logit when a unit alone is set to zero, (units,)."""
    x, z = layer.of_class(c), layer.z[layer.y == c]
    whole = layer.cut.output(z, x)[:, c]
    falls = []
    for j in range(layer.units):
        kept = torch.arange(layer.units, device=z.device) != j
        falls.append((whole - layer.cut.output(masked(z, kept), x)[:, c]).mean())
    return torch.stack(falls)


def _summed(attributions: Tensor) -> Tensor:
    return attributions.flatten(2).sum(2) if attributions.ndim > 2 else attributions


METHODS: dict[str, Callable[[Experts, int], Tensor]] = {
    "influence": lambda layer, c: layer.influence(c, over="mean"),
    "influence × activation": attribution,
    "|influence × activation|": size_of_attribution,
    "conductance": conductance,
    "activation": lambda layer, c: layer.activation(c, over="mean"),
    "weights": weights,
    "patching": patching,
}
"""The rankings by name; a random order is none of them."""


def auroc(layer: Experts, c: int, kept: Tensor | None = None) -> float:
    """Area under the ROC curve of the compressed net as a detector of class c, in [0, 1].

    The score is the log odds of the class: its logit less the log-sum-exp of the others. Half of
    it is what chance gives.

    Parameters
    ----------
    layer : with images of the class and of others
    c : class
    kept : (units,) bool; None keeps all

    Raises
    ------
    ValueError
        If the images are all of class c, or none is.
    """
    from sklearn.metrics import roc_auc_score

    c = class_index(c)
    truth = layer.y == c
    if truth.all() or not truth.any():
        raise ValueError(f"an ROC curve needs images of class {c} and of others")
    logits = layer.logits(kept)
    others = torch.cat([logits[:, :c], logits[:, c + 1 :]], 1)
    odds = logits[:, c] - others.logsumexp(1)
    finite("the log odds of the class", odds)
    return float(roc_auc_score(truth.cpu(), odds.cpu()))
