"""The rules of the verdicts in words, each with an example that the code itself judges.

The page "How we judge" prints them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from thesis_repro.tables.spec import NOT_JUDGED, NOT_PUBLISHED, NOT_RUN
from thesis_repro.tables.verdict import (
    DOES_NOT_HOLD,
    EXCEEDED,
    HOLDS,
    KINDS,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    ORDER_ONLY,
    REPRODUCED,
    SAME_MAGNITUDE,
    TOO_SHORT,
)

MEANING: Mapping[ClaimKind, str] = {
    THEOREM: "An axiom, an identity or a guarantee: it holds always, so every case has to keep it. "
    "This checks the code, not the world.",
    MEASURED: "A value against a published value.",
    ORDER: "One method ahead of another, by at least so much.",
    FACTOR: "A ratio, judged on a logarithmic scale and from both sides.",
    IN_WORDS: "A picture or a statement without a number. The test that decides it is ours.",
}
"""What each kind of claim is."""


@dataclass(frozen=True)
class Rule:
    """One rule in words, with an example: what `decide` makes of it is the rule's verdict."""

    kinds: tuple[ClaimKind, ...]
    verdict: str
    when: str
    example: str
    claim: Claim | None = None
    found: Measured | None = None
    given: Mapping[str, Any] | None = None


def _claim(value: float | None, kind: ClaimKind, **fields: Any) -> Claim:
    ahead = (("another",),) if kind == ORDER else ()
    return Claim(("ours",), "x", value, "an example", kind=kind, ahead_of=ahead, **fields)


RULES = (
    Rule(
        (THEOREM, IN_WORDS),
        HOLDS,
        "The axiom or identity holds in every case, up to rounding; the test that we made of the "
        "statement is passed, with the whole interval of what it measures where there is one.",
        "100% of cases within the bound, and 100% needed.",
        _claim(100.0, THEOREM),
        Measured(100.0),
    ),
    Rule(
        (THEOREM, IN_WORDS),
        DOES_NOT_HOLD,
        "The axiom fails somewhere; the test is not passed. Where the test is one of chance, a "
        "p-value, this says that nothing was shown, and not that the opposite is true.",
        "99.9% of cases within the bound, and 100% needed.",
        _claim(100.0, THEOREM),
        Measured(99.9),
    ),
    Rule(
        (MEASURED,),
        EXCEEDED,
        "One-sided claims: three seeds or more, and our whole interval lies beyond the published "
        "rate's own exact interval over its test points. Where their number is not known, "
        "nothing is exceeded.",
        "95.7% of 10,000 points published; ours 96.5 [96.4, 96.7] on three seeds.",
        _claim(95.7, MEASURED, tolerance=1.5, points=10_000),
        Measured(96.5, 96.4, 96.7, seeds=3),
    ),
    Rule(
        (MEASURED,),
        REPRODUCED,
        "Our value is no worse than the published one by more than the tolerance; for a claim of "
        "equality, no further from it.",
        "60.0 published, tolerance 1.5; ours 59.7.",
        _claim(60.0, MEASURED, tolerance=1.5),
        Measured(59.7, 58.7, 60.7),
    ),
    Rule(
        (ORDER,),
        REPRODUCED,
        "The row is ahead, with the whole interval of its lead where there is one, and by the "
        "published lead less the tolerance.",
        "Ahead by 6.9 published, tolerance 1; ours by 6.2 [5.9, 6.5].",
        _claim(6.9, ORDER, tolerance=1.0),
        Measured(6.2, 5.9, 6.5),
    ),
    Rule(
        (FACTOR,),
        REPRODUCED,
        "Ours is at most 3 times the published ratio, and at least a third of it.",
        "90,000 times published; ours 66,417.",
        _claim(90_000.0, FACTOR, side="equal"),
        Measured(66_417.0),
    ),
    Rule(
        (FACTOR,),
        SAME_MAGNITUDE,
        "Ours is at most 10 times the published ratio, and at least a tenth of it.",
        "15 times published; ours 2.7.",
        _claim(15.0, FACTOR, side="equal"),
        Measured(2.7),
    ),
    Rule(
        (MEASURED, ORDER),
        TOO_SHORT,
        "Less than a quarter of the published training ran, and our value misses.",
        "60.0 published, tolerance 3; ours 40.6 after 8 of 800 epochs.",
        _claim(60.0, MEASURED, tolerance=3.0),
        Measured(40.6, 39.6, 41.5),
        {"share": 8 / 800, "ahead": True},
    ),
    Rule(
        (MEASURED, ORDER),
        ORDER_ONLY,
        "The value misses, but our row is ahead of those that the source says it is ahead of. The "
        "claim names them; what every sound method satisfies is never such an order.",
        "62.8 published, tolerance 3; ours 56.3 [55.3, 57.3], above the 48.2 and 44.0 that the "
        "rivals publish.",
        _claim(62.8, MEASURED, tolerance=3.0),
        Measured(56.3, 55.3, 57.3),
        {"share": 100 / 300, "ahead": True},
    ),
    Rule(
        (MEASURED, ORDER, FACTOR),
        NOT_REPRODUCED,
        "None of these.",
        "6,000 times published; ours 74,374.",
        _claim(6000.0, FACTOR, side="equal"),
        Measured(74_374.0),
    ),
    Rule(
        (MEASURED, IN_WORDS),
        NOT_MEASURABLE,
        "A share is to be removed of something whose interval meets what chance alone gives.",
        "95% of a bias to be removed that is 0.4 points, where chance gives 0.6.",
        _claim(95.0, MEASURED, tolerance=5.0),
        Measured(9.0, measurable=False),
    ),
    Rule(
        (MEASURED,),
        NOT_PUBLISHED,
        "The source gives no number, or none that could be read.",
        "A picture, or a table that was not at hand.",
        _claim(None, MEASURED),
        Measured(21.3),
    ),
    Rule(
        KINDS,
        NOT_JUDGED,
        "Of a statement in words, the interval lies across what is needed. Of any claim, the run "
        "was recorded before the measure was added, or has sums where pairs are needed, or fewer "
        "than 100 points. The next recording may have what it takes.",
        "At most 1.25 times the cost is needed, and the interval reaches from below that to above.",
    ),
    Rule(
        KINDS,
        NOT_RUN,
        "No run of the paper's size measured it: no data, no hardware, or no experiment yet.",
        "Tiny-ImageNet, which was not at hand.",
    ),
)
"""The rules, in the order of the words."""
