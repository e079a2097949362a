"""Each certifier, measured: it says what the method says, and is counted as by hand."""

import pytest
import torch

from thesis_repro.experiments.certifiers import methods
from thesis_repro.experiments.certifiers.methods import BCP, GLORO, KW, METHODS, RS, Method
from thesis_repro.experiments.certifiers.scaling import untrained
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.certifiers import bcp, dual, smoothing

SMALL = {
    GLORO: Method(GLORO, 0, 2, 8),
    BCP: Method(BCP, 6, 2, 3),
    KW: Method(KW, 4, 2, 2),
    RS: Method(RS, 4, 2, 20, samples=50, sigma=0.1),
}


@pytest.fixture(scope="module")
def body():
    return untrained(classes=4, depth=1, pixels=6)


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_measured_method_says_what_the_method_says(name, body, images):
    method = SMALL[name]
    x = images[: method.points or len(images)]
    found = methods.measure(method, body, 0.05, x)
    labels = body(x).argmax(1)
    if name == GLORO:
        expected = certify(GloroNet(body, 0.05, (3, 6, 6)).eval(), x).certified
    elif name == BCP:
        expected = bcp.certify(body, x, 0.05)
    elif name == KW:
        expected = dual.certify(body, x, 0.05)
    else:
        smooth = smoothing.Smooth(body, 4, 0.1)
        answers = []
        for half in x.chunk(2):
            generator = torch.Generator().manual_seed(0)
            answers += [smooth.certify(one, 100, 50, 0.001, 20, generator) for one in half]
        labels = torch.tensor([label for label, _ in answers])
        expected = torch.tensor([radius > 0.05 for _, radius in answers])
    assert found.labels.tolist() == labels.tolist()
    assert found.certified.tolist() == expected.tolist()
    assert found.seconds > 0 and found.mb > 0 and found.operations > 0


def test_operations_of_a_forward_pass_are_counted_by_hand(body, images):
    found = methods.measure(SMALL[GLORO], body, 0.05, images)
    by_hand = 2 * 36 * 8 * 3 * 9 + 2 * 8 * 36 * 64 + 2 * 64 * 4
    assert found.points == len(images)
    # beside the pass, the rounding budget is one small product for each point
    assert 0 <= found.operations - len(images) * by_hand <= 0.01 * len(images) * by_hand
    smoothed = methods.measure(SMALL[RS], body, 0.05, images[:4])
    assert smoothed.operations == 2 * (100 + 50) * by_hand and smoothed.points == 2


def test_memory_of_smoothing_grows_with_the_batch_and_not_with_the_copies(body, images):
    def mb(samples, batch):
        method = Method(RS, 2, 2, batch, samples=samples, sigma=0.1)
        return methods.measure(method, body, 0.05, images[:2]).mb

    assert mb(400, 50) == pytest.approx(mb(2000, 50), rel=0.01)
    assert mb(400, 100) == pytest.approx(2 * mb(400, 50), rel=0.1)
