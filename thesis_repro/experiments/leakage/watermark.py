"""The table leakage-watermark: traces of the word in reconstructions from grey."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from thesis_repro.experiments.leakage.models import (
    CLEAN,
    COUNT,
    DATASET,
    DIGITS,
    GLORO,
    INVISIBLE,
    MARKED,
    PAPER_SETS,
    PER_SEED,
    STANDARD,
    TITLES,
    TRAINING,
    TRAININGS,
    models,
    setups,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec


def arms(method: str) -> tuple[str, ...]:
    """The arms of a training's rows: the word that nobody sees is asked of GloRo nets alone."""
    return (MARKED, CLEAN, INVISIBLE) if method == GLORO else (MARKED, CLEAN)


def plan(profile: Profile) -> Plan:
    """The plan of `leakage-watermark`; its cells are those of the game."""
    planned: list[tuple[Row, Cell | None]] = []
    for setup in setups(profile):
        for method in TRAININGS:
            for arm in arms(method):
                row = (TITLES[setup.dataset], method, arm)
                planned += [(row, cell) for cell in models(profile, setup, method, arm)]
    return planned


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Means over models; an interval where there are three or more."""
    measured = {}
    for row, found in summarise(TABLE.spec, gathered).items():
        results = gathered[row]
        values = {
            name: replace(one, how=one.how and "Student t over models")
            for name, one in found.values.items()
            if isinstance(one, Estimate)
        }
        values["independent"] = Estimate(min(r.values["independent"] for r in results))
        values["models"] = Estimate(len(results))
        measured[row] = replace(found, values=values, seeds=len(profile.seeds))
    first = 0 if profile.name == "quick" else SEEN
    for title, method, arm in list(measured):
        if method == STANDARD or arm != MARKED:
            continue
        four = [
            [r.values["z"] for r in gathered.get((title, one, of), ())][first:]
            for one in (method, STANDARD)
            for of in (MARKED, CLEAN)
        ]
        if len({len(z) for z in four}) == 1 and len(four[0]) >= statistics.ENOUGH_SEEDS:
            row = title, method, arm
            more, p = shown_more(*four)
            values = {**measured[row].values, "more": more, "p": Estimate(p)}
            measured[row] = replace(measured[row], values=values)
    return measured


SEEN = 3 * PER_SEED["paper"]
"""Models in whose record the difference was seen: what is to test it has higher numbers."""


def shown_more(
    marked: Sequence[float],
    clean: Sequence[float],
    base_marked: Sequence[float],
    base_clean: Sequence[float],
) -> tuple[Estimate, float]:
    """How much more z the word adds in one training than in standard nets, and a p-value.

    Lists are by number: nets of one number have the same images, marks, start and order.
    """
    robust, standard = (
        [a - b for a, b in zip(*both, strict=True)]
        for both in ((marked, clean), (base_marked, base_clean))
    )
    return statistics.paired(robust, standard, "nets")


def conditions(run: pd.DataFrame) -> list[Condition]:
    """On every data set both robust trainings show the word more than standard training does."""
    robust = run[(run["training"] != STANDARD) & (run["arm"] == MARKED)]
    robust = robust.reindex(columns=[*run.columns, *{"more", "p"} - set(run.columns)])
    known = robust[robust["p"].notna()]
    adjusted = dict(zip(known.index, statistics.holm(list(known["p"])), strict=True))
    found = []
    for title, rows in robust.groupby("dataset", sort=False):
        said = [
            f"{line['training']} {line['more']:z.1f}, p = {adjusted[index]:.2g}"
            for index, line in rows.iterrows()
            if index in adjusted
        ]
        there = len(said) == len(TRAININGS) - 1
        family = f" over {len(known)}" if len(known) else ""
        found.append(
            Condition(
                f"{title}: the word shows more in robust nets than in standard ones, net by net",
                f"on each robust training more z, p < 0.05 by Holm{family}",
                "; ".join(said) or "no pairs are recorded",
                all(adjusted[index] < 0.05 for index in rows.index) if there else None,
            )
        )
    return found


def game_models(profile: Profile) -> dict[tuple[str, str], list[Result]]:
    """All models of digits, by training and arm, from the store or computed now."""
    return {
        (method, arm): [compute(c) for c in models(profile, DIGITS, method, arm) if c is not None]
        for method in TRAININGS
        for arm in (MARKED, CLEAN)
    }


TABLE = Table(
    TableSpec(
        name="leakage-watermark",
        caption=(
            "Traces of the word in reconstructions from grey: size of its correlation with them "
            "in its true place and elsewhere (mean over places), and z, the true one in standard "
            "deviations of the others above their mean. Accuracy on clean test images. "
            "Independent: smallest p-value of the exact test that word and class are. More: by how "
            "much more z the word adds than in standard nets, nets of one number paired, and p of "
            "the test by permuted signs; at paper scale only models from number "
            f"{SEEN} on, since the difference was seen in the others."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, TRAINING, Column("arm", "arm", kind="key")),
        columns=(
            Column("true", "true place", format="{:.2f}", drift=0.1),
            Column("others", "elsewhere", format="{:.2f}", drift=0.05),
            Column("z", "z", format="{:z.1f}", drift=2.0),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("independent", "independent", "p", "{:.2f}"),
            COUNT,
            Column("more", "more z", format="{:z.1f}", later=True),
            Column("p", "p", format="{:.3f}", later=True),
        ),
        rows=tuple(
            (t, method, arm) for t in PAPER_SETS for method in TRAININGS for arm in arms(method)
        ),
        claims=published.claims("leakage-watermark"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
