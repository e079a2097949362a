"""Read the rendered site without a browser and say what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "srcset"}
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author", "help"}
LATEX = re.compile(r"\\[(\[]|\$\$|\\(?:frac|begin|mathbb|mathcal|left|lVert)\b")
NOISE = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a progress bar": re.compile(r"\d+%\|.*(?:it/s|s/it)"),
    "a warning of a library": re.compile(r"\b[A-Z]\w+Warning: "),
    "an unfilled substitution": re.compile(r"\{\{ ?\w+ ?\}\}"),
    "an unread directive": re.compile(r"^:::|^```\{", re.MULTILINE),
}
FIGURE = re.compile(r"^[`:]{3,}\{figure\}[^\n]*\n(?::[^\n]*\n)*?:name: *(\S+)", re.MULTILINE)
HOME = re.compile(r"/(?:home|root|Users|tmp)/[\w./-]+")


def faults(html: Path) -> list[str]:
    """Return one line for each fault of the site: page, and what is wrong.

    Looked for: a link to a page or an anchor that does not exist; a script, style, font or picture
    from another host; LaTeX outside mathematics; tracebacks, progress bars, warnings and machine
    paths in the text; a picture without alternative text; a figure of a page's source that the page
    does not show.

    Parameters
    ----------
    html : Path
        The site's folder.

    Raises
    ------
    ValueError
        There is no site.
    """
    from bs4 import BeautifulSoup

    html = html.resolve()
    if not (html / "index.html").is_file():
        raise ValueError(f"no page in {html}: run make book")
    soups = {
        path: BeautifulSoup(path.read_bytes(), "html.parser")
        for path in sorted(html.rglob("*.html"))
    }
    anchors = {path: _anchors(soup) for path, soup in soups.items()}
    found = []
    for path, soup in soups.items():
        page = path.relative_to(html).as_posix()
        # the pages of source code show code, and code may hold anything
        checks = [_links(path, soup, anchors), _hosts(soup)]
        if not page.startswith(("_modules/", "_static/")):
            checks += [_pictures(soup), _figures(html, page, soup), _text(soup)]
        found += [f"{page}: {fault}" for check in checks for fault in check]
    for path in sorted(html.rglob("*.css")):
        for url in re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)", path.read_text("utf-8")):
            found.append(f"{path.relative_to(html).as_posix()}: asks another host for {url}")
    return found


def _anchors(soup: BeautifulSoup) -> set[str]:
    return {str(tag[name]) for name in ("id", "name") for tag in soup.select(f"[{name}]")}


def _links(path: Path, soup: BeautifulSoup, anchors: dict[Path, set[str]]) -> Iterator[str]:
    for tag in soup.find_all("a", href=True):
        address, fragment = urldefrag(str(tag["href"]))
        if urlsplit(address).scheme or address.startswith("//"):
            continue
        target = (path.parent / unquote(address)).resolve() if address else path
        if target.is_dir():
            target = target / "index.html"
        if not target.is_file():
            yield f"broken link {tag['href']}"
        elif fragment and target in anchors and unquote(fragment) not in anchors[target]:
            yield f"no such anchor {tag['href']}"


def _hosts(soup: BeautifulSoup) -> Iterator[str]:
    for tag in soup.find_all(list(LOADED)):
        address = str(tag.get(LOADED[tag.name]) or "")
        if urlsplit(address).netloc and not NOT_LOADED & set(tag.get("rel") or []):
            yield f"asks another host for {address}"


def _pictures(soup: BeautifulSoup) -> Iterator[str]:
    for tag in soup.find_all("img"):
        words = str(tag.get("alt") or "").strip()
        if not words or words.endswith((".png", ".svg", ".jpg")):
            yield f"picture without alternative text: {tag.get('src')}"


def _figures(html: Path, page: str, soup: BeautifulSoup) -> Iterator[str]:
    """Compare the figures of a page with those of its source, which Sphinx puts beside it."""
    from docutils.nodes import make_id

    for name in _named_figures(html / "_sources" / page):
        place = soup.find(id=make_id(name))
        if place is None or not (place.name == "img" or place.find(["img", "svg", "object"])):
            yield f"the figure {name} of its source is not on the page"


def _named_figures(source: Path) -> Iterator[str]:
    """Yield the names of a source's figures: those that cells draw, and those of directives."""
    import nbformat

    notebook, text = source.with_suffix(".ipynb"), source.with_suffix(".md")
    if notebook.is_file():
        for cell in nbformat.read(notebook, as_version=4).cells:
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if "name" in figure:
                yield str(figure["name"])
            elif cell.cell_type == "markdown":
                yield from FIGURE.findall(cell.source)
    elif text.is_file():
        yield from FIGURE.findall(text.read_text("utf-8"))


def _text(soup: BeautifulSoup) -> Iterator[str]:
    body = soup.find("article") or soup
    outputs = "\n".join(tag.get_text() for tag in body.select(".cell_output"))
    for tag in body.select("script, style, .math, .cell_input, .highlight, code"):
        tag.decompose()
    text = body.get_text()
    for match in LATEX.finditer(text):
        yield f"raw LaTeX: {_around(text, match)}"
    for what, pattern in NOISE.items():
        for match in pattern.finditer(text + "\n" + outputs):
            yield f"{what}: {_around(match.string, match)}"
    for match in HOME.finditer(text + "\n" + outputs):
        yield f"a path of one machine: {_around(match.string, match)}"


def _around(text: str, match: re.Match[str]) -> str:
    return " ".join(text[max(match.start() - 20, 0) : match.end() + 30].split())
