"""What stands beside the numbers: each table has its line, and a test was written when it says."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.figures import recorded
from thesis_repro.lab import places, sealed
from thesis_repro.publish.statement import _computed, reproducibility
from thesis_repro.tables import published, records, statement
from thesis_repro.tables.statement import WHEN

ROOT = Path(__file__).resolve().parents[2]
UNSTATED = {"gloro-training"}
"""Tables with claims in words that no commit stated."""
HEAD = "table,tuned_on,dropped,deviations,stated,when\n"


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def knows(commit: str) -> bool:
    """Whether git has a commit."""
    return git("cat-file", "-t", commit).stdout == "commit\n"


def test_every_table_says_what_it_rests_on() -> None:
    said, there = set(statement.statements()), set(tables.names())
    assert there <= said, f"results/{statement.NAME} needs a line for {sorted(there - said)}"
    assert said <= there, f"results/{statement.NAME} has lines of no table: {sorted(said - there)}"


def test_what_a_table_has_to_show_was_written_at_a_commit_that_git_knows() -> None:
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository").stdout != (
        "false\n"
    ):
        pytest.skip("needs git's history")
    lines = statement.statements()
    if not any(knows(line.stated) for line in lines.values() if line.stated):
        pytest.skip("another history: git knows none of the commits")
    for name in tables.names():
        spec, stated = tables.get(name).spec, lines[name].stated
        if any(not claim.row for claim in spec.claims if claim.how_read != "this book"):
            assert stated or name in UNSTATED, (
                f"{name} has a claim in words: `stated` of its line in results/{statement.NAME} "
                f"needs the commit that wrote it down"
            )
        if stated:
            assert knows(stated), f"{name}: git has no commit {stated}; was it squashed or rebased?"
            frame = records.paper(spec)
            run = "HEAD" if frame is None else frame.provenance["commit"]
            if run is None:  # made without git: nobody can tell what it came after
                continue
            before = git("merge-base", "--is-ancestor", stated, run).returncode == 0
            assert lines[name].when == WHEN[not before], name


def test_the_hypothesis_was_written_down_before_its_run() -> None:
    if not (ROOT / ".git").exists() or not knows("325376c"):
        pytest.skip("needs git's history")
    frame = records.paper(tables.get("leakage-paired").spec)
    stated = statement.statements()["leakage-paired"].stated
    changed = git("show", "--name-only", "--format=", stated).stdout
    assert "leakage/paired.py" in changed
    if frame is not None and (run := frame.provenance["commit"]):
        assert git("merge-base", "--is-ancestor", stated, run).returncode == 0


def test_a_claim_that_says_it_came_before_the_run_has_a_table_that_says_at_which_commit() -> None:
    early, lines = [], statement.statements()
    for line in published.lines():
        if any(said in line.note for said in ("before the run", "before its nets", "before these")):
            early.append(line.table)
    assert len(set(early)) >= 10
    for name in early:
        assert lines[name].stated and lines[name].when == WHEN[0], name


def test_the_page_has_a_line_for_each_table_in_both_tables() -> None:
    page = reproducibility()
    for name in tables.names():
        assert page.count(f"| `{name}` |") == 2 + (name in recorded.FIGURES), name
    for name in recorded.FIGURES:
        (line,) = [
            line for line in page.splitlines() if line.startswith(f"| `{name}` | {{source}}")
        ]
        card = sealed.read(places.results_root() / "figures" / f"{name}.json")
        assert card["commit"][:7] in line and all(source in line for source in card["data"])
    assert "150 of 800 epochs" in page and "AMD EPYC" in page


def test_a_run_that_was_made_without_git_has_its_line() -> None:
    frame = records.read(tables.get("lipschitz-soundness").spec, "quick")
    about = {**frame.provenance, "commit": None, "kept": []}
    assert _computed(replace(frame, provenance=about))[-1] == "unknown"
    kept = [{"row": ["a"], "commit": None}, {"row": ["b"], "commit": "0123456789"}]
    about = {**about, "commit": "abcdef0123", "kept": kept}
    assert _computed(replace(frame, provenance=about))[-1] == "abcdef0, unknown, 0123456"


def test_a_training_in_part_is_named_though_no_value_of_its_cell_says_so() -> None:
    frame = records.read(tables.get("lipschitz-soundness").spec, "paper-cpu")
    assert frame.provenance["shortened"] == []
    assert _computed(frame)[4] == "60 of 500, 150 of 800 epochs"
    whole = {
        "recipe": {"epochs": 30, "epochs_paper": 30},
        "plain": {"epochs": 5, "epochs_paper": 0},
    }
    about = {**frame.provenance, "cells": [{"config": whole}]}
    assert _computed(replace(frame, provenance=about))[4] == "–"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("table,tuned_on\n", "needs the columns table, tuned_on, dropped"),
        (HEAD + "a-b,x,–,,,\n", "line 2: only `stated` and `when` may be empty"),
        (HEAD + "a-b,x,–,y\n", "line 2: a line has 6 fields"),
        (HEAD + "a-b,x,–,y,abc,\n", "was so before the run or after the run"),
        (HEAD + "a-b,x,–,y,,\na-b,x,–,y,,\n", "line 3: a-b has a line already"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setattr(published, "path", lambda: tmp_path / "published.csv")
    assert statement.statements() == {}
    (tmp_path / statement.NAME).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=says):
        statement.statements()
