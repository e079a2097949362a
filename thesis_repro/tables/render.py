"""Frames as text: Markdown, CSV, LaTeX, JSON, BibTeX, and MyST for the book."""

import json
import math
from collections.abc import Callable, Sequence

import pandas as pd

from thesis_repro.tables import records
from thesis_repro.tables.spec import NOT_RUN, Column, Frame
from thesis_repro.tables.verdict import Judged

BOOK = "Foundations for Conceptually Sound Neural Networks: an executable companion"
AUTHOR = "The executable thesis developers"

Grid = tuple[list[str], list[list[str]]]
"""Headings and rows, ready to print."""


def number(
    value: float | None, column: Column, low: float = math.nan, high: float = math.nan
) -> str:
    """A value in the column's format, with its interval where there is one."""
    if value is None or math.isnan(value):
        return "–"
    text = column.format.format(value)
    if not (math.isnan(low) or math.isnan(high)):
        text += f" [{column.format.format(low)}, {column.format.format(high)}]"
    return text


def grid(frame: Frame, quoted: bool = True) -> Grid:
    """The frame as a reader sees it; quoted rows last, each with its source."""
    spec = frame.spec
    with_source = quoted and bool(spec.quoted)
    with_note = any(frame.data["note"] != "")
    headings = [c.heading for c in (*spec.keys, *spec.columns)]
    headings += ["note"] * with_note + ["source"] * with_source
    rows = []
    for _, line in frame.data.iterrows():
        cells = [str(line[c.name]) for c in spec.keys]
        if line["status"] == NOT_RUN:
            cells += [NOT_RUN, *["–"] * (len(spec.columns) - 1)]
        else:
            cells += [_cell(line, column) for column in spec.columns]
        cells += [line["note"]] * with_note + [f"this book, {frame.run}"] * with_source
        rows.append(cells)
    for quote in spec.quoted if quoted else ():
        cells = [*quote.row]
        cells += [number(quote.values.get(c.name), c) for c in spec.columns]
        cells += [""] * with_note + [f"quoted: {quote.source}"]
        rows.append(cells)
    return headings, rows


def _cell(line: "pd.Series", column: Column) -> str:
    if column.kind == "text":
        return str(line[column.name]) or "–"
    return number(
        float(line[column.name]),
        column,
        float(line[f"{column.name}_low"]),
        float(line[f"{column.name}_high"]),
    )


def comparison(judged: Sequence[Judged], recorded: Frame | None, live: Frame | None) -> Grid:
    """Thesis, recorded, difference, tolerance, verdict; the live quick run in columns of its own.

    A live row has a counterpart in the thesis only under the paper profile, so the quick run is
    shown beside its committed twin and never judged by the thesis.
    """
    spec = (recorded or live or _nothing()).spec
    run = recorded.run if recorded is not None else "no paper run"
    headings = [c.heading for c in spec.keys]
    headings += ["measure", "thesis", f"recorded ({run})", "difference", "tolerance", "verdict"]
    rows = []
    for j in judged:
        column = spec.column(j.claim.column)
        thesis = "not published" if j.claim.value is None else column.format.format(j.claim.value)
        ours = NOT_RUN if j.estimate is None else number(j.estimate, column, j.low, j.high)
        gap = "–" if j.difference is None else _signed(j.difference, column)
        side = {"at least": "≥ −", "at most": "≤ +", "equal": "±"}[j.claim.side]
        tolerance = side + column.format.format(j.claim.tolerance)
        rows.append([*j.claim.row, column.heading, thesis, ours, gap, tolerance, j.verdict])
    return headings, rows


def drift(live: Frame, committed: Frame) -> Grid:
    """The live run beside the committed run of the same profile."""
    spec = live.spec
    headings = [c.heading for c in spec.keys]
    headings += ["measure", "this run", "committed run", "difference", "allowed"]
    rows = []
    for _, line in live.data.iterrows():
        row = tuple(str(line[c.name]) for c in spec.keys)
        for column in (c for c in spec.columns if c.drift is not None):
            ours, theirs = live.value(row, column.name), committed.value(row, column.name)
            if ours is None and theirs is None:
                continue
            gap = "–" if ours is None or theirs is None else _signed(ours - theirs, column)
            assert column.drift is not None
            allowed = "±" + column.format.format(column.drift)
            cells = [number(ours, column), number(theirs, column), gap, allowed]
            rows.append([*row, column.heading, *cells])
    return headings, rows


def _signed(value: float, column: Column) -> str:
    text = column.format.format(abs(value))
    if not any(c in "123456789" for c in text):
        return text  # zero at this precision has no sign
    return ("+" if value > 0 else "−") + text


def _nothing() -> Frame:
    raise ValueError("a comparison needs a recorded or a live frame")


def caption(frame: Frame) -> str:
    """The spec's caption and the run: profile, device, seeds, date."""
    about = frame.provenance
    seeds = ", ".join(map(str, about.get("seeds", [])))
    plural = "s" if len(about.get("seeds", [])) > 1 else ""
    intervals = sorted({i for i in frame.data["interval"] if i})
    says = f" Intervals: 95%, {'; '.join(intervals)}." if intervals else ""
    return (
        f"{frame.spec.caption}{says} Run: {frame.run}, {about.get('device', 'unknown device')}, "
        f"seed{plural} {seeds}, {about.get('date', 'no date')}."
    )


def to_markdown(grid_: Grid, numeric_from: int = 0) -> str:
    """A pipe table; columns from `numeric_from` on are right-aligned."""
    headings, rows = grid_
    rule = ["---:" if i >= numeric_from else ":---" for i in range(len(headings))]
    lines = [headings, rule, *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def myst(grid_: Grid, name: str, caption_: str, numeric_from: int) -> str:
    """A numbered, captioned MyST table that can be referred to as `name`."""
    body = to_markdown(grid_, numeric_from)
    return f"::::{{table}} {caption_}\n:name: {name}\n\n{body}\n\n::::\n"


def cite_block(frame: Frame, downloads: bool) -> str:
    """The fold-out below a table: key, BibTeX, and files of a recorded run."""
    lines = [":::{dropdown} Cite this table", f"Key: `{records.key(frame)}`", ""]
    lines += ["```bibtex", to_bibtex(frame), "```"]
    if downloads:
        base = f"/book/_tables/{frame.spec.name}-{frame.run}"
        links = [f"{{download}}`{kind.upper()} <{base}.{kind}>`" for kind in ("csv", "json", "tex")]
        lines += ["", "Download: " + ", ".join(links)]
    return "\n".join([*lines, ":::", ""])


def to_bibtex(frame: Frame) -> str:
    """A BibTeX entry that means this exact table."""
    about = frame.provenance
    return (
        f"@misc{{{records.key(frame)},\n"
        f"  author = {{{{{AUTHOR}}}}},\n"
        f"  title = {{Table {frame.spec.name} ({frame.run}). {frame.spec.caption}}},\n"
        f"  howpublished = {{In: {BOOK}}},\n"
        f"  year = {{{str(about.get('date', ''))[:4]}}},\n"
        f"  note = {{SHA-256 of the CSV: {records.digest(frame)}}}\n"
        f"}}"
    )


def to_latex(frame: Frame) -> str:
    """A booktabs tabular with caption and label."""
    headings, rows = grid(frame)
    # DataFrame.to_latex escapes what LaTeX reserves; dashes have TeX names
    text: str = pd.DataFrame(rows, columns=headings).to_latex(
        index=False, escape=True, caption=_escaped(caption(frame)), label=f"tab:{frame.spec.name}"
    )
    return text.replace("–", "--").replace("−", "$-$")


def _escaped(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text


def to_json(frame: Frame) -> str:
    """Provenance and rows at full precision."""
    rows = json.loads(frame.data.to_json(orient="records", double_precision=15))
    about = {k: v for k, v in frame.provenance.items() if k != "seal"}
    return json.dumps({**about, "key": records.key(frame), "rows": rows}, indent=1, sort_keys=True)


FORMATS: dict[str, Callable[[Frame], str]] = {
    "md": lambda frame: f"{caption(frame)}\n\n{to_markdown(grid(frame), len(frame.spec.keys))}\n",
    "csv": lambda frame: records.to_csv(frame).decode(),
    "latex": to_latex,
    "json": to_json,
    "bibtex": to_bibtex,
}
