"""The pink wall over pairs of nets: planted readers of the wall, tests that can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from thesis_repro.experiments.influence import faces
from thesis_repro.experiments.influence.faces import PAIRS, WITH, WITHOUT, WallConfig
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import published
from thesis_repro.tables.measure import tabulate

NAMES = ["Ariel", "Blair", "Bush", "Powell", "Rumsfeld"]


def reader(worth: list[float]) -> nn.Sequential:
    """A linear net whose class c gets worth[c] for each unit of red less green in the corner."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 5)).eval()
    with torch.no_grad():
        net[1].weight.zero_(), net[1].bias.zero_()
        net[1].weight[:, 0], net[1].weight[:, 4] = torch.tensor(worth), -torch.tensor(worth)
    return net


def photos() -> tuple[Tensor, Tensor]:
    """Two photographs with a pink corner, and with a grey one."""
    pink = torch.full((2, 3, 2, 2), 0.5)
    grey = pink.clone()
    pink[:, 0, 0, 0], pink[:, 1, 0, 0] = 0.9, 0.1
    return pink, grey


@pytest.fixture
def planted(monkeypatch):
    """Measures a net that is given, on photographs that need no file."""
    monkeypatch.setattr(faces, "asked", photos)
    monkeypatch.setattr(faces, "people", lambda: NAMES)

    def measure(net: nn.Module):
        monkeypatch.setattr(faces.named, "trained", lambda how: net)
        return faces.wall(WallConfig(True, 1)).values

    return measure


def test_what_the_wall_adds_is_the_change_of_his_logit_less_the_others(planted) -> None:
    values = planted(reader([0.0, 2.0, 1.0, 0.0, 0.0]))
    # red less green changes by 0.8: 1.6 for him, 0.8 for one of four others
    assert values["adds"] == pytest.approx(1.6 - 0.8 / 4, abs=1e-5)
    assert values["named"] is True
    assert values["pink"] == {"k": 2, "n": 2} and values["grey"] == {"k": 0, "n": 2}


def test_a_wall_that_speaks_for_another_is_not_named(planted) -> None:
    values = planted(reader([0.0, 1.0, 1.5, 0.0, 0.0]))
    assert values["named"] is False and values["adds"] > 0


@pytest.mark.filterwarnings("ignore:the influence of slice")
def test_a_net_that_does_not_read_the_wall_gets_nothing_from_it(planted) -> None:
    assert planted(reader([0.0] * 5))["adds"] == pytest.approx(0.0, abs=1e-6)


def results(adds: float, named: int, seed: int) -> list[Result]:
    shift = np.random.default_rng(seed).normal(adds, 0.1, PAIRS)
    return [
        Result(
            {
                "adds": float(one),
                "named": number < named,
                "pink": {"k": 3, "n": 3},
                "grey": {"k": 2, "n": 3},
            }
        )
        for number, one in enumerate(shift)
    ]


def held(more: float, named: tuple[int, int]) -> list[bool | None]:
    gathered = {(WITHOUT,): results(0.1, named[1], 0), (WITH,): results(0.1 + more, named[0], 1)}
    found = faces.assemble(profile("paper"), gathered)
    frame: pd.DataFrame = tabulate(faces.TABLE.spec, found)
    said = faces.conditions(frame)
    assert {one.says for one in said} == {c.column for c in published.claims("influence-faces")}
    return [one.holds for one in said]


@pytest.mark.parametrize(
    ("more", "named", "expected"),
    [
        (0.5, (10, 2), [True, True]),
        (0.0, (5, 4), [False, False]),
        (-0.5, (2, 10), [False, False]),
        (0.5, (7, 2), [True, False]),  # five pairs of ten: p = 0.06
    ],
)
def test_planted_effects_are_found_and_no_others(more, named, expected) -> None:
    assert held(more, named) == expected


def test_pairs_that_are_not_whole_are_not_judged() -> None:
    gathered = {(WITHOUT,): results(0.0, 0, 0), (WITH,): results(1.0, 10, 1)[:-1]}
    frame = tabulate(faces.TABLE.spec, faces.assemble(profile("paper"), gathered))
    assert faces.conditions(frame) == []


def test_the_paper_plan_has_pairs_and_the_quick_one_needs_no_faces(monkeypatch) -> None:
    assert list(faces.cells(profile("quick"))) == []
    monkeypatch.setattr(faces.data, "available", lambda name: True)
    monkeypatch.setattr(faces.data, "fingerprint", lambda name: "0")
    configs = [cell.config for _, cell in faces.cells(profile("paper")) if cell]
    assert {(c.pink, c.number) for c in configs} == {
        (pink, number) for pink in (True, False) for number in range(1, PAIRS + 1)
    }
    assert faces.subjects.FACES.seed not in {c.number for c in configs}  # that pair was seen
    twin = replace(faces.subjects.FACES, pink=False, seed=3).build()
    start = replace(faces.subjects.FACES, pink=True, seed=3).build()
    for one, other in zip(twin.parameters(), start.parameters(), strict=True):
        assert torch.equal(one, other)
    monkeypatch.setattr(faces.data, "available", lambda name: False)
    assert {row for row, cell in faces.cells(profile("paper")) if cell is None} == {
        (WITHOUT,),
        (WITH,),
    }
