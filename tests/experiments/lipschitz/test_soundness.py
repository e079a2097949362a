"""The table lipschitz-soundness: ways to get K, the trend, the list of faults."""

from types import SimpleNamespace

import pandas as pd
import torch

from thesis_repro import data, nets, tables
from thesis_repro.experiments.lipschitz import soundness
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet, models
from thesis_repro.robustness.lanczos import converged
from thesis_repro.robustness.margins import Bound


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


def test_points_are_lost_that_the_limit_has_right_and_a_method_has_not(monkeypatch):
    limit, other = [True, True, True, False], [True, False, False, True]
    right = {10.0: limit, 11.0: other}
    bounds = {
        soundness.LIMIT: (lambda net: Bound(10.0, torch.zeros(2, 2), ()), "no"),
        "other": (lambda net: Bound(11.0, torch.zeros(2, 2), ()), "as computed"),
    }
    monkeypatch.setattr(soundness, "BOUNDS", bounds)
    monkeypatch.setattr(
        soundness, "_right", lambda net, test, used: torch.tensor(right[used.k_sub])
    )
    monkeypatch.setattr(models, "trained", lambda _: torch.nn.Identity())
    monkeypatch.setattr(data, "load", lambda _: SimpleNamespace(test=None))
    net = soundness.subject("quick", 0, "cpu")
    values = soundness.soundness(soundness.SoundnessConfig(net, "other")).values
    lost = sum(was and not now for was, now in zip(limit, other, strict=True))
    assert values["lost"] == {"k": lost, "n": 4}
    assert values["vra"] == {"k": sum(other), "n": 4}
    assert (values["k_sub"], values["sound"]) == (11.0, "as computed")


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
