"""All claims at once: what a sceptical reader opens first."""

from collections.abc import Mapping

import pandas as pd

from thesis_repro.tables import records, render
from thesis_repro.tables.find import get, names
from thesis_repro.tables.spec import Frame
from thesis_repro.tables.verdict import judge_all


def evidence(live: Mapping[str, Frame] | None = None) -> pd.DataFrame:
    """One row per published value: thesis, recorded with interval, verdict, and where it stands.

    Columns: table, row, measure, unit, format, side, thesis, source, recorded, low, high, run,
    difference, tolerance, verdict, live (the quick run's value where it has that row), chapter.
    """
    rows = []
    for name in names():
        spec = get(name).spec
        paper = records.paper(spec)
        for judged in judge_all(paper, spec.claims):
            claim, frame = judged.claim, (live or {}).get(name)
            column = spec.column(claim.column)
            rows.append(
                {
                    "table": name,
                    "row": " / ".join(claim.row),
                    "measure": column.heading,
                    "unit": column.unit,
                    "format": column.format,
                    "side": claim.side,
                    "thesis": claim.value,
                    "source": claim.source,
                    "recorded": judged.estimate,
                    "low": judged.low,
                    "high": judged.high,
                    "run": paper.run if paper is not None else "",
                    "difference": judged.difference,
                    "tolerance": claim.tolerance,
                    "verdict": judged.verdict,
                    "live": None if frame is None else frame.value(claim.row, claim.column),
                    "chapter": spec.chapter,
                }
            )
    return pd.DataFrame(rows)


def cite_index() -> pd.DataFrame:
    """One row per recorded run: table, key, profile, device, seeds, date, verdicts, caption."""
    rows = []
    for name in names():
        spec = get(name).spec
        for run in records.runs(spec):
            frame = records.read(spec, run)
            counts: dict[str, int] = {}
            for judged in judge_all(frame, spec.claims) if run != "quick" else []:
                counts[judged.verdict] = counts.get(judged.verdict, 0) + 1
            rows.append(
                {
                    "table": name,
                    "key": records.key(frame),
                    "run": run,
                    "device": frame.provenance["device"],
                    "seeds": len(render.seeds_used(frame)),
                    "date": frame.provenance["date"],
                    "verdict": ", ".join(f"{n} {v}" for v, n in counts.items()) or "not judged",
                    "caption": spec.caption,
                    "chapter": spec.chapter,
                }
            )
    return pd.DataFrame(rows)
