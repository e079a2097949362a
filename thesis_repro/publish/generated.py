"""The pieces of pages that are written anew at each staging, from what ran and what is recorded.

They land in ``book/reference/_generated/`` of the staged tree, where the status, evidence and cite
pages include them; the recorded tables land in ``book/_tables/`` for download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thesis_repro.publish.execute import Executed
from thesis_repro.publish.sources import Run, chapters, title

FOLDER = "book/reference/_generated"
DOWNLOADS = {"csv": "csv", "json": "json", "latex": "tex", "bibtex": "bib"}
NONE_YET = "No table is recorded yet.\n"


def pieces(root: Path, executed: Sequence[Executed]) -> dict[str, str]:
    """Return the generated files, by name in the staged tree."""
    return {
        f"{FOLDER}/status.md": status(root, executed),
        **evidence(root, executed[0].run if executed else Run()),
        f"{FOLDER}/cite.md": cite(root),
        f"{FOLDER}/experiments.md": experiments(),
        **downloads(),
    }


def status(root: Path, executed: Sequence[Executed]) -> str:
    """Return the table of chapters: with what, how long and when each was executed.

    A book with a chapter that failed is not rendered, so every chapter listed ran to its end.
    """
    rows = [
        [
            _link(root, chapter.docname),
            chapter.run.profile,
            chapter.run.device,
            str(chapter.run.seed),
            f"{chapter.seconds:.1f}",
            chapter.date,
            f"all {chapter.cells} code cells ran",
        ]
        for chapter in executed
    ]
    headings = ["chapter", "profile", "device", "seed", "seconds", "executed", "result"]
    return _table("tab-status", "The chapters of this build.", headings, rows)


def evidence(root: Path, run: Run) -> dict[str, str]:
    """Return the picture of all published values, and a table for each table of the thesis."""
    from thesis_repro import tables
    from thesis_repro.figures import evidence as picture

    live = {name: frame for name in tables.names() if (frame := _live(name, run)) is not None}
    claims = tables.evidence(live)
    if claims.empty:
        return {f"{FOLDER}/evidence.md": NONE_YET}
    known = chapters(root)
    parts = [
        f"```{{figure}} /{FOLDER}/evidence.svg\n:name: fig-evidence\n:alt: {picture.alt(claims)}\n",
        "Every published value (bar; its tolerance in grey) and ours with its interval.\n```\n",
    ]
    for name, rows in claims.groupby("table", sort=False):
        docname = f"book/{rows.iloc[0]['chapter']}"
        ran = ", ".join(sorted({r for r in rows["run"] if r})) or "no paper run yet"
        where = f" Chapter: {_link(root, docname)}." if docname in known else ""
        headings = ["row", "measure", "thesis", f"recorded ({ran})", "difference", "verdict"]
        headings += [f"this build ({run.profile})", "source"]
        lines = [_claim(row) for row in rows.to_dict("records")]
        caption = f"The claims behind `{name}`.{where}"
        parts.append(_table(f"tab-evidence-{name}", caption, headings, lines))
    parts.append(committed())
    return {
        f"{FOLDER}/evidence.md": "\n".join(parts),
        f"{FOLDER}/evidence.svg": picture.svg(claims),
    }


def committed() -> str:
    """Return the table of committed models with what the attacks on them found."""
    from thesis_repro.robustness import models
    from thesis_repro.tables.escape import markdown

    rows = []
    for name in models.names():
        about = models.card(name)
        scores, gate, near = about["scores"], about["gate"], about["boundary"]
        recipe = about["recipe"]
        rows.append(
            [
                f"`{name}`",
                markdown(about["data"]),
                f"{recipe['epochs']:,} of {recipe['epochs_paper']:,}",
                f"{100 * scores['clean']:.2f}",
                f"{100 * scores['vra']:.2f}",
                f"{100 * wide['vra']:.2f}" if (wide := about.get("scores_float64")) else "—",
                f"{gate['broken']:,} of {gate['attacked']:,}",
                f"{gate['steps']} × {gate['restarts']}",
                f"{near['broken']:,} of {near['tried']:,}",
                f"`{about['sha256'][:12]}`",
            ]
        )
    headings = [
        "model",
        "data",
        "clean (%)",
        "VRA (%)",
        "VRA in float64 (%)",
        "certified points that fell",
        "PGD steps × restarts",
    ]
    headings += ["moves inside a radius near a boundary that changed the label", "SHA-256"]
    caption = (
        "The committed models. Before a model is committed every certified test point is attacked "
        "by PGD with restarts, aimed also at the nearest classes, and rounding is searched for "
        "counter-examples. Scores and attacks are of the net in its own format, float32; evaluated "
        "in float64 the same weights are another function, whose VRA newer cards state."
    )
    return _table("tab-committed-models", caption, headings, rows) if rows else ""


def _live(name: str, run: Run) -> Any:
    """Return the table that this build measured, or None; computes nothing."""
    from thesis_repro import tables
    from thesis_repro.lab.profiles import profile
    from thesis_repro.lab.store import Store
    from thesis_repro.tables.measure import measure

    store, table = Store(), tables.get(name)
    chosen = profile(run.profile, run.device, run.seed if run.profile == "quick" else None)
    cells = [cell for _, cell in table.cells(chosen) if cell is not None]
    if any(store.get(cell.key) is None for cell in cells):
        return None
    return measure(table, chosen, progress=False)


def _claim(row: dict[str, Any]) -> list[str]:
    def text(name: str, missing: str = "–") -> str:
        value = row[name]
        return missing if value is None or value != value else row["format"].format(value)

    recorded = text("recorded", "not run")
    if text("low") != "–":
        recorded += f" [{text('low')}, {text('high')}]"
    sign = {"at least": "≥", "at most": "≤", "equal": "="}[row["side"]]
    difference = text("difference")
    if difference[0].isdigit() and difference.strip("0."):
        difference = f"+{difference}"
    return [
        row["row"],
        row["measure"],
        "not published"
        if text("thesis") == "–"
        else f"{sign} {text('thesis')}, tolerance {text('tolerance')}",
        recorded,
        difference.replace("-", "−"),
        row["verdict"],
        text("live"),
        row["source"],
    ]


def cite(root: Path) -> str:
    """Return the list of recorded tables with their citation keys."""
    from thesis_repro import tables
    from thesis_repro.tables.escape import markdown

    known, index = chapters(root), tables.cite_index()
    if index.empty:
        return NONE_YET
    headings = ["table", "key", "run", "device", "seeds", "date", "verdicts", "chapter"]
    rows = []
    for row in index.to_dict("records"):
        docname = f"book/{row['chapter']}"
        where = _link(root, docname) if docname in known else row["chapter"]
        cells = [f"`{row['table']}`", f"`{row['key']}`", row["run"], markdown(row["device"])]
        rows.append([*cells, str(row["seeds"]), markdown(row["date"]), row["verdict"], where])
    return _table("tab-cite-index", "The recorded tables.", headings, rows)


def experiments() -> str:
    """Return the modules of all tables and of what they share, chapter by chapter."""
    import pkgutil

    from thesis_repro import experiments as package

    parts = []
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.ispkg:
            parts.append(f"## {module.name.rpartition('.')[2]}\n")
        else:
            title = module.name.removeprefix(f"{package.__name__}.").replace(".", "/")
            parts.append(f"### {title}.py\n" if "/" in title else f"## {title}.py\n")
        # tables are found by name, not imported from here: no entries in the index
        parts.append(f"```{{eval-rst}}\n.. automodule:: {module.name}\n   :members:\n```\n")
    return "\n".join(parts)


def downloads() -> dict[str, str]:
    """Return every recorded run as CSV, JSON, LaTeX and BibTeX, by name in the staged tree.

    The CSV is the recorded one, byte for byte: its hash stands beside it.
    """
    from thesis_repro import tables
    from thesis_repro.tables import records

    def content(name: str, run: str, kind: str) -> str:
        frame = tables.recorded(name, run)
        return records.to_csv(frame).decode() if kind == "csv" else tables.text(frame, kind)

    return {
        f"book/_tables/{name}-{run}.{suffix}": content(name, run, kind)
        for name in tables.names()
        for run in records.runs(tables.get(name).spec)
        for kind, suffix in DOWNLOADS.items()
    }


def _link(root: Path, docname: str) -> str:
    name = title((root / f"{docname}.md").read_text("utf-8"))
    return f"{{doc}}`{name} </{docname}>`"


def _table(name: str, caption: str, headings: list[str], rows: list[list[str]]) -> str:
    from thesis_repro.tables.render import myst

    numeric_from = len(headings)  # texts and mixed cells: all to the left
    return myst((headings, rows), name, caption, numeric_from, markup=True)
