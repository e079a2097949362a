"""Each work can be found: it has an address, or says that there is no public text."""

import re
from pathlib import Path

import pytest
from pybtex.database import Entry, parse_file

FILE = Path(__file__).resolve().parent.parent / "book" / "references.bib"
ENTRIES = parse_file(str(FILE)).entries
CITED = {
    key.strip()
    for page in FILE.parent.rglob("*.md")
    for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", page.read_text("utf-8"))
    for key in keys.split(",")
}


def leads_somewhere(entry: Entry) -> bool:
    fields = entry.fields
    if entry.type == "unpublished":
        return "no public text" in fields.get("note", "")
    return bool({"doi", "eprint", "url"} & set(fields))


@pytest.mark.parametrize("key", list(ENTRIES))
def test_a_work_has_an_address(key: str) -> None:
    assert leads_somewhere(ENTRIES[key])
    assert not ENTRIES[key].fields.get("note", "").startswith("arXiv:"), "that is an eprint"
    assert ENTRIES[key].fields.get("url", "http").startswith("http")


def test_every_work_is_cited_on_a_page_and_every_cited_one_is_here() -> None:
    assert set(ENTRIES) == CITED


def test_a_work_without_one_is_seen() -> None:
    assert not leads_somewhere(Entry("misc", [("title", "x"), ("note", "arXiv:1.2")]))
    assert leads_somewhere(Entry("misc", [("doi", "10.1/x")]))
