import dataclasses

import numpy as np
import pytest

from thesis_repro import data, tables
from thesis_repro.experiments.membership import contests, rates, victims
from thesis_repro.lab.cells import CellError, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.training import named
from thesis_repro.weaknesses.membership.guesses import ATTACKS


def test_a_contest_is_deterministic_and_counts_what_it_says(observations):
    first, second = contests.contest(observations.config), contests.contest(observations.config)
    assert first.values == second.values
    for target in first.values["targets"]:
        assert set(target["attacks"]) == set(ATTACKS)
        gap = (target["train"]["k"] - target["test"]["k"]) / 200
        naive = target["attacks"]["naive"]["accuracy"]
        assert naive["k"] / naive["n"] == pytest.approx(0.5 + gap / 2)
        for counted in target["calibrated"].values():
            assert counted["claims"] == counted["precision"]["n"]
        for attack in ATTACKS:
            claimed, member = rates.claims(first.arrays, attack)
            assert claimed.shape == member.shape == (3, 400)
    counted = [t["attacks"]["shadow"]["accuracy"]["k"] for t in first.values["targets"]]
    claimed, member = rates.claims(first.arrays, "shadow")
    assert (claimed == member).sum(1).tolist() == counted
    for name, scores in first.arrays.items():
        np.testing.assert_array_equal(scores, second.arrays[name])


def test_a_game_that_needs_more_points_than_there_are_names_its_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    with pytest.raises(CellError, match=r"4n = 8000"):
        compute(named.cell(dataclasses.replace(contests.DIGITS, n=2000)))


def test_a_paper_run_has_five_targets():
    assert len(contests.targets(profile("paper"))) >= 5


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_nothing_is_chosen_on_a_target_that_is_judged(monkeypatch, name):
    """By index: both searches, over attacks and over victims, have targets of their own."""
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: f"hash of {name}")
    chosen_on, judged = set(), {}
    for table in (t for t in tables.names() if t.startswith("membership-")):
        for row, cell in tables.get(table).cells(profile(name)):
            config = getattr(cell.config, "contest", cell.config) if cell else None
            indices = set(getattr(config, "targets", ()))
            if table == "membership-search" or row[0] == victims.SEARCHED:
                chosen_on |= indices
            else:
                judged.setdefault(table, set()).update(indices)
    fresh = judged.pop("membership-victims")
    others = set().union(*judged.values())
    assert chosen_on == set(contests.DEVELOPED)
    assert others >= set(contests.targets(profile(name)))
    assert len(fresh) == len(contests.targets(profile(name)))
    assert not chosen_on & (others | fresh) and not fresh & others
