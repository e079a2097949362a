"""The table membership-audit: today's attacks on each way of training, beside what is proven.

Stated before the run: at epsilon = 16 the learned attack keeps at least as much of its advantage as
the paper's words ask for (`KEPT`), and no audit finds more than what is proven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_repro import data
from thesis_repro.experiments.membership import dp
from thesis_repro.experiments.membership.audit_cells import (
    CANARIES,
    LIRA_FEW,
    LIRA_MANY,
    MANY,
    QUANTILE,
    RMIA_FEW,
    RMIA_MANY,
    canaried,
    referred,
    regressed,
)
from thesis_repro.experiments.membership.contests import (
    ATTACK,
    DEVELOPED,
    FPRS,
    PLAIN,
    SHADOWS,
    SMOOTH,
    SMOOTH_N,
    TRAINING,
    contest_of,
    targets,
    victim,
)
from thesis_repro.experiments.membership.rates import answers, rate, scores
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import audited, one_run, private
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.contest import Contest, Floats
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, OFFLINE, RMIA
from thesis_repro.weaknesses.membership.victims import Victim

IN_CONTEST = {LOSS: LOSS, LIRA_FEW: OFFLINE, RMIA_FEW: RMIA, GENERAL: GENERAL}
"""Attacks that a contest holds, by their names there."""
ATTACKS = (LOSS, LIRA_FEW, RMIA_FEW, QUANTILE, GENERAL, CANARIES)
PRIVATE = {f"DP-SGD, ε = {e:g}": e for e in reversed(dp.EPSILONS)}
GLORO, RADIUS = "GloRo", 0.3
AUDITED = (PLAIN, SMOOTH, *PRIVATE, GLORO)
REFERRED = (PLAIN,)
"""Trainings that so many references are trained for."""
MANY_LEAVE = 4
"""One in so many members is a canary; guesses are made about half of these."""


def trained(name: str, profile: Profile) -> Victim | None:
    """How the nets of a row are trained; None where Opacus is absent."""
    if name in PRIVATE:
        return dp.defence(name, profile)
    base = victim(SMOOTH if name == SMOOTH else PLAIN, profile)
    if profile.name == "paper":
        base = replace(base, n=SMOOTH_N)
    return audited.audited(base, radius=RADIUS) if name == GLORO else base


@dataclass(frozen=True)
class _Cells:
    """The cells of one training."""

    one: Victim
    profile: Profile

    def of(self, attack: str) -> Cell | None:
        """The cell that has an attack."""
        if not data.available(self.one.dataset):
            return None
        hashes = named.fingerprints(self.one)
        if attack in IN_CONTEST:
            return contest_of(self.one, self.profile)
        if attack == CANARIES:
            planted = audited.audited(self.one, canaries=self.one.n // MANY_LEAVE)
            return Cell(canaried, planted, hashes)
        shadows = SHADOWS if attack == QUANTILE else MANY
        config = Contest(self.one, targets(self.profile), shadows, development=DEVELOPED)
        return Cell(regressed if attack == QUANTILE else referred, config, hashes)


def rows() -> tuple[Row, ...]:
    """Training and attack of each row."""
    many = dict.fromkeys(REFERRED, (LIRA_MANY, RMIA_MANY))
    return tuple((name, a) for name in AUDITED for a in (*ATTACKS, *many.get(name, ())))


def plan(profile: Profile) -> Plan:
    """The plan of `membership-audit`; attacks of one training share its nets."""
    nets = {name: trained(name, profile) for name in AUDITED}
    found: list[tuple[Row, Cell | None]] = []
    for name, attack in rows():
        one = nets[name]
        found.append(((name, attack), None if one is None else _Cells(one, profile).of(attack)))
    return found


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each attack over its targets; canaries from their one net."""
    return {
        row: _canaries(row[0], results[0]) if row[1] == CANARIES else _attack(row[1], results[0])
        for row, results in gathered.items()
    }


def _attack(attack: str, result: Result) -> Measurement:
    inside = IN_CONTEST.get(attack, attack)
    found = scores(result.arrays, inside)
    assert found is not None, attack  # each cell gives the scores of the attacks that it is for
    values, lacking = low(*found)
    areas = [100 * games.auc(one, member) for one, member in zip(*found, strict=True)]
    values["auc"] = statistics.summarise_number(areas, "targets")
    if attack in IN_CONTEST:
        trained = result.values["targets"]
        values["accuracy"] = answers(trained, inside, result.arrays).estimate("accuracy")
        values["test"] = rate([t["test"] for t in trained])
    n = found[1].shape[1] // 2
    note = f"{' and '.join(lacking)} not measurable at n = {n:,}" if lacking else ""
    return Measurement(values, len(areas), note)


def low(found: Floats, member: NDArray[np.bool_]) -> tuple[dict[str, Estimate | str], list[str]]:
    """TPR where false alarms are few, of scores (targets, points); and rates not measurable."""
    values: dict[str, Estimate | str] = {}
    lacking = []
    for (name, fpr), column in zip(FPRS.items(), ("tpr1", "tpr01"), strict=True):
        ends = [games.for_fpr(one, truth, fpr) for one, truth in zip(found, member, strict=True)]
        if min(allowed for _, allowed in ends) < games.ENOUGH_FALSE_ALARMS:
            lacking.append(name)
            continue
        claimed = found > np.array([threshold for threshold, _ in ends])[:, None]
        values[column] = statistics.over_targets_and_points(claimed & member, member)
    return values, lacking


def _canaries(name: str, result: Result) -> Measurement:
    found = result.values
    delta = private.DELTA if name in PRIVATE else 0.0
    about = found["canaries"], found["guesses"]
    values: dict[str, Estimate | str] = {
        "test": rate([found["test"]]),
        "epsilon": Estimate(one_run.epsilon_at_least(*about, found["right"], delta)),
        "most": Estimate(one_run.epsilon_at_least(*about, found["guesses"], delta)),
    }
    if name in PRIVATE:
        values["proven"] = Estimate(PRIVATE[name])
    note = f"{found['right']} of {found['guesses']} guesses right, {found['canaries']} canaries"
    return Measurement(values, 1, note)


def conditions(frame: pd.DataFrame) -> Sequence[Condition]:
    """What budgets leave of the learned attack, and whether an audit finds more than is proven."""
    by = frame.set_index(["training", "attack"])
    least, most = (f"DP-SGD, ε = {epsilon:g}" for epsilon in (min(dp.EPSILONS), max(dp.EPSILONS)))
    found = []
    questions = (least, dp.weaker), (least, dp.like_guessing), (most, dp.nearly_as_good)
    for training, question in questions:
        if {(PLAIN, GENERAL), (training, GENERAL)} <= set(by.index):
            attack = f"{training}: the learned attack"
            found.append(question(attack, by.loc[(training, GENERAL)], by.loc[(PLAIN, GENERAL)]))
    audits = frame[(frame["attack"] == CANARIES) & frame["proven"].notna()]
    if len(audits):
        spare = float((audits["proven"] - audits["epsilon"]).min())
        found.append(
            Condition(
                "no audit finds more than what is proven",
                "empirical ε at most the proven one",
                f"{spare:.2f} below at the least".replace("-", "−"),
                spare >= 0,
            )
        )
    return found


TABLE = Table(
    TableSpec(
        name="membership-audit",
        caption=(
            "Attacks of today on six trainings. Accuracy: threshold from shadows. A rate is "
            "measurable where it allows 10 false alarms. Canaries: one net in which a quarter of "
            "the members' number have a wrong label and a coin each; empirical ε: what guesses "
            "about half of them rule out at 95% confidence; could show: the same with every guess "
            "right; proven: at δ = 1e-5. Digits; quick: 1,000 members; paper: 12,000; "
            f"GloRo: L2 radius {RADIUS:g}."
        ),
        chapter="weaknesses/membership",
        keys=(TRAINING, ATTACK),
        columns=(
            Column("test", "test accuracy", "%", drift=2.0),
            Column("auc", "AUC", "%", drift=2.0),
            Column("accuracy", "accuracy", "%", drift=2.5),
            Column("tpr1", "TPR at 1%", "%", "{:.2f}", drift=2.0),
            Column("tpr01", "TPR at 0.1%", "%", "{:.2f}", drift=1.0),
            Column("epsilon", "empirical ε", format="{:.2f}", drift=0.5),
            Column("most", "could show", format="{:.2f}", drift=0.01),
            Column("proven", "proven ε", format="{:g}", drift=0.01),
        ),
        rows=rows(),
        claims=published.claims("membership-audit"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
