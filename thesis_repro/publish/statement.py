"""The generated part of the reproducibility statement: what each table took and rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thesis_repro.tables.spec import Frame


def reproducibility() -> str:
    """Return tables: what each table and figure took and rests on, and how tables came about."""
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
            _table(
                "tab-reproducibility-figures",
                "The recorded figures: what drew them, on what, and under which terms. "
                "`python -m thesis_repro.figures.recorded NAME` draws one again.",
                ["figure", "drawn by", "data and their terms", "recorded", "commit"],
                _drawn(),
            ),
        ]
    )


def _computed(frame: Frame | None) -> list[str]:
    from thesis_repro.tables import render, where

    if frame is None:
        return ["–", "–", "–", "–", "–", "no run of the paper's size", "–"]
    run = frame.provenance
    kept = run.get("kept", [])
    hours = f"{run['wall_seconds'] / 3600:.2g}" + (", and earlier runs" if kept else "")
    short = {(x["epochs_run"], x["epochs_paper"]) for x in run.get("shortened", [])}
    short |= _short(run.get("cells", []))
    shown = [f"{trained} of {published}" for trained, published in sorted(short)]
    return [
        hours,
        str(run["device"]),
        str(run.get("threads", "–")),
        ", ".join(map(str, render.seeds_used(frame))),
        f"{', '.join(shown)} epochs" if shown else "–",
        f"{frame.run}, {run['date']}",
        ", ".join(where.origins(frame)),
    ]


def _short(config: Any) -> set[tuple[int, int]]:
    """Epochs that were run, and those of the paper, of the trainings that a record's cells name."""
    if isinstance(config, list):
        return {pair for part in config for pair in _short(part)}
    if not isinstance(config, dict):
        return set()
    found = {pair for part in config.values() for pair in _short(part)}
    run, published = config.get("epochs", 0), config.get("epochs_paper", 0)
    return found | ({(run, published)} if run < published else set())


def _drawn() -> list[list[str]]:
    """A row for each recorded figure, from its card."""
    from thesis_repro.figures.recorded import FIGURES
    from thesis_repro.lab import places, sealed
    from thesis_repro.tables.escape import markdown
    from thesis_repro.tables.where import UNKNOWN

    rows = []
    for name in FIGURES:
        path = places.results_root() / "figures" / f"{name}.json"
        if not path.is_file():
            continue
        card = sealed.read(path)
        module, _, function = str(card["script"]).partition(":")
        data = "; ".join(f"{one}: {terms}" for one, terms in card["terms"].items())
        rows.append(
            [
                f"`{name}`",
                f"{{source}}`{function} <{module}:{function}>`",
                markdown(data),
                str(card["date"]),
                str(card["commit"] or UNKNOWN)[:7],
            ]
        )
    return rows


def _table(name: str, caption: str, headings: list[str], rows: list[list[str]]) -> str:
    from thesis_repro.tables.render import myst

    return myst((headings, rows), name, caption, markup=True)
