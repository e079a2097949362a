"""Notebooks that read well outside the book, and the source beside the site.

A page is written in MyST, which a notebook shows as it is written. Here roles become words,
directives become headings or formulas, tables are HTML, and the first cell says how to install.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thesis_repro import __version__
from thesis_repro.publish.execute import Executed

FOLDER = "book/_take"
NOTEBOOKS, SOURCE = "notebooks.zip", f"thesis-repro-{__version__}.tar.gz"
EXTRAS = "dp"  # optional packages that a chapter runs on the quick profile
EARLIEST = (1980, 1, 1, 0, 0, 0)  # archives of one source are the same bytes

FIRST = """\
*From {title}, release {version}. The page has the figures' captions and all cross-references.*

To run this notebook, unpack the source archive beside it and install it:

```
pip install "./{source}[{extras}]"
```
{macros}"""

ROLE = re.compile(r"\{([\w:+.-]+)\}`([^`]*)`")
TARGET = re.compile(r"(.*?)\s*<([^<>]*)>", re.DOTALL)
LABEL = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
OPTION = re.compile(r"\A(?::[\w-]+:[^\n]*\n)+\n?")
DIRECTIVE = re.compile(
    r"^(?P<fence>[:`]{3,})\{(?P<name>[\w:-]+)\}[ ]*(?P<title>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ ]*$\n?",
    re.MULTILINE | re.DOTALL,
)
OPENING = re.compile(r"^[:`]{3,}\{(?P<name>[\w:-]+)-(?:start|end)\}[^\n]*\n(?::[^\n]*\n)*", re.M)


def plain(text: str) -> str:
    """Return MyST as the Markdown that a notebook shows."""
    text = OPENING.sub(lambda found: f"**{found['name'].capitalize()}**\n", text)
    before = ""
    while before != text:  # a directive may hold others
        before, text = text, DIRECTIVE.sub(_directive, text)
    text = re.sub(r"^:{3,}\s*$\n?", "", text, flags=re.MULTILINE)
    return ROLE.sub(_role, LABEL.sub("", text))


def _directive(found: re.Match[str]) -> str:
    name, title, body = found["name"], found["title"].strip(), OPTION.sub("", found["body"])
    if name == "math":
        return f"$$\n{body.strip()}\n$$\n"
    if name in ("figure", "include"):
        return f"*Figure: {body.strip()}*\n" if body.strip() else ""
    kind = name.rpartition(":")[2].replace("-", " ").capitalize()
    named = title if name == "admonition" else f"{kind}{f' ({title})' if title else ''}"
    if name == "solution":
        named = "Solution"
    between = "\n\n" if body.lstrip().startswith((":::", "```", "- ")) else " "
    return f"**{named}.**{between}{body.strip()}\n"


def _role(found: re.Match[str]) -> str:
    name, text = found[1], found[2]
    target = TARGET.fullmatch(text)
    if target:
        return target[1]
    if name.startswith("cite"):
        return f"[{text.replace(',', ', ')}]"
    if name == "eq":
        return f"({text.removeprefix('eq-').replace('-', ' ')})"
    if name in ("doc", "numref", "ref", "prf:ref"):
        return f"“{text.rpartition('/')[2]}”"
    return text


def notebooks(executed: Iterable[Executed], macros: dict[str, Any]) -> bytes:
    """Return the executed chapters as a zip of notebooks.

    Parameters
    ----------
    executed : iterable of Executed
        One for each chapter.
    macros : dict
        What MathJax is told of TeX, as in the book's configuration.
    """
    import nbformat

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for ran in executed:
            notebook = nbformat.read(ran.path, as_version=4)
            info = zipfile.ZipInfo(f"{ran.docname.removeprefix('book/')}.ipynb", EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, nbformat.writes(exported(notebook, ran.docname, macros)))
    return out.getvalue()


def exported(notebook: Any, docname: str, macros: dict[str, Any]) -> Any:
    """Return a chapter's notebook for readers outside the book."""
    import nbformat

    from thesis_repro.figures import narrow

    words = FIRST.format(
        title=docname.removeprefix("book/"),
        version=__version__,
        source=SOURCE,
        extras=EXTRAS,
        macros=f"\n$$\n{_commands(macros)}\n$$\n",
    )
    cells = [nbformat.v4.new_markdown_cell(words, id="about")]
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue
        cell = json.loads(json.dumps(cell))
        if cell["cell_type"] == "markdown":
            cell["source"] = plain(cell["source"])
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop(narrow.KEY, None)
            if "text/html" in output.get("data", {}):
                output["data"].pop("text/markdown", None)
        cells.append(nbformat.from_dict(cell))
    notebook.cells = cells
    return notebook


def links() -> str:
    """Return the links to both archives as MyST."""
    return (
        f"{{download}}`{NOTEBOOKS} </{FOLDER}/{NOTEBOOKS}>` has the chapters as notebooks that "
        "read well outside the book, with the outputs of this build.\n"
        f"{{download}}`{SOURCE} </{FOLDER}/{SOURCE}>` has everything that made it: unpack it, and "
        "`make book` makes it again.\n"
    )


def _commands(macros: dict[str, Any]) -> str:
    """Return macros of MathJax as definitions that a notebook's formulas share."""
    lines = []
    for name, meaning in macros.items():
        text, count = meaning if isinstance(meaning, list) else (meaning, 0)
        arguments = f"[{count}]" if count else ""
        lines.append(f"\\newcommand{{\\{name}}}{arguments}{{{text}}}")
    return "\n".join(lines)


def source(root: Path) -> bytes:
    """Return the project's files as a tar archive; none that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    names = [name for name in listed.stdout.split("\0") if (root / name).is_file()]
    if listed.returncode or not names:  # no git: what an archive was unpacked to
        left_out = {"_build", ".venv", "__pycache__", ".git"}
        paths = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
        names = [path.as_posix() for path in paths if not left_out & set(path.parts)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
        for name in sorted(filter(None, names)):
            info = tarfile.TarInfo(f"thesis-repro-{__version__}/{name}")
            content = (root / name).read_bytes()
            info.size = len(content)
            info.mode = (root / name).stat().st_mode & 0o755
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()
