"""The table arc-trainings: what a way of training does to every sign of soundness at once."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.arc.soundness import (
    AUC,
    BIAS,
    CLEAN,
    ERROR,
    MARK,
    MEASURES,
    OBJECT,
    UNITS,
    VRA,
    SoundConfig,
    measured,
)
from thesis_repro.experiments.arc.universe import (
    ADVERSARIAL,
    EMMA,
    GLORO,
    PRIVATE,
    SMOOTHED,
    STANDARD,
    TRAININGS,
    Trained,
)
from thesis_repro.lab.cells import Cell
from thesis_repro.lab.profiles import SEEDS, Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import private

HIGHER, LOWER, SAME = "higher", "lower", "not told apart"
DIRECTIONS: dict[tuple[str, str], str] = {
    (GLORO, CLEAN): LOWER,
    (GLORO, VRA): HIGHER,
    (EMMA, VRA): HIGHER,
    (ADVERSARIAL, VRA): HIGHER,
    (PRIVATE, CLEAN): LOWER,
    (GLORO, ERROR): HIGHER,
    (SMOOTHED, ERROR): HIGHER,
    (GLORO, OBJECT): HIGHER,
    (ADVERSARIAL, OBJECT): HIGHER,
    (GLORO, UNITS): LOWER,
    (PRIVATE, BIAS): HIGHER,
    (PRIVATE, AUC): LOWER,
    (GLORO, AUC): LOWER,
    (SMOOTHED, AUC): HIGHER,
    (GLORO, MARK): HIGHER,
    (ADVERSARIAL, MARK): HIGHER,
}
"""What was expected against standard training, written down before any run."""
LEVEL = 0.05
LEAST = 4
"""Nets of each training: with two pairs on opposite halves, each point has references."""
QUICK = Trained("mnist-5k", STANDARD, n=400, epochs=6, batch_size=50, attack_steps=3)
PAPER = Trained("mnist", STANDARD, n=6000, epochs=6, batch_size=50, attack_steps=3)


def numbers(profile: Profile) -> tuple[int, ...]:
    """Numbers of the nets of each training: a pair for each seed, for one seed two."""
    many = max(2, math.ceil(LEAST / len(profile.seeds)))
    return tuple(many * seed + i for seed in profile.seeds for i in range(many))


def cells(profile: Profile) -> Plan:
    """The plan of `arc-trainings`: the measures of a net share its cell."""
    base = QUICK if profile.name == "quick" else PAPER
    if not data.available(base.dataset):
        return [((name, measure), None) for name in TRAININGS for measure in MEASURES]
    chosen = numbers(profile)
    plan: list[tuple[Row, Cell | None]] = []
    for name in TRAININGS:
        if name == PRIVATE and not private.available():
            plan += [((name, measure), None) for measure in MEASURES]
            continue
        for number in chosen:
            net = Trained(
                base.dataset, name, base.n, base.epochs, base.batch_size, base.attack_steps, number
            )
            one = Cell(measured, SoundConfig(net, chosen), named.fingerprints(net))
            plan += [((name, measure), one) for measure in MEASURES]
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Each measure over nets, its paired difference from standard training, and the sign of it."""
    values = {
        row: {r.values["number"]: float(r.values[row[1]]) for r in results}
        for row, results in gathered.items()
    }
    gaps = {row: paired(one, values.get((STANDARD, row[1]), {})) for row, one in values.items()}
    gaps = {row: gap for row, gap in gaps.items() if row[0] != STANDARD and len(gap) > 1}
    adjusted = dict(zip(gaps, statistics.holm([p_value(g) for g in gaps.values()]), strict=True))
    found = {}
    for row, by_number in values.items():
        one = list(by_number.values())
        about: dict[str, Estimate | str] = {"value": statistics.summarise_number(one, "nets")}
        if row in gaps:
            about["difference"] = statistics.mean_over(list(gaps[row]), "nets")
            about["p"] = Estimate(adjusted[row])
            about["sign"] = sign(float(gaps[row].mean()), adjusted[row])
            about["expected"] = DIRECTIONS.get((row[0], row[1]), "")
        found[row] = Measurement(about, seeds=len(one))
    return found


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> np.ndarray:
    """The differences of nets that share their number."""
    return np.array([one[number] - other[number] for number in one if number in other])


def p_value(gaps: np.ndarray) -> float:
    """Two-sided p-value of Student's paired test; 1 where nothing differs."""
    from scipy.stats import ttest_1samp

    if np.ptp(gaps) == 0:
        return 1.0 if gaps[0] == 0 else 0.0
    return float(ttest_1samp(gaps, 0.0).pvalue)


def sign(difference: float, p: float) -> str:
    """What is said of a difference."""
    if not p < LEVEL or math.isnan(difference):
        return SAME
    return HIGHER if difference > 0 else LOWER


def _sized(net: Trained) -> str:
    """How much a net trains on, in words."""
    return (
        f"a universe of about {2 * net.n:,} digits, {net.epochs} epochs "
        f"({net.private_epochs} of DP-SGD), attacks of {net.attack_steps} steps"
    )


def conditions(frame: pd.DataFrame) -> Sequence[Condition]:
    """Each direction that was written down, with the sign that was found."""
    by = frame.set_index(["training", "measure"])
    tests = int(frame["p"].notna().sum())
    found = []
    for (name, measure), expected in DIRECTIONS.items():
        if (name, measure) not in by.index:
            continue
        row = by.loc[(name, measure)]
        if pd.isna(row["p"]):  # its twins of standard training have not run
            continue
        p = f"p = {row['p']:.2g}" if row["p"] >= 0.001 else "p < 0.001"
        found.append(
            Condition(
                f"{name}: {measure.partition(' (')[0]} {expected}",
                f"{expected} than standard, p below {LEVEL:g} by Holm over {tests} tests",
                f"{row['difference']:+.2f}, {p}".replace("-", "−"),
                sign(row["difference"], row["p"]) == expected,
            )
        )
    return found


TABLE = Table(
    TableSpec(
        name="arc-trainings",
        caption=(
            "One net (2C2F, digits), trained in six ways on half of a universe; nets of one number "
            "share members, first weights and order of batches (DP-SGD draws batches of its own). "
            f"At full scale {_sized(PAPER)}, "
            f"{2 * len(SEEDS['paper'])} nets of each training and as many twins "
            "with a watermark: a small table of this book's own. Each sign of soundness: its mean "
            "over nets, the paired difference from standard training, and what can be said of it "
            "(Student's paired test, Holm over all trainings and signs). Expected: written down "
            "before any run."
        ),
        chapter="arc/arc",
        keys=(Column("training", "training", kind="key"), Column("measure", "sign", kind="key")),
        columns=(
            Column("value", "value", format="{:.2f}", drift=25.0),
            Column("difference", "difference", format="{:+.2f}", drift=25.0),
            Column("p", "p, Holm", format="{:.2g}"),
            Column("sign", "against standard", kind="text"),
            Column("expected", "expected", kind="text"),
        ),
        rows=tuple((name, measure) for name in TRAININGS for measure in MEASURES),
        claims=published.claims("arc-trainings"),
        conditions=conditions,
    ),
    cells,
    assemble,
    whole=True,
)
