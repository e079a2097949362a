"""The rules of style sheets that pages can use.

The theme and its extensions bring half a megabyte of styles, which hold up the first paint. A rule
for a class that occurs in no page and in no script is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from thesis_repro.lab.store import write_atomic

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[{};]')
WORD = re.compile(r"[\w-]+")
ASIDE = re.compile(r"\([^()]*\)|\[[^\]]*\]")  # what ":not(...)" names need not occur
CLASS = re.compile(r"\.([A-Za-z_-][\w-]*)")
NESTING = ("@media", "@supports")


def slim(html: Path) -> None:
    """Rewrite the style sheets under ``_static`` of a rendered site in place.

    Parameters
    ----------
    html : Path
        The site's folder.
    """
    used: set[str] = set()
    for pattern in ("*.html", "*.js"):
        for path in html.rglob(pattern):
            used |= set(WORD.findall(path.read_text("utf-8")))
    for path in (html / "_static").rglob("*.css"):
        text = path.read_text("utf-8")
        licences = [found for found in COMMENT.findall(text) if found.startswith("/*!")]
        write_atomic(path, "\n".join([*licences, lean(text, used)]).encode())


def lean(css: str, used: set[str]) -> str:
    """Return a style sheet without comments and without rules that nothing on a page can match.

    Parameters
    ----------
    css : str
        The sheet; rules inside ``@media`` and ``@supports`` are looked at too.
    used : set of str
        Names that may occur as classes.

    Raises
    ------
    ValueError
        If braces do not match.
    """
    css = COMMENT.sub("", css)
    out, start, depth, head, inner = [], 0, 0, "", 0
    for token in TOKEN.finditer(css):
        if token[0] == "{":
            if depth == 0:
                head, inner = css[start : token.start()].strip(), token.end()
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                out.append(_kept(head, css[inner : token.start()], used))
                start = token.end()
        elif token[0] == ";" and depth == 0:
            out.append(css[start : token.end()].strip() + "\n")
            start = token.end()
        if depth < 0:
            break
    if depth:
        raise ValueError(f"braces of a style sheet do not match: {css[:60]!r} ...")
    return "".join(out)


def _kept(head: str, body: str, used: set[str]) -> str:
    """A rule with those of its selectors that may match; empty if none may."""
    if head.startswith(NESTING):
        inside = lean(body, used)
        return f"{head} {{\n{inside}}}\n" if inside else ""
    if not head.startswith("@"):
        nested = re.search(r"\([^()]*\(", head)  # commas in there do not part selectors
        selectors = [head] if nested else re.split(r",(?![^(]*\))", head)
        head = ",".join(one.strip() for one in selectors if nested or _may_match(one, used))
    return f"{head}{{{body.strip()}}}\n" if head else ""


def _may_match(selector: str, used: set[str]) -> bool:
    # a name with an escape is not looked up
    return "\\" in selector or set(CLASS.findall(ASIDE.sub("", selector))) <= used
