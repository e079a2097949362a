import math
from itertools import chain, combinations

import pandas as pd
import pytest
import torch

from thesis_repro import data, tables
from thesis_repro.data import Dataset, Split
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


def test_one_lost_point_fails_the_theorem() -> None:
    rows = pd.DataFrame({"least": [100.0, 98.4], "certified": [100.0, 98.4]})
    assert attainable.conditions(rows)[0].holds
    assert not attainable.conditions(rows.assign(certified=[100.0, 98.3]))[0].holds
    assert not attainable.conditions(rows[:0])[0].holds


def on_a_line(places: list[float], labels: list[int]) -> Split:
    return Split(torch.tensor(places)[:, None], torch.tensor(labels))


@pytest.mark.parametrize("whole", [True, False])
def test_a_cell_counts_every_point_of_its_part_and_tells_least_from_most(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = on_a_line([0.0, 0.1, 0.5, 30.0, 40.0], [0, 1, 0, 1, 0])
    test = on_a_line([5.0, 9.0, 9.2, 20.0], [0, 1, 0, 1])
    monkeypatch.setattr(data, "load", lambda _: Dataset("line", train, test, ("a", "b")))
    measured = attainable.measure(attainable.AttainableConfig("line", whole, (0.3,)))

    parts = (train, test) if whole else (test,)
    points = [(float(x), int(y)) for part in parts for x, y in zip(part.x, part.y, strict=True)]
    meet = [
        {i, j}
        for i, j in combinations(range(len(points)), 2)
        if points[i][1] != points[j][1] and abs(points[i][0] - points[j][0]) <= 2 * 0.3
    ]
    least = len(points) - len(set(chain(*meet)))
    most = max(  # over all sets of points of which no two meet
        size
        for size in range(len(points) + 1)
        for kept in combinations(range(len(points)), size)
        if not any(pair <= set(kept) for pair in meet)
    )
    assert 0 < least < most < len(points)
    for name, k in (("least", least), ("most", most), ("certified", least)):
        found = measured.values["radii"]["0.3"][name]
        assert found == pytest.approx(100 * k / len(points))
