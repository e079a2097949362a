"""Verdicts: computed from a measure, its interval and a claim; never typed.

The rules stand here once, in `decide`; :mod:`thesis_repro.tables.rules` says each in words.

Examples
--------
>>> claim = Claim(("ours",), "vra", 60.0, "a paper", tolerance=1.5)
>>> decide(claim, Measured(59.7)), decide(claim, Measured(40.0), share=0.1)
('reproduced', 'too short to judge')
>>> judge(claim, None).verdict, Judged(claim, HOLDS).estimate
('not run', None)
>>> from thesis_repro.tables import records
>>> from thesis_repro.tables.find import get
>>> frame = records.read(get("lipschitz-soundness").spec, "quick")
>>> first, second, *_ = (tuple(row) for row in frame.data[["dataset", "method"]].to_numpy())
>>> measured(frame, first, "vra").seeds, trained(frame, first)
(1, 1.0)
>>> ahead = lead(Claim(first, "vra", 0.0, "x", kind=ORDER, ahead_of=(second,)), frame, second)
>>> ahead.low < ahead.value < ahead.high
True
>>> {one.verdict for one in judge_all(frame, frame.spec.claims)}  # a quick run judges nothing
{'not run'}
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thesis_repro.tables import statistics
from thesis_repro.tables.claims import (
    FACTOR,
    IN_WORDS,
    MEASURED,
    ORDER,
    THEOREM,
    Claim,
    ClaimKind,
    Measured,
)
from thesis_repro.tables.estimate import Estimate, difference
from thesis_repro.tables.spec import NOT_JUDGED, NOT_PUBLISHED, NOT_RUN, Checked, Frame, Row

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
EXCEEDED = "exceeded"
REPRODUCED = "reproduced"
SAME_MAGNITUDE = "same order of magnitude"
ORDER_ONLY = "order only"
TOO_SHORT = "too short to judge"
NOT_REPRODUCED = "not reproduced"
NOT_MEASURABLE = "not measurable"
VERDICTS = (
    HOLDS,
    EXCEEDED,
    REPRODUCED,
    SAME_MAGNITUDE,
    ORDER_ONLY,
    TOO_SHORT,
    NOT_REPRODUCED,
    DOES_NOT_HOLD,
    NOT_MEASURABLE,
    NOT_PUBLISHED,
    NOT_JUDGED,
    NOT_RUN,
)
KINDS: tuple[ClaimKind, ...] = (THEOREM, MEASURED, ORDER, FACTOR, IN_WORDS)

ROUNDING = 1e-9  # of a subtraction: 94.2 - 95.7 is a little below -1.5
WITHIN, MAGNITUDE = 3.0, 10.0
"""Factors up to which a ratio is reproduced, and is of the same order of magnitude."""
ENOUGH = 0.25
"""Share of the published training below which a miss shows nothing."""


@dataclass(frozen=True)
class Judged:
    """One claim beside ours.

    Parameters
    ----------
    estimate, low, high : ours; for an order by how much the row is ahead; None and NaN where not
        run, and for a claim in words
    difference : ours minus the published value; None where there is none
    measured, needed : of a condition, in words
    share : of the published training that ran
    """

    claim: Claim
    verdict: str
    estimate: float | None = None
    low: float = math.nan
    high: float = math.nan
    difference: float | None = None
    measured: str = ""
    needed: str = ""
    share: float = 1.0


def decide(claim: Claim, found: Measured, *, ahead: bool = False, share: float = 1.0) -> str:
    """The verdict on a claim with a row.

    Parameters
    ----------
    claim : its value is a lead, in its own direction, where its kind is "order"
    found : ours, or our lead
    ahead : whether this row is ahead of what the source says that it is ahead of
    share : of the published training that ran, in [0, 1]
    """
    if claim.value is None:
        return NOT_PUBLISHED
    if claim.kind == THEOREM:
        return HOLDS if _meets(claim, found.value) else DOES_NOT_HOLD
    if not found.measurable:
        return NOT_MEASURABLE
    if claim.kind == FACTOR:
        return _by_factor(claim.value, found.value)
    if claim.kind == ORDER:
        ahead = _is_lead(found)
        good = ahead and found.value >= claim.value - claim.tolerance - ROUNDING
    else:
        good = _meets(claim, found.value)
        if _exceeds(claim, found):
            return EXCEEDED
    if good:
        return REPRODUCED
    if share < ENOUGH:
        return TOO_SHORT
    return ORDER_ONLY if ahead else NOT_REPRODUCED


def _by_factor(published: float, ours: float) -> str:
    apart = abs(math.log10(ours / published)) if ours > 0 else math.inf
    if apart <= math.log10(WITHIN) + ROUNDING:
        return REPRODUCED
    return SAME_MAGNITUDE if apart <= math.log10(MAGNITUDE) + ROUNDING else NOT_REPRODUCED


def _meets(claim: Claim, value: float) -> bool:
    """Whether a value lies on the claim's side of the published one, or within the tolerance."""
    assert claim.value is not None
    difference, allowed = value - claim.value, claim.tolerance + ROUNDING
    if claim.side == "equal":
        return abs(difference) <= allowed
    return difference >= -allowed if claim.side == "at least" else difference <= allowed


def _exceeds(claim: Claim, found: Measured) -> bool:
    """Three seeds or more, and our interval lies wholly beyond that of the published rate."""
    if claim.points is None or found.seeds < statistics.ENOUGH_SEEDS or claim.side == "equal":
        return False
    assert claim.value is not None
    right = round(claim.value / 100 * claim.points)
    low, high = (100 * end for end in statistics.clopper_pearson(right, claim.points))
    return found.low > high if claim.side == "at least" else found.high < low


def _is_lead(found: Measured) -> bool:
    """Whether a lead is above zero, with its whole interval where it has one."""
    return found.value > 0 and not found.low <= 0


def judge(claim: Claim, frame: Frame | None) -> Judged:
    """Judge one claim by a recorded paper run; None when there is none."""
    return judge_all(frame, [claim])[0]


def _judge(claim: Claim, frame: Frame, conditions: Sequence[Checked]) -> Judged:
    if claim.side == "holds":
        return _judge_condition(claim, conditions)
    measures = {c.name for c in frame.spec.columns} | {d.column.name for d in frame.spec.derived}
    if claim.column not in measures:  # it was added since
        return Judged(claim, NOT_JUDGED)
    line, column = frame.lookup(claim.row), frame.spec.column(claim.column)
    if line is not None and column.too_few(line.to_dict()):
        return Judged(claim, NOT_JUDGED, measured=f"fewer than {column.least} points")
    found = measured(frame, claim.row, claim.column)
    share = trained(frame, claim.row) if column.of_training else 1.0
    if found is None:
        return Judged(claim, NOT_RUN)
    leads = [lead(claim, frame, row) for row in claim.ahead_of]
    ahead = bool(leads) and all(one is not None and _is_lead(one) for one in leads)
    if claim.kind == ORDER:
        there = [one for one in leads if one is not None]
        if len(there) < len(leads):
            return Judged(claim, NOT_RUN)
        # the weakest: one that is not shown, else the smallest
        found = min(there, key=lambda one: (_is_lead(one), one.value))
    verdict = decide(claim, found, ahead=ahead, share=share)
    difference = None if claim.value is None else found.value - claim.value
    ends = found.low, found.high
    return Judged(claim, verdict, found.value, *ends, difference, share=share)


def _judge_condition(claim: Claim, conditions: Sequence[Checked]) -> Judged:
    for condition in conditions:
        if condition.says == claim.column:
            said, needed = condition.measured, condition.needed
            return Judged(claim, condition.verdict, measured=said, needed=needed)
    return Judged(claim, NOT_RUN)


def measured(frame: Frame, row: Row, column: str) -> Measured | None:
    """What a frame holds of a row: a column, or a derived measure; None where it was not run."""
    for derived in frame.spec.derived:
        if derived.column.name == column:
            return derived.measure(frame, row)
    record = frame.lookup(row)
    if record is None or math.isnan(record[column]):
        return None
    ends = float(record[f"{column}_low"]), float(record[f"{column}_high"])
    return Measured(float(record[column]), *ends, seeds=int(record["seeds"]))


def lead(claim: Claim, frame: Frame, other: Row) -> Measured | None:
    """By how much the claim's row is ahead of another one, measured or else quoted.

    Where the run has the paired difference in a column of its own, that is the lead. Else the
    interval takes the two rows as independent: their half-widths add in squares, which for rows
    that share points or targets is wider.
    """
    for column in frame.spec.columns:
        paired = None
        if column.leads == claim.column and column.over == other[-1]:
            paired = measured(frame, claim.row, column.name)
        if paired is not None and claim.row[:-1] == other[:-1]:
            if claim.side == "at least":
                return paired
            return replace(paired, value=-paired.value, low=-paired.high, high=-paired.low)
    ours, theirs = measured(frame, claim.row, claim.column), measured(frame, other, claim.column)
    if theirs is None:
        quoted = [q.values for q in frame.spec.quoted if q.row == other]
        values = [line[claim.column] for line in quoted if claim.column in line]
        theirs = Measured(values[0]) if values else None
    if ours is None or theirs is None:
        return None
    both = [Estimate(one.value, one.low, one.high) for one in (ours, theirs)]
    ahead = difference(*(both if claim.side == "at least" else reversed(both)))
    return Measured(ahead.value, ahead.low, ahead.high, min(ours.seeds, theirs.seeds))


def trained(frame: Frame, row: Row) -> float:
    """The least share of the published epochs that a row's nets were trained for; 1 if all."""
    shares: list[float] = [
        entry["epochs_run"] / entry["epochs_paper"]
        for entry in frame.provenance.get("shortened", ())
        if row[: len(entry["row"])] == tuple(entry["row"])
    ]
    return min([1.0, *shares])


def judge_all(frame: Frame | None, claims: Sequence[Claim]) -> list[Judged]:
    """Judge all claims of a table by one recorded run; quick runs judge nothing."""
    if frame is None or frame.run == "quick":
        return [Judged(claim, NOT_RUN) for claim in claims]
    check, ran = frame.spec.conditions, frame.data[frame.data["status"] != NOT_RUN]
    asked = check is not None and len(ran) and any(claim.side == "holds" for claim in claims)
    conditions = check(ran) if check is not None and asked else ()
    return [_judge(claim, frame, conditions) for claim in claims]
