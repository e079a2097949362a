"""All claims at once: what a sceptical reader opens first.

Examples
--------
>>> claims = evidence(chapter="robustness/gloro")
>>> int(counts(claims).to_numpy().sum()) == len(claims) > len(numbers(claims))
True
>>> own = ours(claims)
>>> sum(by_verdict(claims[own]).values()) + sum(by_verdict(claims[~own]).values()) == len(claims)
True
>>> {"before", "now", "why"} <= set(before())
True
>>> {"table", "key", "run"} <= set(cite_index())
True
"""

import csv
from collections.abc import Mapping
from typing import Any

import pandas as pd

from thesis_repro.lab import places
from thesis_repro.tables import compared, published, records, render
from thesis_repro.tables.claims import FACTOR, MEASURED
from thesis_repro.tables.find import get, names
from thesis_repro.tables.spec import NOT_JUDGED, NOT_RUN, Frame, TableSpec
from thesis_repro.tables.verdict import KINDS, VERDICTS, Judged, judge_all

PARTS = {
    "explanations": "Part I. Assessing conceptual soundness",
    "robustness": "Part II. Robustness",
    "weaknesses": "Part III. Other weaknesses",
    "arc": "Beyond the thesis",
}
BEFORE = "verdicts-before.csv"
OURS = "this book"
"""How a claim was read that no source makes."""


def evidence(live: Mapping[str, Frame] | None = None, chapter: str = "") -> pd.DataFrame:
    """One row per claim: what is published, ours, and the verdict; those not measured last.

    With `chapter`, such as "robustness/gloro", those of its tables alone.

    Columns: chapter, table ("" where nothing measures it), row, column, measure, unit, kind, says,
    published and ours as text, source, how_read, note, run, verdict; and as numbers value,
    tolerance, recorded, low, high, share (of the published training), live (the value of a live
    frame where it has that row).
    """
    rows = [
        _row(spec, frame, judged, live or {})
        for spec in (get(name).spec for name in names() if _of(name, chapter))
        for frame in (records.paper(spec),)
        for judged in judge_all(frame, spec.claims)
    ]
    lines = published.not_measured()
    rows += [_not_measured(line) for line in lines if chapter in ("", line.table)]
    return pd.DataFrame(rows)


def _of(name: str, chapter: str) -> bool:
    """Whether a table is a chapter's: they share their stem."""
    return not chapter or name.startswith(f"{chapter.rpartition('/')[2]}-")


def _row(
    spec: TableSpec, frame: Frame | None, judged: Judged, live: Mapping[str, Frame]
) -> dict[str, Any]:
    claim, now = judged.claim, live.get(spec.name)
    column = spec.column(claim.column) if claim.row else None
    if column is None:
        said, ours = f"{judged.needed} needed" if judged.needed else "a test", judged.measured
    else:
        said = compared.claimed(claim, column, with_reading=False)
        ours = render.number(judged.estimate, column, judged.low, judged.high)
    if judged.verdict == NOT_JUDGED:
        ours = judged.measured or "not in the recorded run"
    in_live = column is not None and now is not None and column in now.spec.columns
    return {
        "chapter": spec.chapter,
        "table": spec.name,
        "row": " / ".join(claim.row),
        "column": claim.column,
        "measure": claim.column if column is None else compared.measure_of(claim, column),
        "unit": "" if column is None else column.unit,
        "kind": claim.kind,
        "says": claim.says or claim.column,
        "published": said,
        "ours": NOT_RUN if judged.verdict == NOT_RUN else ours,
        "source": claim.source,
        "how_read": claim.how_read,
        "note": claim.note,
        "run": "" if frame is None else frame.run,
        "verdict": judged.verdict,
        "value": claim.value,
        "tolerance": claim.tolerance,
        "recorded": judged.estimate,
        "low": judged.low,
        "high": judged.high,
        "share": judged.share,
        "live": now.value(claim.row, claim.column) if in_live and now is not None else None,
    }


def _not_measured(line: published.Line) -> dict[str, Any]:
    empty = dict.fromkeys(("table", "row", "column", "measure", "unit", "run"), "")
    nothing = dict.fromkeys(("value", "tolerance", "recorded", "low", "high", "live"))
    return {
        "chapter": line.table,
        "kind": line.kind,
        "says": line.says,
        "published": "no number" if line.value is None else f"{line.value:g} {line.column}",
        "ours": NOT_RUN,
        "source": line.source,
        "how_read": line.how_read,
        "note": line.note,
        "verdict": NOT_RUN,
        "share": 1.0,
        **empty,
        **nothing,
    }


def counts(claims: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each kind came to each verdict; words and kinds that occur, in order."""
    table = pd.crosstab(claims["kind"], claims["verdict"])
    kinds = [kind for kind in KINDS if kind in table.index]
    words = [verdict for verdict in VERDICTS if verdict in table.columns]
    return table.loc[kinds, words]


def ours(claims: pd.DataFrame) -> pd.Series:
    """Whether a claim is this book's own: nothing of the thesis is shown by it."""
    return claims["how_read"] == OURS


def by_verdict(claims: pd.DataFrame) -> dict[str, int]:
    """How many claims came to each verdict, in the order of the words."""
    found = claims["verdict"].value_counts()
    return {verdict: int(found[verdict]) for verdict in VERDICTS if verdict in found}


def numbers(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims of a value or a factor that is published: what a picture can show."""
    return claims[claims["kind"].isin([MEASURED, FACTOR]) & claims["value"].notna()]


def before() -> pd.DataFrame:
    """Every claim under the rules before and now: table, row, column, published, before, now, why.

    Claims that were added since have no word before. `why` says why a word is another one now, and
    what became of a claim that is no longer made.
    """
    path = places.recorded(BEFORE)
    old = list(csv.DictReader(path.open(encoding="utf-8"))) if path.is_file() else []
    now = evidence().to_dict("records")
    words: dict[tuple[str, str, str], list[str]] = {}
    for line in now:
        if line["row"]:
            place = line["table"], line["row"], line["column"]
            words.setdefault(place, []).append(line["verdict"])
    rows = []
    for line in old:
        place = line["table"], line["row"], line["column"]
        found = words.get(place, [])
        rows.append({**line, "now": found.pop(0) if found else "no longer judged"})
    known = {(line["table"], line["row"], line["column"]) for line in old}
    taken = dict.fromkeys(known, 0)
    for line in now:
        place = line["table"], line["row"], line["column"]
        if place in known and not taken[place]:
            taken[place] = 1
            continue
        row = {"table": line["table"], "row": line["row"] or line["says"], "column": line["column"]}
        word = {"published": line["published"], "before": "", "now": line["verdict"], "why": ""}
        rows.append({**row, **word})
    return pd.DataFrame(rows).fillna("")


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
