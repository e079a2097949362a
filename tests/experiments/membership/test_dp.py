import pandas as pd

from thesis_repro.experiments.membership import dp
from thesis_repro.lab.profiles import profile


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(dp.TABLE)


def test_without_opacus_the_private_rows_are_not_run(monkeypatch):
    monkeypatch.setattr(dp.private, "available", lambda: False)
    plan = dict(dp.plan(profile("quick")))
    assert [row[0] for row, cell in plan.items() if cell is None] == ["DP-SGD, ε = 16"]


def test_what_noise_leaves_of_the_attack_is_judged_at_both_ends():
    def found(least, most, half=0.6):
        lines = [("none", 52.0), ("DP-SGD, ε = 1", least), ("DP-SGD, ε = 16", most)]
        rows = pd.DataFrame(lines, columns=["defence", "accuracy"])
        rows = rows.assign(
            accuracy_low=rows["accuracy"] - half, accuracy_high=rows["accuracy"] + half
        )
        return [c.holds for c in dp.conditions(rows)]

    assert found(50.3, 52.6) == [True, True]
    assert found(50.7, 50.4) == [False, False]  # ahead of guessing, with the whole interval
    assert found(50.5, 51.5) == [None, None]  # perhaps ahead, by more than half of the advantage
    assert found(50.3, 52.6, half=3.0) == [None, None]  # by too wide an interval nothing is shown
    assert dp.conditions(pd.DataFrame({"defence": ["none"]})) == []
