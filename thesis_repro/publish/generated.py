"""The pieces of pages that are written anew at each staging, from what ran and what is recorded.

They land in ``book/reference/_generated/`` of the staged tree, where the pages include them; the
recorded tables land in ``book/_tables/`` for download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thesis_repro.publish import claims, export, front, statement
from thesis_repro.publish.claims import FOLDER
from thesis_repro.publish.execute import Executed
from thesis_repro.publish.sources import chapters, title

DOWNLOADS = {"csv": "csv", "json": "json", "latex": "tex", "bibtex": "bib"}
NONE_YET = "No table is recorded yet.\n"
SHARED = "shared"
"""The part of experiments that belong to no chapter of the thesis."""


def pieces(root: Path, executed: Sequence[Executed]) -> dict[str, str]:
    """Return the generated files, by name in the staged tree."""
    alts = {chapter: alt for chapter, (_, alt) in front.pictures(executed).items()}
    titles = {
        ran.docname.removeprefix("book/"): title((root / f"{ran.docname}.md").read_text("utf-8"))
        for ran in executed
    }
    return {
        f"{FOLDER}/front.md": front.front(titles, alts),
        f"{FOLDER}/take.md": export.links(),
        f"{FOLDER}/status.md": status(root, executed) + "\n" + not_run(),
        **claims.evidence(root),
        f"{FOLDER}/judging.md": claims.judging(),
        f"{FOLDER}/reproducibility.md": statement.reproducibility(),
        f"{FOLDER}/models.md": committed(),
        f"{FOLDER}/cite.md": cite(root),
        f"{FOLDER}/errata.md": errata(),
        **{f"{FOLDER}/experiments-{part}.md": text for part, text in experiments().items()},
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


def not_run() -> str:
    """Return what the tables plan and no recorded run of the paper's size has: rows, and claims."""
    from thesis_repro import tables
    from thesis_repro.tables import overview, records
    from thesis_repro.tables.escape import markdown
    from thesis_repro.tables.spec import NOT_RUN

    rows = []
    for name in tables.names():
        spec = tables.get(name).spec
        frame = records.paper(spec)
        data = None if frame is None else frame.data[frame.data["status"] == NOT_RUN]
        keys = [column.name for column in spec.keys]
        absent = [] if data is None else data[keys].to_numpy(str).tolist()
        rows += [[f"`{name}`", markdown(" / ".join(row))] for row in absent]
        rows += [[f"`{name}`", "every row"]] * (frame is None)
    claimed = [
        [f"`{row['table'] or row['chapter']}`", markdown(row["says"]), markdown(row["note"]) or "–"]
        for row in overview.evidence().to_dict("records")
        if row["verdict"] == NOT_RUN
    ]
    parts = [
        _table(
            "tab-status-rows",
            "Rows that are planned and were not run at the paper's size.",
            ["table", "row"],
            rows,
        ),
        _table(
            "tab-status-claims",
            "Claims that no run has judged yet.",
            ["table, or chapter", "claim", "note"],
            claimed,
        ),
    ]
    return "\n".join(part for part, lines in zip(parts, (rows, claimed), strict=True) if lines)


def committed() -> str:
    """Return the table of committed models with what the attacks on them found."""
    from thesis_repro.robustness import models
    from thesis_repro.tables.escape import markdown
    from thesis_repro.tables.where import UNKNOWN

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
                f"{about['date']}, {str(about['commit'] or UNKNOWN)[:7]}",
            ]
        )
    headings = [
        "model",
        "data",
        "epochs",
        "clean (%)",
        "VRA (%)",
        "VRA in float64 (%)",
        "certified points that fell",
        "PGD steps × restarts",
    ]
    headings += ["moves inside a radius near a boundary that changed the label", "SHA-256"]
    headings += ["recorded, commit"]
    caption = (
        "The committed models. Before a model is committed every certified test point is attacked "
        "by PGD with restarts, aimed also at the nearest classes, and rounding is searched for "
        "counter-examples. Scores and attacks are of the net in its own format, float32; evaluated "
        "in float64 the same weights are another function, whose VRA newer cards state. They are "
        "of the day and commit named: where `gloro-vra` certifies more points of the same weights, "
        "the certificate has become tighter since, and those points were not attacked here."
    )
    return _table("tab-committed-models", caption, headings, rows) if rows else ""


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


def errata() -> str:
    """Return the keys of tables that were recorded again, with what replaced them and why."""
    from thesis_repro.tables import superseded
    from thesis_repro.tables.escape import markdown

    headings = ["key", "run", "replaced by", "commit", "why it was recorded again"]
    rows = [
        [
            f"`{line.key}`",
            line.run,
            f"`{line.replaced_by}`" if line.replaced_by else "–",
            f"`{line.commit}`",
            markdown(line.why),
        ]
        for line in superseded.listed()
    ]
    caption = "Keys that were recorded once and are no more."
    return _table("tab-errata", caption, headings, rows) if rows else NONE_YET


def experiments() -> dict[str, str]:
    """Return the modules of all tables and of what they share, one text for each part."""
    import pkgutil

    from thesis_repro import experiments as package
    from thesis_repro.tables import headlines

    part_of = {
        chapter.rpartition("/")[2]: chapter.partition("/")[0] for chapter in headlines.lines()
    }
    texts = dict.fromkeys((*sorted(set(part_of.values())), SHARED), "")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        chapter, *rest = module.name.removeprefix(f"{package.__name__}.").split(".")
        text = "" if rest else f"## {chapter}{'' if module.ispkg else '.py'}\n"
        text += "".join(f"### {chapter}/{name}.py\n" for name in rest)
        # tables are found by name, not imported from here: no entries in the index
        text += f"```{{eval-rst}}\n.. automodule:: {module.name}\n   :members:\n```\n"
        texts[part_of.get(chapter, SHARED)] += text
    return texts


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

    return myst((headings, rows), name, caption, markup=True)
