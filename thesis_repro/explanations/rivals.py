"""Other measures of influence, each with the axiom that it breaks, as an error to be measured.

Internal influence is the only measure that keeps to all four axioms, so each of these breaks one:
gradient times input and activations disagree with linear models, occlusion asks a net about what
it was not asked, layer-wise relevance depends on how a net is written, and conductance on what
lies below the slice. The errors are those of :mod:`thesis_repro.explanations.axioms`.
"""

import warnings
from functools import partial

import torch
from torch import Tensor, nn

from thesis_repro.explanations import distributions
from thesis_repro.explanations.axioms import (
    Altered,
    Case,
    difference,
    doubled,
    per_class,
)
from thesis_repro.explanations.hooks import differentiating
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.quantities import class_index, class_score
from thesis_repro.nets import Scale

EPSILON = 0.1
"""Of layer-wise relevance: what keeps it from dividing by zero, and absorbs relevance."""
PATCH = 7
"""Pixels a side of what occlusion covers."""


@differentiating()
def gradient_times_input(net: nn.Module, x: Tensor, c: int) -> Tensor:
    """The gradient of the score of class c, times the input; the shape of x."""
    evaluating(net)
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(class_score(c)(net(leaf)).sum(), leaf)[0] * leaf.detach()


@differentiating()
def relevance(net: nn.Sequential, x: Tensor, c: int, epsilon: float = EPSILON) -> Tensor:
    """Layer-wise relevance of the input for class c by the epsilon rule (Bach et al. 2015).

    From the top, each layer hands the relevance of its outputs z to its inputs a in proportion
    to what they add: R(a) = a dz/da R(z) / (z + epsilon sign(z)). ReLU passes it on unchanged.

    Parameters
    ----------
    net : of dense layers, convolutions, batch normalisation, pooling and ReLU, in eval mode
    x : (n, ...)

    Raises
    ------
    ValueError
        On another layer, which the rule is not made for, or a class that the net has not.
    """
    evaluating(net)
    for name, layer in net.named_children():
        if not isinstance(layer, HANDED_ON):
            raise ValueError(
                f"layer {name!r} ({type(layer).__name__}): the rule is for dense layers, "
                f"convolutions, batch normalisation, pooling and ReLU, one after another"
            )
    before = [x.detach().clone()]
    with torch.no_grad():
        for layer in net:
            before.append(layer(before[-1]))
    found = torch.zeros_like(before[-1])
    c = class_index(c, found.shape[1])
    found[:, c] = before[-1][:, c]
    for layer, a in zip(reversed(net), reversed(before[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            continue
        leaf = a.clone().requires_grad_()
        z = layer(leaf)
        each = found / (z + epsilon * torch.where(z >= 0, 1.0, -1.0))
        found = leaf.detach() * torch.autograd.grad(z, leaf, each.detach())[0]
    return found


def occlusion(net: nn.Module, x: Tensor, c: int, value: float) -> Tensor:
    """How far the score of class c falls where a patch takes this value: (n, patches).

    x : images (n, channels, h, w), cut into patches of `PATCH` pixels a side; or rows (n, d), of
        which each value is a patch
    """
    evaluating(net)
    side = PATCH if x.ndim == 4 else 1
    places = [
        (slice(None), slice(None), slice(i, i + side), slice(j, j + side))
        for i in range(0, x.shape[2] if x.ndim == 4 else 1, side)
        for j in range(0, x.shape[3] if x.ndim == 4 else x.shape[1], side)
    ]
    falls = []
    with torch.no_grad():
        score = class_score(c)(net(x))
        for place in places:
            covered = x.clone()
            (covered if x.ndim == 4 else covered[:, None, None])[place] = value
            falls.append(score - net(covered)[:, c])
    return torch.stack(falls, 1)


@differentiating()
def conductance(net: nn.Sequential, cut: int, x: Tensor, c: int, points: int) -> Tensor:
    """What flows through each unit behind layer `cut - 1` on the line from 0 (Dhamdhere 2019)."""
    evaluating(net)
    x = x.clone()  # x of inference mode cannot be differentiated
    below, above = net[:cut], net[cut:]
    total: Tensor | None = None
    places, weights = distributions.nodes("gausslegendre", points)
    for node, weight in zip(places, weights, strict=True):
        with warnings.catch_warnings():
            # the first use of forward mode compiles with a function that torch itself deprecates
            warnings.simplefilter("ignore", FutureWarning)
            z, speed, *_ = torch.func.jvp(below, (float(node) * x,), (x,))
        leaf = z.detach().requires_grad_()
        slope = torch.autograd.grad(class_score(c)(above(leaf)).sum(), leaf)[0]
        part = float(weight) * slope * speed.detach()
        total = part if total is None else total + part
    assert total is not None
    return total


def _linear(case: Case) -> list[tuple[nn.Linear, Tensor]]:
    """Linear models with random weights, and a few points each."""
    generator = torch.Generator().manual_seed(case.seed)
    found = []
    for _ in range(max(len(case.x) // 5, 1)):
        net = nn.Linear(20, 3).eval()
        with torch.no_grad():
            net.weight.normal_(generator=generator)
        found.append((net, torch.randn(4, 20, generator=generator)))
    return found


@differentiating()
def linear_agreement_of_gradient_times_input(case: Case) -> Tensor:
    """On linear models, the distance of gradient times input from the weights."""
    return torch.stack(
        [
            difference(gradient_times_input(net, x, 0), net.weight[:1].detach().expand_as(x)).amax()
            for net, x in _linear(case)
        ]
    )


def linear_agreement_of_activations(case: Case) -> Tensor:
    """On linear models, the share of the five strongest inputs not among the largest weights."""
    errors = []
    for net, x in _linear(case):
        by_weight = net.weight[0].detach().abs().topk(5).indices
        by_activation = x.mean(0).topk(5).indices
        errors.append(1 - torch.isin(by_activation, by_weight).double().mean())
    return torch.stack(errors)


def marginality_of_occlusion(case: Case) -> Tensor:
    """Change of what occlusion says when the net is altered off the images and their line."""
    net, x, labels = case.net, case.x, case.labels
    brightest = float(x.max())
    altered = Altered(net, brightest + 0.5)
    altered.training = False  # eval() would reach into the net
    before, after = (
        per_class(x, labels, partial(occlusion, model, value=brightest + 1))
        for model in (net, altered)
    )
    return difference(after, before)


HANDED_ON = (
    *(nn.ReLU, nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Identity),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, Scale),  # affine in eval mode
)
"""Layers that relevance goes through."""


@differentiating()
def slice_invariance_of_relevance(case: Case) -> Tensor:
    """Relevance in two nets that compute the same: one doubles a layer and halves what it says."""
    net, x, labels = case.net, case.x, case.labels
    assert isinstance(net, nn.Sequential)
    rewritten = doubled(net)
    assert torch.equal(net(x), rewritten(x))  # factors of two are exact
    ways = [per_class(x, labels, partial(relevance, model)) for model in (rewritten, net)]
    return difference(ways[0], ways[1])


@differentiating()
def consistency_of_conductance(case: Case) -> Tensor:
    """Inside the net, against the upper part alone on the line between the same two ends."""
    net, x, labels = case.net, case.x, case.labels
    assert isinstance(net, nn.Sequential)
    cut = int(case.slices[1]) + 1
    below, above = net[:cut], net[cut:]

    def outside(part: Tensor, c: int) -> Tensor:
        first, last = below(torch.zeros_like(part)).detach(), below(part).detach()
        shifted = nn.Sequential(_Shift(first), above).eval()
        return conductance(shifted, 0, last - first, c, case.points)

    inside = per_class(x, labels, lambda p, c: conductance(net, cut, p, c, case.points))
    return difference(inside, per_class(x, labels, outside))


class _Shift(nn.Module):
    def __init__(self, by: Tensor) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by
