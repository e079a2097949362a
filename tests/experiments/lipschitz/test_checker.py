"""The table lipschitz-checker: its plan, and a trend that one contradiction ends."""

import pandas as pd
import torch
from torch import nn

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.lipschitz import checker
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import GloroNet, models


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("lipschitz-checker") is checker.TABLE
    plan = checker.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(checker.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_the_conditions_can_fail():
    good = pd.DataFrame({"contradicted": [0], "confirmed": [99.5], "claimed": [9]})

    def found(**change):
        return [c.holds for c in checker.conditions(good.assign(**change))]

    assert found() == [True, True]
    assert found(contradicted=[1]) == [False, True]
    assert found(confirmed=[99.4]) == [True, False]


def test_a_cell_counts_a_wrong_label_as_contradicted(monkeypatch):
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in body.parameters():
        nn.init.normal_(parameter, generator=generator)
    net = GloroNet(body, 0.01, (1, 4, 4)).eval()
    x = torch.rand(20, 1, 4, 4, generator=generator)
    monkeypatch.setattr(models, "trained", lambda _: net)
    monkeypatch.setattr(data, "held_out", lambda _: Split(x, torch.zeros(20)))
    config, certify = checker.cells(profile("quick"))[0][1].config, checker.certify

    def one_wrong(net, x):
        found = certify(net, x)
        first = int(found.certified.nonzero()[0, 0])
        found.labels[first] = (found.labels[first] + 1) % 3
        return found

    def counts(values):
        names = ("points", "claimed", "confirmed", "contradicted")
        return {name: values[name] for name in names}

    n = int(certify(net, x).certified.sum())
    assert n > 1
    said = {"points": 20, "claimed": n, "confirmed": {"k": n, "n": n}, "contradicted": 0}
    assert counts(checker.checking(config).values) == said
    monkeypatch.setattr(checker, "certify", one_wrong)
    wrong = {"confirmed": {"k": n - 1, "n": n}, "contradicted": 1}
    assert counts(checker.checking(config).values) == said | wrong
