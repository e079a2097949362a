"""The icons of the theme that pages use, in one small style sheet.

The theme brings a library of two thousand, as a font of 0.4 MB and again as a script of 1.5 MB that
holds up every page. A font with what is used is a few kilobytes, and lies in the style sheet: a
page that is opened as a file may not load a font.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from thesis_repro.lab.store import write_atomic

NAME = "icons.css"
RULE = re.compile(r"((?:\.fa-[\w-]+:{1,2}before,?)+)\{content:\"\\([0-9a-f]+)\"")
USED = re.compile(r"\bfa-[a-z0-9-]+")
BY_CODE = re.compile(r"\"\\(f[0-9a-f]{3})\"")
AS_IT_IS = re.compile('"([\ue000-\uf8ff])"')  # as the theme writes most of its own
STYLE = """\
@font-face {{ font-family: "Font Awesome 6 Free"; font-weight: 900;
  src: url(data:font/woff;base64,{font}) format("woff"); }}
:root {{ --fa-font-solid: normal 900 1em/1 "Font Awesome 6 Free"; }}
:is(.fa, .fas, .fa-solid, .fa-regular, .fa-brands) {{ font: 900 1em/1 "Font Awesome 6 Free";
  display: inline-block; -webkit-font-smoothing: antialiased; }}
.fa-lg {{ font-size: 1.25em; line-height: 0.05em; vertical-align: -0.075em; }}
"""
HEAD = re.compile(r"[ \t]*<(?:link|script)\b[^>]*vendor/fontawesome/[^>]*>(?:</script>)?\n?")


def slim(html: Path, pages: Iterable[Path]) -> None:
    """Put the icons that pages use into ``_static/icons.css``, and take the library away.

    Parameters
    ----------
    html : Path
        The rendered site.
    pages : iterable of Path
        All its pages; their heads are rewritten.
    """
    (library,) = (html / "_static" / "vendor" / "fontawesome").iterdir()
    rules = {
        name: code
        for names, code in RULE.findall((library / "css" / "all.min.css").read_text("utf-8"))
        for name in USED.findall(names)
    }
    used: set[str] = set()
    for path in pages:
        text = path.read_text("utf-8")
        used |= set(USED.findall(text)) & rules.keys()
        root = "../" * (len(path.relative_to(html).parts) - 1)
        link = f'<link rel="stylesheet" href="{root}_static/{NAME}">\n</head>'
        path.write_text(HEAD.sub("", text).replace("</head>", link, 1), "utf-8")
    styles = "".join(p.read_text("utf-8") for p in (html / "_static").rglob("*.css"))
    scripts = "".join(p.read_text("utf-8") for p in (html / "_static" / "scripts").glob("*.js"))
    used |= set(USED.findall(scripts)) & rules.keys()
    own = styles.replace((library / "css" / "all.min.css").read_text("utf-8"), "")
    codes = {rules[name] for name in used} | set(BY_CODE.findall(own))
    codes |= {f"{ord(letter):x}" for letter in AS_IT_IS.findall(own)}
    font = base64.b64encode(_subset(library / "webfonts" / "fa-solid-900.ttf", codes)).decode()
    lines = [f'.{name}::before {{ content: "\\{rules[name]}"; }}\n' for name in sorted(used)]
    write_atomic(html / "_static" / NAME, (STYLE.format(font=font) + "".join(lines)).encode())
    shutil.rmtree(library.parent)


def _subset(path: Path, codes: Iterable[str]) -> bytes:
    """A font with the characters of these codes alone, as WOFF."""
    from fontTools import subset

    options = subset.Options(flavor="woff", notdef_outline=True)
    font = subset.load_font(path, options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[int(code, 16) for code in codes])
    cutter.subset(font)
    out = io.BytesIO()
    font.flavor = "woff"
    font.save(out)
    return out.getvalue()
