"""Table of the chapter weaknesses/membership: the whole search for a stronger white-box attack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.lab.engine import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.membership import PLAIN, PUBLISHED, SHADOWS, note, rate, targets, victim
from thesis_repro.tables.membership_arena import SLICES, Arena, Contest, Floats, View, evidence
from thesis_repro.tables.membership_cells import GENERAL, fair
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses.membership import calibration, victims, white_box
from thesis_repro.weaknesses.membership import game as games

LAYERS = {"first": slice(0, 1), "second": slice(1, 2), "both": slice(0, 2)}
"""Dense layers whose displacement is read."""
PROXIES = (0, 1, SHADOWS)
EPOCHS = {"quick": (20,), "paper": (20, 10, 5)}
JUDGED = 3
"""Targets: the first of those that the other tables judge."""
SCORES = ("margin", "residual", "learned")
LEAST_RECALL = 0.1


@dataclass(frozen=True)
class Trial:
    """One corner of the search: a contest, the layers that are read, and the proxies."""

    contest: Contest
    layers: str
    proxies: int

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.contest.device


def with_proxies(view: View, count: int) -> View:
    """The view of an adversary that has the first `count` of the references alone.

    Without any, what the net itself says stands for what is expected.
    """
    if not count:
        return replace(view, references=[view.seen], contains=np.zeros((1, len(view.member)), bool))
    return replace(view, references=view.references[:count], contains=view.contains[:count])


def simple(found: dict[str, Floats], names: Sequence[str], question: str) -> Floats:
    """One score: displacement less what is usual, each layer divided by its spread, and added."""
    parts = [found[f"{name} {question}"] for name in names]
    beyond = [found[f"{name} {question} beyond OUT"] for name in names]
    # without a proxy the difference to the usual is zero everywhere
    chosen = [b if b.any() else p for p, b in zip(parts, beyond, strict=True)]
    return np.asarray(sum(c / max(float(c.std()), 1e-300) for c in chosen))


def trial(config: Trial) -> Result:
    """Cell: three scores on each target; thresholds and what is learned come from shadows."""
    contest = config.contest
    arena = Arena(contest)
    names = SLICES[contest.victim.net][LAYERS[config.layers]]

    def seen(role: str, index: int) -> tuple[View, dict[str, Floats]]:
        view = with_proxies(arena.view(role, index), config.proxies)
        return view, evidence(view, names, contest.victim.smoothing)

    shadows = [seen("shadow", i) for i in arena.names["shadow"]]
    kept = [fair(view) for view, _ in shadows]
    truth = [view.member[k] for (view, _), k in zip(shadows, kept, strict=True)]
    known = [np.stack(list(e.values()), 1)[k] for (_, e), k in zip(shadows, kept, strict=True)]

    def learn(out: int | None) -> white_box.GeneralWB:
        used = [i for i in range(len(shadows)) if i != out]
        return white_box.GeneralWB().fit(
            np.concatenate([known[i] for i in used]), np.concatenate([truth[i] for i in used])
        )

    teachers = [learn(out) for out in range(len(shadows))]
    on_shadows = {
        "learned": [t.score_samples(k) for t, k in zip(teachers, known, strict=True)],
        **{
            question: [
                simple(e, names, question)[k] for (_, e), k in zip(shadows, kept, strict=True)
            ]
            for question in SCORES[:2]
        },
    }
    member = np.concatenate(truth)
    thresholds = {
        name: calibration.best_accuracy(np.concatenate(found), member)
        for name, found in on_shadows.items()
    }
    precise = calibration.for_precision(
        np.concatenate(on_shadows["learned"]), member, PUBLISHED[GENERAL][1] / 100
    )
    final = learn(None)
    judged = []
    for index in contest.targets:
        view, found = seen("target", index)
        scores = {q: simple(found, names, q) for q in SCORES[:2]}
        scores["learned"] = final.score_samples(np.stack(list(found.values()), 1))
        right = view.seen["logits"].argmax(1) == view.labels
        answers: dict[str, Any] = {
            "gap": float(right[view.member].mean() - right[~view.member].mean())
        }
        for name, values in scores.items():
            outcome = games.judge(values > thresholds[name], view.member)
            answers[name] = {"k": outcome.right, "n": len(view.member)}
            if name == "learned":
                answers["precision"] = {"k": outcome.true_claims, "n": outcome.claims}
                answers["auc"] = games.auc(values, view.member)
                sure = games.judge(values > precise, view.member)
                answers["sure"] = {"k": sure.true_claims, "n": sure.members}
        judged.append(answers)
    return Result({"targets": judged})


def plan(profile: Profile) -> Plan:
    """The plan of `membership-search`: plain cross-entropy; every corner, or the quick four."""
    found: list[tuple[Row, Cell | None]] = []
    base = victim(PLAIN, profile)
    quick = profile.name == "quick"
    corners = [
        (layers, proxies)
        for layers in LAYERS
        for proxies in PROXIES
        if not quick or (layers != "second" and proxies != 1)
    ]
    for epochs in EPOCHS[profile.name]:
        trained = replace(base, epochs=epochs)
        contest = Contest(trained, targets(profile)[:JUDGED], SHADOWS)
        here = data.available(trained.dataset)
        hashes = victims.cell(trained).data if here else ()
        for layers, proxies in corners:
            row = (str(epochs), layers, str(proxies))
            cell = Cell(trial, Trial(contest, layers, proxies), hashes) if here else None
            found.append((row, cell))
    return found


def assemble(_: Profile, gathered: Gathered) -> dict[Row, dict[str, Any]]:
    """Means over targets, with intervals."""
    records = {}
    for row, results in gathered.items():
        if not results:
            continue
        judged = results[0].values["targets"]
        record: dict[str, Any] = {"seeds": len(judged), "interval": ""}
        for name in (*SCORES, "precision", "sure"):
            note(record, name, rate([j[name] for j in judged]))
        for name in ("gap", "auc"):
            values = [100 * j[name] for j in judged]
            record[name] = math.fsum(values) / len(values)
            if len(values) >= statistics.ENOUGH_SEEDS:
                low, high = statistics.student_t(values)
                record |= {f"{name}_low": low, f"{name}_high": high}
        records[row] = record
    return records


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Whether the search reached what the thesis publishes, one sentence each."""
    accuracy, precision = PUBLISHED[GENERAL]
    ran = frame[frame["status"] == "run"]
    if ran.empty:
        return ["the search was not run"]
    name = str(ran[list(SCORES)].max().idxmax())
    most, surest = ran.loc[ran[name].idxmax()], ran.loc[ran["sure"].idxmax()]

    def corner(row: pd.Series) -> str:
        return f"{row['epochs']} epochs, layers: {row['layers']}, proxies: {row['proxies']}"

    def said(reached: bool) -> str:
        return "reached" if reached else "not reached"

    return [
        f"accuracy {most[name]:.1f}% at best ({name}; {corner(most)}); "
        f"the thesis's {accuracy:g}%: {said(most[name] >= accuracy)}",
        f"recall {surest['sure']:.1f}% at best when calibrated for {precision:g}% precision "
        f"({corner(surest)}); {100 * LEAST_RECALL:.0f}%: "
        f"{said(surest['sure'] >= 100 * LEAST_RECALL)}",
    ]


MEMBERSHIP_SEARCH = Table(
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
        rows=tuple((str(e), la, str(p)) for e in EPOCHS["paper"] for la in LAYERS for p in PROXIES),
    ),
    plan,
    assemble,
)
