"""The one claim that a chapter opens with: ``results/headlines.csv``, one line a chapter.

A line names a claim of the chapter and the picture that goes with it. Value, interval and verdict
are those of the recorded run of the paper's size, whatever ran on the page.

Examples
--------
>>> "robustness/gloro" in lines(), sum(headline("robustness/gloro").verdicts.values()) > 0
(True, True)
>>> tally({"holds": 2, "not run": 1})
'holds 2, not run 1'
>>> "claim-card" in card("robustness/gloro").data
True
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass

from thesis_repro.lab import places
from thesis_repro.tables import escape, overview
from thesis_repro.tables.claims import IN_WORDS, THEOREM
from thesis_repro.tables.page import Shown
from thesis_repro.tables.spec import NOT_PUBLISHED

NAME = "headlines.csv"
VALUE = re.compile(r"^[\d.,]*\d")
COLUMNS = ("chapter", "words", "table", "row", "column", "kind", "figure")


@dataclass(frozen=True)
class Headline:
    """A chapter's claim, judged.

    Parameters
    ----------
    chapter : such as "robustness/gloro"
    words : the claim in twelve words at most
    figure : the label of its picture on the chapter's page
    says : the claim as it is judged
    asked : what `published` is: "Published", or "Needed" of a theorem or a claim in words
    published, ours : as text; for a claim in words what is needed, and what was measured
    note : how the published value was read, the claim's own note, which run is ours, how much of
        the training it had
    verdicts : how many claims of the chapter came to each verdict
    own : how many of these claims this book makes itself
    """

    chapter: str
    words: str
    figure: str
    says: str
    asked: str
    published: str
    ours: str
    note: str
    verdict: str
    verdicts: Mapping[str, int]
    own: int


def lines() -> dict[str, dict[str, str]]:
    """The lines of the file by chapter, in their order; none where there is no such file.

    Raises
    ------
    ValueError
        If the file has other columns.
    """
    path = places.recorded(NAME)
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{NAME} needs the columns {', '.join(COLUMNS)}")
        return {line["chapter"]: line for line in reader}


def headline(chapter: str) -> Headline:
    """The headline of a chapter.

    Raises
    ------
    ValueError
        If the chapter has none, or its line names not one claim, or a theorem: that one holds
        says that the code is right, and nothing of nets.
    """
    known = lines()
    if chapter not in known:
        raise ValueError(f"{NAME} has no chapter {chapter!r}; there are {', '.join(known)}")
    line = known[chapter]
    every = overview.evidence(chapter=chapter)
    mine = every
    for name in ("table", "row", "column", "kind"):
        mine = mine[mine[name] == line[name]]
    if len(mine) != 1:
        raise ValueError(f"{NAME}, {chapter}: its line names {len(mine)} claims, not one")
    (claim,) = mine.to_dict("records")
    if claim["kind"] == THEOREM:
        raise ValueError(f"{NAME}, {chapter}: a theorem that was checked is no headline")
    needed = claim["kind"] == IN_WORDS
    stands = "claimed" if needed else "published"
    read = f"{stands}: {claim['how_read']}" if claim["published"] != NOT_PUBLISHED else ""
    run = f"ours: run {claim['run']}" if claim["run"] else ""
    short = f"{100 * claim['share']:.2g}% of the published training" if claim["share"] < 1 else ""
    return Headline(
        chapter,
        line["words"],
        line["figure"],
        claim["says"],
        "Needed" if needed else "Published",
        _with_unit(claim["published"].removesuffix(" needed"), claim),
        _with_unit(claim["ours"], claim),
        "; ".join(filter(None, [read, claim["note"], run, short])),
        claim["verdict"],
        overview.by_verdict(every),
        int(overview.ours(every).sum()),
    )


def _with_unit(text: str, claim: Mapping[str, str]) -> str:
    """A value with the unit of its column; words stay as they are."""
    unit = claim["unit"] if claim["unit"] == "%" else f" {claim['unit']}"
    return VALUE.sub(lambda found: found[0] + unit, text) if claim["unit"] else text


def tally(verdicts: Mapping[str, int]) -> str:
    """How many claims came to each verdict, in words."""
    return ", ".join(f"{verdict} {count}" for verdict, count in verdicts.items())


def card(chapter: str) -> Shown:
    """The headline as the chapter opens with it: published, ours, verdict; all its verdicts."""
    found = headline(chapter)
    safe = {
        name: escape.markdown(text)
        for name, text in (
            ("says", found.says),
            ("published", found.published),
            ("ours", found.ours),
            ("note", found.note),
        )
    }
    own = f", {found.own} of them this book's own" if found.own else ""
    count = sum(found.verdicts.values())
    total = f"All {count} claims of this chapter{own}: {tally(found.verdicts)}"
    text = (
        f"::::{{div}} claim-card\n**{safe['says']}**\n\n"
        f"{found.asked}\n: {safe['published']}\n\nOurs, at full scale\n: {safe['ours']}\n\n"
        f"Verdict\n: **{found.verdict}**\n\n"
        f"{safe['note'][:1].upper()}{safe['note'][1:]}. {total} "
        "({doc}`how we judge </book/reference/judging>`).\n"
        "::::\n"
    )
    pairs = (
        (found.asked, found.published),
        ("Ours, at full scale", found.ours),
        ("Verdict", found.verdict),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{escape.html(value)}</dd>" for name, value in pairs)
    return Shown(text, f"<p><b>{escape.html(found.says)}</b></p><dl>{listed}</dl><p>{total}.</p>")
