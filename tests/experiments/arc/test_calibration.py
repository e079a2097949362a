"""The table arc-calibration: its plan, what is judged, and directions that can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.arc import calibration, judged
from thesis_repro.experiments.arc.calibration import SCALED, TRAINED
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet, models


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("arc-calibration") is calibration.TABLE
    plan = calibration.cells(profile("quick"))
    assert len({row for row, _ in plan}) == len(plan) == 6
    assert len({cell.key for _, cell in plan}) == 3  # one cell for both softmaxes


def test_a_paper_plan_has_the_committed_nets_under_the_names_of_the_spec(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    cards = [models.card(name) for name in models.names()]
    hashes = {card["data"]: card["data_sha256"] for card in cards}
    monkeypatch.setattr(data, "fingerprint", lambda name: hashes.get(name, name))
    rows = [row for row, _ in calibration.cells(profile("paper"))]
    assert set(calibration.TABLE.spec.rows) <= set(rows)
    monkeypatch.setattr(data, "available", lambda name: False)
    assert calibration.cells(profile("paper")) == []


@pytest.fixture
def small(monkeypatch) -> judged.JudgedConfig:
    """A net of known logits on one pixel: what it says is right with a known probability."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        body[1].weight.copy_(torch.tensor([[4.0, 0, 0, 0], [-4.0, 0, 0, 0]]))
        body[1].bias.copy_(torch.tensor([-2.0, 2.0]))
    net = GloroNet(body, 0.1, (1, 2, 2)).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 1, 2, 2, generator=generator)
    chance = net.body(x).softmax(1)[:, 1].detach()
    y = (torch.rand(2000, generator=generator) < chance).long()
    monkeypatch.setattr(data, "held_out", lambda name: Split(x, y))
    monkeypatch.setattr(models, "trained", lambda _: net)
    training = judged.subjects(profile("quick"))[0][1]
    return judged.JudgedConfig(training, judged.TEST, 20)


def test_a_calibrated_net_is_found_calibrated_and_the_points_that_fit_are_not_judged(small):
    found = judged.judged(small).values
    assert found["accuracy"]["n"] == 1600
    assert found["temperature"] == pytest.approx(1, abs=0.15)
    assert found["as trained"]["error"][0] < 4
    both = found["rejected"]["n"], found["risk_kept"]["n"] + found["risk_rejected"]["n"]
    assert both == (1600, 1600)


def test_each_kind_of_images_is_another_one_inside_the_unit_interval():
    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    kinds = [judged.shown(x, images) for images in judged.IMAGES]
    assert torch.equal(kinds[0], x)
    for one in kinds[1:]:
        assert one.shape == x.shape and one.min() >= 0 and one.max() <= 1
        assert (one - x).abs().max() > 0.1
    assert torch.equal(judged.shown(x, judged.NOISY), judged.shown(x, judged.NOISY))


def test_images_are_changed_by_as_much_as_their_titles_say():
    x = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    degrees = float(judged.ROTATED.removeprefix("rotated by ").removesuffix("°"))
    turned = ndimage.rotate(x[0, 0].numpy(), degrees, reshape=False, order=1)
    found = judged.shown(x, judged.ROTATED)[0, 0].numpy()
    assert np.abs(found - turned)[8:20, 8:20].max() < 1e-4  # the corners are black in both
    noise = judged.shown(torch.full((1, 1, 100, 100), 0.5), judged.NOISY).std()
    assert float(noise) == pytest.approx(float(judged.NOISY.removeprefix("noise ")), rel=0.03)


def test_losses_risks_and_scores_stand_under_their_own_names(small, monkeypatch):
    """Of a net that is twice too sure, which a temperature of 2 mends."""
    body, (_, test) = models.trained(small.training).body, judged.split(small.training)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.mul_(2)
    net = GloroNet(body, 0.1, (1, 2, 2)).eval()
    monkeypatch.setattr(models, "trained", lambda _: net)
    found = judged.judged(replace(small, resamples=2)).values
    assert found["temperature"] == pytest.approx(2, abs=0.3)

    logits = body(test.x).detach().double()
    for name, t in (("as trained", 1.0), ("temperature fitted", found["temperature"])):
        nll = nn.functional.cross_entropy(logits / t, test.y)
        apart = (logits / t).softmax(1) - nn.functional.one_hot(test.y)
        assert found[name]["nll"][0] == pytest.approx(float(nll))
        assert found[name]["brier"][0] == pytest.approx(float(apart.square().sum(1).mean()))
    certified = net.predict(test.x) >= 0
    wrong = logits.argmax(1) != test.y
    for name, where in (("risk_kept", certified), ("risk_rejected", ~certified)):
        assert found[name] == {"k": int((wrong & where).sum()), "n": int(where.sum())}

    scores = judged.scores(net, test.x, found["temperature"])
    margin = logits.diff(dim=1).abs()[:, 0].numpy()
    for name in judged.SCORES:  # of two classes, each ranks points by their margin
        assert stats.spearmanr(scores[name], margin).statistic > 0.99, name


def frame() -> pd.DataFrame:
    rows = [(images, how) for images in judged.IMAGES for how in (TRAINED, SCALED)]
    found = pd.DataFrame(rows, columns=["images", "softmax"]).assign(net="A")
    scaled = found["softmax"] == SCALED
    error = np.where(found["images"] == judged.ROTATED, 3.0, 1.0)
    return found.assign(
        temperature=np.where(scaled, 0.8, 1.0),
        nll=np.where(scaled, 0.1, 0.2),
        error=error,
        error_low=error - 0.5,
        error_high=error + 0.5,
    )


def test_the_directions_can_fail():
    def found(**change):
        return [c.holds for c in calibration.conditions(frame().assign(**change))]

    assert found() == [True, True, True]
    assert found(temperature=1.0) == [False, True, True]
    assert found(nll=0.1) == [True, False, True]
    nll = frame()["nll"]
    assert found(nll_low=nll - 0.1, nll_high=nll + 0.1) == [True, None, True]
    assert found(error_low=-2.0) == [True, True, None]  # the interval of the difference meets 0
    turned = frame()["error"].max() - frame()["error"]
    ends = {"error_low": turned - 0.5, "error_high": turned + 0.5}
    assert found(error=turned, **ends) == [True, True, False]
