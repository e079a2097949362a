"""The table arc-paths: its plan, a cell on a small net, and conditions that can fail."""

import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.arc import judged, paths
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet, models
from thesis_repro.robustness import paths as proofs
from thesis_repro.robustness.transformations import PATHS


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("arc-paths") is paths.TABLE
    plan = paths.cells(profile("quick"))
    assert [row[1] for row, _ in plan] == list(PATHS)


def test_a_thousand_paths_of_digits_are_searched_at_ten_thousand_parameters(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    cards = [models.card(name) for name in models.names()]
    hashes = {card["data"]: card["data_sha256"] for card in cards}
    monkeypatch.setattr(data, "fingerprint", lambda name: hashes.get(name, name))
    plan = paths.cells(profile("paper"))
    assert set(paths.TABLE.spec.rows) <= {row for row, _ in plan}
    digits = [cell.config for row, cell in plan if row[0] == judged.PAPER[0]]
    assert sum(config.images for config in digits) >= 1100  # some have no radius to begin with
    assert all(config.tried == 10_000 for config in digits)


@pytest.fixture
def config(monkeypatch) -> paths.PathsConfig:
    """A linear net on 6 x 6 images: it says which half is brighter."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    half = torch.zeros(6, 6)
    half[:3] = 1
    with torch.no_grad():
        body[1].weight.copy_(torch.stack([half.flatten(), 1 - half.flatten()]))
        body[1].bias.zero_()
    net = GloroNet(body, 0.1, (1, 6, 6)).eval()
    x = 0.1 * torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    x[:4, :, 1:3] += 0.8
    x[4:, :, 4:] += 0.8
    y = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])  # the fourth label is wrong
    monkeypatch.setattr(data, "held_out", lambda name: Split(x, y))
    monkeypatch.setattr(models, "trained", lambda _: net)
    return paths.PathsConfig(judged.subjects(profile("quick"))[0][1], "rotation", 8, 50, 2)


def test_the_cell_counts_what_is_proved_right_and_confirmed(config):
    found = paths.proving(config).values
    assert found["proved"] == 8 and found["broken"] == 0
    assert found["right"] == {"k": 7, "n": 8}
    assert found["low"] < -10 and found["high"] > 10
    assert found["span"] >= found["least"] > 20
    assert found["confirmed"]["k"] == found["confirmed"]["n"] > 2


def test_a_ball_that_does_not_hold_is_not_confirmed(config, monkeypatch):
    """The checker, not the certifier, is asked: certificates that claim too much are seen."""
    real = paths.certify

    def claims_more(net, images, epsilon):
        found = real(net, images, epsilon)
        found.certified[:] = True
        found.radius.clamp_(min=epsilon)
        return found

    monkeypatch.setattr(paths, "certify", claims_more)
    monkeypatch.setattr(proofs, "ROOM", 1.5)
    monkeypatch.setattr(proofs, "STRIDE", 1.4)
    found = paths.proving(config).values["confirmed"]
    assert found["k"] < found["n"]


def test_the_conditions_can_fail():
    rows = [("MNIST, A", name) for name in PATHS]
    good = pd.DataFrame(rows, columns=["net", "path"])
    good = good.assign(broken=0, proved=9, confirmed=99.6, span=2.1)

    def found(**change):
        return [c.holds for c in paths.conditions(good.assign(**change))]

    assert found() == [True, True, True]
    assert found(broken=[0, 0, 0, 1]) == [False, True, True]
    assert found(confirmed=[100, 100, 99.4, 100]) == [True, False, True]
    assert found(span=[1.9, 9, 9, 9]) == [True, True, False]
    assert found(span=[2, 0, 0, 0]) == [True, True, True]
