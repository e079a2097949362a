"""What is made of many tiny calls runs on one thread, whoever calls it."""

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from thesis_repro.data import Dataset, Split
from thesis_repro.lab import threads
from thesis_repro.robustness import (
    GloroNet,
    certify,
    certifying,
    lipschitz,
    proof,
    recipes,
    rounding,
)
from thesis_repro.robustness.certifiers import bcp, dual

SHAPE = (1, 12, 12)
X = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits(2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


def used() -> set[int]:
    return {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}


def body():
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 5),
    )
    for parameter in layers.parameters():
        nn.init.normal_(parameter, 0.0, 0.2, generator=generator)
    return layers


def glorious():
    return GloroNet(body(), 0.1, SHAPE).eval()


CALLS = {
    "certifying.bound": lambda: certifying.bound(body(), SHAPE).k_ij,
    "the README's certify": lambda: certify(glorious(), X).margin,
    "a GloRo net in eval mode": lambda: glorious()(X).detach(),
    "lipschitz.upper_bound": lambda: lipschitz.upper_bound(body()[0], SHAPE),
    "rounding.analyse": lambda: rounding.analyse(body(), SHAPE, [1.0] * 5, body()[-1]).distances,
    "bcp.prepare": lambda: bcp.prepare(body(), SHAPE).layers["0"].norm,
    "dual.margins": lambda: dual.margins(body(), X, 0.1),
    "dual.lower": lambda: dual.lower(body(), X, 0.1, torch.eye(5)),
    "dual.sent": lambda: dual.sent(body(), X, 0.1),
    "bcp.certify": lambda: bcp.certify(body(), X, 0.1),
}


@pytest.mark.parametrize("name", CALLS)
def test_proofs_use_one_thread_and_give_the_others_back(name, monkeypatch):
    seen = []
    original = proof.normalised

    def watched(*args):
        seen.append(used())
        return original(*args)

    monkeypatch.setattr(proof, "normalised", watched)
    found = CALLS[name]()
    assert seen and all(numbers == {1} for numbers in seen)
    assert used() == {2}
    torch.set_num_threads(1)
    again = CALLS[name]()
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(again))
    assert torch.get_num_threads() == 1


def test_a_recipe_trains_on_the_threads_of_a_cell_whatever_torch_has(monkeypatch):
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made_up = Dataset("made up", Split(x, torch.arange(16) % 4), Split(x, X), ("a", "b", "c", "d"))
    recipe, seen = recipes.Recipe("2c2f", 0.1, 0.1, 1, 1, 8), []

    def trained():
        found, _ = recipes.train(recipe, made_up, on_epoch=lambda *_: seen.append(used()))
        return found.body[0].weight

    one = trained()
    assert seen == [{1}] and used() == {2}
    with threads.limit():
        assert torch.equal(trained(), one)  # as in a cell
    monkeypatch.setenv(threads.VARIABLE, "2")
    trained()
    assert seen[2] == {2}


@threads.limit(1)
def failing() -> None:
    assert used() == {1}
    with threads.limit(), threads.limit(2):
        assert used() == {1}
    raise ZeroDivisionError


def test_a_smaller_limit_counts_inside_another_and_the_outer_one_after_it():
    with threads.limit(2):
        with pytest.raises(ZeroDivisionError):
            failing()
        assert used() == {2}
