from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.experiments.membership.mnist import PUBLISHED, TABLE, assemble, conditions
from thesis_repro.tables import verdict
from thesis_repro.tables.claims import Claim
from thesis_repro.tables.estimate import intervals
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses.membership.guesses import GENERAL, NAIVE, SHADOW


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_assembly_averages_targets(contested):
    (record,) = assemble(None, {(PLAIN, GENERAL): [contested()]}).values()
    assert record.estimate("gap").value == pytest.approx(1.1) and record.estimate(
        "accuracy"
    ).value == pytest.approx(55.0)
    assert record.estimate("precision").value == 60.0 and "3 targets" in intervals(
        record.values.values()
    )


def test_the_naive_attack_is_an_identity_of_the_gap():
    rows = pd.DataFrame({"attack": [NAIVE, SHADOW], "gap": [1.2, 1.2], "accuracy": [50.6, 55.0]})
    assert [c.holds for c in conditions(rows)] == [True]
    assert [c.holds for c in conditions(rows.assign(accuracy=50.8))] == [False]


def test_the_numbers_that_enter_a_cell_are_those_that_are_published():
    quoted = {q.row[1].partition(",")[0]: q.values for q in TABLE.spec.quoted}
    found = {
        attack: (line["accuracy"], line["precision"])
        for attack, line in (
            (NAIVE, quoted["naive"]),
            (SHADOW, quoted["shadow"]),
            (GENERAL, quoted["white-box"]),
        )
    }
    assert found == PUBLISHED


def test_the_lead_over_the_shadow_attack_is_paired_over_targets_and_points(contested):
    rng = np.random.default_rng(0)
    arrays = {}
    for target in range(3):
        member = np.arange(1000) < 500
        easy = rng.random(1000) < 0.3  # right for both attacks; else both guess
        shadow = np.where(easy, member, rng.random(1000) < 0.5)
        ours = np.where(rng.random(1000) < 0.1, member, shadow)  # mends a tenth
        arrays |= {f"member.{target}": member}
        arrays |= {f"claimed.{SHADOW}.{target}": shadow, f"claimed.{GENERAL}.{target}": ours}
    result = replace(contested(), arrays=arrays)
    found = assemble(None, {(PLAIN, name): [result] for name in (GENERAL, SHADOW)})
    lead = found[PLAIN, GENERAL].estimate("lead")
    assert lead.low < 3.5 < lead.high and lead.high - lead.low < 2.5
    assert lead.how == "bootstrap over 3 targets and their 1,000 points"
    frame = Frame(TABLE.spec, "paper-cpu", tabulate(TABLE.spec, found))
    claim = Claim((PLAIN, GENERAL), "accuracy", 6.9, "s", kind="order", ahead_of=((PLAIN, SHADOW),))
    judged = verdict.lead(claim, frame, (PLAIN, SHADOW))
    assert (judged.low, judged.high) == (lead.low, lead.high)
    recorded = verdict.lead(
        claim, replace(frame, data=frame.data.assign(lead=np.nan)), (PLAIN, SHADOW)
    )
    assert recorded.high - recorded.low > 2 * (lead.high - lead.low)
