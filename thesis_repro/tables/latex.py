"""Tables as LaTeX, for papers of one column and of two.

A table is as wide as its words, or set smaller where that is wider than the page; what is taller
than a page goes on in the next float. Notes, sources and the run stand below. The paper needs the
packages array, booktabs and graphicx.

Examples
--------
>>> from thesis_repro.tables import records
>>> from thesis_repro.tables.find import get
>>> "booktabs" in of_frame(records.read(get("lipschitz-soundness").spec, "quick"))
True
"""

import math
from collections.abc import Iterator, Sequence

from thesis_repro.tables import escape, render, sheet
from thesis_repro.tables.sheet import Sheet
from thesis_repro.tables.spec import Frame

NEEDS = r"% needs \usepackage{array,booktabs,graphicx}"
FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
LONG, EM = 34, 0.5
"""Characters of a cell that is set in a column of fixed width; a character's width in em."""
MOST_LINES, NOTE = 42, 105
"""Lines of a float; characters in a line of notes."""


def of_frame(frame: Frame) -> str:
    """Return a frame as floats with a booktabs tabular, caption and label.

    Parameters
    ----------
    frame : Frame
        A recorded or live table; rows that were not run are left out.
    """
    laid = sheet.of_frame(frame, quoted=True)
    title, laid = sheet.captioned(laid, frame.spec.caption)
    columns = list(zip(laid.headings, *laid.rows, strict=True))
    long = [
        not right and max(map(len, cells)) > LONG
        for right, cells in zip(laid.numeric, columns, strict=True)
    ]
    notes = "; ".join(" ".join(note.split()).rstrip(".") for note in laid.notes)
    below = [escape.tex(part) for part in (f"{notes}." * bool(notes), render.run_of(frame)) if part]
    parts = list(_parts(laid, long))
    # notes that do not fit below the last rows get a float of their own
    lines = _lines(parts[-1], laid, long) + sum(len(text) / NOTE for text in below)
    if lines > MOST_LINES:
        parts.append(range(0))
    return "\n".join(
        [NEEDS]
        + [
            _float(
                _tabular(laid, rows, long) if rows else "",
                escape.tex(title) + " (continued)" * bool(at),
                "" if at else f"tab:{frame.spec.name}",
                below if at == len(parts) - 1 else [],
            )
            for at, rows in enumerate(parts)
        ]
    )


def _parts(laid: Sheet, long: Sequence[bool]) -> Iterator[range]:
    """Rows that fit into one float, from the first to the last."""
    start = 0
    for at in range(1, len(laid.rows) + 1):
        end = at == len(laid.rows)
        if end or _lines(range(start, at + 1), laid, long) > MOST_LINES:
            yield range(start, at)
            start = at


def _lines(rows: range, laid: Sheet, long: Sequence[bool]) -> float:
    """How many lines rows take, a long cell being broken."""

    def height(cells: Sequence[str]) -> int:
        broken = (len(text) for text, wide in zip(cells, long, strict=True) if wide)
        return max([1, *(math.ceil(count / LONG) for count in broken)])

    return 3 + sum(height(laid.rows[at]) for at in rows)


def _tabular(laid: Sheet, rows: range, long: Sequence[bool]) -> str:
    """The rows of a sheet, headings above."""
    fixed = rf">{{\raggedright\arraybackslash}}p{{{LONG * EM:g}em}}"
    format = "".join(
        "r" if right else fixed if wide else "l"
        for right, wide in zip(laid.numeric, long, strict=True)
    )
    marks = [*laid.marks, *[""] * (len(laid.rows) - len(laid.marks))]
    body = []
    for at in rows:
        first, *rest = (escape.tex(" ".join(text.split())) for text in laid.rows[at])
        mark = rf"\textsuperscript{{{marks[at]}}}" if marks[at] else ""
        body.append(_row([first + mark, *rest]))
    head = _row([escape.tex(text) for text in laid.headings])
    lines = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{format}}}", *lines, r"\end{tabular}"])


def _row(cells: Sequence[str]) -> str:
    """A row of a tabular; the rule or the row above would take [ or * at its start as an option."""
    return "{}" * cells[0].startswith(("[", "*")) + " & ".join(cells) + r" \\"


def _float(tabular: str, caption: str, label: str, below: Sequence[str]) -> str:
    """One float, over both columns where there are two; one without a label goes on another."""
    lines = [r"\begin{table*}", r"\centering\footnotesize"]
    lines += [] if label else [r"\addtocounter{table}{-1}"]
    lines += [rf"\caption{{{caption}}}", *([rf"\label{{{label}}}"] if label else [])]
    lines += [FIT, tabular + "}"] if tabular else []
    for text in below:
        lines.append(rf"\par\smallskip\parbox{{\textwidth}}{{\raggedright\scriptsize {text}}}")
    return "\n".join([*lines, r"\end{table*}", ""])
