"""Tables on a page: few rows in sight, the rest, the run and its citation folded below.

Examples
--------
>>> Shown("as MyST", "<p>as HTML</p>")
as MyST
>>> ":name: tab-nets" in small((["net", "VRA"], [["a", "93"]]), "nets", "One net.", keys=1).data
True
>>> from thesis_repro.tables.find import get
>>> frame = records.read(get("lipschitz-soundness").spec, "quick")
>>> "tab-lipschitz-soundness-recorded" in show(frame, quoted=False).data
True
>>> "tab-lipschitz-soundness-drift" in compare(frame.spec, None, frame).data
True
>>> drift(frame, frame)[0].endswith("values are the same")
True
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thesis_repro.tables import compared, escape, records, render, sheet
from thesis_repro.tables.sheet import Sheet
from thesis_repro.tables.spec import NOT_RUN, Frame, TableSpec
from thesis_repro.tables.verdict import Judged, judge_all

MOST_WORDS = 4
"""More claims in words of one table are folded under a line that counts their verdicts."""
STATUS = "{doc}`status page </book/reference/status>`"


@dataclass(frozen=True)
class Shown:
    """What a cell shows: MyST for the book, HTML for a notebook outside it."""

    data: str
    html: str

    def __repr__(self) -> str:
        return self.data

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": self.data, "text/html": self.html, "text/plain": "(a table)"}


def show(frame: Frame, quoted: bool, only: Sequence[str] = ()) -> Shown:
    """The frame as a numbered table; the run, all its rows and how to cite it in a fold."""
    stored = "seal" in frame.provenance or "sha256" in frame.provenance
    name = f"tab-{frame.spec.name}-{_kind(frame) if stored else 'live'}"
    ran = f"Recorded run {frame.run}." if stored else f"This run, {frame.run}."
    caption = frame.spec.caption
    whole = sheet.of_frame(frame, quoted)
    few = _in_sight(frame, whole, quoted, only)
    fold = "Run, code and citation"
    title = fold if few == whole else f"All {len(whole.rows)} rows. {fold}"
    inside, inside_html = [], []
    if few != whole:
        inside.append(sheet.myst(whole, name + "-all" * bool(few), caption, ran))
        inside_html.append(sheet.as_html(whole, caption, ran))
    planned = int((frame.data["status"] == NOT_RUN).sum())
    if planned:
        more = "1 row" if planned == 1 else f"{planned} rows"
        inside.append(f"Not run: {more} more, listed on the {STATUS}.\n")
    inside += [escape.markdown(render.run_of(frame)), "", render.cite_block(frame, stored)]
    inside_html.append(_paragraph(render.run_of(frame)))
    head = sheet.captioned(Sheet([], [], []), caption)[0]
    label = title if few else f"{head} {len(whole.rows)} rows"
    shown = [sheet.myst(few, name, caption, ran)] if few else []
    html = [sheet.as_html(few, caption, ran)] if few else []
    return Shown(
        "\n".join([*shown, _fold(label, "\n".join(inside))]),
        "".join([*html, _details(label, "".join(inside_html))]),
    )


def _kind(frame: Frame) -> str:
    """The fullest run of a table is its record; another one, which may stand beside, says which."""
    fullest = records.runs(frame.spec)[:1]
    return "recorded" if fullest in ([], [frame.run]) else f"recorded-{frame.run}"


def _in_sight(frame: Frame, whole: Sheet, quoted: bool, only: Sequence[str]) -> Sheet | None:
    """The rows that are asked for; else all, or ours without the quoted; None if too many."""
    if only:
        chosen = sheet.of_frame(frame, quoted, only)
        return chosen if chosen.rows else None  # none of them was run
    if len(whole.rows) <= sheet.MOST_ROWS:
        return whole
    ours = sheet.of_frame(frame, False)
    return ours if len(ours.rows) <= sheet.MOST_ROWS else None


def _fold(title: str, inside: str) -> str:
    return f"::::::{{dropdown}} {escape.markdown(title)}\n{inside}\n::::::\n"


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{escape.html(title)}</summary>{inside}</details>"


def _paragraph(text: str) -> str:
    return f"<p>{escape.html(text)}</p>"


def small(grid: render.Grid, name: str, caption: str, keys: int) -> Shown:
    """A grid that is no recorded table; folded where it is long."""
    judged = sheet.VERDICT in grid[0]
    laid = sheet.of_claims(grid, 1, False) if judged else sheet.of_grid(grid, keys)
    text, html = sheet.myst(laid, f"tab-{name}", caption), sheet.as_html(laid, caption)
    if len(laid.rows) <= sheet.MOST_ROWS:
        return Shown(text, html)
    title = f"{sheet.captioned(Sheet([], [], []), caption)[0]} {len(laid.rows)} rows"
    return Shown(_fold(title, text), _details(title, html))


def compare(spec: TableSpec, frame: Frame | None, live: Frame | None) -> Shown:
    """What is published against a recorded run; in one line how far the live run is from its own.

    A claim that was not run is counted here, and listed on the status page.
    """
    judged = judge_all(frame, spec.claims)
    run = "no paper run" if frame is None else f"run {frame.run}"
    text, html = [], []
    for label, mine, title in (
        ("compare", [j for j in judged if j.claim.row], f"Published against ours, {run}."),
        ("words", [j for j in judged if not j.claim.row], f"Claimed in words, {run}."),
    ):
        if mine:
            ours, theirs = _claims(spec, mine, frame, f"tab-{spec.name}-{label}", title)
            text.append(ours)
            html.append(theirs)
    if live is not None and live.run in records.runs(spec):
        line, table = drift(live, records.read(spec, live.run))
        name = f"tab-{spec.name}-drift"
        laid, title = (
            sheet.of_grid(table, len(spec.keys) + 1),
            "This run against the committed one.",
        )
        text.append(_fold(line, sheet.myst(laid, name, title)))
        html.append(_details(line, sheet.as_html(laid, title)))
    return Shown("\n".join(text), "".join(html))


def _claims(
    spec: TableSpec, judged: Sequence[Judged], frame: Frame | None, name: str, title: str
) -> tuple[str, str]:
    """Claims of one sort; those not run are folded where none ran, else counted."""
    ran = [j for j in judged if j.verdict != NOT_RUN]
    shown = ran or judged
    if shown[0].claim.row:
        laid = sheet.of_claims(
            compared.comparison(spec, shown, frame, None), len(spec.keys) + 1, True
        )
    else:
        laid = sheet.of_claims(compared.in_words(shown), 1, False)
    text, html = sheet.myst(laid, name, title), sheet.as_html(laid, title)
    absent = len(judged) - len(ran)
    if not ran:
        folded = f"Claims that no run has judged: {absent}"
        return _fold(folded, text), _details(folded, html)
    if absent:
        text += f"\n{{.table-notes}}\nClaims not run: {absent}, listed on the {STATUS}.\n"
    if not shown[0].claim.row and len(shown) > MOST_WORDS:
        counted = Counter(j.verdict for j in shown)
        told = ", ".join(f"{many} {verdict}" for verdict, many in counted.items())
        folded = f"{title.removesuffix('.')}: {told}"
        return _fold(folded, text), _details(folded, html)
    return text, html


def drift(live: Frame, committed: Frame) -> tuple[str, render.Grid]:
    """One line with the largest difference in its tolerance, and the grid of all values."""
    table = compared.drift(live, committed)
    furthest, count, apart = 0.0, 0, ""
    for _, line in live.data.iterrows():
        row = tuple(str(line[c.name]) for c in live.spec.keys)
        for column in live.spec.columns:
            if column.drift is None:
                continue
            ours, theirs = live.value(row, column.name), committed.value(row, column.name)
            if ours is None or theirs is None:
                continue
            count += 1
            gap = abs(ours - theirs)
            share = gap / column.drift if column.drift else math.inf * bool(gap)
            if gap and share >= furthest:
                allowed = column.format.format(column.drift)
                signed = render.signed(ours - theirs, column)
                furthest = share
                apart = f"{signed} of ±{allowed} allowed ({column.heading}, {' / '.join(row)})"
    same = f"all {count} values are the same"
    far = f"{count} values, the largest difference {apart}"
    return f"This run against the committed quick run: {far if apart else same}", table
