"""The table lipschitz-tightness: how far each profile climbs, and the trend."""

import pandas as pd

from thesis_repro import data, tables
from thesis_repro.experiments.lipschitz import tightness
from thesis_repro.lab.profiles import Profile, profile


def test_the_quick_plan_needs_no_data_and_names_its_rows():
    assert tables.get("lipschitz-tightness") is tightness.TABLE
    plan = tightness.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(tightness.TABLE.spec.keys) for row, _ in plan)
    assert len({row for row, _ in plan}) == len(plan)


def test_a_cpu_climbs_fewer_pairs_of_the_large_net(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: name)

    def efforts(profile, device):
        plan = tightness.cells(Profile(profile, device, (0,)))
        return {row[1]: (cell.config.points, cell.config.steps) for row, cell in plan}

    small = dict.fromkeys(("GloRo 2C2F", "standard 2C2F"), (50, 500))
    large = dict.fromkeys(("GloRo 6C2F", "standard 6C2F"), (10, 300))
    assert efforts("paper", "cpu") == small | large
    assert efforts("paper", "cuda") == small | large  # it climbs there too, on the CPU
    assert set(efforts("quick", "cpu").values()) == {(20, 150)}


def test_the_conditions_can_fail():
    good = pd.DataFrame({"net": ["GloRo 2C2F", "standard 2C2F"], "share": [80.0, 40.0]})
    good = good.assign(bound=[10.0, 50.0], found=[8.0, 20.0])

    def found(**change):
        return [c.holds for c in tightness.conditions(good.assign(**change))]

    assert found() == [True, True, True]
    assert found(share=[100.1, 40.0]) == [False, True, True]
    assert found(share=[40.0, 80.0]) == [True, False, True]
    assert found(found=[8.0, 9.9]) == [True, True, False]  # below what the other may have
    assert len(tightness.conditions(good[:1])) == 1  # nothing to compare with
    large = good.assign(net=["GloRo 6C2F", "standard 6C2F"])
    both = pd.concat([good, large.assign(share=[30.0, 45.0])])
    assert [c.holds for c in tightness.conditions(both)] == [True, True, True, False, True]
    claimed = {c.column for c in tightness.TABLE.spec.claims}
    assert claimed == {c.says for c in tightness.conditions(both)}
