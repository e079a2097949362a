"""The table leakage-property: was a net trained with a word on its images, or without?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from thesis_repro.experiments.leakage.hypothesis import (
    ADVERSARIES,
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
from thesis_repro.tables import published, statistics
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
    if adversary in STRONG:
        name = STRONG[adversary]
        features = [
            np.stack([r.arrays[name] for r in arm]).astype(float) for arm in (marked, clean)
        ]
        return leakage.play(features[0], features[1], leakage.by_classifier)
    z = [np.array([[r.values["z"]] for r in arm], float) for arm in (marked, clean)]
    if adversary == WEAK:
        return leakage.play(z[0], z[1], lambda _, __, target: leakage.weak(target[:, 0]))
    return leakage.play(z[0], z[1], leakage.by_threshold)


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
    share = replace(share, value=100 * outcome.accuracy)
    return Measurement({"accuracy": share, "models": Estimate(half)}, seeds, note)


TABLE = Table(
    TableSpec(
        name="leakage-property",
        caption=(
            "The property game: was a net trained with a word on 80% of its images, or without? "
            "Share of games won, one game with each net; guessing wins 50%. Weak: a trace of more "
            f"than {leakage.DEVIATIONS:g} standard deviations in one generic reconstruction. "
            "Shadows: all other nets but the target and one of the other arm. Models: per arm. "
            "p: McNemar's exact test against standard nets, game by game with nets of one number, "
            "of the weak adversary; Holm's adjustment over its family comes in the conditions."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, TRAINING, Column("adversary", "adversary", kind="key")),
        columns=(
            Column("accuracy", "games won", "%", drift=17.0),
            COUNT,
            Column("p", "p", format="{:.3f}", later=True),
        ),
        rows=tuple((t, game, a) for t in PAPER_SETS for game in GAMES for a in ADVERSARIES),
        claims=published.claims("leakage-property"),
        conditions=conditions,
    ),
    plan,
    assemble,
)
