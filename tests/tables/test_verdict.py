"""Verdicts by planted cases for each word, and what must hold for all."""

import dataclasses
import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_repro.tables import rules
from thesis_repro.tables.claims import (
    FACTOR,
    IN_WORDS,
    MEASURED,
    ORDER,
    THEOREM,
    Claim,
    Measured,
    Quoted,
)
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Derived, Frame, TableSpec
from thesis_repro.tables.verdict import KINDS, VERDICTS, decide, judge, judge_all, lead

NAN = math.nan
ROW = ("ours",)


def claim(value: float | None, kind: Any = MEASURED, **fields: Any) -> Claim:
    """A claim on the column x of our row."""
    fields = {"ahead_of": (("rival",),)} | fields if kind == ORDER else fields
    fields = {"side": "equal"} | fields if kind == FACTOR else fields
    return Claim(ROW, "x", value, "source", kind=kind, **fields)


def frame(
    rows: dict[str, tuple[float, float, float]],
    seeds: int = 1,
    run: str = "paper-cpu",
    shortened: tuple[int, int] | None = None,
    **spec: Any,
) -> Frame:
    """A frame with a line for each of the rows: value and the ends of its interval."""
    made = TableSpec(
        name="made-up",
        caption="",
        keys=(Column("key", "key", kind="key"),),
        columns=(spec.pop("x", Column("x", "x")),),
        chapter="",
        **spec,
    )
    lines = [
        (name, *ends, "not run" if math.isnan(ends[0]) else "run", seeds, "", "")
        for name, ends in rows.items()
    ]
    short = []
    if shortened is not None:
        run_epochs, paper_epochs = shortened
        short = [{"row": list(ROW), "epochs_run": run_epochs, "epochs_paper": paper_epochs}]
    data = pd.DataFrame(lines, columns=made.fields())
    return Frame(made, run, data, {"shortened": short})


def of(ours: float, low: float = NAN, high: float = NAN, **fields: Any) -> str:
    """The verdict on a claim of these fields, when our row alone is there."""
    given = {n: fields.pop(n) for n in ("seeds", "shortened") if n in fields}
    return judge(claim(**fields), frame({"ours": (ours, low, high)}, **given)).verdict


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: f"{rule.verdict}, {rule.kinds}")
def test_the_code_judges_the_example_of_each_rule_as_the_rule_says(rule: rules.Rule) -> None:
    if rule.claim is not None and rule.found is not None:
        assert decide(rule.claim, rule.found, **(rule.given or {})) == rule.verdict
        assert rule.claim.kind in rule.kinds
    assert rule.verdict in VERDICTS


def test_every_word_and_every_kind_has_a_rule() -> None:
    assert {rule.verdict for rule in rules.RULES} == set(VERDICTS)
    assert {kind for rule in rules.RULES for kind in rule.kinds} == set(KINDS)
    assert set(rules.MEANING) == set(KINDS)


@pytest.mark.parametrize(
    ("side", "value", "tolerance", "estimate", "verdict"),
    [
        ("at least", 95.7, 1.5, 95.0, "reproduced"),
        ("at least", 95.7, 1.5, 94.2, "reproduced"),  # just within, in floats
        ("at least", 95.7, 1.5, 94.19, "not reproduced"),
        ("at most", 10.0, 1.0, 11.0, "reproduced"),
        ("at most", 10.0, 1.0, 11.1, "not reproduced"),
        ("equal", 50.6, 0.5, 50.9, "reproduced"),
        ("equal", 50.6, 0.5, 51.5, "not reproduced"),
        ("equal", 50.6, 0.5, 45.0, "not reproduced"),
        ("at least", None, 0.0, 96.0, "not published"),
        ("at least", 95.7, 1.5, NAN, "not run"),
        ("at least", None, 0.0, NAN, "not run"),
    ],
)
def test_values(
    side: Any, value: float | None, tolerance: float, estimate: float, verdict: str
) -> None:
    assert of(estimate, value=value, side=side, tolerance=tolerance) == verdict


def test_exceeded_takes_three_seeds_and_an_interval_beyond_the_published_one() -> None:
    def found(low: float, seeds: int, points: int | None = 10_000) -> str:
        return of(low + 0.1, low, low + 0.2, value=95.7, tolerance=1.5, points=points, seeds=seeds)

    assert found(96.4, 3) == "exceeded"
    assert found(96.4, 2) == "reproduced"
    assert found(96.0, 3) == "reproduced"  # 95.7% of 10,000 points reaches up to 96.09
    assert found(96.4, 3, points=100) == "reproduced"
    assert found(96.4, 3, points=None) == "reproduced"
    below = claim(10.0, side="at most", tolerance=1.0, points=10_000)
    ends = (8.0, 7.9, 8.1)
    assert judge(below, frame({"ours": ends}, seeds=3)).verdict == "exceeded"


@pytest.mark.parametrize(
    ("published", "ours", "verdict"),
    [
        (90_000, 66_417, "reproduced"),
        (15, 2.7, "same order of magnitude"),
        (6000, 74_374, "not reproduced"),  # far more is no better agreement than far less
        (6000, 485, "not reproduced"),
        (10, 30, "reproduced"),
        (10, 30.1, "same order of magnitude"),
        (10, 100, "same order of magnitude"),
        (10, 101, "not reproduced"),
        (10, -1, "not reproduced"),
    ],
)
def test_factors_are_judged_on_a_log_scale_from_both_sides(
    published: float, ours: float, verdict: str
) -> None:
    assert of(ours, value=published, kind=FACTOR) == verdict


@given(st.floats(0.1, 1e5), st.floats(-2, 2))
def test_a_factor_too_large_is_judged_as_one_too_small(published: float, decades: float) -> None:
    asked = claim(published, FACTOR)
    found = [decide(asked, Measured(published * 10 ** (sign * decades))) for sign in (1, -1)]
    assert found[0] == found[1]


def test_a_net_of_5_percent_is_not_order_only_since_its_certificates_are_sound() -> None:
    """VRA <= PGD <= clean holds for every sound certifier; the thesis claims another order."""
    columns = [Column(name, name) for name in ("pgd", "clean")]
    spec = dataclasses.replace(
        frame({}).spec, columns=(Column("x", "VRA"), *columns), quoted=(BCP,)
    )
    line = ("ours", 5.0, 4.6, 5.4, 60.0, 59.0, 61.0, 90.0, 89.0, 91.0, "run", 1, "", "")
    sound = Frame(spec, "paper-cpu", pd.DataFrame([line], columns=spec.fields()), {})
    asked = claim(62.8, tolerance=3.0, ahead_of=(("BCP",),))
    assert judge(asked, sound).verdict == "not reproduced"
    better = dataclasses.replace(sound, data=sound.data.assign(x=56.3, x_low=55.3, x_high=57.3))
    assert judge(asked, better).verdict == "order only"


BCP = Quoted(("BCP",), {"x": 48.2}, "its authors")


def test_order_only_needs_the_whole_interval_above_every_rival() -> None:
    rivals = (("BCP",), ("KW",))
    quoted = (BCP, Quoted(("KW",), {"x": 44.0}, "its authors"))
    asked = claim(62.8, tolerance=3.0, ahead_of=rivals)

    def found(value: float, low: float, high: float) -> str:
        return judge(asked, frame({"ours": (value, low, high)}, quoted=quoted)).verdict

    assert found(56.3, 55.3, 57.3) == "order only"
    assert found(48.9, 47.9, 49.9) == "not reproduced"  # above both, but not with its interval
    assert found(46.0, 45.5, 46.5) == "not reproduced"  # above one of two
    unknown = dataclasses.replace(asked, ahead_of=(("nobody",),))
    assert judge(unknown, frame({"ours": (56.3, 55.3, 57.3)})).verdict == "not reproduced"
    assert of(56.3, 55.3, 57.3, value=62.8, tolerance=3.0) == "not reproduced"  # no order claimed


def test_8_of_800_epochs_are_too_short_to_judge_and_a_quarter_is_not() -> None:
    def found(epochs: int, value: float = 40.6) -> str:
        return of(value, value=60.0, tolerance=3.0, shortened=(epochs, 800))

    assert found(8) == "too short to judge"
    assert found(199) == "too short to judge"
    assert found(200) == "not reproduced"
    assert found(8, 57.5) == "reproduced"  # what is reached so soon is reached
    timed = frame(
        {"ours": (40.6, NAN, NAN)}, shortened=(8, 800), x=Column("x", "s", of_training=False)
    )
    assert judge(claim(60.0, tolerance=3.0), timed).verdict == "not reproduced"


def test_an_order_over_several_needs_the_whole_interval_of_each_lead() -> None:
    asked = claim(1.0, ORDER, tolerance=1.0, ahead_of=(("near",), ("wide",)))

    def found(half: float) -> Any:
        wide = (45.0, 45.0 - half, 45.0 + half)
        return judge(
            asked, frame({"ours": (50.0, 49.9, 50.1), "near": (46, 45.9, 46.1), "wide": wide})
        )

    assert found(0.1).verdict == "reproduced" and found(0.1).estimate == 4.0
    assert found(8.0).verdict == "not reproduced" and found(8.0).estimate == 5.0


def test_an_order_is_judged_by_the_lead_and_its_interval() -> None:
    def found(ours: float, needed: float = 6.9, tolerance: float = 1.0, half: float = 0.2) -> Any:
        rows = {"ours": (ours, ours - half, ours + half), "rival": (50.0, 49.8, 50.2)}
        return judge(claim(needed, ORDER, tolerance=tolerance), frame(rows))

    assert found(57.0).verdict == "reproduced"
    assert found(55.9).verdict == "reproduced"
    assert found(50.7).verdict == "order only"
    assert found(50.2).verdict == "not reproduced"  # the interval of the lead holds 0
    assert found(49.0).verdict == "not reproduced"
    assert found(50.7).difference == pytest.approx(0.7 - 6.9)
    assert found(50.7).low == pytest.approx(0.7 - math.hypot(0.2, 0.2))
    at_all = found(50.1, needed=0.0, tolerance=0.0, half=0.01)
    assert at_all.verdict == "not reproduced"  # 0.1 within ±0.2
    fewer = claim(1.0, ORDER, side="at most")
    rows = {"ours": (48.0, NAN, NAN), "rival": (50.0, NAN, NAN)}
    assert judge(fewer, frame(rows)).verdict == "reproduced"  # less is ahead
    assert judge(fewer, frame({"ours": (48.0, NAN, NAN)})).verdict == "not run"
    found_lead = lead(fewer, frame(rows), ("rival",))
    assert found_lead is not None and found_lead.value == 2.0 and math.isnan(found_lead.low)


def test_a_theorem_holds_in_every_case_or_does_not() -> None:
    assert of(100.0, value=100.0, kind=THEOREM) == "holds"
    assert of(99.9, value=100.0, kind=THEOREM) == "does not hold"
    assert of(0.0, value=0.0, kind=THEOREM, side="at most") == "holds"


def check(rows: pd.DataFrame) -> list[Condition]:
    """One condition, on the rows that ran."""
    assert (rows["status"] == "run").all()
    least = float(rows["x"].min())
    return [Condition("x is large", "above 3", f"{least:g}", least > 3)]


def test_a_claim_in_words_is_judged_by_the_condition_that_it_names() -> None:
    def found(value: float, says: str = "x is large") -> Any:
        asked = Claim((), says, None, "source", "holds", kind=IN_WORDS)
        rows = {"ours": (value, NAN, NAN), "absent": (NAN, NAN, NAN)}
        return judge(asked, frame(rows, conditions=check))

    assert (found(4.0).verdict, found(4.0).measured, found(4.0).needed) == ("holds", "4", "above 3")
    assert found(2.0).verdict == "does not hold"
    assert found(4.0, "x is small").verdict == "not run"
    assert found(NAN).verdict == "not run"


def test_what_chance_alone_gives_is_not_measurable() -> None:
    def measure(frame: Frame, row: Any) -> Measured | None:
        value = frame.value(row, "x")
        return None if value is None else Measured(90.0, measurable=value > 1)

    derived = (Derived(Column("removed", "removed", "%"), measure),)

    def found(before: float) -> str:
        asked = Claim(ROW, "removed", 95.0, "source", tolerance=5.0)
        return judge(asked, frame({"ours": (before, NAN, NAN)}, derived=derived)).verdict

    assert found(0.4) == "not measurable"
    assert found(4.0) == "reproduced"
    assert found(NAN) == "not run"


def test_a_claim_in_words_that_is_not_decided_says_why() -> None:
    def word(measurable: bool) -> str:
        def undecided(rows: pd.DataFrame) -> list[Condition]:
            return [Condition("x is halved", "half", "0.1", None, measurable)]

        asked = Claim((), "x is halved", None, "source", "holds", kind=IN_WORDS)
        return judge(asked, frame({"ours": (0.1, NAN, NAN)}, conditions=undecided)).verdict

    assert word(measurable=False) == "not measurable"  # chance alone gives as much
    assert word(measurable=True) == "not judged"  # the run lacks a row that it takes
    with pytest.raises(ValueError, match="'x' is not measurable, so it cannot hold or fail"):
        Condition("x", "half", "0.1", True, measurable=False)


def test_without_a_run_or_a_row_it_is_not_run() -> None:
    assert judge(claim(1.0), None).verdict == "not run"
    assert judge(claim(1.0), frame({"other": (1.0, NAN, NAN)})).verdict == "not run"


def test_a_quick_run_is_never_judged() -> None:
    rows = {"ours": (2.0, NAN, NAN)}
    assert [j.verdict for j in judge_all(frame(rows, run="quick"), [claim(1.0)])] == ["not run"]
    assert [j.verdict for j in judge_all(frame(rows), [claim(1.0)])] == ["reproduced"]
    assert [j.verdict for j in judge_all(None, [claim(1.0)])] == ["not run"]


numbers = st.floats(1, 1e3)


@given(numbers, st.floats(0, 0.5), numbers, st.sampled_from(["at least", "at most", "equal"]))
def test_a_wider_tolerance_takes_nothing_back_and_mirrored_claims_agree(
    value: float, share: float, estimate: float, side: Any
) -> None:
    def found(value: float, estimate: float, side: Any, share: float) -> str:
        asked = claim(value, side=side, tolerance=share * abs(value))
        return decide(asked, Measured(estimate))

    narrow = found(value, estimate, side, share)
    if narrow == "reproduced":
        assert found(value, estimate, side, 2 * share) == narrow
    mirrored = {"at least": "at most", "at most": "at least", "equal": "equal"}[side]
    assert found(-value, -estimate, mirrored, share) == narrow


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"source": " "}, "names no source"),
        ({"tolerance": -1.0}, "a tolerance lies between 0 and the value, got -1.0"),
        ({"value": 50.0, "tolerance": 51.0}, "a tolerance lies between 0 and the value, got 51.0"),
        ({"value": None, "tolerance": 0.1}, "a tolerance lies between 0 and the value"),
        ({"kind": FACTOR}, "'factor', which has no side 'at least'"),
        ({"kind": FACTOR, "side": "equal", "value": -2.0}, "a factor is above 0, got -2.0"),
        ({"kind": FACTOR, "side": "equal", "tolerance": 1.0}, "which takes no tolerance"),
        ({"kind": ORDER, "side": "equal", "ahead_of": (("b",),)}, "which has no side 'equal'"),
        ({"kind": ORDER}, "names what it is ahead of"),
        ({"kind": THEOREM, "tolerance": 1.0}, "which takes no tolerance"),
        ({"kind": IN_WORDS}, "which has no side 'at least'"),
        ({"kind": IN_WORDS, "side": "holds"}, "has a row, or is on the side 'holds'"),
        ({"kind": IN_WORDS, "side": "holds", "row": ()}, "it takes no value, got 90.0"),
        ({"kind": MEASURED, "row": ()}, "has a row, or is on the side 'holds'"),
        ({"kind": "mesured"}, "is of kind 'mesured'; there are theorem, checked; measured; order;"),
        ({"value": NAN}, "has to be finite|between 0 and the value"),
        ({"value": math.inf}, "has to be finite"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(fields: dict[str, Any], says: str) -> None:
    whole: dict[str, Any] = {"row": ROW, "column": "x", "value": 90.0, "source": "s"}
    with pytest.raises(ValueError, match=says):
        Claim(**whole | fields)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (Claim(("a", "b"), "x", 1.0, "s"), "row 'a // b' has 2 keys, 1 are needed; in published"),
        (Claim(ROW, "y", 1.0, "s"), "'y' fits no column; there are .*x"),
        (Claim(ROW, "key", 1.0, "s"), "fits no column"),
        (claim(1.0, ORDER, ahead_of=(("a", "b"),)), "row 'a // b' has 2 keys"),
        (Claim((), "x is large", None, "s", "holds", kind=IN_WORDS), "fits no condition"),
    ],
)
def test_a_claim_that_fits_no_column_or_row_is_refused(made: Claim, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        frame({"ours": (1.0, NAN, NAN)}, claims=(made,))
