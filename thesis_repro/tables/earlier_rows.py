"""Rows that an earlier run recorded and this run did not compute: they stay, with their origin.

The rows of a paper run may take days together, and may be computed on several machines, each with
the data set that it has.

Examples
--------
>>> from thesis_repro.tables.find import get
>>> table = get("gloro-vra")
>>> can_keep(table, "quick"), can_keep(table, "paper-cpu")
(False, True)
>>> frame = records.read(table.spec, "quick")
>>> with_earlier(table, frame) is frame, with_kept(frame, frame) is frame, loses_nothing(frame)
(True, True, False)
>>> len(ran(frame)) <= len(frame.data)
True
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from thesis_repro.lab.provenance import FIELDS
from thesis_repro.tables import records, statistics
from thesis_repro.tables.spec import NOT_RUN, Frame, Row, Table, TableSpec

ORIGIN = (*FIELDS, "data", "seeds")
"""What the record of a run says of kept rows, as of the run that computed them."""


def can_keep(table: Table, run: str) -> bool:
    """Whether rows of an earlier run may stand beside those of a new one."""
    return run != "quick" and not table.timed and not table.whole


def with_earlier(table: Table, frame: Frame) -> Frame:
    """The frame, with what the record that it is to replace has beyond it.

    Times are compared inside one run alone, and a quick run is computed whole: both stay as they
    are. So does a frame whose table had other columns when it was recorded.

    Raises
    ------
    Altered
        If the record is not what was recorded.
    """
    if not can_keep(table, frame.run):
        return frame
    try:
        return with_kept(frame, records.read(table.spec, frame.run))
    except records.NotRecorded:
        return frame


def with_kept(frame: Frame, before: Frame) -> Frame:
    """The frame, with the rows of the earlier record that it did not compute.

    Parameters
    ----------
    frame, before : the same table and run, the first just computed, the second recorded

    Returns
    -------
    Frame
        Its provenance lists under `kept` which rows those are, and the origin of each. What the
        p-values of a `Family` are adjusted to is computed again, over kept rows and new ones.
    """
    computed, recorded = ran(frame), ran(before)
    kept = [row for row in recorded if row not in set(computed)]
    if not kept:
        return frame
    order = dict.fromkeys((*frame.spec.rows, *recorded, *_rows(frame)))
    lines = {**_lines(frame), **{row: _lines(before)[row] for row in kept}}
    data = pd.DataFrame([lines[row] for row in order if row in lines], columns=frame.data.columns)
    data = adjusted(frame.spec, data)
    return dataclasses.replace(frame, data=data, provenance=_about(frame, before, kept))


def adjusted(spec: TableSpec, data: pd.DataFrame) -> pd.DataFrame:
    """The data of a table, with the p-values of its family adjusted over all rows that ran.

    A test that has not run counts in its family all the same, as one that found nothing.

    Examples
    --------
    >>> from thesis_repro.tables.find import get
    >>> spec = get("leakage-paired").spec
    >>> data = pd.DataFrame({"p": [0.01, 0.04, None], "holm": None}, dtype=float)
    >>> adjusted(spec, data)["holm"].tolist()
    [0.03, 0.08, nan]
    """
    if spec.family is None:
        return data
    p, column, within = spec.family.p, spec.family.adjusted, spec.family.within
    data = data.copy()
    families = [data.index] if not within else data.groupby(within).groups.values()
    for family in families:
        found = data.loc[family, p].dropna().astype(float)
        waiting = [1.0] * (len(family) - len(found))
        both = statistics.holm([*found, *waiting])
        data.loc[found.index, column] = both[: len(found)]
    return data


def loses_nothing(frame: Frame) -> bool:
    """Whether the record that a frame replaces, if there is one, has no row beyond it.

    Never of a quick run: what is committed of it is whole.
    """
    if frame.run == "quick":
        return False
    try:
        before = records.read(frame.spec, frame.run)
    except records.NotRecorded:
        return True
    return set(ran(before)) <= set(ran(frame))


def _about(frame: Frame, before: Frame, kept: Sequence[Row]) -> dict[str, Any]:
    now, then = frame.provenance, before.provenance
    about = dict(now)
    for name in ("cells", "shortened"):
        about[name] = [*now[name], *(line for line in then[name] if _of(line["row"], kept))]
    about["seeds"] = sorted({*now["seeds"], *then["seeds"]})
    origins = [*then.get("kept", []), {"rows": ran(before), **{n: then[n] for n in ORIGIN}}]
    left = set(kept)
    about["kept"] = []
    for origin in origins:  # a row that was kept before has the origin that it had then
        rows = [row for row in map(tuple, origin["rows"]) if row in left]
        left -= set(rows)
        if rows:
            about["kept"].append({**origin, "rows": [list(row) for row in rows]})
    return about


def _of(short: Sequence[str], rows: Iterable[Row]) -> bool:
    """Whether a cell belongs to one of the rows, which may have more keys than the cell."""
    return any(row[: len(short)] == tuple(short) for row in rows)


def _rows(frame: Frame) -> list[Row]:
    keys = [key.name for key in frame.spec.keys]
    return [tuple(map(str, row)) for row in frame.data[keys].itertuples(index=False)]


def ran(frame: Frame) -> list[Row]:
    """The rows of a frame that were computed."""
    status = zip(_rows(frame), frame.data["status"], strict=True)
    return [row for row, said in status if said != NOT_RUN]


def _lines(frame: Frame) -> dict[Row, Mapping[str, Any]]:
    lines: list[Mapping[str, Any]] = frame.data.to_dict("records")
    return dict(zip(_rows(frame), lines, strict=True))
