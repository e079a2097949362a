"""The table certifiers-scaling: exponents, the trend, untrained nets, its plan."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from thesis_repro import tables
from thesis_repro.experiments.certifiers import scaling
from thesis_repro.experiments.certifiers.methods import KW, METHODS, RS, Method
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile


def test_exponents_are_those_of_powers():
    sizes = np.array([10, 20, 40])
    assert scaling.exponent(sizes, 3.0 * sizes**1.5) == pytest.approx(1.5)
    rows = {
        ("pixels per side", KW): [
            Result({"operations": s**4, "seconds": 0.002 * s, "mb": 5.0})
            for s in scaling.SIZES["quick"]["pixels"]
        ],
        ("classes", KW): [Result({"operations": 1, "seconds": 1.0, "mb": 1.0})],  # unfinished
    }
    (record,) = scaling.assemble(profile("quick"), rows).values()
    assert record.estimate("operations").value == pytest.approx(4.0) and record.estimate(
        "mb"
    ).value == pytest.approx(0.0)
    assert record.estimate("seconds").value == pytest.approx(1.0)
    assert (record.estimate("least").value, record.estimate("most").value) == pytest.approx(
        (16.0, 32.0)
    )


def test_the_condition_can_fail():
    good = pd.DataFrame(
        {"varied": "pixels per side", "method": list(METHODS), "operations": [2.0, 2.0, 3.9, 2.0]}
    )
    assert [c.holds for c in scaling.conditions(good)] == [True]
    bad = scaling.conditions(good.assign(operations=[2.0, 3.0, 3.9, 2.0]))
    assert [c.holds for c in bad] == [False]
    assert scaling.conditions(good[good["method"] != RS]) == []


def test_the_untrained_nets_have_the_sizes_they_are_asked_for():
    net = scaling.untrained(classes=7, depth=3, pixels=5)
    assert sum(isinstance(layer, nn.Conv2d) for layer in net) == 3
    assert net(torch.rand(2, 3, 5, 5)).shape == (2, 7)
    config = scaling.config_at("depth", 4, Method(KW, 4, 2, 2))
    assert (config.classes, config.depth, config.pixels) == (10, 4, 8)


def test_operations_are_those_of_one_point_however_many_are_run():
    def operations(points):
        method = Method(RS, points, 2, 100, samples=50, sigma=0.25)
        return scaling.scaling(scaling.config_at("classes", 10, method)).values["operations"]

    assert operations(8) == pytest.approx(operations(2))


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("certifiers-scaling") is scaling.TABLE
    plan = scaling.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(scaling.TABLE.spec.keys) for row, _ in plan)
