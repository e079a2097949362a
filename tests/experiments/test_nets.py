"""The nets that tables compare: pairs of one architecture, and which of them is committed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thesis_repro.experiments import nets as experts_nets
from thesis_repro.lab import places, profiles
from thesis_repro.robustness import models, recipes


@pytest.fixture
def all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_nets.data, "available", lambda name: True)


@pytest.mark.parametrize(("name", "cifar"), [("quick", 0), ("paper", 2)])
def test_both_nets_of_a_pair_are_of_one_architecture(name: str, cifar: int, all_data: None) -> None:
    profile = profiles.Profile(name, "cpu", (2,))
    found = [experts_nets.digit_nets(profile), experts_nets.cifar_nets(profile)]
    assert [len(named) for named in found] == [2, cifar]
    for pair in filter(None, found):
        plain, robust = (net.training for _, net in pair)
        assert (plain.recipe.method, robust.recipe.method) == ("standard", "gloro")
        for same in ("net", "activation", "seed", "batch_size", "lr"):
            assert getattr(plain.recipe, same) == getattr(robust.recipe, same)
        assert (plain.dataset, plain.augment) == (robust.dataset, robust.augment)
        assert pair[0][1].epochs() == {"epochs_run": plain.recipe.epochs, "epochs_paper": 0}
    on_gpu = profiles.Profile("paper", "cuda", (0, 1, 2))
    assert len(experts_nets.cifar_nets(on_gpu)) == 6
    assert len(experts_nets.cifar_nets(profiles.Profile("paper", "cpu", (0, 1, 2)))) == 2


def test_the_first_net_on_a_cpu_is_the_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_data: None
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    paper = profiles.Profile("paper", "cpu", (0,))
    (_, plain), (_, trained) = experts_nets.digit_nets(paper)
    assert (plain.model, trained.model) == ("", "")
    recipe = replace(trained.training.recipe, epochs=7)
    net = recipes.build(recipe, (1, 28, 28), 10).eval()
    models.save("mnist-2c2f-gloro", net, recipe, {"data": "mnist"})
    (_, plain), (_, committed) = experts_nets.digit_nets(paper)
    assert (plain.model, committed.model) == ("", "mnist-2c2f-gloro")
    assert committed.sha256 == models.card("mnist-2c2f-gloro")["sha256"]
    assert committed.epochs() == {"epochs_run": 7, "epochs_paper": recipe.epochs_paper}
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(committed.load().body(x), net.body(x))
    for other in (profiles.Profile("paper", "cpu", (1,)), profiles.Profile("paper", "cuda", (0,))):
        assert not any(net.model for _, net in experts_nets.digit_nets(other))
