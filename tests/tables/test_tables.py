"""What a chapter calls: live, show, compare, assert_reproduces; what the pages list."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.figures import evidence as picture
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import compared, overview, records
from thesis_repro.tables.records import NotRecorded
from thesis_repro.tables.spec import Column, Frame, TableSpec
from thesis_repro.tables.verdict import judge_all

NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample")


@pytest.fixture
def live() -> Frame:
    return tables.live(NAME)


@pytest.fixture
def paper() -> Frame:
    return tables.record(NAME, profile("paper"), progress=False)


def test_an_unknown_table_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'other'; there are sample-empty, sample-rates"):
        tables.get("other")
    with pytest.raises(ValueError, match="'sample-rate'; did you mean sample-rates"):
        tables.get("sample-rate")


def test_a_live_frame_says_what_ran(live: Frame) -> None:
    assert live.run == "quick"
    assert list(live.data["method"]) == ["ours", "plain"]  # what cannot run has no quick row
    assert live.provenance["seeds"] == [0]
    value = live.value(("digits", "ours"), "accuracy")
    assert value is not None
    assert 90 <= value < 95
    assert live.value(("digits", "plain"), "seconds") is None
    assert live.value(("no", "row"), "accuracy") is None
    assert tables.live(NAME, seed=3).provenance["seeds"] == [3]


def test_a_paper_frame_has_every_row(paper: Frame) -> None:
    assert list(paper.data["status"]) == ["run", "run", "not run"]
    assert list(paper.data["seeds"]) == [3, 3, 0]


def test_show_gives_a_numbered_table_and_a_way_to_cite_it(live: Frame, paper: Frame) -> None:
    text = tables.show(live).data
    assert text.startswith("::::{table} Accuracy & cost")
    assert "\n:name: tab-sample-rates-live\n" in text
    assert records.key(live) not in text  # a key of this build alone leads nowhere
    assert "To cite, take a recorded run" in text
    assert "quoted:" not in text  # quick runs do not stand beside the papers' rows
    assert "{download}" not in text
    text = tables.show(tables.recorded(NAME)).data
    assert "\n:name: tab-sample-rates-recorded\n" in text
    assert "quoted: page 5" in text
    assert "quoted:" not in tables.show(paper, quoted=False).data
    for kind in ("csv", "json", "tex"):
        assert f"</book/_tables/sample-rates-paper-cpu.{kind}>" in text
    assert text.count("::::::{dropdown} Run, code and citation") == 1
    assert f"Cite this table: `{records.key(paper)}`" in text
    assert f"@misc{{{records.key(paper)}," in text


def test_compare_has_published_recorded_and_verdict_and_keeps_live_apart(
    live: Frame, paper: Frame
) -> None:
    records.write(live)
    text = tables.compare(NAME, live).data
    claims, words = text.split(":name: tab-sample-rates-words")
    words, drift = words.split(":name: tab-sample-rates-drift")
    assert ":name: tab-sample-rates-compare" in claims
    assert "| claim | verdict | published | recorded (paper-cpu) | difference |" in claims
    rows = [line for line in claims.splitlines() if line.startswith(("| digits", "| faces"))]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    judged = tables.evidence().query("row != '' and verdict != 'not run'")
    assert [c[0] for c in cells] == [f"{r} / {m}" for r, m in judged[["row", "measure"]].to_numpy()]
    assert [c[1] for c in cells] == list(judged["verdict"])
    assert cells[0][2] == "90.0"
    assert cells[0][-1] == "≥ −1.0"
    assert cells[1][-1] == "±0.5"
    assert cells[2][2] == "not published"
    assert "Claims not run: 1, listed on the {doc}" in claims
    assert "| all above 90% | holds | 90% | 9" in words
    assert "Claims not run: 1" in words
    assert "This run against the committed quick run: all 2 values are the same" in words
    assert "| ours | " in drift


def test_the_line_of_a_drift_names_the_largest_in_its_tolerance(live: Frame) -> None:
    records.write(live)
    text = tables.compare(NAME, shifted(live, 0.9)).data
    found = re.findall(r"^::::::\{dropdown\} This run against .*", text, re.MULTILINE)
    assert found == [
        "::::::{dropdown} This run against the committed quick run: 2 values, the largest "
        "difference +0.9 of ±1.0 allowed (accuracy (%), digits / ours)"
    ]


def test_the_column_is_headed_thesis_where_its_slides_have_every_value(paper: Frame) -> None:
    slides = [dataclasses.replace(c, how_read="slides") for c in paper.spec.claims if c.row]
    headings, rows = compared.comparison(paper.spec, judge_all(paper, slides), paper, None)
    assert "thesis" in headings and "published" not in headings
    assert rows[0][3] == "90.0"


def test_compare_without_a_record_reads_not_run() -> None:
    text = tables.compare(NAME).data
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert sum(row[1] == "not run" for row in rows) == 6
    assert re.findall(r"no run has judged: (\d)", text) == ["4", "2"]
    assert tables.compare("sample-empty").data == ""


def shifted(frame: Frame, by: float) -> Frame:
    data = frame.data.copy()
    data.loc[0, "accuracy"] += by
    return dataclasses.replace(frame, data=data)


def test_assert_reproduces_holds_a_run_against_the_committed_one(live: Frame) -> None:
    with pytest.raises(NotRecorded, match="no run 'quick' is recorded|no run is recorded"):
        tables.assert_reproduces(live)
    records.write(live)
    assert tables.assert_reproduces(live) == (
        "sample-rates: 2 values within tolerance of the committed quick run"
    )
    tables.assert_reproduces(shifted(live, 0.99))
    for by in (1.01, -1.01, float("nan")):
        with pytest.raises(AssertionError, match=r"quick\) drifted: digits / ours: accuracy is"):
            tables.assert_reproduces(shifted(live, by))
    with pytest.raises(AssertionError, match="digits / ours: only in one of the two runs"):
        tables.assert_reproduces(dataclasses.replace(live, data=live.data[1:]))


def test_assert_reproduces_does_not_compare_other_seeds(live: Frame) -> None:
    records.write(live)
    assert "not compared, seeds [5] differ" in tables.assert_reproduces(tables.live(NAME, seed=5))


def test_an_assertion_without_a_value_to_compare_fails(live: Frame) -> None:
    free = [dataclasses.replace(c, drift=None) for c in live.spec.columns]
    spec = dataclasses.replace(live.spec, columns=tuple(free))
    records.write(live)
    with pytest.raises(AssertionError, match="no value to compare"):
        tables.assert_reproduces(dataclasses.replace(live, spec=spec))


def test_evidence_has_one_row_for_each_claim(live: Frame, paper: Frame) -> None:
    for _ in range(2):  # the second call once met the module in place of the function
        claims = tables.evidence({NAME: live})
    mine = claims[claims["table"] == NAME]
    assert list(mine["value"].isna()) == [False, False, True, False, True, True]
    assert list(mine["run"]) == ["paper-cpu"] * 6
    assert list(mine["verdict"])[2:] == ["not published", "not run", "holds", "not run"]
    assert list(mine["source"]) == [f"page {i}" for i in range(1, 7)]
    assert mine["live"][0] == live.value(("digits", "ours"), "accuracy")
    assert tables.evidence()["live"].isna().all()


def test_the_cite_index_has_one_row_for_each_recorded_run(live: Frame, paper: Frame) -> None:
    records.write(live)
    index = tables.cite_index()
    assert list(index["key"]) == [records.key(paper), records.key(live)]
    assert list(index["run"]) == ["paper-cpu", "quick"]
    assert list(index["seeds"]) == [3, 1]
    assert index["verdict"][1] == "not judged"
    claims = tables.evidence()
    counts = claims.loc[claims["table"] == NAME, "verdict"].value_counts(sort=False)
    assert index["verdict"][0] == ", ".join(f"{n} {v}" for v, n in counts.items())


def test_without_records_the_lists_are_empty() -> None:
    assert tables.cite_index().empty
    assert set(tables.evidence()["verdict"]) == {"not run"}


def test_the_picture_has_a_row_for_each_published_number(paper: Frame) -> None:
    claims = overview.numbers(tables.evidence())
    assert len(claims) == 3
    ratio = claims.iloc[[0]].assign(kind="factor", value=15.0, recorded=30.0, verdict="reproduced")
    claims = pd.concat([claims, ratio])
    panels = picture.forest(claims).axes
    assert [ax.get_xscale() for ax in panels] == ["log", "linear"]
    assert [ax.get_xlabel() for ax in panels] == ["ours over the published ratio", "%"]
    marks = [line.get_xdata()[0] for line in panels[0].lines]
    assert 2.0 in marks and 1.0 in marks  # ours is twice the published ratio
    labels = [t.get_text() for ax in panels for t in ax.get_yticklabels()]
    assert sorted(labels) == sorted(claims["says"])
    assert [t.get_text().strip() for ax in panels for t in ax.texts] == ["not run"]
    assert picture.svg(claims) == picture.svg(claims)
    assert picture.alt(claims).startswith("Forest plot of 4 published values and ratios with ours")
    with pytest.raises(ValueError, match="at least one claim"):
        picture.forest(claims[:0])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("a",), "x: 'a' 'y' fits no column; there are z"),
        (("a", "b"), "x: the row 'a // b' has 2 keys, 1 are needed"),
    ],
)
def test_a_quoted_row_that_fits_no_column_or_key_is_refused(
    row: tuple[str, ...], says: str
) -> None:
    from thesis_repro.tables.claims import Quoted

    with pytest.raises(ValueError, match=says):
        TableSpec(
            name="x",
            caption="",
            keys=(Column("a", "a", kind="key"),),
            columns=(Column("z", "z"),),
            chapter="",
            quoted=(Quoted(row, {"z" if len(row) > 1 else "y": 1.0}, "s"),),
        )


def test_the_generated_pages_hold_every_claim_and_every_record(live: Frame, paper: Frame) -> None:
    from xml.etree import ElementTree

    from thesis_repro.publish import generated
    from thesis_repro.publish.claims import evidence

    root = Path(__file__).resolve().parents[2]
    records.write(live)
    page, drawing = evidence(root).values()
    claims = tables.evidence()
    for row in claims.to_dict("records"):
        line = next(line for line in page.splitlines() if f"| {row['says']} |" in line)
        assert line.startswith("| **")
        assert row["source"] in page
    assert f":alt: {picture.alt(overview.numbers(claims))}\n" in page
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    listed = generated.cite(root)
    assert all(key in listed for key in tables.cite_index()["key"])
    files = generated.downloads()
    assert len(files) == 8
    assert files[f"book/_tables/{NAME}-quick.csv"] == records.to_csv(live).decode()
    for run in ("quick", "paper-cpu"):
        shown = tables.show(tables.recorded(NAME, run)).data
        assert all(f"/{name}>" in shown for name in files if run in name and "bib" not in name)
