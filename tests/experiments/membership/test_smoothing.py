from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments.membership import smoothing
from thesis_repro.experiments.membership.contests import PLAIN, SMOOTH, contest_cell
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, OFFLINE, RMIA


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(smoothing.TABLE)


def test_rows_that_another_table_has_share_its_contest():
    quick = profile("quick")
    cells = dict(smoothing.plan(quick))
    assert cells["0",] == contest_cell(PLAIN, quick)
    assert cells["0.1",] == contest_cell(SMOOTH, quick)
    sizes = {cell.config.victim.n for _, cell in smoothing.plan(profile("paper")) if cell}
    assert len(sizes) <= 1  # else a gap is of the number of members, too


@pytest.fixture
def smoothed(contested):
    """A result by the shift of its members, and the targets' share of right answers."""

    def made(shift, test=989):
        rng = np.random.default_rng(7)
        member = np.arange(2000) < 1000
        arrays = {"known.member": member} | {f"member.{i}": member for i in range(3)}
        for attack in (GENERAL, LOSS, OFFLINE, RMIA):
            arrays[f"known.{attack}"] = rng.standard_normal(2000) + shift * member
            for i in range(3):
                arrays[f"{attack}.{i}"] = rng.standard_normal(2000) + shift * member
        found = contested()
        targets = [t | {"test": {"k": test, "n": 1000}} for t in found.values["targets"]]
        return replace(found, values={"targets": targets}, arrays=arrays)

    return made


def judged(results):
    rows = {(f"{s:g}",): [r] for s, r in zip(smoothing.SMOOTHINGS, results, strict=False)}
    frame = tabulate(smoothing.TABLE.spec, smoothing.assemble(None, rows))
    ran = frame[frame["status"] == "run"]
    return ran, smoothing.conditions(ran)


def test_a_larger_leak_at_a_smaller_gap_is_what_was_stated(smoothed):
    frame, found = judged([smoothed(0.3), smoothed(1.0, 990)])
    assert [c.holds for c in found] == [True] * 4
    line = frame.set_index("smoothing").loc["0.1" if "0.1" in set(frame["smoothing"]) else "0.05"]
    assert line["lead_low"] < line["ours"] - frame["ours"].iloc[0] < line["lead_high"]
    claimed = {c.column for c in smoothing.TABLE.spec.claims}
    assert claimed == {c.says for c in found}


def test_no_larger_leak_or_a_wider_gap_is_told(smoothed):
    _, found = judged([smoothed(0.3), smoothed(1.0, 990), smoothed(0.3, 980)])
    assert [c.holds for c in found] == [False] * 4
    ran, _ = judged([smoothed(0.3), smoothed(1.0, 990)])
    meets = [c.holds for c in smoothing.conditions(ran.assign(lead_rmia_low=-1.0))]
    assert meets == [True, True, None, True]
    assert judged([smoothed(0.3)])[1] == []
    assert smoothing.conditions(pd.DataFrame({"smoothing": ["0.1"]})) == []


def test_other_targets_are_not_compared(smoothed):
    other = smoothed(1.0)
    turned = {n: ~v if n.startswith("member.") else v for n, v in other.arrays.items()}
    with pytest.raises(ValueError, match="the same targets and members"):
        judged([smoothed(0.3), replace(other, arrays=turned)])
