import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from thesis_repro import data, tables
from thesis_repro.data import Split
from thesis_repro.experiments.gloro import attainable
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Result
from thesis_repro.tables.measure import summarise, tabulate


def test_plans_name_their_rows_and_share_one_measurement() -> None:
    assert tables.get("gloro-attainable") is attainable.TABLE
    quick, paper = (attainable.cells(profile(name)) for name in ("quick", "paper"))
    assert tuple(row for row, _ in paper) == attainable.TABLE.spec.rows
    for plan in (quick, paper):
        assert len({cell.config.measured for _, cell in plan}) == 1


def test_shares_are_exact_counts_that_carry_no_interval() -> None:
    spec = attainable.TABLE.spec
    values = {"nearest": 3.0, "least": 98.4, "most": 99.4, "certified": 98.4}
    row = attainable.row(False, 2.5)
    line = tabulate(spec, summarise(spec, {row: [Result(values)]})).iloc[0]
    assert line["least"] == 98.4 and line["interval"] == ""
    for name in values:
        assert math.isnan(line[f"{name}_low"]) and math.isnan(line[f"{name}_high"])


def test_a_cell_counts_in_percent_of_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([0.0, 0.1, 0.5, 1.0]).reshape(4, 1, 1, 1)
    part = Split(x, torch.tensor([0, 1, 1, 0]))
    monkeypatch.setattr(data, "load", lambda name: SimpleNamespace(train=part, test=part))
    config = attainable.AttainableConfig("four points", whole=False, radii=(0.01, 0.1))
    found = attainable.measure(config).values["radii"]
    assert [found["0.01"][name] for name in ("least", "most", "certified")] == [100, 100, 100]
    assert [found["0.1"][name] for name in ("least", "most", "certified")] == [50, 75, 50]


def test_one_lost_point_fails_the_theorem() -> None:
    rows = pd.DataFrame({"least": [100.0, 98.4], "certified": [100.0, 98.4]})
    assert attainable.conditions(rows)[0].holds
    assert not attainable.conditions(rows.assign(certified=[100.0, 98.3]))[0].holds
    assert not attainable.conditions(rows[:0])[0].holds
