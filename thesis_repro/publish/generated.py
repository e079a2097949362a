"""The pieces of pages that are written anew at each staging, from what ran and what is recorded.

They land in ``book/reference/_generated/`` of the staged tree, where the status, evidence and cite
pages include them, and in ``book/_tables/`` for download.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from thesis_repro.publish.execute import Executed
from thesis_repro.publish.sources import title

FOLDER = "book/reference/_generated"
FORMATS = {"csv": "csv", "json": "json", "latex": "tex", "bibtex": "bib"}


def pieces(root: Path, executed: Iterable[Executed]) -> dict[str, str]:
    """Return the generated files, by name in the staged tree."""
    return {f"{FOLDER}/status.md": status(root, executed)}


def status(root: Path, executed: Iterable[Executed]) -> str:
    """Return the table of chapters: with what, how long and when each was executed.

    A book with a chapter that failed is not rendered, so every chapter listed ran to its end.
    """
    rows = [
        "| Chapter | Profile | Device | Seed | Seconds | Executed | Result |",
        "| --- | --- | --- | --- | ---: | --- | --- |",
    ]
    for chapter in executed:
        name = title((root / f"{chapter.docname}.md").read_text("utf-8"))
        link = f"{{doc}}`{name} </{chapter.docname}>`"
        run = chapter.run
        cells = f"{link} | {run.profile} | {run.device} | {run.seed} | {chapter.seconds:.1f}"
        rows.append(f"| {cells} | {chapter.date} | every cell ran |")
    head = ["::::{table} The chapters of this build.", ":name: tab-status", ""]
    return "\n".join([*head, *rows, "", "::::", ""])
