"""How a table lies on a page: what stands in its columns, what in its caption, and what below it.

A sheet is a grid that was laid out for a person. Notes and sources are marked and stand below; a
column that says the same in every row is said once.

Examples
--------
>>> laid = of_grid((["net", "data", "VRA"], [["a", "MNIST", "93"], ["b", "MNIST", "95"]]), keys=2)
>>> laid.headings, laid.said
(['net', 'VRA'], ['data: MNIST'])
>>> captioned(laid, "Two nets.")[0]
'Two nets. data: MNIST.'
>>> ":name: tab-nets" in myst(laid, "tab-nets", "Two nets."), as_html(laid, "Two nets.")[:7]
(True, '<table>')
>>> of_claims((["net", "ours", "verdict"], [["a", "93", "holds"]]), 1, True).headings
['net', 'verdict', 'ours']
>>> from thesis_repro.tables import records
>>> from thesis_repro.tables.find import get
>>> of_frame(records.read(get("lipschitz-soundness").spec, "quick"), quoted=False).headings[0]
'K from'
>>> Sheet(["net"], [["a"]], [False]).notes
[]
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from thesis_repro.tables import escape, render
from thesis_repro.tables.render import NOTHING
from thesis_repro.tables.spec import Frame

MOST_ROWS = 8
"""A table of more rows is folded, or shows those that carry its claim."""
CAPTION = 170
"""Characters of a caption: what is longer goes below the table. Two lines on a wide page."""
VERDICT = "verdict"
ALL_ROWS = "All rows: "
"""How a note begins that has what all rows say."""

SHORT = 120
"""Characters of a caption that is not cut."""

HEAD = re.compile(r"(.{12,}?)(?:[:;.] |\\.$)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Sheet:
    """A table, laid out.

    headings, rows : cells as text
    numeric : for each column, whether it holds numbers, which stand to the right
    marks : for each row the letters of its notes
    said : what every row has, "heading: value"
    notes : below the table
    """

    headings: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    marks: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of_frame(frame: Frame, quoted: bool, only: Sequence[str] = ()) -> Sheet:
    """A frame as a sheet; of the rows those whose keys, written "key / key", hold a text of `only`.

    Raises
    ------
    ValueError
        If a text is in no row, run or not.
    """
    headings, rows = render.grid(frame, quoted, planned=False)
    keys = len(frame.spec.keys)
    for text in only:
        if not any(text in " / ".join(row[:keys]) for row in render.grid(frame, quoted)[1]):
            raise ValueError(f"{frame.spec.name}: no row holds {text!r}")
    if only:
        rows = [row for row in rows if any(text in " / ".join(row[:keys]) for text in only)]
    own = len(frame.spec.keys) + len(frame.spec.columns)
    # behind the columns of the spec: seeds, note, source
    tail = {name: at for at, name in enumerate(headings) if at >= own}
    aside = [tail[name] for name in ("note", "source") if name in tail]
    kept = [at for at in range(len(headings)) if at not in aside]
    notes = [[row[at] for at in aside] for row in rows]
    laid = Sheet(
        [headings[at] for at in kept],
        [[row[at] for at in kept] for row in rows],
        [right for at, right in enumerate(render.numeric(frame, headings)) if at in kept],
    )
    ours = f"this book, {frame.run}"
    return _lean(_noted(laid, [[t for t in texts if t not in ("", ours)] for texts in notes]))


def of_grid(grid: render.Grid, keys: int) -> Sheet:
    """A grid as a sheet; the columns behind the keys are numbers."""
    headings, rows = grid
    return _lean(Sheet(headings, rows, [at >= keys for at in range(len(headings))]))


def of_claims(grid: render.Grid, keys: int, numeric: bool) -> Sheet:
    """A grid of claims: its first `keys` columns in one, and the verdict beside it."""
    headings, rows = grid
    at = headings.index(VERDICT)
    rest = [place for place in range(keys, len(headings)) if place != at]
    shown = [[" / ".join(row[:keys]), row[at], *(row[place] for place in rest)] for row in rows]
    titles = [headings[0] if keys == 1 else "claim", VERDICT, *(headings[place] for place in rest)]
    return _lean(Sheet(titles, shown, [False, False, *[numeric] * len(rest)]))


def _noted(sheet: Sheet, texts: Sequence[Sequence[str]]) -> Sheet:
    """Letters for notes, each text once; a note that every row has is said of all."""
    common = set.intersection(*map(set, texts)) if len(texts) > 1 else set()
    own = [[text for text in row if text not in common] for row in texts]
    letters = {
        text: _letter(at) for at, text in enumerate(dict.fromkeys(t for r in own for t in r))
    }
    marks = [", ".join(letters[text] for text in row) for row in own]
    notes = [f"{letter}: {text}" for text, letter in letters.items()]
    return replace(sheet, marks=marks, said=sorted(common), notes=notes)


def _letter(at: int) -> str:
    return ("" if at < 26 else _letter(at // 26 - 1)) + "abcdefghijklmnopqrstuvwxyz"[at % 26]


def _lean(sheet: Sheet) -> Sheet:
    """Without the columns that hold one value; the verdict stays, and the first column."""
    if len(sheet.rows) < 2:
        return sheet
    columns = list(zip(*sheet.rows, strict=True))
    same = [
        at
        for at, cells in enumerate(columns)
        if len(set(cells)) == 1 and sheet.headings[at] != VERDICT
    ]
    kept = [at for at in range(len(columns)) if at not in same]
    if len(kept) < 2:  # the names of the rows alone would be no table
        return sheet
    said = [
        f"{sheet.headings[at]}: {columns[at][0]}"
        for at in same
        if columns[at][0] not in ("", NOTHING)
    ]
    return replace(
        sheet,
        headings=[sheet.headings[at] for at in kept],
        rows=[[row[at] for at in kept] for row in sheet.rows],
        numeric=[sheet.numeric[at] for at in kept],
        said=[*said, *sheet.said],
    )


def captioned(sheet: Sheet, caption: str, ran: str = "") -> tuple[str, Sheet]:
    """A caption of two lines, and the sheet with the rest of it in its notes.

    Of a long one, what stands after the first colon, semicolon or full stop goes below the table.
    """
    found = HEAD.match(caption) if len(caption) > SHORT else None
    head, rest = (found[1], found[2].strip()) if found else (caption.rstrip("."), "")
    if len(head) + len(ran) > CAPTION:  # one long sentence: its first part
        head, _, more = head.partition(", ")
        rest = f"{more}. {_begun(rest)}".strip() if more else rest
    title = f"{head}. {ran}".strip()
    common = f" {'; '.join(sheet.said)}." if sheet.said else ""
    notes = [_begun(rest)] if rest else []
    if common and len(title) + len(common) > CAPTION:
        notes, common = [*notes, f"{ALL_ROWS}{common.strip()}"], ""
    return title + common, replace(sheet, said=[], notes=[*notes, *sheet.notes])


def _begun(text: str) -> str:
    """A text as a sentence begins."""
    return text[:1].upper() + text[1:]


def myst(sheet: Sheet, name: str, caption: str, ran: str = "") -> str:
    """The sheet as a numbered MyST table, with its notes below."""
    title, sheet = captioned(sheet, caption, ran)
    rows = [[escape.markdown(cell) for cell in row] for row in sheet.rows]
    for row, mark in zip(rows, sheet.marks, strict=False):
        row[0] += f" {{sup}}`{mark}`" if mark else ""
    heads = [escape.markdown(heading) for heading in sheet.headings]
    text = render.myst((heads, rows), name, escape.markdown(title), sheet.numeric, markup=True)
    notes = _joined([escape.markdown(note) for note in sheet.notes])
    return f"{text}\n{{.table-notes}}\n{notes}.\n" if notes else text


def _joined(notes: Sequence[str]) -> str:
    """Notes in one line; what all rows have is a list of its own, so a sentence of its own."""
    text = ""
    for before, note in zip(["", *notes], notes, strict=False):
        if before:
            text += ". " if ALL_ROWS in (before[: len(ALL_ROWS)], note[: len(ALL_ROWS)]) else "; "
        text += " ".join(note.split()).removesuffix(".")
    return text


def as_html(sheet: Sheet, caption: str, ran: str = "") -> str:
    """The sheet as plain HTML, for a notebook outside the book."""
    title, sheet = captioned(sheet, caption, ran)
    heads = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in sheet.headings)
    body = []
    for row, mark in zip(sheet.rows, [*sheet.marks, *[""] * len(sheet.rows)], strict=False):
        sup = f" <sup>{mark}</sup>" if mark else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        body.append(f'<tr><th scope="row">{html.escape(row[0])}{sup}</th>{cells}</tr>')
    notes = _joined([html.escape(note) for note in sheet.notes])
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
        + (f"<p><small>{notes}.</small></p>" * bool(notes))
    )
