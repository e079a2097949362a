"""A table in every format: numbers keep theirs, special characters survive, keys are right."""

import csv
import dataclasses
import html
import io
import json
import math
import re
from collections.abc import Iterator

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pybtex.database import parse_string

from thesis_repro import tables
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import escape, latex, records, render
from thesis_repro.tables.spec import Column, Frame

NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample")
CAPTION = "Accuracy & cost of 2 methods, 100% made up; a_b is {not} TeX."


@pytest.fixture
def frame() -> Iterator[Frame]:
    """A recorded paper run: three seeds, one row not run, one shortened."""
    tables.record(NAME, profile("paper"), progress=False)
    return tables.recorded(NAME)


def test_markdown_shows_formats_intervals_and_what_did_not_run(frame: Frame) -> None:
    caption, _, body = tables.text(frame, "md").partition("\n\n")
    lines = body.splitlines()
    heading = "| data set | method | accuracy (%) | cost (s) | remark | note | source |"
    assert lines[0] == heading
    assert lines[1] == "| :--- | :--- | ---: | ---: | :--- | :--- | :--- |"
    mean, low, high = (frame.data[f"accuracy{end}"][0] for end in ("", "_low", "_high"))
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[2] == f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    assert re.fullmatch(r"\d\.\d\d \[-?\d\.\d\d, \d\.\d\d\]", cells[3])
    assert cells[4:] == ["ours_1 & co", "shortened: 8 of 500 epochs", "this book, paper-cpu"]
    plain = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert plain[3] == "–"  # that method has no cost
    assert lines[4] == "| faces | ours | not run | – | – |  | this book, paper-cpu |"
    assert lines[5] == "| digits | rival | 88.5 | – | – |  | quoted: page 5 |"
    assert caption.startswith(f"{CAPTION} Profile paper, ")
    assert "seeds 0, 1, 2, 20" in caption
    assert "In brackets: 95% intervals, Student t over 3 seeds." in caption
    assert caption.endswith("Shortened: digits / ours (8 of 500 epochs).")


def test_a_row_that_does_not_fit_its_headings_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells under 2 headings: a, 60 of 500, 99"):
        render.to_markdown((["net", "clean"], [["a", "60 of 500", "99"]]), [False, True])


def test_a_quick_caption_names_its_interval() -> None:
    caption = render.caption(tables.live(NAME))
    assert "Profile quick, " in caption
    assert ", seed 0, 20" in caption
    assert caption.endswith("In brackets: 95% intervals, Clopper-Pearson over 1,000 points.")


def test_a_caption_claims_no_seed_that_no_row_used(frame: Frame) -> None:
    frame.data.loc[frame.data["status"] == "run", "seeds"] = 1
    assert ", seed 0, 20" in render.caption(frame)


def test_rows_cut_alike_go_by_their_common_key(frame: Frame) -> None:
    cut = {"epochs_run": 8, "epochs_paper": 500}
    methods = frame.data.loc[frame.data["status"] == "run", "method"]
    frame.provenance["shortened"] = [{"row": ["digits", name], **cut} for name in methods]
    assert len(methods) == 2
    assert render.shortened(frame) == ["digits (8 of 500 epochs)"]
    frame.provenance["shortened"][0] |= {"epochs_run": 9}
    apart = ["digits / ours (9 of 500 epochs)", f"digits / {methods.iloc[1]} (8 of 500 epochs)"]
    assert render.shortened(frame) == apart


def test_rows_go_by_as_few_keys_as_all_of_them_share(frame: Frame) -> None:
    names = ["dataset", "training", "adversary"]
    spec = dataclasses.replace(
        frame.spec,
        keys=tuple(Column(name, name, kind="key") for name in names),
        rows=(),
        claims=(),
        quoted=(),
    )
    rows = [["faces", "ours", "weak"], ["faces", "ours", "strong"], ["faces", "plain", "weak"]]
    other = ["digits", "ours", "weak"]
    data = pd.DataFrame([*rows, other], columns=names).assign(status="run")
    cut = {"epochs_run": 8, "epochs_paper": 500}
    about = {"shortened": [{"row": row, **cut} for row in (*rows[:2], other)]}
    made = Frame(spec, "paper-cpu", data, about)
    assert render.shortened(made) == ["faces / ours; digits / ours / weak (8 of 500 epochs)"]


def test_rows_of_fewer_seeds_show_how_many(frame: Frame) -> None:
    assert "seeds" not in render.grid(frame)[0]
    frame.data.loc[0, "seeds"] = 1
    headings, rows = render.grid(frame)
    place = headings.index("seeds")
    assert [row[place] for row in rows] == ["1", "3", "–", "–"] or rows[2][place] == "0"


def test_csv_is_the_recorded_file(frame: Frame) -> None:
    text = tables.text(frame, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == frame.spec.fields()
    assert float(rows[0]["accuracy"]) == frame.data["accuracy"][0]
    assert rows[2]["accuracy"] == ""


def test_json_is_strict_and_complete(frame: Frame) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    ends = {"accuracy_low": -math.inf, "accuracy_high": math.inf}
    about = {**frame.provenance, "cells": [{"config": {"radius": math.inf, "x": [math.nan]}}]}
    frame = dataclasses.replace(frame, data=frame.data.assign(**ends), provenance=about)
    content = json.loads(tables.text(frame, "json"), parse_constant=refuse)
    for name, end in ends.items():
        assert isinstance(found := content["rows"][0][name], str) and float(found) == end
    assert content["cells"] == [{"config": {"radius": "Infinity", "x": [None]}}]
    assert content["key"] == records.key(frame)
    assert content["rows"][0]["accuracy"] == frame.data["accuracy"][0]  # every digit
    assert content["rows"][2]["accuracy"] is None
    assert content["seeds"] == [0, 1, 2]


def test_bibtex_parses_and_its_key_is_the_hash(frame: Frame) -> None:
    text = tables.text(frame, "bibtex")
    (key,) = parse_string(text, "bibtex").entries
    assert re.fullmatch(r"sample-rates-[0-9a-f]{12}", key)
    digest = records.digest(frame)
    assert key == f"{NAME}-{digest[:12]}"
    entry = parse_string(text, "bibtex").entries[key]
    assert digest in entry.fields["note"]
    assert entry.fields["year"] == frame.provenance["date"][:4]
    said = dataclasses.replace(frame.spec, caption="What it costs: seconds. And more.")
    short = tables.text(dataclasses.replace(frame, spec=said), "bibtex")
    assert f"title = {{Table {NAME} (paper-cpu): What it costs}}" in short
    assert r"Accuracy \& cost of 2 methods, 100\% made up; a\_b is \{not\} TeX" in text
    assert len(entry.persons["author"]) == 1


def test_latex_is_balanced_escaped_and_complete(frame: Frame) -> None:
    text = tables.text(frame, "latex")
    assert re.findall(r"\\begin\{(\w+\*?)\}", text) == ["table*", "tabular"]
    assert re.findall(r"\\end\{(\w+\*?)\}", text) == ["tabular", "table*"]
    first, text = text.split("\n", 1)
    assert first == latex.NEEDS
    text = text.replace(latex.FIT, "{")
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search("[%#_~^]", bare)
    assert bare.count("$") % 2 == 0
    assert text.isascii()
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    body = bare.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    rows = [row for row in body.split(r"\\") if row.strip()]
    assert len(rows) == 1 + 3  # those that ran, and the quoted
    assert {row.count("&") for row in rows} == {len(columns) - 1}
    assert r"\label{tab:sample-rates}" in text
    assert r"ours\_1 \& co" in text


@given(st.text(max_size=40))
def test_any_text_is_safe_in_latex_and_in_a_table_cell(text: str) -> None:
    safe = escape.tex(text)
    assert safe.isascii()
    named = "textbackslash|textasciitilde|textasciicircum|textbar|ldots|ss"
    words = rf"\\(?:{named})\{{\}}|\\[&%$#_{{}}]|(?<=[-`'!?])\{{\}}(?=[-`'])"
    bare = re.sub(words + r"|\\[`'^~\"]\{[A-Za-z]\}", "", safe)
    bare = re.sub(r"\$(?:[<>-]|\^\\circ|\\[A-Za-z]+)\$", "", bare)
    assert not set(bare) & set("\\&%$#_{}~^<>|")
    cell = render._inline(text)
    assert "\n" not in cell
    assert cell.count("|") == cell.count("\\|")


@pytest.mark.parametrize(
    ("value", "low", "high", "format", "text"),
    [
        (0.31, math.nan, math.nan, "{:.3f}", "0.310"),
        (95.0, 94.96, 95.04, "{:.1f}", "95.0 [95.0, 95.0]"),
        (12345.6, math.nan, math.nan, "{:,.0f}", "12,346"),
        (1.0, math.nan, 2.0, "{:.1f}", "1.0"),
        (math.nan, 1.0, 2.0, "{:.1f}", "–"),
        (None, 1.0, 2.0, "{:.1f}", "–"),
    ],
)
def test_numbers_keep_their_format(
    value: float | None, low: float, high: float, format: str, text: str
) -> None:
    assert render.number(value, Column("x", "x", format=format), low, high) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (1, "+1.0"), (-1, "−1.0")]
)
def test_differences_carry_a_sign_unless_they_show_as_zero(value: float, text: str) -> None:
    assert render.signed(value, Column("x", "x")) == text
    assert render.signed(value, Column("x", "x", format="{:+.1f}")) == text


def test_an_unknown_format_lists_the_known(frame: Frame) -> None:
    with pytest.raises(ValueError, match="'word'; there are md, csv, latex, json, bibtex"):
        tables.text(frame, "word")


HOSTILE = "<script>alert(1)</script> {{ 7 * 7 }} `<b>` \\<i>x</i>"


def test_a_cell_of_a_record_cannot_put_html_into_a_page(frame: Frame) -> None:
    data = frame.data.assign(remark=HOSTILE)
    about = {**frame.provenance, "device": f"cpu {HOSTILE}"}
    shown = tables.show(dataclasses.replace(frame, data=data, provenance=about)).data
    page = html.unescape(MarkdownIt("commonmark").enable("table").render(shown))
    body = MarkdownIt("commonmark").enable("table").render(shown)
    assert "alert(1)" in body
    assert not re.search(r"<(?:script|b|i)\b", body)
    assert "<script>alert(1)</script>" in page  # it is read as it was written
    assert "{{" not in shown.partition("```bibtex")[0]


@pytest.mark.parametrize("text", ["p < 0.05", "a <= b", "x<5", "{a}", "$\\hat{x}$", "5 > 3"])
def test_what_begins_no_tag_stays_as_it_is(text: str) -> None:
    assert escape.markdown(text) == text


def test_markup_of_our_own_pages_stays_markup() -> None:
    text = render.myst((["a"], [["{doc}`b </c>`"]]), "t", "c", markup=True)
    assert "{doc}`b </c>`" in text


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_a_text_that_a_spreadsheet_would_run_is_quoted_for_people_alone(
    frame: Frame, start: str
) -> None:
    text = f'{start}HYPERLINK("x")'
    data = frame.data.assign(remark=text, accuracy=-frame.data["accuracy"])
    hostile = dataclasses.replace(frame, data=data)
    printed = list(csv.DictReader(io.StringIO(tables.text(hostile, "csv"), newline="")))
    assert {row["remark"] for row in printed} == {"'" + text}
    assert printed[0]["accuracy"].startswith("-")  # a number stays a number
    recorded = list(csv.DictReader(io.StringIO(records.to_csv(hostile).decode(), newline="")))
    assert {row["remark"] for row in recorded} == {text}


def test_an_ordinary_table_is_printed_as_it_is_recorded(frame: Frame) -> None:
    assert tables.text(frame, "csv").encode() == records.to_csv(frame)
