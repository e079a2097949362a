"""The book on paper: one document, whose links lead inside it."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from thesis_repro.publish import paper

ONE = """<html><head><title>Book</title><link rel="stylesheet" href="../_static/a.css">
<script src="../_static/vendor/mathjax/m.js"></script><script src="../_static/b.js"></script></head>
<body><nav>no</nav><article><h1 id="top">One</h1><a href="part/two.html#there">x</a>
<a href="#top">y</a><a href="https://example.org/">z</a><a href="gone.html">api</a></article></body>
</html>"""
TWO = """<html><head><link rel="stylesheet" href="../../_static/a.css"></head>
<body><article><script>1</script><details class="hide"><pre>code</pre></details>
<details><table id="there"></table></details><img src="../../_images/p.png" alt="p">
<a href="../index.html">back</a></article></body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "book" / "part").mkdir(parents=True)
    (tmp_path / "book" / "index.html").write_text(ONE)
    (tmp_path / "book" / "part" / "two.html").write_text(TWO)
    return tmp_path


def test_links_between_pages_lead_inside_the_document(site: Path) -> None:
    soup = BeautifulSoup(paper.one_document(site, ["book/index", "book/part/two"]), "html.parser")
    assert len(soup.find_all("article")) == 2 and soup.find("nav") is None
    places = {tag["id"] for tag in soup.find_all(id=True)}
    inside = [a["href"] for a in soup.find_all("a", href=True) if a["href"].startswith("#")]
    assert len(inside) == 3 and {href[1:] for href in inside} <= places
    assert [a.get("href") for a in soup.find_all("a")][2:4] == ["https://example.org/", None]
    assert soup.find("img")["src"] == "../_images/p.png"
    assert [tag["href"] for tag in soup.select("head link")] == ["../_static/a.css"]
    assert [tag["src"] for tag in soup.select("script")] == ["../_static/vendor/mathjax/m.js"]


def test_folds_are_open_but_for_code(site: Path) -> None:
    soup = BeautifulSoup(paper.one_document(site, ["book/index", "book/part/two"]), "html.parser")
    code, table = soup.find_all("details")
    assert not code.has_attr("open") and table.has_attr("open")


def test_without_a_site_or_a_browser_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no page in .*: run make book"):
        paper.pdf(tmp_path)
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no Chromium on this machine"):
        paper.browser()
