"""The nets that tables compare: pairs of one architecture, and which of them is committed."""

from pathlib import Path

import pytest

from thesis_repro.experiments import nets as experts_nets
from thesis_repro.lab import places, profiles
from thesis_repro.robustness import models, recipes


@pytest.fixture
def all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_nets.data, "available", lambda name: True)
    monkeypatch.setattr(experts_nets.data, "fingerprint", lambda name: name)


@pytest.mark.parametrize(("name", "cifar"), [("quick", 0), ("paper", 2)])
def test_both_nets_of_a_pair_are_of_one_architecture(name: str, cifar: int, all_data: None) -> None:
    profile = profiles.Profile(name, "cpu", (2,))
    found = [experts_nets.digit_nets(profile), experts_nets.cifar_nets(profile)]
    assert [len(named) for named in found] == [2, cifar]
    for pair in filter(None, found):
        plain, robust = (net for _, net in pair)
        assert (plain.recipe.method, robust.recipe.method) == ("standard", "gloro")
        for same in ("net", "activation", "seed", "batch_size", "lr"):
            assert getattr(plain.recipe, same) == getattr(robust.recipe, same)
        assert (plain.dataset, plain.augment) == (robust.dataset, robust.augment)
        assert experts_nets.epochs(plain) == {"epochs_run": plain.recipe.epochs, "epochs_paper": 0}
    on_gpu = profiles.Profile("paper", "cuda", (0, 1, 2))
    assert len(experts_nets.cifar_nets(on_gpu)) == 6
    assert len(experts_nets.cifar_nets(profiles.Profile("paper", "cpu", (0, 1, 2)))) == 2


def test_the_first_net_on_a_cpu_is_the_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_data: None
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    paper = profiles.Profile("paper", "cpu", (0,))

    def of(found: profiles.Profile) -> list[tuple[int, str]]:
        pair = experts_nets.cifar_nets(found)
        return [(net.recipe.epochs, models.standing_for(net)) for _, net in pair]

    assert of(paper) == [(4, ""), (6, "")]
    long = experts_nets.paper_training("36/255", 0, "cpu", long=True)
    net = recipes.build(long.recipe, (3, 32, 32), 10).eval()
    card = {"data": "cifar10", "data_sha256": "cifar10", "augment": "crop-flip"}
    models.save("small", net, long.recipe, card)
    assert of(paper) == [(4, ""), (150, "small")]  # its long training is spared
    for other in (profiles.Profile("paper", "cpu", (1,)), profiles.Profile("paper", "cuda", (0,))):
        assert not any(name for _, name in of(other))
    # on a GPU too, where bounds are looked at
    for device in ("cpu", "cuda"):
        bounded = experts_nets.bounded(profiles.Profile("paper", device, (0,)), 0)
        assert bounded[experts_nets.GLORO_6C2F] == long
