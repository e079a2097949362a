"""The whole book on paper: the pages as one document, printed by Chromium.

Folds are open, but for those of code; a table that is wider than the sheet is set smaller; links
between pages lead inside the document.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

from thesis_repro.lab.store import write_atomic
from thesis_repro.publish.sources import pages

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from playwright.sync_api import PdfMargins

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LEFT_OUT = ("book/reference/api", "book/reference/experiments")
"""Pages of the code and those below them, which stay on the site."""
WIDTH = 680
MARGIN: PdfMargins = {"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"}
"""CSS pixels between the margins of a sheet of A4."""
STYLE = """
article { break-before: page; max-width: none; }
.moving, .headerlink, details.hide, .copybtn { display: none !important; }
.table-scroll, .figure-scroll { overflow: visible; background: none; }
/* the words beside an icon say the same, and a PDF's text has no letter for one */
.admonition-title::after, a.download::before, a.external::after { content: none !important; }
figure, tr, .claim-card { break-inside: avoid; }
h1, h2, h3, h4, .table-caption { break-after: avoid; }
figure img { max-width: 100%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
FIT = """() => { for (const region of document.querySelectorAll('.table-scroll')) {
  const table = region.firstElementChild, wide = table.scrollWidth;
  if (wide > region.clientWidth) table.style.zoom = region.clientWidth / wide;
} }"""


def browser() -> str:
    """Return the Chromium of this machine; CHROMIUM may name one.

    Raises
    ------
    ValueError
        There is none.
    """
    named = os.environ.get("CHROMIUM", "")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), "")
    if not found:
        raise ValueError("no Chromium on this machine: install it, or name one in CHROMIUM")
    return found


def pdf(root: Path, *, say: Callable[[str], None] = print) -> Path:
    """Print the rendered book.

    Parameters
    ----------
    root : Path
        The project's folder, with the book built.
    say : callable
        Takes one line of progress.

    Returns
    -------
    Path of the PDF.

    Raises
    ------
    ValueError
        There is no site, no Chromium, or no playwright to drive it.
    """
    html, folder = root / "_build" / "html", root / "_build" / "pdf"
    if not (html / "book" / "index.html").is_file():
        raise ValueError(f"no page in {html}: run make book")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("playwright is not installed: pip install playwright") from None
    names = [name for name in pages(root) if not name.startswith(LEFT_OUT)]
    whole, target = html / "book" / "whole.html", folder / "book.pdf"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_atomic(whole, one_document(html, names).encode())
        with sync_playwright() as driver:
            opened = driver.chromium.launch(executable_path=browser(), args=list(FLAGS))
            page = opened.new_page(viewport={"width": WIDTH, "height": 1000})
            page.emulate_media(media="print")
            page.goto(whole.as_uri(), wait_until="load", timeout=300_000)
            page.evaluate("() => window.MathJax?.startup?.promise")
            page.evaluate(FIT)
            page.pdf(path=str(target), format="A4", margin=MARGIN, print_background=True)
            opened.close()
    finally:
        whole.unlink(missing_ok=True)
    say(f"  pdf: {target.stat().st_size / 1e6:.1f} MB")
    return target


def one_document(html: Path, names: Sequence[str]) -> str:
    """Return the articles of pages as one page, which lies in ``book/`` of the site.

    Parameters
    ----------
    html : Path
        The site's folder.
    names : sequence of str
        The docnames, in their order.
    """
    from bs4 import BeautifulSoup

    soups = {
        name: BeautifulSoup((html / f"{name}.html").read_bytes(), "html.parser") for name in names
    }
    first = soups[names[0]]
    head = _head(soups)
    body = first.new_tag("body")
    for name, soup in soups.items():
        article = soup.find("article")
        if article is not None:
            _settle(article, name, set(names))
            body.append(article)
    title = first.title.get_text() if first.title else ""
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{title}</title>{head}<style>{STYLE}</style></head>{body}</html>"
    )


def _head(soups: dict[str, BeautifulSoup]) -> str:
    """The style sheets of all pages, once each, and MathJax."""
    parts: dict[str, None] = {}
    for name, soup in soups.items():
        for tag in soup.select("head link[rel=stylesheet], head script"):
            place = str(tag.get("href") or tag.get("src") or "")
            maths = "mathjax" in (place + tag.get_text()).lower()
            if tag.name == "link" or maths:
                for key in ("href", "src"):
                    if tag.get(key):
                        tag[key] = _moved(name, place)
                parts[str(tag)] = None
    return "".join(parts)


def _settle(article: Tag, name: str, names: set[str]) -> None:
    """Make the names of places those of the whole, and links lead there."""
    for tag in article.find_all(["script", "source"]):  # sources are for narrow screens
        tag.decompose()
    for tag in article.select("details:not(.hide)"):
        tag["open"] = ""
    for tag in article.find_all(id=True):
        tag["id"] = _place(name, str(tag["id"]))
    article["id"] = _place(name, "")
    for tag in article.find_all(["img", "a"]):
        key = "src" if tag.name == "img" else "href"
        address, fragment = urldefrag(str(tag.get(key, "")))
        if urlsplit(address).scheme or not tag.get(key):
            continue
        page = _moved(name, unquote(address)).removesuffix(".html") if address else ""
        docname = f"book/{page}" if address else name
        if tag.name == "img":
            tag[key] = _moved(name, address)
        elif docname in names:
            tag[key] = "#" + _place(docname, fragment)
        else:
            del tag[key]
    for tag in article.find_all(True):
        for key in ("aria-labelledby", "for"):
            if tag.get(key):
                tag[key] = _place(name, str(tag[key]))


def _place(name: str, fragment: str) -> str:
    return f"{name.replace('/', '-')}--{fragment}"


def _moved(name: str, address: str) -> str:
    """An address on a page, as it is from ``book/``."""
    folder = Path(name).parent.relative_to("book")
    return os.path.normpath((folder / address).as_posix())
