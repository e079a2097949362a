"""The rendered site, read by a program and opened in a browser.

The browser is Chromium from the system (CHROMIUM may name another); without one, the tests that
need it are skipped, and say so.
"""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thesis_repro import publish
from thesis_repro.figures.moving import KINDS, Moving
from thesis_repro.publish import paper
from thesis_repro.publish import site as reader
from thesis_repro.tables import headlines

ROOT = Path(__file__).resolve().parent.parent
PAGES = publish.pages(ROOT)
WIDE, PHONE = 1280, 390
CHAPTERS = [f"book/{name}" for name in headlines.lines()]
"""The chapters of the thesis: each opens with its claim."""
AXE = ROOT / "tests" / "vendor" / "axe.min.js"
MOST_ROWS, FIRST_FIGURE = 40, 900
HEAVIEST = 300_000
"""Bytes that hold up the first paint: 1.5 seconds of a line of 1.6 Mbit/s."""
WHOLE = 3_000_000
"""Bytes of a chapter with all that it loads: 15 seconds of such a line, read from the first on."""
SMALLEST = 8
"""CSS pixels of a figure's smallest letters on a phone."""
PATIENCE, SETTLED = 120_000, 500
"""Milliseconds for what a busy machine does slowly; for the theme to see a change of width."""

pytestmark = pytest.mark.book


# read by a program


def test_the_site_is_made_from_the_sources_as_they_are(site: Path) -> None:
    from thesis_repro.publish.render import built, made_from

    executed = publish.execute(ROOT, publish.Run(), say=lambda line: None)
    assert built(site) == made_from(ROOT, executed)
    index = (site / "index.html").read_text("utf-8")
    assert "book/index.html" in index
    for page in PAGES:
        assert (site / f"{page}.html").is_file()


def test_the_site_has_no_fault(site: Path) -> None:
    assert reader.faults(site) == []


def test_every_page_is_reached_from_the_front(site: Path) -> None:
    front = (site / "book" / "index.html").read_text("utf-8")
    for page in PAGES[1:]:
        assert f'href="{page.removeprefix("book/")}.html"' in front, page


# opened in a browser


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a port of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        found = paper.browser()
    except ValueError as missing:
        pytest.skip(str(missing))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(paper.FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": WIDE, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault_wide_or_on_a_phone(page: Any, address: str, name: str) -> None:
    """One visit for all checks: to load a page costs more than to look at it."""
    heard = [f"{WIDE}: {line}" for line in _load(page, address, name)]
    page.evaluate(AXE.read_text("utf-8"))
    for width in (WIDE, PHONE):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(SETTLED)
        found = [*_misfits(page), *_axe(page)]
        if name in CHAPTERS:
            found += _opening(page) if width == WIDE else [*_scrolling(page), *_letters(page)]
        heard += [f"{width}: {line}" for line in found]
    assert heard == []


def _load(page: Any, address: str, name: str) -> list[str]:
    """Open a page, and say what went wrong on the way."""
    asked: list[str] = []
    heard: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "response",
        lambda answer: (
            heard.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    page.goto(f"{address}{name}.html", wait_until="load")
    page.wait_for_function("!window.MathJax || !!window.MathJax.startup?.document")
    page.evaluate("() => window.MathJax?.startup?.promise")
    far = [url for url in asked if not url.startswith((address, "data:"))]
    heard += [f"asks another host: {url}" for url in far]
    return heard


MISFITS = """() => { const found = [], article = document.querySelector('article');
  if (!document.title) found.push('no title');
  if (article.querySelectorAll('h1').length !== 1) found.push('not one h1');
  for (const formula of article.querySelectorAll('.math'))
    if (!formula.querySelector('mjx-container')) found.push('not typeset: ' + formula.textContent);
  for (const fault of article.querySelectorAll('mjx-merror')) found.push(fault.textContent);
  for (const left of ['\\\\(', '$$'])
    if (article.innerText.includes(left)) found.push('source of mathematics in sight: ' + left);
  const wide = document.documentElement.scrollWidth;
  if (wide > window.innerWidth) found.push(`the page is ${wide} px wide`);
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) found.push('no picture: ' + image.src);
  const shape = letter => { const brush = document.createElement('canvas').getContext('2d');
    brush.font = '900 16px "Font Awesome 6 Free"'; brush.fillText(letter, 2, 18);
    return brush.getImageData(0, 0, 30, 30).data.join(); };
  const icons = new Map(), missing = shape('\uf8ff');
  for (const tag of document.querySelectorAll('body *'))
    for (const part of ['::before', '::after']) {
      const look = getComputedStyle(tag, part), letter = look.content[1];
      if (!/[\ue000-\uf8ff]/.test(letter)) continue;
      icons.set(letter, tag.outerHTML.slice(0, 80));
      if (!/^[^,]*Awesome/.test(look.fontFamily))
        found.push(`an icon in letters of the text: ${part} of ${icons.get(letter)}`); }
  for (const [letter, place] of icons)
    if (shape(letter) === missing) found.push('an icon that its font lacks: ' + place);
  return found; }"""


def _misfits(page: Any) -> list[str]:
    """Mathematics that is not typeset, a page wider than the screen, a picture that is missing."""
    return list(page.evaluate(MISFITS))


LOOKS = """() => { const seen = new Set(), behind = new Map([[null, '']]);
  const under = tag => { if (!behind.has(tag)) { const look = getComputedStyle(tag);
      const own = [look.backgroundColor, look.backgroundImage, look.opacity].join(' ');
      behind.set(tag, under(tag.parentElement) + (own === CLEAR ? '' : '/' + own)); }
    return behind.get(tag); };
  const CLEAR = 'rgba(0, 0, 0, 0) none 1';
  for (const tag of document.querySelectorAll('body *')) {
    tag.removeAttribute('data-look');
    const words = [...tag.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!words && !tag.matches('input, select, button') || !tag.checkVisibility()) continue;
    const look = getComputedStyle(tag);
    const key = [under(tag), look.color, look.fontSize, look.fontWeight, look.position].join();
    if (!seen.has(key)) tag.dataset.look = seen.add(key).size; } }"""
"""Mark one element of each look: the colours behind it; colour, size and weight of its letters."""

CONTRAST = "axe.configure({rules: [{id: 'color-contrast', selector: '[data-look]'}]})"
VIOLATIONS = "axe.run(document, {resultTypes: ['violations']}).then(done => done.violations)"


def _axe(page: Any) -> list[str]:
    """What axe knows to be wrong; the contrast, its slowest rule, of one element of each look."""
    page.evaluate(LOOKS)
    page.evaluate(CONTRAST)
    return [
        f"{fault['id']} ({len(fault['nodes'])}): {fault['nodes'][0]['html'][:200]}"
        for fault in page.evaluate(VIOLATIONS)
    ]


OPENING = """([mostRows, lowest, heaviest, whole]) => {
  const found = [], all = s => [...document.querySelectorAll(s)];
  const [card, next] = all('article :is(.claim-card, figure img, table)');
  if (!card?.matches('.claim-card')) found.push('does not open with its claim');
  if (!next?.matches('img')) found.push('no picture after the claim');
  const top = all('article figure img')[0].getBoundingClientRect().top + window.scrollY;
  if (top > lowest) found.push(`the first figure begins at ${top} px`);
  const before = performance.getEntriesByType('resource')
    .filter(file => file.renderBlockingStatus === 'blocking')
    .reduce((bytes, file) => bytes + file.encodedBodySize, 0);
  if (before > heaviest) found.push(`${before} bytes hold up the first paint`);
  const loaded = ['resource', 'navigation'].flatMap(kind => performance.getEntriesByType(kind))
    .reduce((bytes, file) => bytes + file.encodedBodySize, 0);
  if (loaded > whole) found.push(`${loaded} bytes in all`);
  const rows = all('article tbody tr').filter(row => !row.closest('details')).length;
  if (rows > mostRows) found.push(`${rows} rows of tables in sight`);
  for (const tag of all('article .table-caption').filter(tag => !tag.closest('details')))
    if (tag.offsetHeight > 2.2 * parseFloat(getComputedStyle(tag).lineHeight))
      found.push('a caption of more than two lines: ' + tag.innerText);
  return found; }"""


def _opening(page: Any) -> list[str]:
    """How a chapter begins: claim, picture; and few rows in sight."""
    return list(page.evaluate(OPENING, [MOST_ROWS, FIRST_FIGURE, HEAVIEST, WHOLE]))


def _scrolling(page: Any) -> list[str]:
    """Each table that is wider than the screen: it scrolls by keyboard, its first column stays."""
    heard = []
    regions = page.locator("article .table-scroll:visible").filter(has=page.locator("td, th"))
    for at in range(regions.count()):
        region = regions.nth(at)
        if region.evaluate("tag => tag.scrollWidth <= tag.clientWidth + 30"):
            continue
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("tag => tag.scrollLeft > 5", arg=region.element_handle())
        left = region.evaluate(
            "tag => tag.querySelector('tbody tr').firstElementChild.getBoundingClientRect().left"
            " - tag.getBoundingClientRect().left"
        )
        if abs(left) >= 2:
            heard.append(f"the first column of table {at + 1} is {left} px from its place")
    return heard


LETTERS = """smallest => { const found = [];
  for (const image of document.querySelectorAll('article figure img')) {
    if (image.closest('details') || !image.offsetWidth) continue;
    const region = image.closest('.figure-scroll'), name = region?.ariaLabel ?? image.alt;
    const told = image.parentElement.querySelector('source');
    const stacked = told && image.currentSrc === new URL(told.srcset, location.href).href;
    const letters = (stacked ? told : image).dataset.letters;
    const height = letters * image.clientWidth / image.naturalWidth;
    if (height < smallest) found.push(`${name}: letters of ${height.toFixed(1)} px`);
    const edge = region && getComputedStyle(region).backgroundImage.includes('gradient');
    if (image.clientWidth > innerWidth && !edge) found.push(`${name}: no sign that it goes on`); }
  return found; }"""


def _letters(page: Any) -> list[str]:
    """Each figure on a phone whose letters are too small, or that is cut off without a sign."""
    return list(page.evaluate(LETTERS, SMALLEST))


def test_what_is_wrong_with_a_page_is_seen(page: Any) -> None:
    """The checks themselves, on a page with every fault."""
    page.set_content(FAULTY)
    page.set_viewport_size({"width": PHONE, "height": 900})
    page.evaluate(AXE.read_text("utf-8"))
    heard = [*_misfits(page), *_axe(page), *_opening(page), *_scrolling(page), *_letters(page)]
    for part in (
        *("not one h1", "not typeset: x", "source of mathematics", "px wide", "no picture: "),
        *("color-contrast (1)", "image-alt (1)", "does not open with its claim"),
        *("first figure begins at", "41 rows", "more than two lines", "first column of table 1"),
        *(
            "an icon in letters of the text: ::after",
            "an icon that its font lacks",
            "letters of 2.0 px",
            "no sign that it goes",
        ),
    ):
        assert any(part in line for line in heard), (part, heard)


def test_a_page_that_is_too_heavy_is_seen(page: Any, address: str) -> None:
    _load(page, address, CHAPTERS[0])
    heard = page.evaluate(OPENING, [MOST_ROWS, FIRST_FIGURE, 1, 1])
    for part in ("bytes hold up the first paint", "bytes in all"):
        assert any(part in line for line in heard), heard


LARGE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='5000' height='9'/%3E"
FAULTY = f"""<html lang="en"><title>t</title><body><main><article><h1>a</h1><h1>b</h1>
<p style="color: #aaa; background: #fff">pale $$</p> <p>dark</p><i class="math">x</i>
<div class="table-caption" style="width: 1em; line-height: 1em">one two three four</div>
<div class="table-scroll" tabindex="0" style="overflow-x: auto; width: 200px">
<table style="width: 900px">{"<tr><td>1</td></tr>" * 41}</table></div>
<figure><img src="data:image/png;base64,none"></figure><figure>
<img alt="small" data-letters="10" width="1000" src="{LARGE}"></figure>
<style>h1::after {{ content: "\\f303" }}</style>
<div style="width: 2000px">wide</div></article></main></body></html>"""


MOVING = {
    "plane": ("book/robustness/gloro", "input", "ArrowRight"),
    "digit": ("book/robustness/gloro", "input", "End"),
    "maps": ("book/explanations/influence", "select >> nth=0", "ArrowDown"),
    "threshold": ("book/weaknesses/membership", "input", "ArrowRight"),
    "weak": ("book/weaknesses/bias", "input", "ArrowRight"),
    "word": ("book/weaknesses/leakage", "input", "ArrowLeft"),
    "smoothing": ("book/robustness/certifiers", "input >> nth=1", "ArrowRight"),
}
"""For each moving figure its page, a control of it, and a key."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_moving_figure_is_moved_by_keyboard_from_a_file_too(
    page: Any, site: Path, kind: str
) -> None:
    name, control, key = MOVING[kind]
    page.goto((site / f"{name}.html").as_uri(), wait_until="load")
    home = page.locator(f"#moving-{kind}")
    told, picture = home.locator(".moving-words"), home.locator("svg")
    before = told.inner_text(), picture.inner_html(), picture.get_attribute("aria-label")
    assert before[2] == before[0], "the picture says in words what it shows"
    home.locator(control).focus()
    page.keyboard.press(key)
    after = told.inner_text(), picture.inner_html(), picture.get_attribute("aria-label")
    assert all(old != new for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_moving_figure_without_its_data_says_so_in_its_place(page: Any, kind: str) -> None:
    page.set_content(Moving(kind, "title", None).html())
    assert "The data of this figure is missing" in page.locator(".moving-body").inner_text()


def test_without_scripts_a_page_shows_its_figures_and_says_what_is_missing(
    browser: Any, address: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}book/robustness/gloro.html")
    assert "moves where scripts run" in page.locator("#moving-plane .moving-body").inner_text()
    assert page.locator("#fig-gloro-toy img").is_visible()
    context.close()


def test_no_page_loads_the_library_of_icons(site: Path) -> None:
    heads = [path.read_text("utf-8").partition("</head>")[0] for path in site.rglob("*.html")]
    assert not [head for head in heads if "fontawesome" in head]
    assert "vendor/mathjax" not in (site / "book" / "cite.html").read_text("utf-8")
    assert "vendor/mathjax" in (site / "book" / "robustness" / "gloro.html").read_text("utf-8")


@pytest.mark.slow
def test_the_book_on_paper_has_no_letter_that_its_fonts_lack(site: Path) -> None:
    try:
        paper.browser()
    except ValueError as missing:
        pytest.skip(str(missing))
    reads = shutil.which("pdftotext")
    if reads is None:
        pytest.skip("no pdftotext on this machine")
    # a process of its own: the pages of other tests are open in this one
    make = [sys.executable, "-m", "thesis_repro.cli", "book", "pdf"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    printed = said.stdout.strip().splitlines()[-1]
    done = subprocess.run([reads, printed, "-"], capture_output=True, text=True, check=True)
    assert "Exercise 1.1" in done.stdout
    assert re.findall("[^\n]*[\ue000-\uf8ff\ufffd][^\n]*", done.stdout) == []


def test_the_root_leads_to_the_front_page(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_url(f"{address}book/index.html")
    assert page.locator("article h1").inner_text().startswith("Foundations for Conceptually Sound")


def test_the_search_finds_a_word_offline(page: Any, address: str) -> None:
    page.goto(f"{address}search.html?q=Lipschitz")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() > 0
