"""Each certifier, measured: it says what the method says, and is counted as by hand."""

import copy
import dataclasses

import pytest
import torch

from thesis_repro.experiments.certifiers import methods
from thesis_repro.experiments.certifiers.methods import BCP, GLORO, KW, METHODS, RS, Method
from thesis_repro.experiments.certifiers.scaling import untrained
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.certifiers import bcp, dual, smoothing

SMALL = {
    GLORO: Method(GLORO, 0, 2, 8, split=False),
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
    whole, known = methods.certificates(method, body, 0.05, x)
    x, body = x.double(), copy.deepcopy(body).double()
    labels = body(x).argmax(1)
    if name == GLORO:
        expected = certify(GloroNet(body, 0.05, (3, 6, 6)).eval(), x).certified
    elif name == BCP:
        expected = bcp.certify(body, x, 0.05)
    elif name == KW:
        expected = dual.certify(body, x, 0.05)
    else:
        smooth = smoothing.Smooth(body, 4, 0.1)
        generator = torch.Generator().manual_seed(0)
        answers = [smooth.certify(one, 100, 50, 0.001, 20, generator) for one in x]
        labels = torch.tensor([label for label, _ in answers])
        expected = torch.tensor([radius > 0.05 for _, radius in answers])
    assert whole.tolist() == labels.tolist()
    assert known.tolist() == expected.tolist()
    assert found.seconds > 0 and found.mb > 0 and found.operations > 0
    assert len(found.calls) == method.calls


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_a_branch_of_its_own_and_rs_the_last(name, body, monkeypatch):
    made = []
    monkeypatch.setattr(methods.smoothing, "Smooth", lambda *_: made.append(name))
    methods.certifier(Method(name, 4, 2, 2, samples=50, sigma=0.1), body, 0.05, (3, 6, 6))
    assert bool(made) == (name == RS), f"`certifier` in methods.py takes {name} for RS"


def test_the_fastest_batch_size_is_found_by_calls_of_its_own(body, images, monkeypatch):
    seconds = {1: [9.0, 5.0, 4.0], 2: [9.0, 3.0, 8.0], 3: [11.0]}  # the first warms up
    tried = []

    def made(method, *_):
        return (lambda x, size=method.batch_size: tried.append((size, len(x)))), 0.0

    def clocked(call):
        call()
        size, _ = tried[-1]
        return seconds[size].pop(0)

    monkeypatch.setattr(methods, "certifier", made)
    monkeypatch.setattr(methods.timing, "clocked", clocked)
    found = methods.fastest(SMALL[KW], (1, 2, 3), body, 0.05, images[:4])
    assert found == dataclasses.replace(SMALL[KW], batch_size=2)
    assert [size for size, _ in tried] == [1, 1, 1, 2, 2, 2, 3]  # a long call is made once
    assert {n for _, n in tried} == {2}


@pytest.mark.parametrize("name", [BCP, KW])
def test_operations_do_not_depend_on_the_batch_that_is_fastest(name, body, images):
    def operations(size, widest):
        method = Method(name, 6, 2, size, split=False)
        return methods.measure(method, body, 0.05, images, widest).operations

    assert operations(1, 6) == operations(2, 6) == operations(6, 6)
    if name == KW:  # sends back what does not depend on the points, once for each batch
        assert operations(1, 0) > operations(6, 6)


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


@pytest.mark.parametrize(("name", "batch"), [(GLORO, 100), (BCP, 100), (KW, 5)])
def test_memory_of_a_point_does_not_grow_with_the_batch(name, batch, body):
    x = torch.rand(2 * batch, 3, 6, 6, generator=torch.Generator().manual_seed(0))

    def mb(size):
        method = Method(name, len(x), 2, size, split=False)
        return methods.measure(method, body, 0.05, x).mb

    assert mb(2 * batch) == pytest.approx(mb(batch), rel=0.2)
