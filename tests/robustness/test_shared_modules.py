"""One module that stands in a net twice counts twice, wherever layers are listed or walked."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from thesis_repro.robustness import GloroNet, certificate, certify, lipschitz
from thesis_repro.robustness.certifiers import bcp, dual, parts

SHAPE = (1, 4, 4)


@pytest.fixture
def pair():
    """A net that uses one activation three times, one of them inside, and its twin with three."""
    torch.manual_seed(0)
    act = nn.ReLU()
    body = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3, padding=1),
            first=act,
            flat=nn.Flatten(),
            hidden=nn.Linear(48, 8),
            second=act,
            more=nn.Linear(8, 8),
            third=act,
            out=nn.Linear(8, 3),
        )
    ).eval()
    twin = copy.deepcopy(body)
    for name in ("first", "second", "third"):
        setattr(twin, name, nn.ReLU().eval())
    assert len(list(body.children())) < len(list(twin.children())) == len(body)
    return body, twin, torch.rand(6, *SHAPE)


def glance(body):
    return [(name, type(layer).__name__, shape) for name, layer, shape in body]


def test_the_same_layers_are_listed(pair):
    body, twin, x = pair
    listed = glance(lipschitz.named_layers(twin, SHAPE))
    assert [name for name, *_ in listed] == list(body._modules)
    assert glance(lipschitz.named_layers(body, SHAPE)) == listed
    known = (nn.Conv2d, nn.ReLU, nn.Flatten, nn.Linear)
    assert glance(parts(body, x, 0.1, known)) == listed
    nets = [GloroNet(net, 0.1, SHAPE).eval() for net in (body, twin)]
    described = [certificate.architecture(net) for net in nets]
    assert described[0] == described[1]
    assert len(described[0]["layers"]) == len(body)


def test_certificates_are_those_of_the_twin(pair):
    body, twin, x = pair
    found, expected = (certify(GloroNet(net, 0.01, SHAPE).eval(), x) for net in (body, twin))
    assert torch.equal(found.radius, expected.radius)
    assert torch.equal(found.margin, expected.margin)
    assert found.radius.max() > 0
    for certifier in (bcp, dual):
        margins = certifier.margins(body, x, 0.01)
        assert torch.equal(margins, certifier.margins(twin, x, 0.01))
