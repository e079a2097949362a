"""The membership game: who is judged, and how answers and scores are counted.

A score is higher for members. A point is claimed as a member when its score lies above a
threshold; equal scores are claimed together or not at all.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_repro.lab.checks import finite, labels, truth

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ENOUGH_FALSE_ALARMS = 10
"""A false-positive rate is measurable where it allows so many false alarms."""


def check_splits(members: ArrayLike, non_members: ArrayLike, pool: ArrayLike = ()) -> None:
    """See that the game is fair: balanced, and no index in two parts.

    Parameters
    ----------
    members, non_members : (n,) int, indices of the points that are judged
    pool : (k,) int, indices that proxies and shadows train on

    Raises
    ------
    ValueError
        If a part repeats an index, shares one with another part, or holds what is no index, or
        members and non-members differ in number.

    Examples
    --------
    >>> check_splits([0, 1], [2, 3], pool=[4, 5])
    >>> check_splits([0, 1], [1, 2])
    Traceback (most recent call last):
    ValueError: splits overlap: point 1 is in members and non-members
    """
    parts = {"members": members, "non-members": non_members, "the pool": pool}
    index = {name: _indices(name, part) for name, part in parts.items()}
    if len(index["members"]) != len(index["non-members"]) or not len(index["members"]):
        raise ValueError(
            f"the game needs as many members as non-members, got {len(index['members'])} and "
            f"{len(index['non-members'])}"
        )
    seen: dict[int, str] = {}
    for name, part in index.items():
        for i in part.tolist():
            if i in seen:
                where = f"twice in {name}" if seen[i] == name else f"in {seen[i]} and {name}"
                raise ValueError(f"splits overlap: point {i} is {where}")
            seen[i] = name


def _indices(name: str, part: ArrayLike) -> NDArray[np.int64]:
    found = np.asarray(part)
    if not found.size:
        return np.zeros(0, np.int64)
    if found.dtype == bool:
        raise ValueError(f"{name} need to be indices, got bool: np.flatnonzero(mask) makes them so")
    labels(name, found)
    return found.astype(np.int64)


def check_fresh(final: ArrayLike, development: ArrayLike) -> None:
    """See that nothing was chosen on what is judged: no index is in both.

    Parameters
    ----------
    final : (n,) int, indices of targets, or of points, that are judged
    development : (k,) int, those that something was chosen on: an attack, a training, a size

    Raises
    ------
    ValueError
        Naming the first index that is in both; on what is no index.

    Examples
    --------
    >>> check_fresh(final=[0, 1], development=[2, 3])
    """
    judged, chosen_on = _indices("final", final), _indices("development", development)
    both = np.intersect1d(judged, chosen_on)
    if len(both):
        raise ValueError(
            f"{both[0]} was developed on ({len(both)} of {len(judged)} such): what was chosen "
            f"there is judged on fresh ones"
        )


@dataclass(frozen=True)
class Outcome:
    """Answers counted: how many members and non-members there are, and were claimed.

    Examples
    --------
    >>> Outcome(members=10, non_members=10, true_claims=6, false_claims=2).precision
    0.75
    """

    members: int
    non_members: int
    true_claims: int
    false_claims: int

    @property
    def claims(self) -> int:
        """Points that were called members."""
        return self.true_claims + self.false_claims

    @property
    def right(self) -> int:
        """Points that were called what they are."""
        return self.true_claims + self.non_members - self.false_claims

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / (self.members + self.non_members)

    @property
    def precision(self) -> float:
        """Share of members among the claimed; NaN where nothing is claimed."""
        return self.true_claims / self.claims if self.claims else math.nan

    @property
    def recall(self) -> float:
        """Share of the members that were claimed: the true-positive rate."""
        return self.true_claims / self.members

    @property
    def fpr(self) -> float:
        """Share of the non-members that were claimed: the false-positive rate."""
        return self.false_claims / self.non_members


def judge(claimed: ArrayLike, member: ArrayLike) -> Outcome:
    """Count answers against the truth.

    Parameters
    ----------
    claimed, member : (n,) bool

    Raises
    ------
    ValueError
        If lengths differ, there are not as many members as non-members, or answers are not True
        or False, as scores are not.

    Examples
    --------
    >>> outcome = judge([True, True, False, True], [True, True, False, False])
    >>> outcome.accuracy, outcome.recall
    (0.75, 1.0)
    """
    said, inside = truth("claimed", claimed), balanced(member)
    if said.shape != inside.shape:
        raise ValueError(f"answers have shape {said.shape}, the truth {inside.shape}")
    counts = (inside, ~inside, said & inside, said & ~inside)
    return Outcome(*(int(which.sum()) for which in counts))


def balanced(member: ArrayLike) -> Bools:
    """The truth of a game as bool.

    Raises
    ------
    ValueError
        Unless half of the points are members.

    Examples
    --------
    >>> balanced([1, 0])
    array([ True, False])
    """
    inside = truth("member", member)
    if inside.ndim != 1 or 2 * inside.sum() != len(inside) or not len(inside):
        raise ValueError(
            f"the game needs as many members as non-members, got {int(inside.sum())} members among "
            f"{inside.size} points"
        )
    return inside


def scored(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Bools]:
    """Scores (n,) and truth of a game.

    Raises
    ------
    ValueError
        If a score is not finite, lengths differ, or the game is not balanced.

    Examples
    --------
    >>> scored([2, 1], [True, False])
    (array([2., 1.]), array([ True, False]))
    """
    values, inside = np.asarray(scores, float), balanced(member)
    if values.shape != inside.shape:
        raise ValueError(
            f"an attack needs one finite score per point, got shape {values.shape} for "
            f"{len(inside)} points"
        )
    finite("scores", values)
    return values, inside


def at_fpr(scores: ArrayLike, member: ArrayLike, fpr: float) -> tuple[Outcome, bool]:
    """The attack with the lowest threshold that keeps the false-positive rate at or below `fpr`.

    Ties at the threshold are not claimed, so the realised rate may lie below the wanted one.

    Returns
    -------
    Outcome
    bool
        Whether the rate is measurable: it allows at least 10 false alarms among these points.

    Raises
    ------
    ValueError
        As :func:`scored`, and unless 0 < fpr < 1.

    Examples
    --------
    >>> member = np.arange(100) < 50
    >>> outcome, measurable = at_fpr(np.where(member, 1.0, 0.0), member, 0.1)
    >>> outcome.recall, outcome.fpr, measurable
    (1.0, 0.0, False)
    """
    threshold, allowed = for_fpr(scores, member, fpr)
    values, inside = scored(scores, member)
    return judge(values > threshold, inside), allowed >= ENOUGH_FALSE_ALARMS


def for_fpr(scores: ArrayLike, member: ArrayLike, fpr: float) -> tuple[float, int]:
    """The lowest threshold that keeps the false-positive rate at or below `fpr` on these points.

    Returns
    -------
    float
        What lies above it is claimed.
    int
        The false alarms that the rate allows.

    Raises
    ------
    ValueError
        As :func:`at_fpr`.

    Examples
    --------
    >>> member = np.arange(100) < 50
    >>> threshold, alarms = for_fpr(np.where(member, 1.0, 0.0), member, 0.1)
    >>> 0 <= threshold < 1, alarms
    (True, 5)
    """
    values, inside = scored(scores, member)
    if not 0 < fpr < 1:
        raise ValueError(f"fpr, a false-positive rate, needs to lie in (0, 1), got {fpr}")
    alarms = np.sort(values[~inside])[::-1]
    allowed = math.floor(fpr * len(alarms) + 1e-9)
    # claiming what lies above the first alarm that is one too many
    return float(alarms[allowed]), allowed


def auc(scores: ArrayLike, member: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a member scores above a non-member.

    Ties count one half, so constant scores give 1/2.

    Raises
    ------
    ValueError
        As :func:`scored`.

    Examples
    --------
    >>> auc([0.9, 0.8, 0.7, 0.1], [True, False, True, False])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    values, inside = scored(scores, member)
    return float(roc_auc_score(inside, values))
