"""Verdicts: computed from an estimate, its interval and a claim; never typed."""

import math
from dataclasses import dataclass

from thesis_repro.tables.spec import NOT_PUBLISHED, NOT_RUN, Claim, Frame

EXCEEDED = "exceeded"
REPRODUCED = "reproduced"
TREND = "trend"
NOT_REPRODUCED = "not reproduced"
ROUNDING = 1e-9  # of a subtraction: 94.2 - 95.7 is a little below -1.5
VERDICTS = (EXCEEDED, REPRODUCED, TREND, NOT_REPRODUCED, NOT_RUN, NOT_PUBLISHED)


@dataclass(frozen=True)
class Judged:
    """One claim beside our estimate: difference is ours minus the published value."""

    claim: Claim
    estimate: float | None
    low: float
    high: float
    difference: float | None
    verdict: str


def judge(claim: Claim, frame: Frame | None, trend: bool | None = None) -> Judged:
    """Judge one claim by a recorded paper run.

    Parameters
    ----------
    claim : the published value
    frame : a paper run; None when there is none
    trend : whether the order that the thesis claims holds in this run; None if undefined
    """
    record = None if frame is None else frame.lookup(claim.row)
    if record is None or math.isnan(record[claim.column]):
        return Judged(claim, None, math.nan, math.nan, None, NOT_RUN)
    estimate = float(record[claim.column])
    low, high = float(record[f"{claim.column}_low"]), float(record[f"{claim.column}_high"])
    if claim.value is None:
        return Judged(claim, estimate, low, high, None, NOT_PUBLISHED)
    difference = estimate - claim.value
    return Judged(
        claim, estimate, low, high, difference, _verdict(claim, difference, low, high, trend)
    )


def _verdict(claim: Claim, difference: float, low: float, high: float, trend: bool | None) -> str:
    assert claim.value is not None
    allowed = claim.tolerance + ROUNDING
    if claim.side == "equal":
        good, beyond = abs(difference) <= allowed, False
    elif claim.side == "at least":
        good, beyond = difference >= -allowed, low > claim.value
    else:
        good, beyond = difference <= allowed, high < claim.value
    if beyond:
        return EXCEEDED
    if good:
        return REPRODUCED
    return TREND if trend else NOT_REPRODUCED


def judge_all(frame: Frame | None, claims: tuple[Claim, ...]) -> list[Judged]:
    """Judge all claims of a table by one recorded run; quick runs judge nothing."""
    used = frame if frame is not None and frame.run != "quick" else None
    trend = None
    if used is not None and used.spec.trend is not None:
        run = used.data[used.data["status"] == "run"]
        trend = bool(used.spec.trend(run)) if len(run) else None
    return [judge(claim, used, trend) for claim in claims]
