"""What is published: one file, each line with a source, each in its place; nothing is left out."""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.lab.profiles import profile
from thesis_repro.publish.sources import pages
from thesis_repro.tables import overview, published, records
from thesis_repro.tables.claims import SIDES
from thesis_repro.tables.published import COLUMNS, QUOTED
from thesis_repro.tables.spec import NOT_RUN
from thesis_repro.tables.verdict import VERDICTS

ROOT = Path(__file__).resolve().parents[2]
LINES = published.lines()


@pytest.fixture(scope="module")
def claims() -> pd.DataFrame:
    return tables.evidence()


@pytest.fixture
def once(claims: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims are not judged again for each page."""
    monkeypatch.setattr(overview, "evidence", lambda: claims)


@cache
def rows_of(name: str) -> set[tuple[str, ...]]:
    """Every row that a table has: of its spec, quoted, or recorded."""
    spec = tables.get(name).spec
    known = {*spec.rows, *(q.row for q in spec.quoted)}
    frame = records.paper(spec)
    if frame is None:
        return known
    keys = [key.name for key in spec.keys]
    return known | {tuple(row) for row in frame.data[keys].itertuples(index=False)}


SLIDES = {
    "time to certify": ("0.4", "5.8", "2500", "36800"),
    "times over GloRo": ("15", "6000", "90000"),
    "memory": ("1.8", "19.1", "1400", "19.8"),
    "memory over GloRo": ("10", "800", "10"),
    "membership": ("1.1", "50.6", "50.3", "50.6", "50.6", "57.5", "64"),
}
"""Every number in the two tables of results on the thesis's slides."""

RATIOS = {"bcp": 10, "kw": 800, "rs": 10}
LEAKED = ("lfw", "cifar-10")
SAID = (
    "only measure that has all four axioms",
    "answers many questions: the quantity",
    "answers many questions: the distribution",
    "sports car and not a convertible",
    "not the norm",
    "pink background",
    "rare in the data betrays",
    "adversarial examples cause misclassification",
    "lack of lipschitzness can account",
    "local robustness helps",
    "guaranteed to be locally robust",
    "only a single forward pass",
    "training takes less time and memory",
    "takes less time than that of rs",
    "a global bound loses nothing",
    "more scalable than any other deterministic method",
    "in 0.4 s",
    "faster than every other certifier",
    *(f"to certify with {method} takes" for method in ("bcp", "kw", "rs")),
    *(f"{method} takes {ratio} times the memory" for method, ratio in RATIOS.items()),
    "the product of the layers' constants",
    "training tightens the bound: mnist",
    "training tightens the bound: cifar-10",
    "maple tree, oak tree, pine tree, willow tree",
    "flatfish, girl, man, trout, woman",
    "house, palm tree",
    "eurosat: annualcrop, highway.",
    "highway, residential",
    "annualcrop, highway, permanentcrop",
    "naive attack wins what the generalization error gives it",
    "ahead of the shadow attack",
    *(f"watermark shows in reconstructions of robust nets: its z on {s}" for s in LEAKED),
    "read what the watermark says",
    "matches one training image",
    *(f"won on robust and on non-robust nets: {s}" for s in LEAKED),
    *(f"accessible to a weak adversary: {s}." for s in LEAKED),
    "semantic attacks",
    "miscalibrated",
)
"""What the slides claim, in words of the file."""


def test_every_line_names_its_source_and_fits_a_table_a_row_and_a_column() -> None:
    chapters = {name.removeprefix("book/") for name in pages(ROOT)}
    for line in LINES:
        assert line.source and line.how_read in published.HOW_READ, line
        if line.status == NOT_RUN:
            assert line.table in chapters and line.note and line.says, line
            assert line.side in SIDES[line.kind], line
            continue
        spec = tables.get(line.table).spec  # refuses what fits no column
        if line.kind == QUOTED:
            assert any(q.row == line.row and line.column in q.values for q in spec.quoted), line
            continue
        assert line.says.endswith("."), line
        rows = {line.row, *line.ahead_of} - {()}
        lacking = rows - rows_of(line.table)
        assert not lacking, (
            f"published.csv: {line.table} has no row {lacking}: `rows` of its TableSpec needs all "
            f"that a claim names"
        )


def test_every_claim_of_the_slides_is_measured_or_says_why_not() -> None:
    said = [line for line in LINES if line.how_read == "slides" and line.kind != QUOTED]
    assert len({line.says for line in said}) == len(said)
    for line in said:
        assert line.status == NOT_RUN or line.table in tables.names(), line


def left_out(lines: Sequence[published.Line]) -> list[str]:
    """The claims of the slides that no line makes, run or not."""
    said = [line.says.lower() for line in lines if line.kind != QUOTED]
    return [phrase for phrase in SAID if not any(phrase in says for says in said)]


def test_no_claim_of_the_slides_is_left_out() -> None:
    assert left_out(LINES) == []


@pytest.mark.parametrize("phrase", SAID)
def test_a_claim_of_the_slides_whose_lines_are_gone_is_missed(phrase: str) -> None:
    rest = [line for line in LINES if phrase not in line.says.lower()]
    assert phrase in left_out(rest)


@pytest.mark.parametrize("what", SLIDES)
def test_every_number_of_the_slides_is_in_the_file(what: str) -> None:
    of_slides = [f"{line.value:g}" for line in LINES if line.how_read == "slides" and line.value]
    lacking = collections.Counter(SLIDES[what]) - collections.Counter(of_slides)
    assert not lacking


def test_a_quantity_has_one_published_value() -> None:
    values: dict[str, set[float | None]] = {}
    for line in LINES:
        if line.quantity:
            values.setdefault(line.quantity, set()).add(line.value)
    assert values["GloRo 6C2F, CIFAR-10, VRA at 36/255"] == {60.0}
    assert {quantity for quantity, found in values.items() if len(found) > 1} == set()
    places = [(x.table, x.row, x.column, x.kind) for x in LINES if x.kind != QUOTED and x.row]
    # a value and a lead of the same row are two claims
    assert len(set(places)) == len(places)
    quoted = [(x.table, x.row, x.column, x.source) for x in LINES if x.kind == QUOTED]
    assert len(set(quoted)) == len(quoted)


def test_what_a_claim_says_it_is_ahead_of_it_is_ahead_of_in_its_source() -> None:
    """So an order is one that the source itself makes: its value lies beyond theirs."""
    compared = 0
    for line in LINES:
        if line.kind != "measured" or line.value is None:
            continue
        spec = tables.get(line.table).spec if not line.status else None
        for other in line.ahead_of if spec is not None else ():
            for quote in (q for q in spec.quoted if q.row == other and line.column in q.values):
                gap = line.value - quote.values[line.column]
                assert gap > 0 if line.side == "at least" else gap < 0, line
                compared += 1
    assert compared >= 6


def rivals_left_out(line: published.Line) -> set[tuple[str, ...]]:
    """Rows beside a line's own that it is not said to be ahead of."""
    beside = {row for row in rows_of(line.table) if row[:-1] == line.row[:-1]}
    return beside - {line.row, *line.ahead_of}


def test_an_order_over_every_other_names_every_other() -> None:
    orders = [line for line in LINES if line.kind == "order" and "every other" in line.says]
    assert orders and all(not rivals_left_out(line) for line in orders)
    first = orders[0]
    fewer = dataclasses.replace(first, ahead_of=first.ahead_of[1:])
    assert rivals_left_out(fewer) == {first.ahead_of[0]}


def test_every_condition_of_a_recorded_run_is_a_claim_and_the_reverse() -> None:
    for name in tables.names():
        spec = tables.get(name).spec
        claimed = {c.column for c in spec.claims if not c.row}
        frame = records.paper(spec)
        if frame is None or spec.conditions is None:
            continue
        ran = frame.data[frame.data["status"] != NOT_RUN]
        shown = {condition.says for condition in spec.conditions(ran)}
        assert shown <= claimed, name
        quick = records.read(spec, "quick") if "quick" in records.runs(spec) else None
        rows = {row[-1] for row in spec.rows}
        rows |= set() if quick is None else set(quick.data[spec.keys[-1].name])
        absent = frame.data.loc[frame.data["status"] == NOT_RUN, spec.keys[0].name]
        for says in claimed - shown:  # of rows that were not run, or rows that came later
            later = rows - set(ran[spec.keys[-1].name])
            known = says.startswith(tuple(absent))
            assert known or later, (name, says)


def test_the_evidence_page_counts_what_the_chapters_show(claims: pd.DataFrame) -> None:
    by_chapter: collections.Counter[str] = collections.Counter()
    for name in tables.names():
        spec, page = tables.get(name).spec, tables.compare(name).data
        shown = [line for line in page.splitlines() if line.startswith("| ")]
        words = [line.strip("| ").split(" | ")[1] for line in shown]
        found = [word for word in words if word in VERDICTS]
        for absent in re.findall(r"^Claims not run: (\d+)", page, re.MULTILINE):
            found += [NOT_RUN] * int(absent)
        assert len(found) == len(spec.claims), name
        if found:
            text = (ROOT / "book" / f"{spec.chapter}.md").read_text("utf-8")
            assert f'"{name}"' in text, f'book/{spec.chapter}.md needs tables.compare("{name}")'
        by_chapter.update(found)
    by_chapter.update(NOT_RUN for _ in published.not_measured())
    assert by_chapter == collections.Counter(claims["verdict"])
    assert overview.counts(claims).to_numpy().sum() == len(claims)


@pytest.mark.usefixtures("once")
def test_the_evidence_page_has_no_empty_column_and_links_each_claim(claims: pd.DataFrame) -> None:
    from thesis_repro.publish.claims import evidence

    page = evidence(ROOT)["book/reference/_generated/evidence.md"]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) == len(claims)
    assert all(len(row) == 7 and all(cell.strip() for cell in row) for row in rows)
    assert all(row[5].startswith(("{ref}`", "{doc}`")) for row in rows)
    assert page.index("Part I.") < page.index("Part II.") < page.index("Part III.")


@pytest.mark.usefixtures("once")
def test_what_the_book_claims_itself_counts_for_nothing_of_the_thesis(claims: pd.DataFrame) -> None:
    from thesis_repro.publish.claims import evidence
    from thesis_repro.publish.front import front

    own = overview.ours(claims)
    assert 0 < own.sum() < len(claims) and set(claims.loc[own, "how_read"]) == {"this book"}
    assert not claims.loc[~own, "source"].str.startswith("this book").any()
    page = evidence(ROOT)["book/reference/_generated/evidence.md"]
    (total,) = (line for line in page.splitlines() if line.startswith("| all |"))
    assert total.strip("| ").split(" | ")[-2:] == [f"{(~own).sum()}", f"{own.sum()}"]
    (holds,) = (line for line in page.splitlines() if line.startswith("| holds |"))
    held = claims["verdict"] == "holds"
    assert holds.strip("| ").split(" | ")[-2:] == [
        f"{(held & ~own).sum()}",
        f"{(held & own).sum()}",
    ]
    said = f"{(~own).sum()} claims of the thesis and its papers, judged by rule:** "
    assert said + f"holds {(held & ~own).sum()}" in front({}, {})
    assert f"**{own.sum()} of this book's own:** holds {(held & own).sum()}" in front({}, {})


@pytest.mark.usefixtures("once")
def test_the_judging_page_has_every_rule_and_every_claim_of_before(claims: pd.DataFrame) -> None:
    from thesis_repro.publish.claims import judging
    from thesis_repro.tables.rules import RULES

    page = judging()
    assert all(rule.example in page for rule in RULES)
    before = overview.before()
    assert (before["before"] != "").sum() == 39
    gone = before[before["now"] == "no longer judged"]
    assert len(gone) and (gone["why"] != "").all()
    other = before[(before["before"] != "") & (before["before"] != before["now"])]
    assert (other["why"] != "").all(), other[["table", "row", "before", "now"]]
    now = before.loc[before["now"] != "no longer judged", "now"]
    assert collections.Counter(now) == collections.Counter(claims["verdict"])


def test_no_key_of_a_cell_depends_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> dict[str, list[str]]:
        found = {}
        for name in ("membership-search", "certifiers-cost", "influence-axioms"):
            cells = [cell for _, cell in tables.get(name).cells(profile("quick")) if cell]
            found[name] = [cell.key for cell in cells]
        return found

    before = keys()
    text = published.path().read_text("utf-8").replace(",64,", ",65,")
    (tmp_path / "published.csv").write_text(text, "utf-8")
    monkeypatch.setattr(published, "path", lambda: tmp_path / "published.csv")
    assert published.lines() != LINES
    assert keys() == before


HEAD = ",".join(COLUMNS)


def line(**fields: str) -> str:
    """A file of one line."""
    whole = {"table": "t-x", "source": "s", "how_read": "code", "value": "1"} | fields
    return HEAD + "\n" + ",".join(whole.get(name, "") for name in COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("table,row\n", "needs the columns table, row"),
        (line(source=""), "line 2: a line names its source and how it was read"),
        (line(how_read="hearsay"), "line 2: a line names its source .* got 's', 'hearsay'"),
        (line(status="later"), "a status is empty or 'not run', got 'later'"),
        (line(status="not run"), "what is not run says why"),
        (line(kind="quoted", value=""), "a quoted line has a value"),
        (line(value="many"), "line 2: could not convert"),
        (
            line(row="a / b", column="x", kind="mesured"),
            "line 2: claim 'a / b' 'x' is of kind 'mes",
        ),
        (HEAD + "\nt-x,a\n", "a line has 15 fields"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setattr(published, "path", lambda: tmp_path / "published.csv")
    assert published.lines() == ()
    (tmp_path / "published.csv").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=says):
        published.lines()


def test_a_quoted_row_is_put_together_from_its_lines() -> None:
    quoted = {q.row: q for q in published.quoted("gloro-vra")}
    bcp = quoted["MNIST", "1.58", "BCP 4C3F"]
    assert bcp.values == {"clean": 92.54, "pgd": 66.23, "vra": 48.2}
    assert all(math.isfinite(v) for q in quoted.values() for v in q.values.values())
    assert dataclasses.is_dataclass(bcp)
