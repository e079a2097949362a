"""A live frame against the committed run of the same profile: what left its tolerance.

Examples
--------
>>> from thesis_repro.tables.find import get
>>> frame = records.read(get("lipschitz-soundness").spec, "quick")
>>> assert_reproduces(frame).endswith("within tolerance of the committed quick run")
True
"""

from collections.abc import Sequence

from thesis_repro.tables import records
from thesis_repro.tables.spec import Frame, Row


def assert_reproduces(frame: Frame) -> str:
    """As :func:`tables.assert_reproduces`, which says what is compared and what is raised."""
    if frame.run != "quick":
        return _paper_reproduces(frame)
    committed = records.read(frame.spec, frame.run)
    ours, theirs = frame.provenance["seeds"], committed.provenance["seeds"]
    if ours != theirs:
        return f"{frame.spec.name}: not compared, seeds {ours} differ from the committed {theirs}"
    keys = [c.name for c in frame.spec.keys]
    rows = {tuple(map(str, r)) for r in frame.data[keys].itertuples(index=False)}
    others = {tuple(map(str, r)) for r in committed.data[keys].itertuples(index=False)}
    lines = [f"{' / '.join(row)}: only in one of the two runs" for row in sorted(rows ^ others)]
    compared, drifted = _drift(frame, committed, sorted(rows & others))
    if not compared:
        lines.append("no value to compare")
    return _within(frame, compared, lines + drifted)


def _paper_reproduces(frame: Frame) -> str:
    """Compare the rows that ran with as many seeds as those recorded, if there are any."""
    name, run = frame.spec.name, frame.run
    if run not in records.runs(frame.spec):
        return f"{name}: not compared, no {run} run is recorded"
    committed = records.read(frame.spec, run)
    keys = [c.name for c in frame.spec.keys]
    ours, theirs = (
        {tuple(map(str, row[keys])): row["seeds"] for _, row in data.iterrows() if row["seeds"]}
        for data in (frame.data, committed.data)
    )
    same = sorted(row for row, seeds in ours.items() if theirs.get(row) == seeds)
    if not same:
        return f"{name}: not compared, the store has no row with the seeds of the {run} run"
    return _within(frame, *_drift(frame, committed, same))


def _drift(frame: Frame, committed: Frame, rows: Sequence[Row]) -> tuple[int, list[str]]:
    """How many values of these rows were compared, and a line for each outside its tolerance."""
    lines, compared = [], 0
    for row in rows:
        for column in frame.spec.columns:
            added = column.later and column.name not in committed.data
            if column.drift is None or added:
                continue
            now, then = frame.value(row, column.name), committed.value(row, column.name)
            if now is None and then is None:
                continue
            compared += 1
            if now is None or then is None or not abs(now - then) <= column.drift:
                lines.append(
                    f"{' / '.join(row)}: {column.name} is {now}, committed {then}, allowed "
                    f"difference {column.drift}"
                )
    return compared, lines


def _within(frame: Frame, compared: int, lines: list[str]) -> str:
    if lines:
        raise AssertionError(f"{frame.spec.name} ({frame.run}) drifted: " + "; ".join(lines))
    return f"{frame.spec.name}: {compared} values within tolerance of the committed {frame.run} run"
