"""Tables: measured live, recorded, compared with the thesis, cited.

A table is found from its name (:mod:`thesis_repro.tables.find`); asking for the names imports no
chapter.

Examples
--------
>>> from thesis_repro import tables
>>> frame = tables.recorded("lipschitz-soundness", "quick")
>>> tables.text(frame, "csv")[:14], tables.check("lipschitz-soundness")[-1][-14:]
('dataset,method', 'hash confirmed')
>>> tables.show(frame, only="converged").data.count(":name:") > 0
True
>>> beside = tables.compare("lipschitz-soundness", frame)  # a page shows it as the last of a cell
>>> opened = tables.card("robustness/lipschitz")
>>> short = tables.small(frame.data[["method", "vra"]], "nets", "VRA in percent.")
>>> tables.assert_reproduces(frame)[:19]
'lipschitz-soundness'
>>> tables.prepare("lipschitz-soundness")  # takes the time of its cells, so they are left to live
>>> tables.live("lipschitz-soundness", "paper").run  # what the store has; nothing is computed
'paper-cpu'
>>> {"published", "ours", "verdict"} <= set(tables.evidence())
True
>>> {"table", "key", "run"} <= set(tables.cite_index())
True
"""

from typing import TYPE_CHECKING, Any

from thesis_repro.tables.find import get, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from thesis_repro.lab.cells import Cell
    from thesis_repro.lab.profiles import Profile
    from thesis_repro.tables.spec import Frame

__all__ = [
    "assert_reproduces",
    "card",
    "check",
    "cite_index",
    "compare",
    "evidence",
    "get",
    "live",
    "names",
    "prepare",
    "record",
    "recorded",
    "show",
    "small",
    "text",
]


def _profile(profile: str, seed: int, device: str) -> "Profile":
    from thesis_repro.lab import profiles

    return profiles.profile(profile, device, seed if profile == "quick" else None)


def live(name: str, profile: str = "quick", seed: int = 0, device: str = "cpu") -> "Frame":
    """Measure a table now; what the store has is not computed again.

    A quick run uses the one seed given, and the cores that are free (:func:`lab.workers.jobs`).
    A paper run takes days, so none begins on a page: it is what the store has, of its own seeds;
    rows that `thesis-repro run` did not compute there read "not run".
    """
    from thesis_repro.lab import workers
    from thesis_repro.tables.measure import measure

    size = _profile(profile, seed, device)
    if profile != "quick":
        return measure(get(name), size, stored=True)
    return measure(get(name), size, jobs=workers.jobs())


def prepare(
    *names: str,
    profile: str = "quick",
    seed: int = 0,
    device: str = "cpu",
    also: "Sequence[Cell]" = (),
) -> None:
    """Compute the cells of several tables, and others, together on the cores that are free.

    What they give is in the store for the calls of `live` that follow. Cells of a table that takes
    their time are left to it, and so is everything where one cell at a time is computed anyway.
    """
    from thesis_repro.lab import engine, workers

    size = _profile(profile, seed, device)
    jobs = workers.jobs() if profile == "quick" else 1
    found = [get(name) for name in names]
    plans = [table.cells(size) for table in found if not table.timed]
    cells = [cell for plan in plans for _, cell in plan if cell is not None]
    if jobs > 1:
        engine.run([*also, *cells], jobs=jobs)


def recorded(name: str, run: str | None = None) -> "Frame":
    """Read a recorded run, the fullest by default; its hash is checked.

    Raises
    ------
    NotRecorded, Altered
    """
    from thesis_repro.tables import records

    return records.read(get(name).spec, run)


def record(name: str, profile: "Profile", **options: Any) -> "Frame":
    """Measure a table and record it under results/; options as in `measure`.

    Rows of a paper run that an earlier one recorded, and this one did not compute, are kept with
    their origin; not where the rows are times, nor with `fresh`.

    Raises
    ------
    ValueError
        For a quick run on another device than the CPU: its name has no room for it. For some rows
        `only` of a table whose other rows would then be lost.
    CellError
    Unfinished
        If the run was stopped (:mod:`lab.timebox`); the rows that are finished are recorded first,
        where that loses none of an earlier run.
    """
    from thesis_repro.lab import timebox
    from thesis_repro.tables import earlier_rows as kept
    from thesis_repro.tables import records
    from thesis_repro.tables.measure import measure

    if profile.name == "quick" and profile.device != "cpu":
        raise ValueError("a quick run is recorded on the CPU, so that runs do not replace others")
    keeps = kept.can_keep(get(name), profile.run) and not options.get("fresh")
    if options.get("only") is not None and not keeps:
        size = "fresh" if options.get("fresh") else profile.name
        table = get(name)
        kind = f"a {size} run"
        if table.timed or table.whole:
            kind = "a table of times" if table.timed else "a table of one family of tests"
        raise ValueError(
            f"{name}: {kind} is recorded whole, its other rows would be lost: leave out what rows "
            f"need to hold"
        )
    try:
        frame = measure(get(name), profile, **options)
    except timebox.Unfinished:
        frame = measure(get(name), profile, **{**options, "fresh": False, "finished": True})
        with records.replacing(frame.spec, frame.run):
            if kept.ran(frame) and (keeps or kept.loses_nothing(frame)):
                records.write(kept.with_earlier(get(name), frame) if keeps else frame)
        raise
    with records.replacing(frame.spec, frame.run):
        if keeps:
            frame = kept.with_earlier(get(name), frame)
        records.write(frame)
    return frame


def check(name: str | None = None) -> list[str]:
    """Recompute the hashes of a table's records, or of everything under results/.

    Raises
    ------
    Altered
        Naming the file that was changed, or that belongs to no record.
    NotRecorded
        If the table was never recorded.
    """
    from thesis_repro.tables import records

    if name is not None:
        return records.check(get(name).spec)
    return records.check_all([get(name).spec for name in names()])


def text(frame: "Frame", format: str) -> str:
    """The frame as md, csv, latex, json or bibtex.

    Raises
    ------
    ValueError
        On another format; the message lists them.
    """
    from thesis_repro.tables.formats import FORMATS

    if format not in FORMATS:
        raise ValueError(f"no format is called {format!r}; there are {', '.join(FORMATS)}")
    return FORMATS[format](frame)


def show(frame: "Frame", quoted: bool | None = None, only: "Sequence[str] | str" = ()) -> Any:
    """The frame as a numbered table of the book; the run and how to cite it are folded below.

    A table of more than eight rows is folded, unless `only` names rows to show: those whose keys,
    written "key / key", hold one of these texts. Rows that were not run are on the status page.
    Quoted rows stand beside paper runs, unless `quoted` says otherwise.

    Raises
    ------
    ValueError
        If no row holds a text.
    """
    from thesis_repro.tables import page

    rows = (only,) if isinstance(only, str) else tuple(only)
    return page.show(frame, frame.run != "quick" if quoted is None else quoted, rows)


def card(chapter: str) -> Any:
    """The claim that a chapter opens with: published, ours at full scale, verdict.

    Raises
    ------
    ValueError
        If results/headlines.csv has no such chapter, or its line does not name one claim.
    """
    from thesis_repro.tables import headlines

    return headlines.card(chapter)


def small(data: "pd.DataFrame", name: str, caption: str, keys: int = 1) -> Any:
    """A data frame that is no recorded table, as a numbered table of the book.

    The first `keys` columns name the rows. `name` is the label's end: `tab-<name>`.
    """
    from thesis_repro.tables import page

    rows = [[str(value) for value in row] for row in data.itertuples(index=False)]
    return page.small(([str(column) for column in data.columns], rows), name, caption, keys)


def compare(name: str, live: "Frame | None" = None) -> Any:
    """What is published against the fullest recorded paper run, with verdicts; this run's drift.

    Claims with a row come first, then those in words. How far the live run is from the committed
    one is one line, with all values in its fold.
    """
    from thesis_repro.tables import page, records

    spec = get(name).spec
    return page.compare(spec, records.paper(spec), live)


def assert_reproduces(frame: "Frame") -> str:
    """Compare a live frame with the committed run of the same profile, column by column.

    Other seeds than the committed ones give other numbers: nothing is compared then, and the
    answer says so. Of a paper run those rows are compared that the store has whole, as recorded.

    Raises
    ------
    AssertionError
        Naming each value that left its tolerance, or a row that appeared or went; or if there
        is nothing to compare.
    NotRecorded
        If that run was never committed.
    """
    from thesis_repro.tables import drift

    return drift.assert_reproduces(frame)


def evidence(live: "Mapping[str, Frame] | None" = None) -> "pd.DataFrame":
    """Every published value beside ours, with its verdict: one row each."""
    from thesis_repro.tables import overview

    return overview.evidence(live)


def cite_index() -> "pd.DataFrame":
    """Every recorded run with its citation key: one row each."""
    from thesis_repro.tables import overview

    return overview.cite_index()
