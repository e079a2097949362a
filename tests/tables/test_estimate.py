"""Estimates as the columns of a frame: intervals named once, in the order of the columns."""

import math

import pytest

from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.estimate import Estimate, Measurement, difference
from thesis_repro.tables.measure import assembled, tabulate
from thesis_repro.tables.spec import Column, Gathered, Row, Table, TableSpec

SPEC = TableSpec(
    "sample-estimates",
    "",
    (Column("row", "row", kind="key"),),
    (Column("x", "x"), Column("y", "y"), Column("z", "z"), Column("text", "text", kind="text")),
    "part/sample",
)


def test_a_measurement_fills_its_columns_and_says_which_intervals_it_has() -> None:
    values = {
        "z": Estimate(3.0, 2.0, 4.0, "Clopper-Pearson over 7 points"),
        "text": "words",
        "y": Estimate(5.0, 4.0, 6.0, "Clopper-Pearson over 7 points"),
        "x": Estimate(1.0, 0.0, 2.0, "Student t over 9 runs"),
    }
    (line,) = tabulate(SPEC, {("a",): Measurement(values, 2, "said")}).to_dict("records")
    assert (line["x_low"], line["x"], line["x_high"]) == (0.0, 1.0, 2.0)
    assert (line["text"], line["seeds"], line["note"]) == ("words", 2, "said")
    assert line["interval"] == "Student t over 9 runs; Clopper-Pearson over 7 points"


def test_what_was_not_measured_has_no_value() -> None:
    part = Measurement({"y": Estimate(2)}, 1)
    lines = tabulate(SPEC, {("b",): part}, [("a",)]).to_dict("records")
    assert [line["status"] for line in lines] == ["not run", "run"]
    assert [line["interval"] for line in lines] == ["", ""]
    assert (lines[1]["y"], lines[1]["text"]) == (2.0, "")
    assert isinstance(lines[1]["y"], float)  # a count is written as the other numbers are
    assert all(math.isnan(lines[1][name]) for name in ("x", "x_low", "y_low", "y_high"))


def test_an_assembly_gets_the_rows_that_have_results_and_their_cells_are_seeds() -> None:
    seen: list[Row] = []

    def assemble(_: object, gathered: Gathered) -> dict[Row, Measurement]:
        seen.extend(gathered)
        return {
            row: Measurement({"x": Estimate(1.0)}, seeds=None if row == ("a",) else 7)
            for row in gathered
        }

    table = Table(SPEC, lambda _: (), assemble)
    by_row = {("a",): [Result({}), Result({})], ("empty",): [], ("b",): [Result({})]}
    found = assembled(table, profile("quick"), by_row)
    assert seen == [("a",), ("b",)]
    assert [found[row].seeds for row in seen] == [2, 7]


def test_a_text_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="^text is a text, 'words', and no estimate$"):
        Measurement({"text": "words"}).estimate("text")


def test_a_difference_leans_as_the_intervals_of_the_two_do() -> None:
    ratio, one = Estimate(4.95, 3.95, 6.93), Estimate(1.0)
    lead = difference(ratio, one)
    assert (lead.low, lead.high) == pytest.approx((2.95, 5.93))
    behind = difference(one, ratio)
    assert (behind.low, behind.high) == pytest.approx((-5.93, -2.95))
    both = difference(Estimate(5.0, 2.0, 6.0), Estimate(1.0, 0.0, 5.0))
    assert (both.value, both.low, both.high) == pytest.approx((4.0, -1.0, 4 + math.sqrt(2)))
    assert math.isnan(difference(one, Estimate(2.0)).low)
