"""The evidence plan: which rows to compute at full scale, the most worth first.

The plan is a file: ``evidence.csv`` beside this module, or another one with the same columns. Its
seconds are of one H100; what the store knows of earlier runs corrects them. A row is trained for a
quarter of the published epochs at least, or it is not run.
"""

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_repro import tables
from thesis_repro.lab import estimates, timebox
from thesis_repro.lab.cells import Cell, CellError, describe
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.lab.store import Store
from thesis_repro.tables import records
from thesis_repro.tables.spec import NOT_RUN, Frame, Row

PLAN = Path(__file__).with_suffix(".csv")
COLUMNS = ("table", "only", "seeds", "seconds", "basis")
LEAST_SHARE = 0.25
"""Of the published epochs."""

RECORDED, SHORT, ABSENT, OPEN = "recorded", "too short", "no data", "open"


@dataclass(frozen=True)
class Item:
    """One line of a plan.

    only : text of the rows, written "key / key"; empty for the whole table
    seconds : what it takes on an H100, all seeds together; basis : where that is from
    """

    table: str
    only: str
    seeds: int
    seconds: float
    basis: str = ""

    def __str__(self) -> str:
        rows = f" {self.only}" if self.only else ""
        return f"{self.table}{rows}, {self.seeds} seed{'s' if self.seeds > 1 else ''}"


def read(path: Path | str | None = None) -> list[Item]:
    """The lines of a plan, the package's own by default.

    Raises
    ------
    ValueError
        Naming the line that is none, or the table that is not known.
    """
    path = Path(path or PLAN)
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        if tuple(lines.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path.name}: a plan has the columns {', '.join(COLUMNS)}")
        return [_item(path, number, line) for number, line in enumerate(lines, 2)]


def _item(path: Path, number: int, line: Mapping[str, str]) -> Item:
    try:
        seeds, seconds = int(line["seeds"]), float(line["seconds"])
        right = seeds >= 1 and 0 < seconds < float("inf")
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            f"{path.name}, line {number}: seeds is a whole number from 1, seconds a positive one"
        )
    tables.get(line["table"])
    return Item(line["table"], line["only"], seeds, seconds, line["basis"])


def size(item: Item, device: str) -> Profile:
    """The profile that an item is run on."""
    return profile("paper", device, tuple(range(item.seeds)))


def planned(item: Item, chosen: Profile) -> dict[Row, list[Cell]]:
    """The cells of an item by row; none of a row whose data, or whose package, is not here."""
    found: dict[Row, list[Cell]] = {}
    for row, cell in tables.get(item.table).cells(chosen):
        if item.only in " / ".join(row):
            found.setdefault(row, []).extend([] if cell is None else [cell])
    return found


def rows(item: Item, chosen: Profile) -> dict[Row, list[Cell]]:
    """The cells of an item by row, of the rows that can be computed here."""
    return {row: cells for row, cells in planned(item, chosen).items() if cells}


def standing(item: Item, chosen: Profile) -> str:
    """Whether an item is recorded, open, without its data, or too short to be run."""
    found = rows(item, chosen)
    if not found:
        return ABSENT
    if any(_short(cell) for cells in found.values() for cell in cells):
        return SHORT
    try:
        frame = records.read(tables.get(item.table).spec, chosen.run)
    except records.NotRecorded:
        return OPEN
    short = [
        tuple(entry["row"])
        for entry in frame.provenance["shortened"]
        if entry["epochs_run"] < LEAST_SHARE * entry["epochs_paper"]
    ]
    whole = all(_recorded(frame, row, _seeds(cells)) for row, cells in found.items())
    return RECORDED if whole and not set(short) & set(found) else OPEN


def _recorded(frame: Frame, row: Row, seeds: int) -> bool:
    """Whether a record has what a row of the plan gives: one line, or several with more keys."""
    lines = frame.data
    for key, value in zip(frame.spec.keys, row, strict=False):
        lines = lines[lines[key.name] == value]
    return bool(len(lines) and (lines["status"] != NOT_RUN).all() and lines["seeds"].min() >= seeds)


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        yield config
        for value in config.values():
            yield from _objects(value)


def _short(cell: Cell) -> bool:
    """Whether a training in a cell's configuration is shorter than a quarter of the published."""
    return any(
        part["epochs"] < LEAST_SHARE * part["epochs_paper"]
        for part in _objects(describe(cell.config))
        if {"epochs", "epochs_paper"} <= part.keys()
    )


def _seeds(cells: Sequence[Cell]) -> int:
    """How many seeds the cells of a row have."""
    found = {
        tuple(part["seed"] for part in _objects(describe(cell.config)) if "seed" in part)
        for cell in cells
    }
    return len(found)


def seconds(item: Item, chosen: Profile, store: Store) -> float:
    """What is left of an item will take about so long, by earlier runs or else by the plan."""
    known = estimates.estimate(store, _work(item, chosen))
    cells = {cell.key for found in rows(item, chosen).values() for cell in found}
    missing = [key for key in cells if not store.path(key).exists()]
    return (item.seconds if known is None else known) * len(missing) / max(len(cells), 1)


def _work(item: Item, chosen: Profile) -> tuple[str, str, dict[str, Any]]:
    """An item as something of which the store keeps how long it takes, beside what was planned."""
    config = {"table": item.table, "only": item.only, "seeds": item.seeds, "planned": item.seconds}
    return "evidence", chosen.device, config


def work_down(
    items: Iterable[Item],
    device: str,
    minutes: float | None,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Say what will be done, do it, and say what was done; what became of each item.

    Items go from first to last; one that does not fit the time left is passed over for those that
    do. What time is left after them goes to those passed over, cell by cell, so that an item of
    any length is done in so many runs. An error ends its item and no other.

    Raises
    ------
    Unfinished
        If items are open at the end for lack of time, or since the run was asked to stop.
    """
    store, ends = Store(), dict[str, str]()
    chosen = {item: size(item, device) for item in items}
    states = {item: standing(item, chosen[item]) for item in chosen}
    for item, state in states.items():
        about = f"about {seconds(item, chosen[item], store) / 60:.0f} min" if state == OPEN else ""
        say(f"plan: {item}: {about or _WHY[state]}{_lacking(item, chosen[item], state)}")
        ends[str(item)] = _TOO_LONG if state == OPEN else _WHY[state]
    with timebox.limited(minutes):
        for whole in (True, False):
            for item in chosen:
                end = ends[str(item)]
                if end.startswith(_TOO_LONG) and (whole or not timebox.wanted()):
                    ends[str(item)] = _run(item, chosen[item], store, whole)
                    say(f"{item}: {ends[str(item)]}")
    left = [item for item, end in ends.items() if end.startswith(LEFT)]
    done = sum(end.startswith(DONE) for end in ends.values())
    there = sum(state == RECORDED for state in states.values())
    failed = sum(end.startswith(FAILED) for end in ends.values())
    say(
        f"summary: {done} done now, {there} recorded before, {len(left)} left, {failed} failed, "
        f"{len(ends) - done - there - len(left) - failed} not to be run here"
    )
    if left:
        raise timebox.Unfinished(
            f"{len(left)} of {len(ends)} items are left, the first is {left[0]}; finished rows "
            f"are recorded, the same command goes on from here"
        )
    return ends


DONE, LEFT, FAILED = "recorded now", "left", "failed"
_TOO_LONG = f"{LEFT}: takes about"
_WHY = {
    RECORDED: "recorded already at full scale",
    SHORT: f"not run: trained for less than {LEAST_SHARE:.0%} of the published epochs",
    ABSENT: "not run: its data is not here (thesis-repro data list), or not for this device",
}


def _lacking(item: Item, chosen: Profile, state: str) -> str:
    """What is said of an item's rows that cannot be computed here, where others can."""
    number = sum(not cells for cells in planned(item, chosen).values())
    if not number or state == ABSENT:
        return ""
    lacking = "1 row is" if number == 1 else f"{number} rows are"
    return f"; {lacking} not run here: the data or a package (Opacus, say) is absent"


def _run(item: Item, chosen: Profile, store: Store, whole: bool) -> str:
    """Record an item, if it fits `whole` or else as much of it as does; what became of it."""
    needs = seconds(item, chosen, store)
    if timebox.wanted():
        return f"{LEFT}: the run stopped before"
    if whole and needs > timebox.remaining():
        return f"{_TOO_LONG} {needs / 60:.1f} min, there are {timebox.remaining() / 60:.1f}"
    began = time.monotonic()
    anew = not any(
        store.path(c.key).exists() for found in rows(item, chosen).values() for c in found
    )
    try:
        tables.record(item.table, chosen, only=item.only or None)
    except timebox.Unfinished as stopped:
        return f"{LEFT}: {stopped}"
    except (CellError, ValueError, OSError) as error:
        return f"{FAILED}: {error}"
    took = time.monotonic() - began
    if anew:
        estimates.record(store, _work(item, chosen), f"evidence {item}", took)
    return f"{DONE}, after {took / 60:.1f} min"
