"""The table bias-deep: its cell, its conditions, its plans."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro import tables
from thesis_repro.data import Split
from thesis_repro.experiments.bias import deep
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.spec import Frame


def test_a_deep_cell_is_deterministic_and_masks_differ():
    config = deep.DeepConfig("MNIST-5k 4/9", 0.75, "2c2f", (("dense layer", "6"),), 1, 1, 0)
    first, second = deep.deep(config).arrays, deep.deep(config).arrays
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert first["dense layer.none.kept"] == 100 > first["dense layer.experts.kept"]


def test_the_conditions_can_fail_and_may_be_not_measurable(remedies_frame):
    frame = remedies_frame(1.0, sets=("x",)).rename(columns={"dataset": "net"})
    frame["layer"] = "dense"
    assert [c.holds for c in deep.conditions(frame)] == [True]
    frame.loc[frame["remedy"] == "experts", "bias"] = -3.0
    assert [c.holds for c in deep.conditions(frame)] == [False]
    frame["chance"] = 3.7
    (undecided,) = deep.conditions(frame)
    assert undecided.holds is None and undecided.verdict == "not measurable"


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("bias-deep") is deep.TABLE
    plan = deep.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(deep.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_a_run_on_a_gpu_trains_its_nets_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    plan = deep.cells(profile("paper", "cuda"))
    assert {cell.device for _, cell in plan if cell is not None} == {"cuda"}
    assert {cell.device for _, cell in deep.cells(profile("paper")) if cell is not None} == {"cpu"}
    trained = []
    monkeypatch.setattr(deep.training, "fit", lambda model, *_: trained.append(model))
    config = dataclasses.replace(deep.digits_net(1, 1), device="meta")  # as another device
    fit = Split(torch.rand(4, 1, 28, 28), torch.arange(4) % 2)
    deep.train(config, fit, 0)
    assert {value.device.type for value in trained[0].parameters()} == {"meta"}


def test_the_claim_is_a_row_of_the_paper_plan():
    (claim,) = [c for c in deep.TABLE.spec.claims if c.row]
    assert claim.row in {row for row, _ in deep.cells(profile("paper"))}
    assert claim.value == 95.0


def removed(before, share, chance=0.9):
    """What a remedy took away of a bias, for one layer on faces."""
    row = (f"{deep.LFW}, 15 epochs", "dense layer")
    b, low, high = before
    ends = {
        "removed": share[0],
        "removed_low": share[1],
        "removed_high": share[2],
        "chance": chance,
    }
    lines = [
        {"net": row[0], "layer": row[1], "remedy": remedy, "seeds": 3, "bias": mean,
         "bias_low": low, "bias_high": high} | ends
        for remedy, mean in (("none", b), ("experts", b / 4))
    ]  # fmt: skip
    data = pd.DataFrame(lines)
    return deep.removed_of_the_mean(Frame(deep.TABLE.spec, "paper-cpu", data), (*row, "experts"))


def test_the_share_removed_is_not_measurable_below_chance():
    found = removed((4.0, 3.0, 5.0), (75.0, 60.0, 90.0))
    assert found.measurable and (found.value, found.low, found.high) == (75, 60, 90)
    nothing = (math.nan,) * 3
    below = removed((1.5, 0.8, 2.1), nothing)
    assert not below.measurable and below.value == pytest.approx(75) and math.isnan(below.low)
    assert removed((-1.5, -2.1, -1.0), (75.0, 60.0, 90.0)).measurable
    assert not removed((1.0, -0.5, 2.5), nothing, 0.0).measurable


def test_the_nets_that_judge_the_claim_have_numbers_of_their_own():
    """Earlier nets, numbers 0 to 3, showed which layer does well."""
    (claim,) = [c for c in deep.TABLE.spec.claims if c.row]
    cells = [cell for row, cell in deep.cells(profile("paper")) if row == claim.row]
    configs = [cell.config for cell in cells if cell is not None]
    assert all(config.first >= 4 for config in configs)


def test_the_paper_plan_fills_its_rows_in_order():
    planned = list(dict.fromkeys(row for row, _ in deep.cells(profile("paper"))))
    assert planned == list(deep.TABLE.spec.rows)


def test_each_part_has_one_task(monkeypatch):
    """Influence from training images, what is chosen from validation, what is said from test."""

    def part(pixels: list[float], labels: list[int]) -> Split:
        x = torch.zeros(len(pixels), 1, 1, 2)
        x[:, 0, 0, 0] = torch.tensor(pixels)
        return Split(x, torch.tensor(labels))

    class Watched(deep.bias.HiddenLayer):
        def experts(self, influence, labels):
            asked.append((self.x, np.asarray(labels).tolist()))
            return super().experts(influence, labels)

    def influence(model, x, name):
        asked.append(x)
        return real(model, x, name)

    real, asked = deep.bias.unit_influence, []
    monkeypatch.setattr(deep.bias, "HiddenLayer", Watched)
    monkeypatch.setattr(deep.bias, "unit_influence", influence)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():  # logit 1 less logit 0 is the first pixel, and half the second
        net[1].weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.5]]))
    fit, val = part([0.5, 1.5], [0, 1]), part([1, 2, 3, 4], [0, 0, 0, 1])
    test = part([1, 2, 3, 5], [0, 0, 1, 1])
    found: dict[str, list[float]] = {}
    deep._remedy_layer(found, net, ("dense layer", "0"), fit, val, test)
    assert asked[0] is fit.x and asked[1] == (val.x, [0, 0, 0, 1]) and len(asked) == 2
    # the shift of validation, -3.5, leaves one test image above zero; that of test, -2.5, two
    assert found[f"dense layer.{deep.SHIFT}.bias"] == [-0.25]
    assert found[f"dense layer.{deep.SHIFT}.accuracy"] == [0.75]
    assert found[f"dense layer.{deep.FULL}.bias"] == [0.5]
