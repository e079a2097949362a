"""A random search for broken certificates: nets of every layer and scale, attacked by all means.

No certificate may break; with a fault planted, some do.
"""

import copy
import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from random_nets import random_net

from thesis_repro import nets
from thesis_repro.robustness import (
    GloroNet,
    certifiers,
    certify,
    certifying,
    convolution,
    layers,
    proof,
    relaxed,
    rules,
)
from thesis_repro.robustness.certifiers import bcp, dual

INSIDE = 1 - 1e-5
NOISE = 20
"""Times what rounding may do by its budget: so far BCP and KW may be off, who claim less."""


def candidates(body, x, radius, own, rng):
    """Points (tries, n, *shape) within the radius of each x: gradients, steps, pixels, chance."""
    exact = copy.deepcopy(body).double()
    for module in exact.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # gradients are needed
    flat = x.double().flatten(1)
    reach = INSIDE * radius[:, None]
    found = []

    def at(direction):
        direction = direction / direction.abs().amax(1, keepdim=True).clamp_min(1e-300)
        length = direction.norm(dim=1, keepdim=True)
        unit = torch.where(length > 0, direction / length.clamp_min(1e-300), 0.0)
        return torch.where(unit.isfinite(), unit, 0.0) * reach

    def slopes(points, rival):
        points = points.view(x.shape).clone().requires_grad_()
        logits = exact(points)
        gap = logits.gather(1, own[:, None])[:, 0] - logits[:, rival]
        (grad,) = torch.autograd.grad(gap.sum(), points)
        return grad.flatten(1)

    with torch.no_grad():
        classes = exact(x.double()).shape[1]
    for rival in range(classes):
        step = at(-slopes(flat, rival))
        found.append(step)
        for _ in range(4):
            step = at(step - 0.5 * at(slopes(flat + step, rival)))
            found.append(step)
    pixels = torch.eye(flat.shape[1], dtype=torch.float64)[:12]
    tries = [*pixels, *-pixels, *torch.from_numpy(rng.standard_normal((20, flat.shape[1])))]
    found += [at(step.expand_as(flat)) for step in tries]
    return flat[None] + torch.stack(found)


def fallen(body, x, radius, own, rng):
    """(n,) bool: whether some point in the ball has another label, as computed or exactly.

    And (n, classes): how far the exact logit of each class was brought above the own one's.
    """
    points = candidates(body, x, radius, own, rng)
    kind = x.dtype
    computed = points.to(kind)
    inside = (computed.double() - x.double().flatten(1)).norm(dim=2) <= radius
    with torch.no_grad():
        logits = body(computed.view(-1, *x.shape[1:])).view(len(points), len(x), -1)
        exact = copy.deepcopy(body).double()(points.view(-1, *x.shape[1:]))
    exact = exact.view(len(points), len(x), -1)
    other = (logits.argmax(2) != own) & inside & logits.isfinite().all(2)
    gaps = exact - exact.gather(2, own[None, :, None].expand(len(points), -1, 1))
    usable = gaps.isfinite().all(2) & (radius > 0)
    ahead = gaps.masked_fill(~usable[:, :, None], -torch.inf).amax(0)
    return other.any(0), ahead


def bisected(certified, x, high):
    """The largest radius (n,) that was seen to be certified, from powers of two below `high`."""
    best = torch.zeros(len(x), dtype=torch.float64)
    for halvings in range(8):
        epsilon = high * 0.5**halvings
        if not 0 < epsilon < 1e6:
            continue
        best = torch.where((best == 0) & certified(epsilon), epsilon, best)
    return best


def broken(seed):
    """The certifiers of which a certificate was broken on this net; none if the net is refused."""
    body, x, rng = random_net(seed)
    found = set()
    net = GloroNet(body, 0.1, tuple(x.shape[1:]))
    certificate = certify(net, x)
    known = certificate.labels >= 0
    if not known.any():
        return found
    x = x[known]
    certificate = certify(net, x)
    own, radius = certificate.labels, certificate.radius.clamp_max(1e6)
    flipped, ahead = fallen(body, x, radius, own, rng)
    double = copy.deepcopy(body).double()
    with torch.no_grad():
        truth = double(x.double()).argmax(1)
    sure = radius > 0
    if (sure & (flipped | (truth != own))).any() or (ahead[sure] > 0).any():
        found.add("certify")
    if len(net.body[-1].weight) > 2:
        sets = relaxed.certify(net, x, k=2)
        within = sets.radii[:, 1].clamp_max(1e6)
        points = candidates(body, x, within, own, rng).to(x.dtype)
        with torch.no_grad():
            logits = body(points.view(-1, *x.shape[1:])).view(len(points), len(x), -1)
        same = logits.topk(2, 2).indices.sort(2).values == sets.order.sort(1).values
        if (~same.all(2) & (within > 0) & logits.isfinite().all(2)).any():
            found.add("relaxed")
    budget = certificate.budget
    high = float(8 * radius.clamp(max=1e3).amax().clamp_min(1e-3))
    kinds = {type(layer) for layer in body}
    asked = {}
    if kinds <= set(bcp.KNOWN):
        ready = bcp.prepare(body, tuple(x.shape[1:]))
        asked["bcp"] = lambda e: bcp.margins(body, x, e, prepared=ready)
    if kinds <= set(dual.KNOWN):
        asked["dual"] = lambda e: dual.margins(body, x, e)
    for name, margins in asked.items():
        largest = bisected(lambda e, margins=margins: margins(e).amin(1) > 0, x, high)
        _, ahead = fallen(body, x, largest, own, rng)
        if ((largest > 0) & (ahead.amax(1) > NOISE * budget)).any():
            found.add(name)
    return found


def search(seeds):
    """Seeds of broken nets with the certifiers; nets that are refused, and why."""
    refused = 0
    for seed in seeds:
        try:
            found = broken(seed)
        except ValueError:
            refused += 1
            continue
        if found:
            yield seed, found
    print(f"{refused} of {len(seeds)} nets refused")


def test_no_certificate_breaks():
    assert list(search(range(40))) == []


@pytest.mark.slow
def test_no_certificate_breaks_of_2000_nets():
    assert list(search(range(2000))) == []


def iterated(conv, *_):
    """Ten steps of power iteration, from below."""
    x = torch.randn(1, conv.weight.shape[1], *conv.size, dtype=torch.float64)
    for _ in range(10):
        x = x / x.norm()
        y = conv(x)
        back = nn.functional.conv_transpose2d(y, conv.weight, None, conv.stride, conv.padding)
        x = nn.functional.pad(
            back, (0, conv.size[1] - back.shape[3], 0, conv.size[0] - back.shape[2])
        )
    return conv(x / x.norm()).norm().item(), "fast"


def reshaped(conv, *_):
    return torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item(), "fast"


def branch_alone(layer, *rest):
    return rules._sequence(layer.branch, *rest)


def second_alone(logits, used, epsilon, norms=None):
    best = logits.topk(2, 1)
    constants = used.k_ij[best.indices[:, 0], best.indices[:, 1]]
    radius = (best.values[:, 0] - best.values[:, 1]) / constants
    honest = FROM_LOGITS(logits, used, epsilon, norms)
    return dataclasses.replace(honest, radius=radius, certified=radius > epsilon)


def without_rounding(logits, used, epsilon, norms=None):
    return FROM_LOGITS(logits, used, epsilon, None)


def as_it_is(model):
    return certifiers.Normalised(copy.deepcopy(model), {})


FROM_LOGITS = certifying.from_logits
UNSCALED = [(bcp, "normalised", as_it_is), (proof, "scale_of", torch.ones_like)]
PLANTS = {
    "power iteration": [(convolution, "norm", iterated)],
    "max-pooling": [(rules, "RULES", {**rules.RULES, nn.MaxPool2d: rules._one})],
    "average pooling": [(rules, "RULES", {**rules.RULES, nn.AvgPool2d: rules._one})],
    "residual sum": [(rules, "RULES", {**rules.RULES, nets.Residual: branch_alone})],
    "reshaped kernel": [(convolution, "norm", reshaped)],
    "layer above 1": [(nets.MinMax, "forward", lambda self, x: 1.05 * x)],
    "input scaling": [(rules, "RULES", {**rules.RULES, nets.Scale: rules._one})],
    "second logit": [(certifying, "from_logits", second_alone)],
    "rounding": [(certifying, "from_logits", without_rounding)],
    "broadcasting": [(layers, "_fits", lambda layer, before, after: True)],
    "scales": UNSCALED,
}
"""Faults that change a bound or a comparison, as wide as the search can see them."""

BREAKS = {"scales": "bcp"}
"""The certifier that has to break, where it is not `certify`."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_the_search_finds_a_planted_fault(name, monkeypatch):
    for plant in PLANTS[name]:
        monkeypatch.setattr(*plant)
    for seed, found in search(range(2000)):
        if BREAKS.get(name, "certify") in found:
            print(f"{name}: net {seed} broke {', '.join(sorted(found))}")
            return
    pytest.fail(f"{name}: no certificate broke")
