"""Cells of the chapter weaknesses/membership: who guesses how, and how often that is right."""

from typing import Any

import numpy as np

from thesis_repro.experiments.membership.arena import (
    SLICES,
    Arena,
    Bools,
    Contest,
    Floats,
    View,
    confidence,
    evidence,
    out_mean,
    own_probability,
    probabilities,
)
from thesis_repro.lab.cells import Result
from thesis_repro.weaknesses.membership import black_box, calibration, white_box, yardsticks
from thesis_repro.weaknesses.membership import game as games

NAIVE, LOSS, SHADOW = "naive", "loss threshold", "shadow"
OFFLINE, ONLINE, RMIA = "LiRA offline", "LiRA online", "RMIA"
DISPLACED, GENERAL = "white-box, one layer", "white-box, learned"
ATTACKS = (NAIVE, LOSS, SHADOW, OFFLINE, ONLINE, RMIA, DISPLACED, GENERAL)


class Guesses:
    """The attacks of a contest, with what they learn from the shadows: classifiers, thresholds.

    `scores(attack, view)` gives one score per point, `thresholds` where a member is claimed.
    Thresholds of what is learned come from shadows that it did not learn from.
    """

    def __init__(self, arena: Arena) -> None:
        self.config = arena.config
        self.smoothing = arena.config.victim.smoothing
        self.slices = SLICES[arena.config.victim.net]
        shadows = arena.names["shadow"]
        self.views = {i: arena.view("shadow", i) for i in shadows}
        self.kept = {i: fair(view) for i, view in self.views.items()}
        self.evidence = {i: self._evidence(view) for i, view in self.views.items()}
        self.learned = {out: self._learn(out) for out in (None, *shadows)}
        self.known = {
            name: np.concatenate([self._on_shadow(name, i)[self.kept[i]] for i in shadows])
            for name in SCORED
        }
        self.truth = np.concatenate([self.views[i].member[self.kept[i]] for i in shadows])
        self.thresholds = {
            name: calibration.best_accuracy(known, self.truth) for name, known in self.known.items()
        }
        seen = [(v.seen["logits"][v.member], v.labels[v.member]) for v in self.views.values()]
        self.training_loss = float(
            np.mean([black_box.losses(z, y, self.smoothing).mean() for z, y in seen])
        )

    def _evidence(self, view: View) -> Floats:
        return np.stack(list(evidence(view, self.slices, self.smoothing).values()), 1)

    def _learn(self, out: int | None) -> tuple[black_box.ShadowAttack, white_box.GeneralWB]:
        """Both learned attacks, from all shadows but `out`."""
        used = [i for i in self.views if i != out]
        member = [self.views[i].member for i in used]
        shadow = black_box.ShadowAttack(random_state=0).fit(
            np.concatenate([probabilities(self.views[i].seen["logits"]) for i in used]),
            np.concatenate(member),
            np.concatenate([self.views[i].labels for i in used]),
        )
        general = white_box.GeneralWB().fit(
            np.concatenate([self.evidence[i][self.kept[i]] for i in used]),
            np.concatenate([self.views[i].member[self.kept[i]] for i in used]),
        )
        return shadow, general

    def _on_shadow(self, name: str, index: int) -> Floats:
        return self.scores(name, self.views[index], index)

    def scores(self, name: str, view: View, out: int | None = None) -> Floats:
        """One score per point of a view; `out` is the shadow that must not have taught it."""
        labels = view.labels
        if name == LOSS:
            return -black_box.losses(view.seen["logits"], labels, self.smoothing)
        if name == SHADOW:
            return self.learned[out][0].score_samples(probabilities(view.seen["logits"]), labels)
        if name in (OFFLINE, ONLINE):
            known = np.array([confidence(r, labels) for r in view.references])
            # a shadow's points that every reference contains are left out of the thresholds
            contains = view.contains & ~view.contains.all(0)
            mine = confidence(view.seen, labels)
            return yardsticks.lira(mine, known, contains, online=name == ONLINE)
        if name == RMIA:
            seen, references, theirs = view.spare
            return yardsticks.rmia(
                own_probability(view.seen, labels),
                np.array([own_probability(r, labels) for r in view.references]),
                view.contains & ~view.contains.all(0),
                own_probability(seen, theirs),
                np.array([own_probability(r, theirs) for r in references]),
            )
        if name == DISPLACED:
            expected = out_mean(
                [probabilities(r["logits"]) for r in view.references], view.contains
            )
            weights = white_box.expected_residual(labels, expected, self.smoothing)
            return np.asarray((view.seen[self.slices[0]] * weights).sum(1))
        return self.learned[out][1].score_samples(self._evidence(view))


SCORED = (LOSS, SHADOW, OFFLINE, ONLINE, RMIA, DISPLACED, GENERAL)


def fair(view: View) -> Bools:
    """Points with a reference that does not contain them, thinned to a balanced game."""
    usable: Bools = ~np.asarray(view.contains.all(0))
    fewest = min(int((usable & view.member).sum()), int((usable & ~view.member).sum()))
    kept: Bools = np.zeros(len(usable), np.bool_)
    for part in (usable & view.member, usable & ~view.member):
        kept[np.flatnonzero(part)[:fewest]] = True
    return kept


def contest(config: Contest) -> Result:
    """Cell: every attack on every target; arrays hold the scores, values the counted answers.

    Thresholds come from the shadows, so no membership of a target's point is used before the
    answers are counted.
    """
    arena = Arena(config)
    guesses = Guesses(arena)
    targets, arrays = [], {}
    for index in config.targets:
        view = arena.view("target", index)
        scores = {name: guesses.scores(name, view) for name in SCORED if name != ONLINE}
        if len(config.targets) > 2:  # else no point has two models that contain it
            scores[ONLINE] = guesses.scores(ONLINE, arena.view("target", index, online=True))
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
            outcome = games.judge(scores[GENERAL] > threshold, member)
            target["calibrated"][str(wanted)] = _answers(outcome)
        targets.append(target)
        arrays[f"member.{index}"] = member
        arrays |= {f"{name}.{index}": found.astype(np.float32) for name, found in scores.items()}
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


FPRS = {"1%": 0.01, "0.1%": 0.001}


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
