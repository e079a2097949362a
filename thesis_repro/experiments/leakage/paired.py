"""The table leakage-paired: the information organization hypothesis, tested as it was written down.

What follows was committed before any of the paper-scale nets that it is about was trained.

Nets of one number have the same images, marks, first weights and order of batches, however they
are trained. With z the weak adversary's score in a net's reconstruction from grey,
D = [z(robust, marked) - z(robust, clean)] - [z(standard, marked) - z(standard, clean)].

The hypothesis says that the mean of D is above zero: robust training makes a word that is in the
images easier to find for an adversary who knows nothing. It is tested one-sided, by permutation of
signs over `FRESH` numbers, for each robust training on each data set; the p-values of this family
of four are adjusted by Holm's method, and it holds where they are below `LEVEL`. Numbers below
`FRESH` were looked at before, so none of their nets counts.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.leakage.models import (
    ADVERSARIAL,
    CLEAN,
    COUNT,
    DATASET,
    GLORO,
    MARKED,
    PAPER_SETS,
    STANDARD,
    TITLES,
    TRAINING,
    ModelConfig,
    model,
    setups,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Family, Gathered, Plan, Row, Table, TableSpec

FRESH = range(21, 42)
"""Numbers of the nets at the paper's scale."""

QUICK = range(3)
"""Numbers of the quick run: those of the game, so that no net is trained for this table."""

LEVEL = 0.05
ROBUST = (GLORO, ADVERSARIAL)
ARMS = ((MARKED, 1), (CLEAN, -1))
"""The arms of a net's difference, with their signs."""


def plan(profile: Profile) -> Plan:
    """The plan of `leakage-paired`: a row has its robust nets, then the standard ones."""
    numbers = QUICK if profile.name == "quick" else FRESH
    planned: list[tuple[Row, Cell | None]] = []
    for method in ROBUST:
        for setup in setups(profile):
            row = (TITLES[setup.dataset], method)
            if not data.available(setup.dataset):
                planned.append((row, None))
                continue
            known = ((setup.dataset, data.fingerprint(setup.dataset)),)
            planned += [
                (row, Cell(model, ModelConfig(setup, trained, arm, n, profile.device), known))
                for trained in (method, STANDARD)
                for arm, _ in ARMS
                for n in numbers
            ]
    return planned


def differences(results: Sequence[Result]) -> list[list[float]]:
    """z of the marked net less that of the clean one: of each robust net, of each standard one.

    results : of a row, in the order of the plan
    """
    z = [float(result.values["z"]) for result in results]
    each = len(z) // (2 * len(ARMS))
    parts = [z[at : at + each] for at in range(0, len(z), each)]
    return [[a - b for a, b in zip(*parts[at : at + 2], strict=True)] for at in (0, 2)]


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """The two mean differences, how far they are apart, and its p-value with Holm's adjustment."""
    numbers = QUICK if profile.name == "quick" else FRESH
    found: dict[Row, dict[str, Estimate | str]] = {}
    for row, results in gathered.items():
        if len(results) != 2 * len(ARMS) * len(numbers):
            continue
        robust, standard = differences(results)
        apart, p = statistics.paired(robust, standard, "nets")
        found[row] = {
            "robust": statistics.mean_over(robust, "nets"),
            "standard": statistics.mean_over(standard, "nets"),
            "apart": apart,
            "p": Estimate(p),
            "models": Estimate(len(robust)),
        }
    # a test that has not run counts in its family all the same
    family = len(ROBUST) * len(setups(profile))
    raw = [_value(values["p"]) for values in found.values()]
    adjusted = statistics.holm(raw + [1.0] * (family - len(raw)))
    for values, p in zip(found.values(), adjusted, strict=False):
        values["holm"] = Estimate(float(p))
    return {row: Measurement(values, len(profile.seeds)) for row, values in found.items()}


def _value(estimate: Estimate | str) -> float:
    assert isinstance(estimate, Estimate)
    return estimate.value


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """The hypothesis for each robust training on each data set, as it was written down."""
    return [
        Condition(
            f"{row.dataset}: {row.training} training makes the word easier to find",
            f"mean difference above 0, p < {LEVEL:g} after Holm",
            f"{row.apart:+.2f}, p = {row.holm:.3g}".replace("-", "−"),
            bool(row.apart > 0 and row.holm < LEVEL),
        )
        for row in frame.itertuples()
    ]


TABLE = Table(
    TableSpec(
        name="leakage-paired",
        caption=(
            "The information organization hypothesis, tested as it was written down beforehand. "
            "z: how clearly a net's reconstruction from grey shows the word, marked net less "
            "clean net. Difference: robust less standard, over nets of the same number, which "
            "share images, marks, start and order. p: one-sided, permutation of signs; Holm: over "
            "the family of all robust trainings and data sets."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, TRAINING),
        columns=(
            Column("robust", "z, robust", format="{:z.2f}", drift=2.0),
            Column("standard", "z, standard", format="{:z.2f}", drift=2.0),
            Column("apart", "difference", format="{:z.2f}", drift=2.0),
            Column("p", "p", format="{:.4f}", drift=1.0),
            Column("holm", "p, Holm", format="{:.4f}", drift=1.0),
            COUNT,
        ),
        rows=tuple((title, method) for title in PAPER_SETS for method in ROBUST),
        family=Family(),
        claims=published.claims("leakage-paired"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
