"""Style sheets lose what no page can use, and nothing else."""

from pathlib import Path

import pytest

from thesis_repro.publish import styles

USED = {"card", "title", "show"}


@pytest.mark.parametrize(
    ("css", "left"),
    [
        (".card{a:b}", ".card{a:b}\n"),
        (".badge{a:b}", ""),
        (".card .badge, .card>.title:hover{a:b}", ".card>.title:hover{a:b}\n"),
        ("p, .badge a{a:b}", "p{a:b}\n"),
        (".card:not(.badge){a:b}", ".card:not(.badge){a:b}\n"),
        (":is(.badge, .card) p{a:b}", ":is(.badge, .card) p{a:b}\n"),
        (":is(.x, :not(.y)) p{a:b}", ":is(.x, :not(.y)) p{a:b}\n"),
        ('a[href$=".pdf"]{a:b}', 'a[href$=".pdf"]{a:b}\n'),
        (r".sm\:badge{a:b}", ".sm\\:badge{a:b}\n"),
        ('.title{content:"}"} .badge{a:b}', '.title{content:"}"}\n'),
        ("@media print{.badge{a:b}}", ""),
        ("@media print{.badge{a:b}.show{c:d}}", "@media print {\n.show{c:d}\n}\n"),
        ("@keyframes turn{from{a:b}to{c:d}}", "@keyframes turn{from{a:b}to{c:d}}\n"),
        ('@import "x.css"; .card{a:b}', '@import "x.css";\n.card{a:b}\n'),
        ("/* .card{} */ .show{a:b}", ".show{a:b}\n"),
    ],
)
def test_a_rule_stays_if_it_may_match(css: str, left: str) -> None:
    assert styles.lean(css, USED) == left


@pytest.mark.parametrize("css", [".a{b:c", ".a}b", ".a{b:c}}"])
def test_braces_that_do_not_match_are_refused(css: str) -> None:
    with pytest.raises(ValueError, match="braces of a style sheet do not match"):
        styles.lean(css, USED)


def test_classes_of_pages_and_of_scripts_are_kept_and_so_are_licences(tmp_path: Path) -> None:
    (tmp_path / "_static").mkdir()
    (tmp_path / "a.html").write_text('<p class="on-page">x</p>')
    (tmp_path / "_static" / "a.js").write_text('tag.classList.add("from-script")')
    sheet = tmp_path / "_static" / "a.css"
    sheet.write_text("/*! MIT */ .on-page{a:b} .from-script{a:b} .nowhere{a:b} /* x */")
    styles.slim(tmp_path)
    assert sheet.read_text() == "/*! MIT */\n.on-page{a:b}\n.from-script{a:b}\n"
