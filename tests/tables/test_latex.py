"""Tables as LaTeX: they compile in papers of one column and of two, and fit the page."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.tables import escape, latex, records, sheet
from thesis_repro.tables.sheet import Sheet

THREE = ["gloro-vra", "bias-remedies", "certifiers-cost"]
"""Of these one is wide, one is tall, and one has long texts."""
LINES = {
    "onecolumn": r"\documentclass[a4paper]{article}",
    "twocolumn": r"\documentclass[a4paper,twocolumn]{article}",
}
FAULT = re.compile(r"^(!.*|Overfull \\hbox.*|LaTeX Warning: Float too large.*|== .*)$", re.M)
needs_latex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")


def compiled(texts: dict[str, str], kind: str, folder: Path) -> list[str]:
    """Compile texts as one paper, a page for each; return what is wrong, after the text's name."""
    body = [rf"\typeout{{== {name}}}{text}\clearpage" for name, text in texts.items()]
    paper = [
        LINES[kind],
        r"\usepackage{array,booktabs,graphicx}\hfuzz=0.5pt\begin{document}",
        *body,
        r"\end{document}",
    ]
    (folder / "paper.tex").write_text("\n".join(paper))
    command = ["pdflatex", "-interaction=nonstopmode", "-draftmode", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    found, name = [], ""
    for line in FAULT.findall(done.stdout.decode("latin-1")):
        if line.startswith("== "):
            name = line[3:]
        else:
            found.append(f"{name}: {line}")
    assert name == list(texts)[-1], "it did not come to its end"
    return found


def recorded(names: Iterable[str]) -> dict[str, str]:
    return {
        f"{name} {run}": tables.text(tables.recorded(name, run), "latex")
        for name in names
        for run in records.runs(tables.get(name).spec)
    }


@needs_latex
@pytest.mark.parametrize("kind", LINES)
def test_three_tables_compile_and_fit(kind: str, tmp_path: Path) -> None:
    assert compiled(recorded(THREE), kind, tmp_path) == []


@pytest.mark.slow
@needs_latex
@pytest.mark.parametrize("kind", LINES)
def test_every_table_compiles_and_fits(kind: str, tmp_path: Path) -> None:
    assert compiled(recorded(tables.names()), kind, tmp_path) == []


@needs_latex
def test_what_is_wrong_with_a_paper_is_seen(tmp_path: Path) -> None:
    wide = r"\begin{tabular}{l}" + "x " * 300 + r"\end{tabular}"
    tall = r"\begin{table*}\rule{1pt}{900pt}\end{table*}"
    found = compiled({"wide": wide, "tall": tall, "wrong": r"\nothing"}, "onecolumn", tmp_path)
    assert [line.partition(":")[0] for line in found] == ["wide", "tall", "wrong"]


def test_every_row_stands_once_and_only_the_first_part_has_the_label() -> None:
    frame = tables.recorded("bias-remedies", "paper-cpu")
    text = latex.of_frame(frame)
    rows = len(sheet.of_frame(frame, quoted=True).rows)
    heads = text.count(r"\toprule")
    assert text.count(r" \\") - heads == rows > latex.MOST_LINES
    assert text.count(r"\label{tab:bias-remedies}") == 1 < heads
    assert text.count("(continued)") == text.count(r"\begin{table*}") - 1


def test_a_long_cell_takes_more_lines() -> None:
    short = Sheet(["a"], [["x"]] * 3, [False])
    long = Sheet(["a"], [["x" * 3 * latex.LONG]] * 3, [False])
    assert latex._lines(range(3), long, [True]) - latex._lines(range(3), short, [True]) == 6


TEXTS = ["[0, 1] holds", "*", "|a x b|", "--epsilon 1 --- 2", "-–-", "?`!`", "``a''", "[|", "a-b"]
SHOWN = re.compile(r"^\.+\\(OT1/cmr|OMS/cmsy)/\S+ (\S+)(?: \(ligature (\S+)\))?$", re.M)
DRAWN = {"--": "–", "---": "—", "?`": "¿", "!`": "¡", "``": "“", "''": "”"}
"""What the font has for letters that it joins."""


@needs_latex
def test_what_is_a_command_or_a_ligature_is_set_as_it_was_written(tmp_path: Path) -> None:
    laid = Sheet(["[first", "*"], [[text, text] for text in TEXTS], [False, False])
    table = latex._tabular(laid, range(len(TEXTS)), [False, True])
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{array,booktabs}\tracingonline=1\showboxdepth=99"
        rf"\showboxbreadth=999\begin{{document}}\setbox0\hbox{{{table}}}\showbox0\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-draftmode", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    log = done.stdout.decode("latin-1")
    assert FAULT.findall(log) == ["! OK."]  # it is how TeX ends what it shows
    seen = ""
    for font, char, joined in SHOWN.findall(log):
        one = {"j": "|"}[char] if font == "OMS/cmsy" else char
        seen += DRAWN.get(joined, joined) if joined else one
    written = "".join(["[first", "*", *(text * 2 for text in TEXTS)])
    assert seen == written.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("α Δ λ", r"$\alpha$ $\Delta$ $\lambda$"),
        ("ο Α", "U+03BF U+0391"),  # TeX has no command for what looks like a Latin letter
        ("é ß ñ", r"\'{e} \ss{} \~{n}"),
        ("“a” — 5°", "``a'' --- 5$^\\circ$"),
        ("a\nb\x00", "a b "),
        ("|--|", r"\textbar{}-{}-\textbar{}"),
        ("😀", "U+1F600"),
    ],
)
def test_what_ascii_has_not_gets_its_command(text: str, expected: str) -> None:
    assert escape.tex(text) == expected
