"""What the tests of several tables need: a small contest, made-up counts, checks of a plan."""

import pytest

from thesis_repro import data, tables
from thesis_repro.experiments.membership import contests
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses.membership.contest import Contest
from thesis_repro.weaknesses.membership.guesses import ATTACKS
from thesis_repro.weaknesses.membership.victims import Victim


@pytest.fixture(scope="session")
def small_nets(tmp_path_factory):
    """A small contest, and the store that keeps its nets."""
    store = str(tmp_path_factory.mktemp("store"))
    small = Victim("mnist-5k", "mlp", 200, 2, 0.1, width=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THESIS_REPRO_STORE", store)
        return contests.observations(Contest(small, (0, 1, 2), 4)), store


@pytest.fixture
def observations(small_nets, monkeypatch):
    """The small contest, with its store."""
    nets, store = small_nets
    monkeypatch.setenv("THESIS_REPRO_STORE", store)
    return nets


@pytest.fixture
def check_plans(monkeypatch):
    """Checks that a table's plans name rows of its spec, where all data is here."""
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: f"hash of {name}")

    def check(table):
        assert tables.get(table.spec.name) is table
        quick, paper = (table.cells(profile(name)) for name in ("quick", "paper"))
        for plan in (quick, paper):
            assert all(len(row) == len(table.spec.keys) for row, _ in plan)
        assert list(dict.fromkeys(row for row, _ in paper)) == list(table.spec.rows)
        assert {c.row for c in table.spec.claims if c.row} <= set(table.spec.rows)

    return check


def counts(k, n):
    return {"k": k, "n": n}


def answered(accuracy):
    many = {"tpr": counts(30, 1000), "fpr": counts(10, 1000), "measurable": True}
    few = many | {"measurable": False}
    return {
        "accuracy": counts(accuracy, 2000),
        "precision": counts(300, 500),
        "recall": counts(300, 1000),
        "auc": 0.6,
        "1%": many,
        "0.1%": few,
    }


@pytest.fixture
def contested():
    """The result of a contest by hand: so many targets, so many claims of the calibrated attack."""

    def made(targets=3, claims=500):
        one = {
            "train": counts(1000, 1000),
            "test": counts(989, 1000),
            "attacks": {name: answered(1100) for name in ATTACKS},
            "calibrated": {
                p: {"precision": counts(300, claims), "recall": counts(300, 1000), "claims": claims}
                for p in ("60", "70", "80", "90")
            },
        }
        return Result({"targets": [one] * targets})

    return made
