import numpy as np
import pytest

from thesis_repro.experiments.membership import contests, point, rates, two_sided
from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.experiments.membership.two_sided import TWO_SIDED
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses.membership import contest, victims


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch):
    monkeypatch.setattr(contest, "RESERVE", 600)


def test_the_filter_gives_what_a_row_needs_and_no_target_s_members_enter(observations, monkeypatch):
    first = two_sided.filtered(observations.config).arrays
    claimed, member = rates.called_at(first, TWO_SIDED, 0.193)
    assert claimed.shape == member.shape == (3, 400)
    known, truth = first[f"known.{TWO_SIDED}"], first["known.member"]
    assert known.shape == truth.shape and truth.mean() == 0.5
    found = point.at_point(first, TWO_SIDED)
    assert {"tpr", "fpr", "precision", "exactly"} <= set(found.values)
    true = victims.members

    def turned(victim, game):
        return ~true(victim, game) if victim.role == "target" else true(victim, game)

    # the nets are trained already, and what is known of targets' points stays
    monkeypatch.setattr(contest.victims, "members", turned)
    second = two_sided.filtered(observations.config).arrays
    for name, scores in first.items():
        expected = ~scores if name.startswith("member.") else scores
        np.testing.assert_array_equal(second[name], expected)


def test_a_proxy_that_saw_a_point_that_is_judged_is_refused(observations, monkeypatch):
    clean = contest.parts

    def leaky(total, n):
        part = clean(total, n)
        pool = part.pool.copy()
        pool[np.flatnonzero(observations.member["shadow", 0])[0]] = part.universe[5]
        return contest.Parts(part.universe, pool, part.reserve)

    monkeypatch.setattr(contest, "parts", leaky)
    with pytest.raises(ValueError, match="splits overlap: point"):
        two_sided.filtered(observations.config)


def test_its_cells_are_its_own_and_a_paper_run_has_ten_proxies(monkeypatch):
    monkeypatch.setattr(contests.data, "available", lambda name: True)
    monkeypatch.setattr(contests.data, "fingerprint", lambda name: f"hash of {name}")
    quick, paper = profile("quick"), profile("paper")
    cells = dict(point.plan(quick))
    assert cells[PLAIN, TWO_SIDED].function is two_sided.filtered
    others = {cell.key for (_, attack), cell in cells.items() if attack != TWO_SIDED}
    assert others == {contests.contest_cell(t, quick).key for t in contests.TRAININGS}
    assert dict(point.plan(paper))[PLAIN, TWO_SIDED].config.shadows >= 10
