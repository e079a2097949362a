"""Text that comes out as it was written: in Markdown, in a spreadsheet, in TeX.

Examples
--------
>>> markdown("<b>"), html("<b>"), spreadsheet("=1+1"), tex("“a”")
('&#60;b>', '&lt;b&gt;', "'=1+1", "``a''")
"""

import html as _html
import re
import unicodedata

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
        "|": r"\textbar{}",
        "\0": "{}",
        "<": "$<$",
        ">": "$>$",
        "–": "--",
        "—": "---",
        "“": "``",
        "”": "''",
        "‘": "`",
        "’": "'",
        "−": "$-$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "→": r"$\to$",
        "°": r"$^\circ$",
        "…": r"\ldots{}",
        "ß": r"\ss{}",
    }
)
_LIGATURE = re.compile("(?<=[-–—])(?=[-–—])|(?<=`)(?=`)|(?<=')(?=')|(?<=[!?])(?=`)")
"""Between characters that TeX would set as one: -- as a dash, ?` as a question mark upside down."""
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")
_CAPITALS = {"GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "PHI", "PSI", "OMEGA"}
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}


def tex(text: str) -> str:
    """Text for LaTeX, in ASCII: what has no command there is named by its number in Unicode."""
    plain = "".join(char if char >= " " else " " for char in text)
    apart = _LIGATURE.sub("\0", plain).translate(_TEX)
    return "".join(c if c.isascii() else _command(c) for c in apart)


def _command(char: str) -> str:
    """A letter outside ASCII: Greek, or with an accent."""
    greek = _GREEK.fullmatch(unicodedata.name(char, ""))
    if greek and greek[2] != "OMICRON" and (greek[1] == "SMALL" or greek[2] in _CAPITALS):
        letter = greek[2].replace("LAMDA", "LAMBDA")
        return f"$\\{letter.lower() if greek[1] == 'SMALL' else letter.capitalize()}$"
    letter, *accents = list(unicodedata.normalize("NFD", char))
    if letter.isascii() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"\\{_ACCENTS[accents[0]]}{{{letter}}}"
    return f"U+{ord(char):04X}"
