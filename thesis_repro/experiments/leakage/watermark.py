"""The table leakage-watermark: traces of the word in reconstructions from grey."""

from collections.abc import Mapping
from dataclasses import replace

from thesis_repro.experiments.leakage.models import (
    CLEAN,
    COUNT,
    DATASET,
    DIGITS,
    GLORO,
    INVISIBLE,
    MARKED,
    PAPER_SETS,
    TITLES,
    TRAINING,
    TRAININGS,
    models,
    setups,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
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
    return measured


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
            "Independent: smallest p-value of the exact test that word and class are."
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
        ),
        rows=tuple(
            (t, method, arm) for t in PAPER_SETS for method in TRAININGS for arm in arms(method)
        ),
        claims=published.claims("leakage-watermark"),
    ),
    plan,
    assemble,
)
