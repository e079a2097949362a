"""The claim that each chapter opens with: it is one of ours, and its words are few."""

from pathlib import Path

import pytest

from thesis_repro import publish, tables
from thesis_repro.lab import places
from thesis_repro.publish import front
from thesis_repro.tables import headlines, overview

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [name.removeprefix("book/") for name in publish.chapters(ROOT)]


def test_every_chapter_has_a_headline_and_nothing_else_has() -> None:
    assert sorted(headlines.lines()) == sorted(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_headline_is_one_claim_of_its_chapter_as_the_evidence_has_it(chapter: str) -> None:
    found, line = headlines.headline(chapter), headlines.lines()[chapter]
    assert len(line["words"].split()) <= 12
    evidence = overview.evidence(chapter=chapter)
    (claim,) = (
        evidence[evidence["says"] == found.says].query("kind == @line['kind']").to_dict("records")
    )
    assert found.verdict == claim["verdict"]
    for text, shown in ((claim["ours"], found.ours), (claim["published"], found.published)):
        bare = shown.replace(claim["unit"] or "\0", "", 1).replace("  ", " ").strip()
        assert bare == text.removesuffix(" needed")
    assert found.asked == ("Needed" if claim["published"].endswith(" needed") else "Published")
    assert claim["note"] in found.note and claim["run"] in found.note
    assert sum(found.verdicts.values()) == len(evidence)
    assert found.own == (evidence["how_read"] == "this book").sum()
    page = (ROOT / "book" / f"{chapter}.md").read_text("utf-8")
    assert f'tables.card("{chapter}")' in page
    assert f":    name: {line['figure']}\n" in page
    shown = tables.card(chapter)
    for words in (found.verdict, found.ours.replace("<", "&#60;")):
        assert words in shown.data


def test_a_card_says_what_in_the_claim_is_ours_and_keeps_its_capitals() -> None:
    says = tables.card("robustness/relaxed").data
    assert "the number of points is ours; the abstract names no data set and no K" in says
    assert "\nClaimed: abstract; " in says


def test_a_card_of_the_front_page_says_what_is_judged_and_by_what() -> None:
    """The few words of a card may say more than the claim, so the claim stands beside them."""
    found = headlines.headline("weaknesses/leakage")
    shown = front._card(found, "Leakage", None)
    assert f"Judged: {found.says} Needed: " in shown and "Published" not in shown
    assert f"**{found.verdict}**" in shown


def test_a_line_that_names_no_claim_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    file, columns = tmp_path / headlines.NAME, ",".join(headlines.COLUMNS)
    file.write_text(f"{columns}\nrobustness/gloro,w,gloro-vra,no / row,vra,measured,fig-a\n")
    with pytest.raises(ValueError, match="robustness/gloro: its line names 0 claims, not one"):
        headlines.headline("robustness/gloro")
    axiom = "explanations/influence,w,influence-axioms,"
    axiom += '"digit CNN, MNIST-5k / linear agreement",within,"theorem, checked",fig-a'
    file.write_text(f"{columns}\nrobustness/gloro,w,a,b,c,d,e\n{axiom}\n")
    with pytest.raises(ValueError, match="a theorem that was checked is no headline"):
        headlines.headline("explanations/influence")
    with pytest.raises(ValueError, match="no chapter 'a/b'; there are robustness/gloro"):
        headlines.headline("a/b")
    file.write_text("chapter\n")
    with pytest.raises(ValueError, match="headlines.csv needs the columns chapter, words"):
        headlines.lines()
