from thesis_repro.experiments.membership import dp
from thesis_repro.lab.profiles import profile


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(dp.TABLE)


def test_without_opacus_the_private_rows_are_not_run(monkeypatch):
    monkeypatch.setattr(dp.private, "available", lambda: False)
    plan = dict(dp.plan(profile("quick")))
    assert [row[0] for row, cell in plan.items() if cell is None] == ["DP-SGD, ε = 16"]
