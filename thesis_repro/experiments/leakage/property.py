"""The table leakage-property: was a net trained with a word on its images, or without?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from thesis_repro.experiments.leakage.hypothesis import (
    ADVERSARIES,
    CHOOSING,
    CONTROL,
    ENOUGH,
    GAMES,
    ROBUST,
    STRONG,
    WEAK,
    conditions,
)
from thesis_repro.experiments.leakage.models import (
    ADVERSARIAL,
    CLEAN,
    COUNT,
    DATASET,
    GLORO,
    INVISIBLE,
    MARKED,
    PAPER_SETS,
    STANDARD,
    TITLES,
    TRAINING,
    models,
    setups,
)
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, roc, statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses import leakage


def arms(game: str) -> tuple[str, str, str]:
    """Training, and the two arms of a game, the one with the watermark first."""
    return (GLORO, INVISIBLE, CLEAN) if game == CONTROL else (game, MARKED, CLEAN)


def plan(profile: Profile) -> Plan:
    """The plan of `leakage-property`: each row has the models of both arms, the marked first."""
    planned: list[tuple[Row, Cell | None]] = []
    # what costs most comes last, so that a run that is stopped has whole rows
    for game in sorted(GAMES, key=lambda game: game == ADVERSARIAL):
        for setup in setups(profile):
            method, *both = arms(game)
            cells = [cell for arm in both for cell in models(profile, setup, method, arm)]
            for adversary in ADVERSARIES:
                planned += [((TITLES[setup.dataset], game, adversary), cell) for cell in cells]
    return planned


def attack(adversary: str, marked: Sequence[Result], clean: Sequence[Result]) -> leakage.Outcome:
    """Play the games of one row."""
    z = [np.array([[r.values["z"]] for r in arm], float) for arm in (marked, clean)]
    if adversary == WEAK:
        return leakage.play(z[0], z[1], leakage.by_fixed_threshold)
    if adversary not in STRONG:
        return leakage.play(z[0], z[1], leakage.by_threshold)
    seen = [np.stack([r.arrays[STRONG[adversary]] for r in arm]) for arm in (marked, clean)]
    if adversary != CHOOSING:
        return leakage.play(seen[0].astype(float), seen[1].astype(float), leakage.by_classifier)
    both = [np.hstack(arm) for arm in zip(z, seen, strict=True)]
    return leakage.play(both[0], both[1], leakage.by_cross_validation)


def assemble(profile: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Share of games won, with its exact binomial interval."""
    ordered = sorted(gathered, key=lambda row: GAMES.index(row[1]))
    outcomes = {row: _played(row[-1], gathered[row]) for row in ordered}
    found = {row: _games(outcomes[row], len(profile.seeds)) for row in ordered}
    for (title, game, adversary), measured in found.items():
        base = outcomes.get((title, STANDARD, adversary))
        right = outcomes[title, game, adversary].right
        # numbered alike, models of all trainings have the same images, marks, start and order
        paired = base is not None and len(right) == len(base.right)
        if base is not None and paired and adversary == WEAK and game in ROBUST:
            p = Estimate(statistics.mcnemar(right.tolist(), base.right.tolist()))
            values = {**measured.values, "p": p}
            found[title, game, adversary] = replace(measured, values=values)
    return found


def _played(adversary: str, results: Sequence[Result]) -> leakage.Outcome:
    half = len(results) // 2
    return attack(adversary, results[:half], results[half:])


def _games(outcome: leakage.Outcome, seeds: int) -> Measurement:
    half = len(outcome.true) // 2
    share = statistics.exact_rate(outcome.wins, len(outcome.true), "Clopper-Pearson over games")
    note = f"underpowered: {half} models per arm" if half < ENOUGH else ""
    values = {
        "accuracy": replace(share, value=100 * outcome.accuracy),
        "models": Estimate(half),
        "auc": roc.area(outcome.scores.tolist(), outcome.true.tolist(), "nets"),
    }
    return Measurement(values, seeds, note)


TABLE = Table(
    TableSpec(
        name="leakage-property",
        caption=(
            "The property game: was a net trained with a word on 80% of its images, or without? "
            "Share of games won, one game with each net; guessing wins 50%. Weak: a trace of more "
            f"than {leakage.DEVIATIONS:g} standard deviations in one generic reconstruction. "
            "Shadows: all other nets but the target and one of the other arm; on them the "
            "adversary with reconstructions or z chooses what to go by. Models: per arm. "
            "AUC: chance that a net with the word scores above one without; 50% by guessing. "
            "p: McNemar's exact test against standard nets, game by game with nets of one number, "
            "of the weak adversary; Holm's adjustment over its family comes in the conditions."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, TRAINING, Column("adversary", "adversary", kind="key")),
        columns=(
            Column("accuracy", "games won", "%", drift=17.0),
            COUNT,
            Column("p", "p", format="{:.3f}", later=True),
            Column("auc", "AUC", "%", drift=23.0, later=True),
        ),
        rows=tuple((t, game, a) for t in PAPER_SETS for game in GAMES for a in ADVERSARIES),
        claims=published.claims("leakage-property"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
