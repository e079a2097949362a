"""Tables of the games of the chapter weaknesses/leakage: plans, assembly, specs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thesis_repro import data
from thesis_repro.experiments.leakage.cells import (
    ADVERSARIAL,
    CIFAR,
    CLEAN,
    DIGITS,
    FACES,
    GLORO,
    INVISIBLE,
    MARKED,
    TRAININGS,
    ModelConfig,
    Setup,
    model,
)
from thesis_repro.experiments.leakage.hypothesis import (
    ADVERSARIES,
    CONTROL,
    ENOUGH,
    GAMES,
    STRONG,
    WEAK,
    supported,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import (
    Claim,
    Column,
    Gathered,
    Plan,
    Row,
    Table,
    TableSpec,
)
from thesis_repro.weaknesses import leakage

TITLES = {"mnist-5k": "MNIST-5k", "lfw": "LFW", "cifar10": "CIFAR-10"}
PER_SEED = {"quick": 3, "paper": 7}
"""Models of each arm for each seed: 21 with the three seeds of a paper run."""


def setups(profile: Profile) -> tuple[Setup, ...]:
    """The data sets of a profile."""
    return (DIGITS,) if profile.name == "quick" else (FACES, CIFAR)


def models(profile: Profile, setup: Setup, method: str, arm: str) -> list[Cell | None]:
    """The cells of one arm; None where the data is not here."""
    if not data.available(setup.dataset):
        return [None]
    each = PER_SEED[profile.name]
    hashes = ((setup.dataset, data.fingerprint(setup.dataset)),)
    return [
        Cell(model, ModelConfig(setup, method, arm, each * seed + i, profile.device), hashes)
        for seed in profile.seeds
        for i in range(each)
    ]


def arms(game: str) -> tuple[str, str, str]:
    """Training, and the two arms of a game, the one with the watermark first."""
    return (GLORO, INVISIBLE, CLEAN) if game == CONTROL else (game, MARKED, CLEAN)


def property_cells(profile: Profile) -> Plan:
    """The plan of `leakage-property`: each row has the models of both arms, the marked first."""
    plan: list[tuple[Row, Cell | None]] = []
    # what costs most comes last, so that a run that is stopped has whole rows
    for game in sorted(GAMES, key=lambda game: game == ADVERSARIAL):
        for setup in setups(profile):
            method, *both = arms(game)
            cells = [cell for arm in both for cell in models(profile, setup, method, arm)]
            for adversary in ADVERSARIES:
                plan += [((TITLES[setup.dataset], game, adversary), cell) for cell in cells]
    return plan


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


def assemble_property(profile: Profile, gathered: Gathered) -> Mapping[Row, Mapping[str, Any]]:
    """Share of games won, with its exact binomial interval."""
    records: dict[Row, dict[str, Any]] = {}
    for row in sorted(gathered, key=lambda row: GAMES.index(row[1])):
        results = gathered[row]
        if not results:
            continue
        half = len(results) // 2
        outcome = attack(row[-1], results[:half], results[half:])
        games = len(outcome.true)
        low, high = statistics.clopper_pearson(outcome.wins, games)
        few = half < ENOUGH
        records[row] = {
            "accuracy": 100 * outcome.accuracy,
            "accuracy_low": 100 * low,
            "accuracy_high": 100 * high,
            "models": half,
            "seeds": len(profile.seeds),
            "interval": "Clopper-Pearson over games",
            "note": f"underpowered: {half} models per arm" if few else "",
        }
    return records


def watermark_cells(profile: Profile) -> Plan:
    """The plan of `leakage-watermark`; its cells are those of the game."""
    plan: list[tuple[Row, Cell | None]] = []
    for setup in setups(profile):
        for method in TRAININGS:
            for arm in (MARKED, CLEAN, *([INVISIBLE] if method == GLORO else [])):
                row = (TITLES[setup.dataset], method, arm)
                plan += [(row, cell) for cell in models(profile, setup, method, arm)]
    return plan


def assemble_watermark(profile: Profile, gathered: Gathered) -> Mapping[Row, Mapping[str, Any]]:
    """Means over models; an interval where there are three or more."""
    records = summarise(LEAKAGE_WATERMARK.spec, gathered)
    for row, record in records.items():
        count = len(gathered[row])
        record |= {"models": count, "seeds": len(profile.seeds)}
        if record["interval"]:
            record["interval"] = "Student t over models"
        record["independent"] = min(r.values["independent"] for r in gathered[row])
        del record["independent_low"], record["independent_high"]
    return records


def game_models(profile: Profile, setup: Setup = DIGITS) -> dict[tuple[str, str], list[Result]]:
    """All models of a data set, by training and arm, from the store or computed now."""
    return {
        (method, arm): [compute(c) for c in models(profile, setup, method, arm) if c is not None]
        for method in TRAININGS
        for arm in (MARKED, CLEAN)
    }


def claims(names: Sequence[Row], column: str, source: str) -> tuple[Claim, ...]:
    """Claims without a published value, one for each row."""
    return tuple(Claim(row, column, None, source) for row in names)


SLIDES = "thesis slides, reconstruction attacks on robust models; shown as pictures"
DATASET = Column("dataset", "data set", kind="key")
TRAINING = Column("training", "training", kind="key")
COUNT = Column("models", "models", format="{:.0f}")
PAPER_SETS = tuple(TITLES[setup.dataset] for setup in (FACES, CIFAR))
EACH_ARM = tuple(
    (title, method, arm)
    for title in PAPER_SETS
    for method in TRAININGS
    for arm in (MARKED, CLEAN, *([INVISIBLE] if method == GLORO else []))
)

LEAKAGE_PROPERTY = Table(
    TableSpec(
        name="leakage-property",
        caption=(
            "The property game: was a net trained with a word on 80% of its images, or without? "
            "Share of games won, one game with each net; guessing wins 50%. Weak: a trace of more "
            f"than {leakage.DEVIATIONS:g} standard deviations in one generic reconstruction. "
            "Shadows: all other nets but the target and one of the other arm. Models: per arm."
        ),
        chapter="weaknesses/leakage",
        keys=(DATASET, TRAINING, Column("adversary", "adversary", kind="key")),
        columns=(Column("accuracy", "games won", "%", drift=17.0), COUNT),
        rows=tuple((t, game, a) for t in PAPER_SETS for game in GAMES for a in ADVERSARIES),
        claims=claims([(t, GLORO, WEAK) for t in PAPER_SETS], "accuracy", SLIDES),
        trend=supported,
        trend_says="the information organization hypothesis is supported on every data set",
    ),
    property_cells,
    assemble_property,
)

LEAKAGE_WATERMARK = Table(
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
        rows=EACH_ARM,
        claims=claims([(t, GLORO, MARKED) for t in PAPER_SETS], "z", SLIDES),
    ),
    watermark_cells,
    assemble_watermark,
)
