"""How a table lies on a page: what is said once, what stands below, what is folded."""

import dataclasses
import re

import pytest

from thesis_repro import tables
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import sheet
from thesis_repro.tables.sheet import Sheet
from thesis_repro.tables.spec import NOT_RUN, Frame

NAME = "sample-rates"


@pytest.fixture
def frame(sample: None) -> Frame:
    tables.record(NAME, profile("paper"), progress=False)
    return tables.recorded(NAME)


def grid(*rows: list[str]) -> Sheet:
    return sheet.of_grid((["net", "data", "x"], list(rows)), 2)


def test_a_column_of_one_value_is_said_once() -> None:
    laid = grid(["a", "digits", "1"], ["b", "digits", "2"])
    assert laid.headings == ["net", "x"]
    assert laid.said == ["data: digits"]
    assert laid.numeric == [False, True]
    assert grid(["a", "digits", "1"]).headings == ["net", "data", "x"]  # one row keeps its cells
    empty = grid(["a", "–", "1"], ["b", "–", "2"])
    assert empty.headings == ["net", "x"] and empty.said == []


def test_the_verdict_stands_second_and_stays_where_all_are_alike() -> None:
    claims = ["net", "measure", "published", "verdict"], [["a", "x", "1", "holds"]] * 2
    laid = sheet.of_claims(claims, 2, numeric=True)
    assert "verdict" in laid.headings
    one = sheet.of_claims((claims[0], claims[1][:1]), 2, numeric=True)
    assert one.headings == ["claim", "verdict", "published"]
    assert one.rows == [["a / x", "holds", "1"]]


def test_notes_stand_below_each_once_with_a_letter(frame: Frame) -> None:
    laid = sheet.of_frame(frame, quoted=True)
    assert "note" not in laid.headings and "source" not in laid.headings
    assert laid.marks == ["a", "", "b"]
    assert laid.notes == ["a: shortened: 8 of 500 epochs", "b: quoted: page 5"]
    text = sheet.myst(laid, "tab-x", "A caption.")
    assert "{sup}`a`" in text
    assert text.rstrip().endswith("b: quoted: page 5.")


def test_rows_that_were_not_run_are_counted_in_the_fold(frame: Frame) -> None:
    text = tables.show(frame).data
    seen, fold = text.split("::::::{dropdown} ")[:2]
    assert "| not run |" not in text
    assert "Not run: 1 rows more" in fold and "reference/status" in fold
    assert "Profile paper" in fold and "Profile paper" not in seen


def test_a_caption_has_two_lines_and_its_rest_stands_below() -> None:
    laid = grid(["a", "digits", "1"], ["b", "digits", "2"])
    title, rest = sheet.captioned(
        laid, f"What it costs: seconds, and memory. {'More. ' * 20}".strip(), "Run x."
    )
    assert title == "What it costs. Run x. data: digits."
    assert rest.notes == [f"Seconds, and memory. {'More. ' * 20}".strip()]
    title, rest = sheet.captioned(laid, f"The largest, {'and more ' * 20}, at last.", "Run x.")
    assert title.startswith("The largest. Run x.") and rest.notes[0].startswith("And more and")
    long = "A caption that says much " * 8
    title, rest = sheet.captioned(laid, long, "Run x.")
    assert "digits" not in title and rest.notes == ["All rows: data: digits."]
    assert sheet.captioned(grid(["a", "1", "2"], ["b", "3", "4"]), long)[1].notes == []
    parts = f"The share of it, {'which is long, ' * 15}too; and then the rest of it."
    assert ". And then the rest" in sheet.captioned(laid, parts, "Run x.")[1].notes[0]


def test_what_all_rows_say_is_a_sentence_of_its_own() -> None:
    laid = Sheet(
        ["net"], [["a"]], [False], notes=["It is so.", "All rows: x: 1; y: 2.", "a: short"]
    )
    assert "It is so. All rows: x: 1; y: 2. a: short." in sheet.myst(laid, "n", "Nets.")
    assert "It is so. All rows: x: 1; y: 2. a: short." in sheet.as_html(laid, "Nets.")


def test_columns_that_all_say_one_thing_stay_where_the_names_would_stand_alone() -> None:
    alike = grid(["a", "digits", "1"], ["b", "digits", "1"])
    assert alike.headings == ["net", "data", "x"] and not alike.said


def test_a_long_table_is_folded_unless_rows_are_asked_for(frame: Frame) -> None:
    short, sheet.MOST_ROWS = sheet.MOST_ROWS, 1
    try:
        folded = tables.show(frame).data
        picked = tables.show(frame, only="digits / ours").data
    finally:
        sheet.MOST_ROWS = short
    assert folded.startswith("::::::{dropdown} Accuracy & cost of 2 methods, 100% made up; a_b is")
    assert folded.count(":name: tab-sample-rates-recorded\n") == 1
    seen, fold = picked.split("::::::{dropdown} ")
    assert len(re.findall(r"^\| digits", seen, re.MULTILINE)) == 1
    assert fold.startswith("All 3 rows.")
    assert ":name: tab-sample-rates-recorded-all\n" in fold
    with pytest.raises(ValueError, match="sample-rates: no row holds 'letters'"):
        tables.show(frame, only="letters")


def test_rows_that_are_asked_for_and_were_not_run_leave_the_table_folded(frame: Frame) -> None:
    missing = frame.data.assign(status=NOT_RUN)
    found = tables.show(dataclasses.replace(frame, data=missing), only="digits / ours").data
    assert found.startswith("::::::{dropdown} ")


def test_outside_the_book_a_table_is_html(frame: Frame) -> None:
    shown = tables.show(frame)._repr_mimebundle_()
    assert set(shown) == {"text/markdown", "text/html", "text/plain"}
    assert shown["text/html"].startswith("<table><caption>Accuracy &amp; cost")
    assert ":::" not in shown["text/html"] and "{" not in shown["text/html"].replace("{not}", "")
    assert '<th scope="row">ours <sup>a</sup></th>' in shown["text/html"]
