"""The table membership-search: the whole search for a stronger white-box attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.membership import victims
from thesis_repro.experiments.membership.contests import (
    DEVELOPED,
    PLAIN,
    SHADOWS,
    observations,
    victim,
)
from thesis_repro.experiments.membership.mnist import PUBLISHED
from thesis_repro.experiments.membership.rates import rate
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.lab.profiles import profile as sized
from thesis_repro.tables import statistics
from thesis_repro.tables.conditions import Condition, listed
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Frame, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import calibration, white_box
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.contest import (
    SLICES,
    Bools,
    Contest,
    Floats,
    View,
    features,
)
from thesis_repro.weaknesses.membership.guesses import GENERAL, fair

Evidence = dict[str, Floats]

LAYERS = {"first": slice(0, 1), "second": slice(1, 2), "both": slice(0, 2)}
"""Dense layers whose displacement is read."""
PROXIES = (0, 1, SHADOWS)
CORNERS = tuple(product(LAYERS, PROXIES))
QUICK_CORNERS = tuple(product(("first", "both"), (0, SHADOWS)))
EPOCHS = {"quick": (20,), "paper": (5, 10, 20)}
QUESTIONS, LEARNED = ("margin", "residual"), "learned"
SCORES = (*QUESTIONS, LEARNED)
LEAST_RECALL = 0.1
"""Claims of the thesis's precision count from this recall on."""


@dataclass(frozen=True)
class Trial:
    """One corner of the search: a contest, the layers that are read, and the proxies."""

    contest: Contest
    layers: str
    proxies: int


def with_proxies(view: View, count: int) -> View:
    """The view of an adversary that has the first `count` of the references alone.

    Without any, what the net itself says stands for what is expected.
    """
    if not count:
        return replace(view, references=[view.seen], contains=np.zeros((1, len(view.member)), bool))
    return replace(view, references=view.references[:count], contains=view.contains[:count])


def simple(found: Evidence, names: Sequence[str], question: str, proxies: int) -> Floats:
    """One score: displacement less what is usual, each layer divided by its spread, and added."""
    beyond = " beyond OUT" if proxies else ""
    parts = [found[f"{name} {question}{beyond}"] for name in names]
    return np.asarray(sum(part / max(float(part.std()), 1e-300) for part in parts))


def trial(config: Trial) -> Result:
    """Cell: three scores on each target; thresholds and what is learned come from shadows."""
    contest = config.contest
    nets = observations(contest)
    names = SLICES[contest.victim.net][LAYERS[config.layers]]

    def seen(role: str, index: int) -> tuple[View, Bools, Evidence]:
        """A net's view, the members among the points that are judged, and their evidence."""
        view = with_proxies(nets.view(role, index), config.proxies)
        kept = fair(view)  # what a proxy trained on has no usual value: all of a target's stay
        known = features(view, names, contest.victim.smoothing)
        return view, view.member[kept], {name: values[kept] for name, values in known.items()}

    def scores(known: Evidence, teacher: white_box.GeneralWB) -> dict[str, Floats]:
        found = {q: simple(known, names, q, config.proxies) for q in QUESTIONS}
        return found | {LEARNED: teacher.score_samples(stacked(known))}

    shadows = [seen("shadow", i) for i in nets.names["shadow"]]

    def learn(out: int | None) -> white_box.GeneralWB:
        used = [shadow for i, shadow in enumerate(shadows) if i != out]
        return white_box.GeneralWB().fit(
            np.concatenate([stacked(known) for _, _, known in used]),
            np.concatenate([member for _, member, _ in used]),
        )

    # a shadow is scored by what was learned from the others
    taught = [scores(known, learn(out)) for out, (_, _, known) in enumerate(shadows)]
    on_shadows = {name: np.concatenate([t[name] for t in taught]) for name in SCORES}
    truth = np.concatenate([member for _, member, _ in shadows])
    thresholds = {
        name: calibration.best_accuracy(found, truth) for name, found in on_shadows.items()
    }
    wanted = PUBLISHED[GENERAL][1] / 100
    precise = calibration.for_precision(on_shadows[LEARNED], truth, wanted)
    final, judged = learn(None), []
    for index in contest.targets:
        view, member, known = seen("target", index)
        found = scores(known, final)
        outcomes = {name: games.judge(found[name] > thresholds[name], member) for name in SCORES}
        learned, sure = outcomes[LEARNED], games.judge(found[LEARNED] > precise, member)
        right = view.seen["logits"].argmax(1) == view.labels
        judged.append(
            {name: {"k": o.right, "n": len(member)} for name, o in outcomes.items()}
            | {
                "gap": float(right[view.member].mean() - right[~view.member].mean()),
                "precision": {"k": learned.true_claims, "n": learned.claims},
                "auc": games.auc(found[LEARNED], member),
                "sure": {"k": sure.true_claims, "n": sure.members},
            }
        )
    return Result({"targets": judged})


def stacked(known: Evidence) -> Floats:
    """Evidence as a matrix, (n, pieces)."""
    return np.stack(list(known.values()), 1)


def plan(profile: Profile) -> Plan:
    """The plan of `membership-search`: plain cross-entropy; every corner, or the quick four."""
    found: list[tuple[Row, Cell | None]] = []
    base = victim(PLAIN, profile)
    corners = QUICK_CORNERS if profile.name == "quick" else CORNERS
    for epochs in EPOCHS[profile.name]:
        trained = replace(base, epochs=epochs)
        contest = Contest(trained, DEVELOPED, SHADOWS)
        here = data.available(trained.dataset)
        hashes = named.fingerprints(trained) if here else ()
        for layers, proxies in corners:
            row = (str(epochs), layers, str(proxies))
            cell = Cell(trial, Trial(contest, layers, proxies), hashes) if here else None
            found.append((row, cell))
    return found


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Means over targets, with intervals."""
    return {row: _over(results[0].values["targets"]) for row, results in gathered.items()}


def _over(judged: Sequence[Mapping[str, Any]]) -> Measurement:
    values: dict[str, Estimate | str] = {
        name: rate([j[name] for j in judged]) for name in (*SCORES, "precision", "sure")
    }
    for name in ("gap", "auc"):
        values[name] = statistics.summarise_number([100 * j[name] for j in judged], "targets")
    return Measurement(values, len(judged))


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """The best corners of a frame's rows beside what the thesis publishes, and who is ahead."""
    accuracy, precision = PUBLISHED[GENERAL]
    ran = frame[frame["status"] == "run"]
    if ran.empty:
        raise ValueError("the search has no row that was run")
    best = str(ran[list(SCORES)].max().idxmax())
    found, where = [], []
    for column, what, needed in (
        (best, f"accuracy ({best})", accuracy),
        ("sure", f"recall, calibrated for {precision:g}% precision", 100 * LEAST_RECALL),
    ):
        top = ran.loc[ran[column].idxmax()]
        highest = float(top[column])
        found.append(Condition(what, f"{needed:g}%", f"{highest:.1f}%", highest >= needed))
        where.append(f"{top['epochs']} epochs, layers {top['layers']}, proxies {top['proxies']}")
    table = listed(found, ("measure", "needed", "best", "verdict"))
    table.insert(3, "where", where)
    return table


def whole(attacks: Frame, over: Frame) -> pd.DataFrame:
    """The searches over attacks and over victims as one list: gap, accuracy and AUC in percent.

    By the learned attack, on the targets that each search was run on. A victim of the second search
    is read in both layers, with all proxies; one that both have is listed once.

    attacks, over : runs of `membership-search` and of `membership-victims`, of one profile

    Raises
    ------
    ValueError
        If the runs are of different profiles.
    """
    if attacks.run != over.run:
        raise ValueError(f"searches of one profile make a list, got {attacks.run} and {over.run}")
    usual = victim(PLAIN, sized(attacks.run.partition("-")[0]))
    read = {"layers": "both", "proxies": str(SHADOWS)}
    first, second = (one.data[one.data["status"] == "run"] for one in (attacks, over))
    first = first.assign(
        victim=[victims.title(replace(usual, epochs=int(epochs))) for epochs in first["epochs"]],
        accuracy=first["learned"],
    )
    second = second[second["targets"] == victims.SEARCHED]
    second = second.assign(victim=second["trained"], **read)
    keys = ["victim", *read]
    found = pd.concat([first, second]).drop_duplicates(keys)
    return found.loc[:, [*keys, "gap", "accuracy", "auc"]].reset_index(drop=True)


TABLE = Table(
    TableSpec(
        name="membership-search",
        caption=(
            "The search for a stronger white-box attack on nets trained with plain cross-entropy: "
            "accuracy of three scores by epochs of training, dense layers that are read, and "
            f"proxies (of {SHADOWS} shadows; one is judged with the others). Margin, residual: "
            "displacement less its mean over proxies. Learned: General-WB; precision and AUC are "
            f"its, and the last column is its recall when calibrated for "
            f"{PUBLISHED[GENERAL][1]:g}% precision on shadows."
        ),
        chapter="weaknesses/membership",
        keys=(
            Column("epochs", "epochs", kind="key"),
            Column("layers", "layers", kind="key"),
            Column("proxies", "proxies", kind="key"),
        ),
        columns=(
            Column("gap", "gap", "points", "{:.2f}", drift=1.0),
            Column("margin", "margin", "%", drift=2.5),
            Column("residual", "residual", "%", drift=2.5),
            Column("learned", "learned", "%", drift=2.5),
            Column("precision", "precision", "%", drift=3.0),
            Column("auc", "AUC", "%", drift=2.0),
            Column("sure", "recall when sure", "%", drift=8.0),
        ),
        rows=tuple((str(e), layers, str(p)) for e in EPOCHS["paper"] for layers, p in CORNERS),
    ),
    plan,
    assemble,
)
