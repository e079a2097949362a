"""What the tables of the chapter weaknesses/membership share: contests of nets, as cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_repro import data
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.spec import Column, Plan
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import black_box, calibration
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.contest import (
    RIDGE,
    Bools,
    Contest,
    Floats,
    Observations,
    shown,
)
from thesis_repro.weaknesses.membership.guesses import (
    ATTACKS,
    GENERAL,
    LOSS,
    NAIVE,
    ONLINE,
    SCORED,
    Guesses,
)
from thesis_repro.weaknesses.membership.victims import Victim

PLAIN, SMOOTH = "cross-entropy", "label smoothing"
TRAININGS = (PLAIN, SMOOTH)
DIGITS = Victim("mnist-5k", "mlp", 1000, 20, 0.1, width=128)
"""The nets of the quick profile."""
LENET = Victim("mnist", "cnn", 15_000, 20, 0.04)
SMOOTHING, SMOOTH_N = 0.1, 12_000
PER_SEED = {"quick": 3, "paper": 2}
"""Targets for each seed of a profile."""
SHADOWS = 4
DEVELOPED = (100, 101, 102)
"""Indices of the targets that anything may be chosen on; the tables judge others."""


def targets(profile: Profile) -> tuple[int, ...]:
    """Indices of the targets of a profile's seeds."""
    many = PER_SEED[profile.name]
    return tuple(many * seed + i for seed in profile.seeds for i in range(many))


def victim(training: str, profile: Profile) -> Victim:
    """How the nets of one row are trained."""
    base = DIGITS if profile.name == "quick" else replace(LENET, device=profile.device)
    if training == PLAIN:
        return base
    n = base.n if profile.name == "quick" else SMOOTH_N
    return replace(base, n=n, smoothing=SMOOTHING)


@dataclass(frozen=True)
class Observation:
    """What one net shows: logits and displacements."""

    victim: Victim
    ridge: float = RIDGE


def observe(config: Observation) -> Result:
    """Cell: logits (n, classes), and the displacement of each logit at each dense layer."""
    return Result({}, shown(config.victim, config.ridge))


def observed(victim: Victim, ridge: float = RIDGE) -> Mapping[str, NDArray[Any]]:
    """What the net of a victim shows, from the store or computed now."""
    cell = Cell(observe, Observation(victim, ridge), named.fingerprints(victim))
    return compute(cell).arrays


def observations(config: Contest) -> Observations:
    """The nets of a contest, trained and observed."""
    return Observations(config, partial(observed, ridge=config.ridge))


CLAIMED = "claimed"
"""First part of the names of arrays: CLAIMED.attack.target, (points,) bool."""

KNOWN = "known"
"""First part of the names of arrays: KNOWN.attack, scores on shadows' points, and KNOWN.member."""

FPRS = {"1%": 0.01, "0.1%": 0.001}
"""False-positive rates at which the true-positive rate is counted."""


def contest(config: Contest) -> Result:
    """Cell: every attack on every target; values hold the counted answers.

    Arrays hold, point by point, scores, who is a member, and who is claimed to be one; and the
    scores on the shadows' points, whose members are known, from which any threshold may be taken.

    Thresholds come from the shadows, so no membership of a target's point is used before the
    answers are counted.
    """
    nets = observations(config)
    guesses = Guesses(nets)
    targets, arrays = [], dict[str, NDArray[Any]]()
    for index in config.targets:
        view = nets.view("target", index)
        scores = {name: guesses.scores(name, view) for name in SCORED if name != ONLINE}
        if len(config.targets) > 2:  # else no point has two models that contain it
            scores[ONLINE] = guesses.scores(ONLINE, nets.view("target", index, online=True))
        claims = {name: found > guesses.thresholds[name] for name, found in scores.items()}
        claims[NAIVE] = black_box.naive(view.seen["logits"], view.labels)
        claims[LOSS] = black_box.loss_threshold(-scores[LOSS], guesses.training_loss)
        right, member = claims[NAIVE], view.member
        target: dict[str, Any] = {
            "train": _rate(right[member]),
            "test": _rate(right[~member]),
            "attacks": {},
            "calibrated": {},
        }
        for name in ATTACKS:
            if name not in claims:
                continue
            found = scores.get(name, claims[name].astype(float))
            target["attacks"][name] = _counted(claims[name], found, member)
        for wanted in config.precisions:
            threshold = calibration.for_precision(
                guesses.known[GENERAL], guesses.truth, wanted / 100
            )
            claims[f"{wanted}%"] = scores[GENERAL] > threshold
            outcome = games.judge(claims[f"{wanted}%"], member)
            target["calibrated"][str(wanted)] = _answers(outcome)
        targets.append(target)
        arrays |= {f"{CLAIMED}.{name}.{index}": found for name, found in claims.items()}
        arrays[f"member.{index}"] = member
        arrays |= {f"{name}.{index}": found.astype(np.float32) for name, found in scores.items()}
    arrays |= {f"{KNOWN}.{name}": known.astype(np.float32) for name, known in guesses.known.items()}
    arrays[f"{KNOWN}.member"] = guesses.truth
    return Result({"targets": targets}, arrays)


def _rate(right: Bools) -> dict[str, int]:
    return {"k": int(right.sum()), "n": len(right)}


def _answers(outcome: games.Outcome) -> dict[str, Any]:
    total = outcome.members + outcome.non_members
    return {
        "accuracy": {"k": outcome.right, "n": total},
        "precision": {"k": outcome.true_claims, "n": outcome.claims},
        "recall": {"k": outcome.true_claims, "n": outcome.members},
        "claims": outcome.claims,
    }


def _counted(claimed: Bools, scores: Floats, member: Bools) -> dict[str, Any]:
    answers = _answers(games.judge(claimed, member)) | {"auc": games.auc(scores, member)}
    for name, rate in FPRS.items():
        outcome, measurable = games.at_fpr(scores, member, rate)
        answers[name] = {
            "tpr": {"k": outcome.true_claims, "n": outcome.members},
            "fpr": {"k": outcome.false_claims, "n": outcome.non_members},
            "measurable": measurable,
        }
    return answers


def contest_cell(training: str, profile: Profile) -> Cell | None:
    """The contest of one way of training; None where its data is not here."""
    return contest_of(victim(training, profile), profile)


def contest_of(trained: Victim, profile: Profile) -> Cell | None:
    """The contest on nets trained in this way; None where their data is not here."""
    if not data.available(trained.dataset):
        return None
    config = Contest(trained, targets(profile), SHADOWS, development=DEVELOPED)
    return Cell(contest, config, named.fingerprints(trained))


def contest_cells(names: Sequence[str]) -> Callable[[Profile], Plan]:
    """The plan of a table with one row for each training and name; rows share their contest."""

    def plan(profile: Profile) -> Plan:
        return [
            ((training, name), contest_cell(training, profile))
            for training in TRAININGS
            for name in names
        ]

    return plan


TRAINING = Column("training", "training", kind="key")
ATTACK = Column("attack", "attack", kind="key")
SETTING = (
    "Digits of MNIST; quick: a hidden layer of 128 units, 1,000 members; paper: convolutions of 20 "
    "and 50 channels (5x5) and 500 units, 15,000 members, 12,000 with label smoothing 0.1."
)
