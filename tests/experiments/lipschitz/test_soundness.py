"""The table lipschitz-soundness: ways to get K, the trend, the list of faults."""

import pandas as pd
import torch

from thesis_repro import nets, tables
from thesis_repro.experiments.lipschitz import soundness
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet
from thesis_repro.robustness.lanczos import converged


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("lipschitz-soundness") is soundness.TABLE
    plan = soundness.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(soundness.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_power_iteration_is_below_the_proven_bound():
    body = nets.cnn_2c2f(generator=torch.Generator().manual_seed(0))
    net = GloroNet(body, 0.1, (1, 28, 28)).eval()
    proven = net.bound().k_sub
    assert soundness.from_below(net, 10) < converged(net) <= proven
    assert proven < 1.001 * converged(net)


def test_the_table_of_faults_names_tests_that_exist(root):
    faults = soundness.known_faults()
    sources = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    assert len(faults) >= 31
    for check in faults["caught by"]:
        assert f"def {check}(" in sources


def test_the_conditions_can_fail():
    good = pd.DataFrame({"dataset": "MNIST", "method": list(soundness.METHODS)})
    good = good.assign(vra=[95.0, 95.0, 94.9, 94.9], lost=[0.0, 0.0, 0.1, 0.1])

    def found(**change):
        return [c.holds for c in soundness.conditions(good.assign(**change))]

    assert found() == [True, True]
    assert found(vra=[95.0, 95.0, 94.9, 95.1]) == [False, True]
    assert found(lost=[0.0, 0.0, 0.1, 0.3]) == [True, False]
