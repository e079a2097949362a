"""The generated part of the reproducibility statement: what each table took and rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thesis_repro.tables.spec import Frame

UNKNOWN = "unknown"
"""The commit of a run that was made outside a checkout, or without git."""


def reproducibility() -> str:
    """Return two tables: what was computed for each table, and how it was arrived at."""
    from thesis_repro import tables
    from thesis_repro.tables import records
    from thesis_repro.tables.escape import markdown
    from thesis_repro.tables.statement import statements

    computed, about = [], []
    said = statements()
    for name in tables.names():
        frame = records.paper(tables.get(name).spec)
        computed.append([f"`{name}`", *map(markdown, _computed(frame))])
        line = said.get(name)
        if line is not None:
            wrote = f"`{line.stated}`, {line.when}" if line.stated else "–"
            texts = (line.tuned_on, line.dropped, line.deviations)
            about.append([f"`{name}`", *map(markdown, texts), wrote])
    return "\n".join(
        [
            _table(
                "tab-reproducibility-compute",
                "What was computed for each table at the paper's scale. Hours are those of the "
                "run that is recorded; rows that it kept from earlier runs took more.",
                [
                    "table",
                    "hours",
                    "device",
                    "threads",
                    "seeds",
                    "trained in part",
                    "run",
                    "commit",
                ],
                computed,
            ),
            _table(
                "tab-reproducibility-choices",
                "How each table was arrived at.",
                ["table", "tuned on", "tried and dropped", "departs from the paper", "written at"],
                about,
            ),
        ]
    )


def _computed(frame: Frame | None) -> list[str]:
    from thesis_repro.tables import render

    if frame is None:
        return ["–", "–", "–", "–", "–", "no run of the paper's size", "–"]
    run = frame.provenance
    kept = run.get("kept", [])
    hours = f"{run['wall_seconds'] / 3600:.2g}" + (", and earlier runs" if kept else "")
    short = sorted({f"{x['epochs_run']} of {x['epochs_paper']}" for x in run.get("shortened", [])})
    commits = dict.fromkeys((origin["commit"] or UNKNOWN)[:7] for origin in (run, *kept))
    return [
        hours,
        str(run["device"]),
        str(run.get("threads", "–")),
        ", ".join(map(str, render.seeds_used(frame))),
        f"{', '.join(short)} epochs" if short else "–",
        f"{frame.run}, {run['date']}",
        ", ".join(commits),
    ]


def _table(name: str, caption: str, headings: list[str], rows: list[list[str]]) -> str:
    from thesis_repro.tables.render import myst

    return myst((headings, rows), name, caption, markup=True)
