from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro.experiments.leakage import instances
from thesis_repro.experiments.leakage.instances import InstanceConfig
from thesis_repro.experiments.leakage.models import (
    CONVOLUTIONAL,
    DENSE,
    DIGITS,
    GLORO,
    LINEAR,
    STANDARD,
    TRAININGS,
)
from thesis_repro.lab.cells import Cell, CellError, Result, compute
from thesis_repro.lab.profiles import profile

SHORT = replace(DIGITS, images=100, epochs=1, steps=3)


def run(wanted):
    return compute(Cell(instances.compare, wanted))


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(instances.TABLE)


@pytest.mark.parametrize("method", TRAININGS)
@pytest.mark.parametrize("net", [LINEAR, DENSE, CONVOLUTIONAL])
def test_every_net_can_be_trained_in_every_way(net, method):
    wanted = InstanceConfig(SHORT, net, method, per_class=2, number=0)
    found = run(wanted)
    assert found.arrays["member"].shape == found.arrays["other"].shape == (10,)
    assert found.arrays["null"].shape == (999,) and found.values["accuracy"] > 5


def test_members_are_the_training_images_and_others_are_not():
    members, others = instances.sides(InstanceConfig(SHORT, LINEAR, GLORO, 5, 3))
    assert np.bincount(members.y).tolist() == np.bincount(others.y).tolist() == [5] * 10
    both = torch.cat([members.x, others.x]).flatten(1)
    assert len(both.unique(dim=0)) == 100


def test_a_linear_net_that_is_shown_one_image_of_each_class_gives_it_away():
    wanted = InstanceConfig(replace(SHORT, epochs=5), LINEAR, STANDARD, 1, 0)
    found = run(wanted).arrays
    assert (found["member"] < found["other"]).mean() >= 0.8


def test_too_few_images_of_a_class_are_an_error_that_names_the_cell():
    wanted = InstanceConfig(SHORT, LINEAR, GLORO, 300, 0)
    with pytest.raises(CellError, match=r"instances\.compare\(.*300 to train on"):
        run(wanted)


def test_the_identification_rate_counts_ties_one_half_and_its_interval_covers_them():
    from scipy.stats import binomtest

    def over(member, other):
        results = [
            Result(
                {"accuracy": 90.0},
                {"member": np.array(member), "other": np.array(other), "null": np.zeros(9)},
            )
        ] * 2
        return instances.assemble(profile("quick"), {("X",): results})["X",].estimate("identified")

    found = over([0.1, 0.2, 0.3, 0.9, 0.5], [0.5, 0.6, 0.7, 0.1, 0.5])
    assert found.value == pytest.approx(70) and found.how.endswith("over 10 reconstructions")
    assert found.low == pytest.approx(100 * binomtest(6, 10).proportion_ci().low)
    assert found.high == pytest.approx(100 * binomtest(8, 10).proportion_ci().high)
    sure = over([0.1] * 5, [0.2] * 5)
    assert (sure.value, sure.high) == (100, 100) and 65 < sure.low < 75


def test_nearness_is_judged_on_every_row_and_corrected_for_their_number():
    def found(ratio, p):
        rows = pd.DataFrame({"dataset": "LFW", "net": ["a", "a", "b"], "ratio": ratio, "p": p})
        return [c.holds for c in instances.conditions(rows)]

    assert found([0.9, 0.8, 0.9], [0.001] * 3) == [True, True]
    assert found([0.9, 1.0, 0.9], [0.001] * 3) == [False, True]
    assert found([0.9, 0.9, 0.9], [0.001, 0.02, 0.03]) == [True, True]
    assert found([0.9, 0.9, 0.9], [0.04, 0.02, 0.03]) == [False, False]  # 0.06 by Holm
