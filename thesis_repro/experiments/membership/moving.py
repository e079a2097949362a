"""Moving figure of the chapter weaknesses/membership: the threshold of an attack on its ROC."""

from collections.abc import Mapping, Sequence

import numpy as np

from thesis_repro.figures.moving import Moving
from thesis_repro.lab.cells import Result
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, RMIA, SHADOW

STEPS = 100
"""Thresholds of one curve."""


def of_threshold(
    results: Mapping[str, Result], attacks: Sequence[str] = (GENERAL, RMIA, SHADOW, LOSS)
) -> Moving:
    """Members and others that each attack calls members, over thresholds; targets pooled."""
    trainings = [
        {"name": training, **_counts(result, attacks)} for training, result in results.items()
    ]
    data = {"steps": STEPS, "attacks": list(attacks), "trainings": trainings}
    title = "move the threshold: call fewer points, and be right more often"
    return Moving("threshold", title, data if trainings else None)


def _counts(result: Result, attacks: Sequence[str]) -> dict[str, object]:
    """How many members there are, and for each attack [members called, others called]."""
    marks = [name for name in result.arrays if name.startswith("member.")]
    member = np.concatenate([result.arrays[name] for name in marks]).astype(bool)
    indices = [name.partition(".")[2] for name in marks]
    counts = []
    for attack in attacks:
        scores = np.concatenate([result.arrays[f"{attack}.{i}"] for i in indices])
        order = np.argsort(-scores, kind="stable")
        called = np.linspace(0, len(order), STEPS).round().astype(int)
        right = np.concatenate([[0], np.cumsum(member[order])])[called]
        counts.append([right.tolist(), (called - right).tolist()])
    return {"n": int(member.sum()), "counts": counts}
