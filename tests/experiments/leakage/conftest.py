"""What the tests of several tables need: a store of the test, checks of a plan."""

import pytest

from thesis_repro import data, tables
from thesis_repro.lab.profiles import profile


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))


@pytest.fixture
def check_plans(monkeypatch):
    """Checks that a table's plans fill the rows of its spec, and what is claimed of them."""

    def check(table):
        assert tables.get(table.spec.name) is table
        plan = table.cells(profile("quick"))
        assert all(cell is not None for _, cell in plan)
        assert all(len(row) == len(table.spec.keys) for row, _ in plan)
        monkeypatch.setattr(data, "available", lambda name: False)  # absent data keeps its rows
        planned = {row for row, _ in table.cells(profile("paper"))}
        if table.spec.rows:
            assert planned == set(table.spec.rows)
        assert {claim.row for claim in table.spec.claims if claim.row} <= planned
        assert all(not claim.value for claim in table.spec.claims)  # the slides have no number

    return check
