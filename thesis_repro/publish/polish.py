"""What the renderer leaves open in its pages: tables for all, names for what is folded, weight.

A table gets a region that scrolls, with a name and by keyboard, and row headers; a bar that hides
code is named after what the code makes. A page without mathematics loads no MathJax, and no page
the theme's library of icons. The head says what the page is about to those who share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_repro.lab.store import write_atomic
from thesis_repro.publish import icons, phone, styles

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

MATHJAX = re.compile(
    r"<script>window\.MathJax = .*?</script>\s*|<script[^>]*vendor/mathjax[^>]*></script>\s*",
    re.DOTALL,
)


def polish(html: Path, names: Iterable[str], base: str = "") -> None:
    """Rewrite the pages of a rendered site in place.

    Parameters
    ----------
    html : Path
        The site's folder.
    names : iterable of str
        The docnames of the book's own pages; others only lose weight.
    base : str
        The address that the site is published at, for the picture that is shared; "" if none.
    """
    from bs4 import BeautifulSoup

    icons.slim(html, sorted(html.rglob("*.html")))
    for path in sorted(html.rglob("*.html")):
        text = path.read_text("utf-8")
        if 'class="math' not in text and not _math_in_tips(path, text):
            write_atomic(path, MATHJAX.sub("", text).encode())
    figures = phone.drawn(html)
    for name in names:
        path = html / f"{name}.html"
        soup = BeautifulSoup(path.read_bytes(), "html.parser")
        for change in (_once, _tables, _figures, _folds, _keyboard, _roles):
            change(soup)
        phone.fit(soup, path, figures)
        _shared(soup, name, base)
        write_atomic(path, str(soup).encode())
    styles.slim(html)


def _math_in_tips(path: Path, text: str) -> bool:
    """Whether what the page shows on hovering has mathematics."""
    found = re.search(r'src="([^"]*_static/tippy/[^"?]*)', text)
    return found is not None and "math" in (path.parent / found[1]).read_text("utf-8")


def _once(soup: BeautifulSoup) -> None:
    """Each identifier once: extensions give all their boxes of a kind the same one."""
    seen = set()
    for tag in soup.find_all(id=True):
        if tag["id"] in seen:
            del tag["id"]
        else:
            seen.add(tag["id"])


def _tables(soup: BeautifulSoup) -> None:
    for table in soup.select("article table"):
        for head in table.select("thead th"):
            head["scope"] = "col"
            if not head.get_text(strip=True):
                head.string = "–"
        for row in table.select("tbody tr"):
            first = row.find(["td", "th"])
            # a symbol alone is no name: its letters are drawn later
            symbol = first is not None and first.select_one(".math") is not None
            if first is not None and first.name == "td" and not symbol:
                first.name, first["scope"] = "th", "row"
        name = str(table.get("id") or f"table-{len(table.find_all_previous('table'))}")
        region = table.wrap(soup.new_tag("div", attrs={"class": "table-scroll", "role": "region"}))
        region["tabindex"] = "0"
        caption = table.find("caption")
        if caption is None:
            region["aria-label"] = "table"
            continue
        # outside the region: a caption does not scroll
        caption.name, caption["class"], caption["id"] = "div", "table-caption", f"{name}-caption"
        place = region.wrap(soup.new_tag("div", attrs={"class": "table-place", "id": name}))
        place.insert(0, caption.extract())
        table["id"] = f"{name}-grid"
        for tag in (region, table):
            tag["aria-labelledby"] = caption["id"]


def _figures(soup: BeautifulSoup) -> None:
    """A region for each figure: on a phone it may be wider than the screen."""
    for picture in soup.select("article figure img"):
        number = picture.find_parent("figure").select_one(".caption-number")  # type: ignore[union-attr]
        name = number.get_text(strip=True) if number else str(picture["alt"])[:60]
        attributes = {"class": "figure-scroll", "role": "region", "tabindex": "0"}
        region = soup.new_tag("div", attrs=attributes)
        region["aria-label"] = f"{name}, picture"
        picture.wrap(region)


def _folds(soup: BeautifulSoup) -> None:
    """Name what is folded: no two bars of a page have one name."""
    for count, fold in enumerate(soup.select("details.hide"), 1):
        cell = fold.find_parent(class_="cell")
        number = cell.select_one(".cell_output .caption-number") if cell else None
        what = number.get_text(strip=True) if number else f"cell {count}"
        summary = fold.find("summary")
        assert summary is not None
        del summary["aria-label"]
        for title, words in ((".collapsed", "Code of {}"), (".expanded", "Hide the code of {}")):
            for tag in summary.select(title):
                tag.string = words.format(what)
    for summary in soup.select("nav details > summary"):
        link = summary.find_previous("a")
        summary["aria-label"] = f"Pages of {link.get_text(strip=True)}" if link else "Pages"


def _keyboard(soup: BeautifulSoup) -> None:
    """What may scroll sideways can be reached by keyboard."""
    for tag in soup.select("article pre, article div.math"):
        tag["tabindex"] = "0"


def _roles(soup: BeautifulSoup) -> None:
    for tag in soup.select(".citation-list[role], .citation[role]"):
        del tag["role"]
    for tag in soup.select(".bd-sidebar-primary"):  # else its first line is in no landmark
        tag["role"], tag["aria-label"] = "navigation", "Book"
    # the theme's heading for paper repeats the title
    for heading in soup.select("#jb-print-docs-body h1"):
        heading.name = "div"


def _shared(soup: BeautifulSoup, name: str, base: str) -> None:
    """Description and picture for those who share the page."""
    assert soup.head is not None
    claim = soup.select_one("article em")
    words = " ".join(claim.get_text(" ", strip=True).split()) if claim else ""
    title = soup.title.get_text(strip=True) if soup.title else name
    tags = {"og:type": "article", "og:title": title, "og:description": words}
    picture = soup.select_one("article figure img")
    if picture is not None:
        place = _flat(Path(f"/{name}").parent / str(picture["src"]))
        tags["og:image"] = base.rstrip("/") + place if base else str(picture["src"])
    for key, value in tags.items():
        if value:
            soup.head.append(_meta(soup, "property", key, value))
    if words:
        soup.head.append(_meta(soup, "name", "description", words))


def _flat(path: Path) -> str:
    """A path from the root, without steps up."""
    parts: list[str] = []
    for part in path.parts[1:]:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/" + "/".join(parts)


def _meta(soup: BeautifulSoup, kind: str, key: str, value: str) -> Tag:
    tag = soup.new_tag("meta")
    tag[kind], tag["content"] = key, value
    return tag
