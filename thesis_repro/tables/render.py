"""Frames as text: Markdown, CSV, LaTeX, JSON, BibTeX, and MyST for the book.

Examples
--------
>>> from thesis_repro.tables.find import get
>>> frame = records.read(get("lipschitz-soundness").spec, "quick")
>>> vra = frame.spec.column("vra")
>>> number(93.7, vra, 92.0, 95.1), signed(-0.5, vra)
('93.70 [92.00, 95.10]', '−0.50')
>>> headings, rows = grid(frame, quoted=False)
>>> headings[0], numeric(frame, headings)[:3]
('data set', [False, False, True])
>>> print(to_markdown((["net"], [["a"]]), [False]))
| net |
| :--- |
| a |
>>> ":name: tab-nets" in myst((["net"], [["a"]]), "tab-nets", "Nets.")
True
>>> run_of(frame) in caption(frame), seeds_used(frame), shortened(frame)
(True, [0], [])
>>> records.key(frame) in to_bibtex(frame), records.key(frame) in cite_block(frame, recorded=True)
(True, True)
>>> to_json(frame)[0], to_csv(frame)[:7], to_plain(frame)[:4]
('{', 'dataset', 'What')
"""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from thesis_repro.tables import escape, records, where
from thesis_repro.tables.spec import NOT_RUN, Column, Frame

BOOK = "Foundations for Conceptually Sound Neural Networks: an executable companion"
AUTHOR = "The executable thesis developers"
NOTHING = "–"

Grid = tuple[list[str], list[list[str]]]
"""Headings and rows, ready to print."""


def number(
    value: float | None, column: Column, low: float = math.nan, high: float = math.nan
) -> str:
    """A value in the column's format, with its interval where there is one."""
    if value is None or math.isnan(value):
        return NOTHING
    text = column.format.format(value)
    if not (math.isnan(low) or math.isnan(high) or low == value == high):
        text += f" [{column.format.format(low)}, {column.format.format(high)}]"
    return text


def grid(frame: Frame, quoted: bool = True, planned: bool = True) -> Grid:
    """The frame as a reader sees it; quoted rows last, each with its source.

    The number of seeds has a column only where rows differ in it; else the caption has it. Rows
    that were not run are left out unless `planned`.
    """
    spec = frame.spec
    ran = frame.data[frame.data["status"] != NOT_RUN]
    with_seeds = ran["seeds"].nunique() > 1
    with_note = bool((frame.data["note"] != "").any())
    with_source = quoted and bool(spec.quoted)
    headings = [c.heading for c in (*spec.keys, *spec.columns)]
    headings += ["seeds"] * with_seeds + ["note"] * with_note + ["source"] * with_source
    rows = []
    for _, line in (frame.data if planned else ran).iterrows():
        cells = [str(line[c.name]) for c in spec.keys]
        if line["status"] == NOT_RUN:
            cells += [NOT_RUN, *[NOTHING] * (len(spec.columns) - 1)]
        else:
            cells += [_cell(line, column) for column in spec.columns]
        cells += [str(line["seeds"])] * with_seeds + [str(line["note"])] * with_note
        rows.append(cells + [f"this book, {frame.run}"] * with_source)
    for quote in spec.quoted if quoted else ():
        cells = [*quote.row, *(number(quote.values.get(c.name), c) for c in spec.columns)]
        cells += [NOTHING] * with_seeds + [""] * with_note
        rows.append([*cells, f"quoted: {quote.source}"])
    return headings, rows


def _cell(line: "pd.Series", column: Column) -> str:
    if column.kind == "text":
        return str(line[column.name]) or NOTHING
    if column.too_few(line):
        return NOTHING
    low, high = float(line[f"{column.name}_low"]), float(line[f"{column.name}_high"])
    return number(float(line[column.name]), column, low, high)


def _hidden(frame: Frame, column: Column) -> bool:
    """Whether a measured rate is left out somewhere."""
    lines = frame.data.to_dict("records")
    return any(column.too_few(x) and not math.isnan(x[column.name]) for x in lines)


def unsigned(column: Column) -> str:
    """The column's format, without a sign that it asks for.

    Examples
    --------
    >>> unsigned(Column("gain", "gain", format="{:+.2f}"))
    '{:.2f}'
    """
    return column.format.replace("+", "")


def signed(value: float, column: Column) -> str:
    """A value with its sign, in the column's format."""
    text = unsigned(column).format(abs(value))
    if not any(c in "123456789" for c in text):
        return text  # zero at this precision has no sign
    return ("+" if value > 0 else "−") + text


def caption(frame: Frame) -> str:
    """The spec's caption and the run."""
    return f"{frame.spec.caption} {run_of(frame)}"


def run_of(frame: Frame) -> str:
    """Profile, device, seeds, date, intervals, and what was cut."""
    about, seeds = frame.provenance, seeds_used(frame)
    plural = "s" if len(seeds) > 1 else ""
    text = (
        f"Profile {about.get('profile', frame.run)}, "
        f"{about.get('device', 'unknown device')}, seed{plural} {', '.join(map(str, seeds))}, "
        f"{about.get('date', 'no date')}."
    )
    intervals = dict.fromkeys(m for i in frame.data["interval"] for m in i.split("; ") if m)
    if intervals:
        text += f" In brackets: 95% intervals, {'; '.join(intervals)}."
    for least in sorted({c.least for c in frame.spec.columns if _hidden(frame, c)}):
        text += f" Rates over fewer than {least} points are left out: they would say little."
    named = frame.spec.family is not None  # then the caption says over what
    tests = int(frame.data["p"].notna().sum()) if "p" in frame.data and not named else 0
    if tests:
        title = next(c.title for c in frame.spec.columns if c.name == "p")
        how = "adjusted by Holm's method" if "Holm" in title else "each unadjusted"
        text += f" Column p: a family of {tests} {'tests, ' + how if tests > 1 else 'test'}."
    short = shortened(frame)
    if short:
        text += f" Shortened: {'; '.join(short)}."
    earlier = [
        f"{'; '.join(_grouped(frame, origin['rows']))} ({origin['device']}, {origin['date']})"
        for origin in about.get("kept", [])
    ]
    return f"{text} Recorded earlier: {'; '.join(earlier)}." if earlier else text


def shortened(frame: Frame) -> list[str]:
    """What was trained for fewer epochs than the paper's, each with how many of them."""
    cut: dict[str, list[list[str]]] = {}
    for line in frame.provenance.get("shortened", []):
        epochs = f"{line['epochs_run']} of {line['epochs_paper']} epochs"
        cut.setdefault(epochs, []).append(list(map(str, line["row"])))
    return [f"{'; '.join(_grouped(frame, rows))} ({epochs})" for epochs, rows in cut.items()]


def _grouped(frame: Frame, rows: list[list[str]], depth: int = 1) -> list[str]:
    """Names for rows of a frame; first keys stand for all rows that have them, if all are meant."""
    ran = frame.data[frame.data["status"] != NOT_RUN][[key.name for key in frame.spec.keys]]
    names = []
    for first in dict.fromkeys(tuple(row[:depth]) for row in rows):
        mine = [row for row in rows if tuple(row[:depth]) == first]
        all_rows = [row for row in ran.to_numpy(str).tolist() if tuple(row[:depth]) == first]
        # a row of the frame may have more keys than the cells that it comes from
        whole = all(any(row[: len(m)] == m for m in mine) for row in all_rows)
        if len(mine) == 1 or whole:
            names.append(" / ".join(first if whole and len(mine) > 1 else mine[0]))
        else:
            names += _grouped(frame, mine, depth + 1)
    return names


def seeds_used(frame: Frame) -> list[int]:
    """The seeds behind a frame's rows: of the profile's, as many as the fullest row has.

    A table whose plan takes one seed alone, such as a timing, does not claim the others.
    """
    most = max(frame.data["seeds"], default=0)
    return list(frame.provenance.get("seeds", []))[: max(most, 1)]


def to_markdown(table: Grid, numeric: Sequence[bool], *, markup: bool = False) -> str:
    """A pipe table; `numeric` columns are right-aligned.

    Cells are text, in which a tag or a substitution has no effect; with `markup` they are MyST.

    Raises
    ------
    ValueError
        For a row of more or fewer cells than there are headings: they would stand under others.
    """
    headings, rows = table
    for row in rows:
        if len(row) != len(headings):
            raise ValueError(f"{len(row)} cells under {len(headings)} headings: {', '.join(row)}")
    rule = ["---:" if right else ":---" for right in numeric]
    shown = [
        [_inline(c if markup else escape.markdown(c)) for c in row] for row in [headings, *rows]
    ]
    lines = [shown[0], rule, *shown[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def numeric(frame: Frame, headings: Sequence[str]) -> list[bool]:
    """Which columns of a frame's grid hold numbers."""
    columns = [*frame.spec.keys, *frame.spec.columns]
    own = [column.kind in ("rate", "number") for column in columns]
    return own + [False] * (len(headings) - len(own))


def myst(
    table: Grid, name: str, title: str, numeric: Sequence[bool] = (), *, markup: bool = False
) -> str:
    """A numbered, captioned MyST table that can be referred to as `name`; else as `to_markdown`."""
    right = numeric or [False] * len(table[0])
    body = to_markdown(table, right, markup=markup)
    title = " ".join((title if markup else escape.markdown(title)).split())
    return f"::::{{table}} {title}\n:name: {name}\n\n{body}\n\n::::\n"


def cite_block(frame: Frame, recorded: bool) -> str:
    """Below a table: the code that made it; key, BibTeX and files of a recorded run."""
    links_to = where.links(frame)
    if not recorded:
        cite = "To cite, take a recorded run: this one is of this build."
        return "\n".join([f"Code: {links_to}", "", cite, ""])
    lines = [
        f"Code as it stands now: {links_to}. The run's own: commit {where.commits(frame)}.",
        "",
    ]
    base = f"/book/_tables/{frame.spec.name}-{frame.run}"
    links = [f"{{download}}`{kind.upper()} <{base}.{kind}>`" for kind in ("csv", "json", "tex")]
    lines += [f"Cite this table: `{records.key(frame)}`. Download: {', '.join(links)}.", ""]
    return "\n".join([*lines, "```bibtex", to_bibtex(frame), "```", ""])


def to_bibtex(frame: Frame) -> str:
    """A BibTeX entry that means this exact table."""
    about = frame.provenance
    head = re.split(r"[:.] ", frame.spec.caption, maxsplit=1)[0].rstrip(".")
    fields = {
        "author": f"{{{escape.tex(AUTHOR)}}}",  # a second pair of braces: one name, not to be split
        "title": escape.tex(f"Table {frame.spec.name} ({frame.run}): {head}"),
        "howpublished": escape.tex(f"In: {BOOK}"),
        "year": str(about.get("date", ""))[:4],
        "note": f"SHA-256 of the CSV: {records.digest(frame)}",
    }
    body = "".join(f",\n  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{records.key(frame)}{body}\n}}"


def to_json(frame: Frame) -> str:
    """Provenance and rows at full precision; null where there is no value.

    JSON has no infinite numbers: they are the texts "Infinity" and "-Infinity".
    """
    about = {**frame.provenance, "key": records.key(frame), "sha256": records.digest(frame)}
    content = _in_json({**about, "rows": frame.data.to_dict("records")})
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _in_json(value: Any) -> Any:
    """A value with all that is inside it, as strict JSON can hold it."""
    if isinstance(value, dict):
        return {name: _in_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(inner) for inner in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def to_csv(frame: Frame) -> str:
    """The recorded CSV for people: a text that a spreadsheet would run gets a quote before it.

    The recorded file, its hash and its download have the text as it was measured.
    """
    texts = [name for name in frame.data if not pd.api.types.is_numeric_dtype(frame.data[name])]
    safe = {name: [escape.spreadsheet(str(text)) for text in frame.data[name]] for name in texts}
    return records.to_csv(dataclasses.replace(frame, data=frame.data.assign(**safe))).decode()


def to_plain(frame: Frame) -> str:
    """The caption and a pipe table."""
    table = grid(frame)
    body = to_markdown(table, numeric(frame, table[0]))
    return f"{escape.markdown(caption(frame))}\n\n{body}\n"
