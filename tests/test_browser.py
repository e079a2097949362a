"""The rendered site, read by a program and opened in a browser.

The browser is Chromium from the system (CHROMIUM may name another); without one, the tests that
need it are skipped, and say so.
"""

import functools
import http.server
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


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone_and_fits(page: Any, address: str, name: str) -> None:
    asked: list[str] = []
    troubles: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "response",
        lambda response: troubles.append(response.url) if response.status >= 400 else None,
    )
    page.goto(f"{address}{name}.html", wait_until="load")
    page.wait_for_function("!window.MathJax || !!window.MathJax.startup?.document")
    page.evaluate("() => window.MathJax?.startup?.promise")
    far = [url for url in asked if not url.startswith((address, "data:"))]
    assert far == [], "asks another host"
    assert troubles == []
    assert page.title()
    assert page.locator("article h1").count() == 1

    # mathematics is typeset, all of it, and nothing of its source is left in sight
    formulas = page.locator("article .math").count()
    assert page.locator("article .math mjx-container").count() == formulas
    assert page.locator("article mjx-merror").count() == 0
    shown = page.locator("article").inner_text()
    assert "\\(" not in shown
    assert "$$" not in shown

    # nothing pushes the page wider than the screen; every picture has come
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], f"the page is {wide[0]} px wide on a screen of {wide[1]}"
    broken = (
        "() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
    )
    assert page.evaluate(broken) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault_that_axe_knows(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}{name}.html", wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(v["id"], len(v["nodes"]), v["nodes"][0]["html"][:200]) for v in found] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_its_claim_and_a_picture_and_shows_few_rows(
    browser: Any, address: str, name: str
) -> None:
    context = browser.new_context(viewport={"width": WIDE, "height": 900})
    page = context.new_page()
    page.goto(f"{address}{name}.html", wait_until="load")
    first = page.locator("article :is(.claim-card, figure img, table)")
    kinds = [first.nth(at).evaluate("tag => tag.className || tag.tagName") for at in range(2)]
    assert "claim-card" in kinds[0] and "table" not in kinds[1]
    assert page.locator("article figure img").first.bounding_box()["y"] <= FIRST_FIGURE
    rows = "[...document.querySelectorAll('article tbody tr')].filter(r => !r.closest('details'))"
    assert page.evaluate(f"{rows}.length") <= MOST_ROWS
    lines = """() => [...document.querySelectorAll('article .table-caption')]
      .filter(tag => !tag.closest('details'))
      .map(tag => [tag.innerText, tag.offsetHeight / parseFloat(getComputedStyle(tag).lineHeight)])
      .filter(([, lines]) => lines > 2.2)"""
    assert page.evaluate(lines) == [], "captions of more than two lines"
    context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_wide_table_scrolls_by_keyboard_and_keeps_its_first_column(
    browser: Any, address: str, name: str
) -> None:
    context = browser.new_context(viewport={"width": PHONE, "height": 900})
    page = context.new_page()
    page.goto(f"{address}{name}.html", wait_until="load")
    wide = page.locator("article .table-scroll:visible").filter(has=page.locator("td, th"))
    scrolled = 0
    for at in range(wide.count()):
        region = wide.nth(at)
        if region.evaluate("tag => tag.scrollWidth <= tag.clientWidth + 30"):
            continue
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("tag => tag.scrollLeft > 0", arg=region.element_handle())
        left = region.evaluate(
            "tag => tag.querySelector('tbody tr').firstElementChild.getBoundingClientRect().left"
            " - tag.getBoundingClientRect().left"
        )
        assert abs(left) < 2
        scrolled += 1
    assert scrolled or name != "book/robustness/gloro", "the widest tables do not fit a phone"
    context.close()


MOVING = {
    "plane": ("book/robustness/gloro", "input", "ArrowRight"),
    "digit": ("book/robustness/gloro", "input", "End"),
    "maps": ("book/explanations/influence", "select >> nth=0", "ArrowDown"),
    "threshold": ("book/weaknesses/membership", "input", "ArrowRight"),
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


def test_the_root_leads_to_the_front_page(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_url(f"{address}book/index.html")
    assert page.locator("article h1").inner_text().startswith("Foundations for Conceptually Sound")


def test_the_search_finds_a_word_offline(page: Any, address: str) -> None:
    page.goto(f"{address}search.html?q=Lipschitz")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() > 0
