"""Text that comes out as it was written: in Markdown, in a spreadsheet, in TeX."""

import html as _html
import re

MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\{(?=\{)")  # what begins a tag or a substitution
FORMULA = re.compile(r"[=+\-@\t\r]")  # as its first character, makes a cell a formula


def markdown(text: str) -> str:
    """Text for MyST in which nothing begins an HTML tag or a substitution."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def html(text: str) -> str:
    """Text for HTML."""
    return _html.escape(text)


def spreadsheet(text: str) -> str:
    """Text for a cell of a CSV file; what a spreadsheet would run gets a quote before it."""
    return f"'{text}" if FORMULA.match(text) else text


_TEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "–": "--",
        "−": "$-$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "±": r"$\pm$",
        "×": r"$\times$",
    }
)


def tex(text: str) -> str:
    """Text for LaTeX."""
    return text.translate(_TEX)
