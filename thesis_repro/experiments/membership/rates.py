"""Shares over the targets of a contest, with intervals, as what a row measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thesis_repro.experiments.membership.contests import CLAIMED, KNOWN
from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.contest import Bools, Floats
from thesis_repro.weaknesses.membership.guesses import SHADOW

Counts = dict[str, int]
EMPTY: Mapping[str, Any] = {}


def rate(counts: Sequence[Counts]) -> Estimate:
    """Mean share over targets in percent, with its 95% interval.

    Student t over three or more targets, else Clopper-Pearson over the points of one.
    """
    usable = [c for c in counts if c["n"]]
    return statistics.summarise_rate(usable, "targets") if usable else Estimate(math.nan)


def answers(
    trained: Sequence[Mapping[str, Any]], attack: str, arrays: Mapping[str, Any] = EMPTY
) -> Measurement:
    """What one attack gives over the targets of a contest.

    Where `arrays` has the claims on each point, intervals are over targets and points, and the
    lead in accuracy over the shadow attack is paired over both.
    """
    found = [t["attacks"][attack] for t in trained]
    gaps = [
        100 * (t["train"]["k"] / t["train"]["n"] - t["test"]["k"] / t["test"]["n"]) for t in trained
    ]
    values: dict[str, Estimate | str] = {
        "gap": statistics.summarise_number(gaps, "targets"),
        "auc": statistics.summarise_number([100 * f["auc"] for f in found], "targets"),
    }
    values |= {name: rate([f[name] for f in found]) for name in ("accuracy", "precision", "recall")}
    values |= crossed(values, arrays, attack)
    if attack == SHADOW:
        values["lead"] = Estimate(0.0)
    elif (ours := claims(arrays, attack)) and (theirs := claims(arrays, SHADOW)):
        right, base = (claimed == member for claimed, member in (ours, theirs))
        values["lead"] = statistics.over_targets_and_points(right.astype(float) - base)
    return Measurement(values, seeds=len(found))


def claims(arrays: Mapping[str, Any], attack: str) -> tuple[Bools, Bools] | None:
    """What an attack claims and what is so, (targets, points) each; None where that is not kept."""
    start = f"{CLAIMED}.{attack}."
    names = [name for name in arrays if name.startswith(start)]
    if not names:
        return None
    members = [arrays[f"member.{name.removeprefix(start)}"] for name in names]
    return np.stack([arrays[name] for name in names]), np.stack(members)


def crossed(
    values: Mapping[str, Estimate | str], arrays: Mapping[str, Any], attack: str
) -> dict[str, Estimate]:
    """The rates of an attack with intervals over targets and points; none of fewer targets."""
    found = claims(arrays, attack)
    if found is None or len(found[0]) < statistics.ENOUGH_SEEDS:
        return {}
    claimed, member = found
    hits, of = claimed & member, {"precision": claimed, "recall": member}
    rates = {"accuracy": statistics.over_targets_and_points(claimed == member)}
    rates |= {n: statistics.over_targets_and_points(hits, o) for n, o in of.items() if o.any()}
    # the mean over targets, as everywhere; the bootstrap pools them, which is no different here
    known = {n: v for n, v in values.items() if isinstance(v, Estimate) and n in rates}
    return {name: replace(rates[name], value=one.value) for name, one in known.items()}


def scores(arrays: Mapping[str, Any], attack: str) -> tuple[Floats, Bools] | None:
    """An attack's scores and what is so, (targets, points) each; None where it gave none."""
    start = "member."
    indices = [name.removeprefix(start) for name in arrays if name.startswith(start)]
    if not indices or f"{attack}.{indices[0]}" not in arrays:
        return None
    found = np.stack([arrays[f"{attack}.{i}"] for i in indices])
    return found, np.stack([arrays[f"{start}{i}"] for i in indices])


def called_at(arrays: Mapping[str, Any], attack: str, fpr: float) -> tuple[Bools, Bools] | None:
    """Who is called a member at a false-positive rate of the shadows, and what is so.

    The threshold is the lowest that keeps the rate on points of the shadows; no membership of a
    target's point enters it. Shapes are (targets, points); None where the attack gave no scores.
    """
    found = scores(arrays, attack)
    if found is None:
        return None
    threshold, _ = games.for_fpr(arrays[f"{KNOWN}.{attack}"], arrays[f"{KNOWN}.member"], fpr)
    return found[0] > threshold, found[1]


def called_exactly(arrays: Mapping[str, Any], attack: str, fpr: float) -> Bools:
    """Who is called a member where each target's own false-positive rate is kept.

    No adversary can do so: it is what makes attacks comparable whose thresholds travel unequally.

    Raises
    ------
    ValueError
        If the attack gave no scores.
    """
    found = scores(arrays, attack)
    if found is None:
        raise ValueError(f"{attack!r} gave no scores")
    ends = [games.for_fpr(one, member, fpr)[0] for one, member in zip(*found, strict=True)]
    return np.asarray(found[0] > np.array(ends)[:, None])
