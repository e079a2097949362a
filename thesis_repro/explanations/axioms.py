"""The axioms of internal influence and its special cases, each as an error to be measured.

Each function takes a :class:`Case` and returns one error per trial, (trials,).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from thesis_repro.explanations import distributions, influence
from thesis_repro.explanations.hooks import differentiating
from thesis_repro.explanations.influence import internal_influence, line, point
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.slicing import Part
from thesis_repro.lab.checks import finite
from thesis_repro.nets import Scale


@dataclass(frozen=True, eq=False)
class Case:
    """A net, images (n, ...), the class that the net gives each, slices, nodes on lines."""

    net: nn.Module
    x: Tensor
    labels: Tensor
    slices: tuple[str, ...]
    points: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        evaluating(self.net)


def per_class(x: Tensor, labels: Tensor, explain: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Run explain(images, class) for the images of each class; rows in their order."""
    parts: list[tuple[Tensor, Tensor]] = []
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero()[:, 0]
        parts.append((rows, explain(x[rows], c)))
    order = torch.cat([rows for rows, _ in parts]).argsort()
    return torch.cat([values for _, values in parts])[order]


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Largest absolute difference per row, relative to the largest value of b if that is > 1.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    finite("a", a)
    finite("b", b)
    return (a - b).flatten(1).abs().amax(1) / b.flatten(1).abs().amax(1).clamp(min=1)


def _at(net: nn.Module, name: str, d: influence.Distribution, part: Tensor, c: int) -> Tensor:
    return internal_influence(net, part, name, influence.class_score(c), d)


def linear_agreement(case: Case) -> Tensor:
    """On linear models, the distance of the influence from the weights, per distribution."""
    generator = torch.Generator().manual_seed(case.seed)
    errors = []
    for _ in range(max(len(case.x) // 5, 1)):
        net = nn.Linear(20, 3).eval()
        with torch.no_grad():
            net.weight.normal_(generator=generator)
        x = torch.randn(4, 20, generator=generator)
        for d in (
            point(),
            line(points=case.points),
            line(0.5, case.points, "input"),
            influence.gaussian(1.0, case.points, generator),
            influence.empirical(x),
        ):
            found = internal_influence(net, x, "", influence.class_score(0), d)
            errors.append(difference(found, net.weight[:1].detach().expand_as(x)).amax())
    return torch.stack(errors)


class Altered(nn.Module):
    """The net, changed where a pixel exceeds `above`, and nowhere else."""

    def __init__(self, net: nn.Module, above: float) -> None:
        super().__init__()
        self.net, self.above = net, above

    def forward(self, x: Tensor) -> Tensor:
        """Logits, scaled where the input leaves the distribution's support."""
        beyond = torch.relu(x.flatten(1).amax(1) - self.above)
        logits: Tensor = self.net(x)
        return logits * (1 + beyond[:, None])


def marginality(case: Case) -> Tensor:
    """Change of the influence when the net is altered off the support of the distribution."""
    net, x, labels = case.net, case.x, case.labels
    altered = Altered(net, float(x.max()) + 0.5)
    altered.training = False  # eval() would reach into the net

    def run(model: nn.Module, part: Tensor, c: int) -> Tensor:
        d = line(0.0, case.points, "input")
        return internal_influence(model, part, "", influence.class_score(c), d)

    before, after = (per_class(x, labels, partial(run, model)) for model in (net, altered))
    moved = per_class(x + 2, labels, partial(run, altered))
    assert not torch.allclose(before, moved)  # the alteration is there
    return difference(after, before)


def doubled(net: nn.Sequential) -> nn.Sequential:
    """The same function: a dense layer, the last hidden one if there is one, doubled and halved."""
    layers = [copy.deepcopy(layer) for layer in net]
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    if not dense:
        return nn.Sequential(*layers, Scale(2.0), Scale(0.5)).eval()
    last = ([i for i in dense if i < len(layers) - 1] or dense)[-1]
    with torch.no_grad():
        for parameter in layers[last].parameters():
            parameter.mul_(2.0)
    return nn.Sequential(*layers[: last + 1], Scale(0.5), *layers[last + 1 :]).eval()


def slice_invariance(case: Case) -> Tensor:
    """Two ways to write h and g: h by a detour over log and exp, and a layer of g doubled."""
    net, x, labels = case.net, case.x, case.labels
    assert isinstance(net, nn.Sequential)
    cut = int(case.slices[1]) + 1
    below, above = net[:cut], net[cut:]

    def detour(z: Tensor) -> Tensor:
        return torch.exp(torch.log(below(2 * z / 2) + 1)) - 1

    def run(part: Tensor, c: int, pair: tuple[Part, Part]) -> Tensor:
        d = line(points=case.points)
        return internal_influence(net, part, pair, influence.class_score(c), d)

    pairs = ((below, above), (detour, doubled(above)))
    ways = [per_class(x, labels, partial(run, pair=pair)) for pair in pairs]
    return difference(ways[1], ways[0])


def consistency(case: Case) -> Tensor:
    """Inside the net, against the input influence of its upper part over the images of points."""
    net, x, labels = case.net, case.x, case.labels
    assert isinstance(net, nn.Sequential)
    name = case.slices[1]
    upper = net[int(name) + 1 :]
    errors = []
    for c in labels.unique().tolist():
        part, q = x[labels == c], influence.class_score(c)
        z = influence.Cut(net, name).activations(part)
        inside = internal_influence(net, part[:1], name, q, influence.empirical(part))
        outside = internal_influence(upper, z[:1], "", q, influence.empirical(z))
        errors.append(difference(inside, outside)[0])
    return torch.stack(errors)


def completeness(case: Case) -> Tensor:
    """The line in slice space: |sum of attributions - difference of q| / max(|difference|, 0.1).

    Each image at each slice of the net.
    """
    net, x, labels = case.net, case.x, case.labels
    errors = []
    for name in case.slices:
        cut = influence.Cut(net, name)

        def gap(part: Tensor, c: int, name: str = name, cut: influence.Cut = cut) -> Tensor:
            d = line(points=case.points)
            q = influence.class_score(c)
            given = internal_influence(net, part, name, q, d, multiply=True).flatten(1).sum(1)
            z = cut.activations(part, 32)
            change = cut.output(z, part, 32)[:, c] - cut.output(torch.zeros_like(z), part, 32)[:, c]
            return (given - change).abs() / change.abs().clamp(min=0.1)

        errors.append(per_class(x, labels, gap))
    return torch.cat(errors)


@differentiating()
def saliency(case: Case) -> Tensor:
    """The point distribution on the input against a plain gradient."""
    net, x, labels = case.net, case.x, case.labels
    ours = per_class(
        x, labels, lambda p, c: internal_influence(net, p, "", influence.class_score(c), point())
    )
    leaf = x.clone().requires_grad_()
    score = net(leaf).gather(1, labels[:, None]).sum()
    return difference(ours, torch.autograd.grad(score, leaf)[0])


@differentiating()
def integrated_gradients(case: Case) -> Tensor:
    """The line on the input, multiplied, against a sum over the line written out."""
    net, x, labels = case.net, case.x, case.labels
    d = line(0.0, case.points, "input")
    ours = per_class(
        x,
        labels,
        lambda p, c: internal_influence(net, p, "", influence.class_score(c), d, multiply=True),
    )
    total = torch.zeros_like(x)
    for node, weight in zip(*distributions.nodes("gausslegendre", case.points), strict=True):
        leaf = (float(node) * x).requires_grad_()
        score = net(leaf).gather(1, labels[:, None]).sum()
        total += float(weight) * torch.autograd.grad(score, leaf)[0]
    return difference(ours, total * x)


@differentiating()
def captum_saliency(case: Case) -> Tensor:
    """Against Captum's Saliency."""
    from captum.attr import Saliency

    net, x, labels = case.net, case.x, case.labels
    ours = per_class(
        x, labels, lambda p, c: internal_influence(net, p, "", influence.class_score(c), point())
    )
    theirs = Saliency(net).attribute(x.clone().requires_grad_(), target=labels, abs=False)
    return difference(ours, theirs)


@differentiating()
def captum_integrated(case: Case) -> Tensor:
    """Against Captum's IntegratedGradients."""
    from captum.attr import IntegratedGradients

    net, x, labels = case.net, case.x, case.labels
    d = line(0.0, case.points, "input")
    ours = per_class(
        x,
        labels,
        lambda p, c: internal_influence(net, p, "", influence.class_score(c), d, multiply=True),
    )
    method = IntegratedGradients(net)
    theirs = method.attribute(
        x, target=labels, n_steps=case.points, internal_batch_size=max(len(x), 32)
    )
    return difference(ours, theirs)


@differentiating()
def captum_internal(case: Case) -> Tensor:
    """The line in input space, credit inside, against Captum's InternalInfluence."""
    from captum.attr import InternalInfluence

    net, x, labels = case.net, case.x, case.labels
    errors = []
    for name in case.slices:
        d = line(0.0, case.points, "input")
        ours = per_class(
            x,
            labels,
            partial(_at, net, name, d),
        )
        method = InternalInfluence(net, net.get_submodule(name))
        theirs = method.attribute(
            x, target=labels, n_steps=case.points, internal_batch_size=max(len(x), 32)
        )
        errors.append(difference(ours, theirs))
    return torch.cat(errors)
