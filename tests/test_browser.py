"""The rendered site, read by a program and opened in a browser.

The browser is Chromium from the system (CHROMIUM may name another); without one, the tests that
need it are skipped, and say so.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thesis_repro import publish
from thesis_repro.publish import site as reader

ROOT = Path(__file__).resolve().parent.parent
PAGES = publish.pages(ROOT)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WIDE, PHONE = 1280, 390

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
    named = os.environ.get("CHROMIUM", "")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium on this machine: install it, or name one in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS.split())
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


def test_the_root_leads_to_the_front_page(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_url(f"{address}book/index.html")
    assert page.locator("article h1").inner_text().startswith("Foundations for Conceptually Sound")


def test_the_search_finds_a_word_offline(page: Any, address: str) -> None:
    page.goto(f"{address}search.html?q=Lipschitz")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() > 0
