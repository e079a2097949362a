"""What is done to rendered pages: names, headers and regions for tables, weight, words to share."""

import base64
import hashlib
import io
import re
import struct
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont

from thesis_repro.figures import narrow
from thesis_repro.publish import icons, phone
from thesis_repro.publish.polish import polish

TABLE = """
<table class="table" id="tab-a"><caption><span class="caption-number">Table 1 </span>Words</caption>
<thead><tr><th></th><th>x</th></tr></thead>
<tbody><tr><td>row</td><td>1</td></tr>
<tr><td><span class="math">k</span></td><td>2</td></tr></tbody>
</table>
"""
CELL = """
<div class="cell"><details class="hide"><summary aria-label="Toggle hidden content">
<p class="collapsed">Show code cell source</p>
<p class="expanded">Hide code cell source</p></summary>
<pre>1</pre></details><div class="cell_output"><figure><img src="../_images/a.png" alt="A line.">
<figcaption><span class="caption-number">Fig. 2 </span>Words</figcaption></figure></div></div>
"""
RECORDED = """<article><figure><div class="figure-scroll">
<img src="a.png" alt="A dog."></div></figure></article>"""
ROOT = Path(__file__).resolve().parent.parent
HEAD = """
<title>One</title>
<link href="../_static/vendor/fontawesome/6/css/all.min.css" rel="stylesheet"/>
<script src="../_static/vendor/fontawesome/6/js/all.min.js"></script>
<script>window.MathJax = {"tex": {}}</script>
<script defer="defer" src="../_static/vendor/mathjax/tex-mml-chtml.js"></script>
"""


def page(site: Path, body: str, base: str = "") -> BeautifulSoup:
    """A page book/one.html with this article, polished."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.ttLib.tables._g_l_y_f import Glyph

    library = site / "_static" / "vendor" / "fontawesome" / "6"
    for name in ("css", "js", "webfonts"):
        (library / name).mkdir(parents=True)
    rules = '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}.fa-x:before{content:"\\f111"}'
    (library / "css" / "all.min.css").write_text(rules)
    (library / "js" / "all.min.js").write_text("0" * 1_000)
    (site / "_static" / "theme.css").write_text(':root{--icon-x:"\uf111"}', "utf-8")
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "bars", "x"])
    font.setupCharacterMap({0xF0C9: "bars", 0xF111: "x"})
    font.setupGlyf(dict.fromkeys([".notdef", "bars", "x"], Glyph()))
    font.setupHorizontalMetrics(dict.fromkeys([".notdef", "bars", "x"], (500, 0)))
    font.setupHorizontalHeader()
    font.setupNameTable({})
    font.setupPost()
    font.save(library / "webfonts" / "fa-solid-900.ttf")
    path = site / "book" / "one.html"
    path.parent.mkdir()
    path.write_text(
        f"<html><head>{HEAD}</head><body><i class='fas fa-bars'></i>"
        f"<article><p><em>The claim.</em></p>{body}</article></body></html>"
    )
    polish(site, ["book/one"], base)
    return BeautifulSoup(path.read_text(), "html.parser")


def test_a_table_is_a_named_region_with_headers_of_rows_and_columns(tmp_path: Path) -> None:
    soup = page(tmp_path, TABLE)
    region = soup.select_one("#tab-a > [role=region]")
    assert region["tabindex"] == "0"
    caption = soup.find(id=region["aria-labelledby"])
    assert "Words" in caption.get_text() and caption.find_parent("table") is None
    assert [th["scope"] for th in region.select("thead th")] == ["col", "col"]
    assert all(th.get_text(strip=True) for th in region.select("thead th"))
    first, second = (row.find(["th", "td"]) for row in region.select("tbody tr"))
    assert (first.name, first["scope"]) == ("th", "row")
    assert second.name == "td", "a symbol that is drawn later names nothing"


def test_a_bar_of_code_is_named_after_what_the_code_makes(tmp_path: Path) -> None:
    soup = page(tmp_path, CELL + CELL.replace("Fig. 2", "Fig. 3"))
    names = [tag.get_text(strip=True) for tag in soup.select("summary .collapsed")]
    assert names == ["Code of Fig. 2", "Code of Fig. 3"]
    assert not soup.select("summary[aria-label]")
    assert [tag["tabindex"] for tag in soup.select("pre, .figure-scroll")] == ["0"] * 4


def test_a_figure_has_on_a_phone_its_stacked_picture_or_scrolls_large_enough(
    tmp_path: Path,
) -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 900, 300)
    name = f"{hashlib.sha256(png).hexdigest()}.png"
    body = CELL.replace("a.png", name)
    shown = {"image/png": base64.b64encode(png).decode()}
    for folder, said in (
        ("scrolls", {"letters": 12.5}),
        ("small", {"letters": 12.5, "stacked": 16.2, "png": shown["image/png"]}),
        ("stacked", {"letters": 12.5, "stacked": 26.2, "png": shown["image/png"]}),
    ):
        output = nbformat.v4.new_output("display_data", shown, metadata={narrow.KEY: said})
        cells = [nbformat.v4.new_code_cell("draw()", outputs=[output])]
        path = tmp_path / folder / "_sources" / "book" / "one.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        (tmp_path / folder / "_images").mkdir()
        (tmp_path / folder / "_images" / name).write_bytes(png)
        region = page(tmp_path / folder, body).select_one(".figure-scroll")
        assert region.img["style"] == f"--legible: {round(900 * phone.READABLE / 12.5)}px"
        assert region.img["data-letters"] == "12.5"
        second = region.select_one("picture > source")
        assert (second is None) == (folder != "stacked") == ("stacked" not in region["class"])
    assert second["srcset"] == f"../_images/{name.removesuffix('.png')}-stacked.png"
    assert second["media"].startswith("screen") and second["data-letters"] == "26.2"
    written = tmp_path / "stacked" / "book" / second["srcset"]
    assert written.read_bytes() == png


def test_an_identifier_stands_once_on_a_page(tmp_path: Path) -> None:
    body = '<section id="proof-content">1</section><section id="proof-content">2</section>'
    assert [tag.get("id") for tag in page(tmp_path, body).select("section")] == [
        "proof-content",
        None,
    ]


def test_a_figure_is_whole_on_a_phone_where_its_letters_are_large_enough(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 900, 300)
    key = hashlib.sha256(png).hexdigest()
    (tmp_path / "a.png").write_bytes(png)
    for letters, least in ((22.0, "100%"), (20.0, f"{round(900 * phone.READABLE / 20)}px")):
        soup = BeautifulSoup(RECORDED, "html.parser")
        phone.fit(soup, tmp_path / "one.html", {key: (900, {"letters": letters})})
        assert soup.img["style"] == f"--legible: {least}"


def test_a_recorded_picture_is_whole_on_a_phone_and_leads_to_its_full_size(tmp_path: Path) -> None:
    soup = BeautifulSoup(RECORDED, "html.parser")
    phone.fit(soup, tmp_path / "one.html", {})
    region = soup.select_one(".figure-scroll")
    assert region is not None and region["class"] == "figure-scroll whole"
    assert region.a is not None and region.a["href"] == "a.png" and region.a.img is not None
    style = (ROOT / "book" / "_static" / "book.css").read_text("utf-8")
    assert ".figure-scroll:not(.stacked, .whole) img { min-width" in style


def test_mathematics_is_loaded_where_there_is_some(tmp_path: Path) -> None:
    assert "mathjax" not in str(page(tmp_path / "a", CELL).head).lower()
    assert "mathjax" in str(page(tmp_path / "b", TABLE).head).lower()


def test_the_icons_that_are_used_are_all_that_is_left_of_the_library(tmp_path: Path) -> None:
    soup = page(tmp_path, "")
    assert "fontawesome" not in str(soup)
    assert not (tmp_path / "_static" / "vendor" / "fontawesome").exists()
    style = (tmp_path / "_static" / icons.NAME).read_text()
    assert '.fa-bars::before{content: "\\f0c9";}' in style and ".fa-x" not in style
    assert "url(data:font/woff;base64," in style
    font = base64.b64decode(re.findall(r"base64,([^)]*)", style)[0])
    assert set(TTFont(io.BytesIO(font)).getBestCmap()) == {0xF0C9, 0xF111}
    assert "--fa-font-solid: normal 900" in style, "the theme's sheets name the font so"
    assert soup.select_one(f"link[href='../_static/{icons.NAME}']")


@pytest.mark.parametrize(
    ("base", "address"),
    [("", "../_images/a.png"), ("https://example.org/b/", "https://example.org/b/_images/a.png")],
)
def test_a_page_says_what_it_is_about_and_has_a_picture(
    tmp_path: Path, base: str, address: str
) -> None:
    head = page(tmp_path, CELL, base).head
    assert head.select_one("meta[name=description]")["content"] == "The claim."
    assert head.select_one("meta[property='og:image']")["content"] == address
    assert head.select_one("meta[property='og:title']")["content"] == "One"


def test_the_patterns_leave_other_scripts() -> None:
    other = '<script src="_static/doctools.js"></script>'
    assert icons.HEAD.sub("", other) == other
    assert re.fullmatch(icons.HEAD, '<script src="_static/vendor/fontawesome/a.js"></script>\n')
