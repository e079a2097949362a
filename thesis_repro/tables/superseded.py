"""Citation keys that were recorded once and are no more: a key in print resolves to something.

``results/superseded.csv`` has one line a key; `tools/superseded.py` adds those that it lacks.

Examples
--------
>>> frame = records.read(get("lipschitz-soundness").spec, "quick")
>>> resolve(records.key(frame)).run
'quick'
>>> resolve(listed()[0].key) == listed()[0]
True
"""

import csv
from dataclasses import dataclass

from thesis_repro.lab import places
from thesis_repro.tables import records
from thesis_repro.tables.find import get, names
from thesis_repro.tables.spec import Frame

NAME = "superseded.csv"
COLUMNS = ("key", "table", "run", "commit", "replaced_by", "why")


@dataclass(frozen=True)
class Superseded:
    """A key that a later recording replaced.

    commit : of git, whose results/<table>/<run>.csv has that key
    replaced_by : the key of the recording that followed; "" where the table is no more
    """

    key: str
    table: str
    run: str
    commit: str
    replaced_by: str
    why: str

    def __str__(self) -> str:
        after = f" It was replaced by {self.replaced_by}." if self.replaced_by else ""
        return (
            f"{self.key} is an earlier recording of {self.table} ({self.run}): {self.why}.{after}\n"
            f"The table itself: git show {self.commit}:results/{self.table}/{self.run}.csv"
        )


def listed() -> list[Superseded]:
    """All lines of the file; none where it is not here.

    Raises
    ------
    ValueError
        If the file has other columns.
    """
    path = places.recorded(NAME)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{NAME} needs the columns {', '.join(COLUMNS)}")
        return [Superseded(**line) for line in reader]


def resolve(key: str) -> Frame | Superseded:
    """The recorded table that a key means, or what is known of a key that was replaced.

    Raises
    ------
    ValueError
        If no table was ever recorded under this key.
    """
    for name in names():
        spec = get(name).spec
        if key.startswith(f"{name}-"):
            for run in records.runs(spec):
                frame = records.read(spec, run)
                if records.key(frame) == key:
                    return frame
    for line in listed():
        if line.key == key:
            return line
    raise ValueError(
        f"no table was recorded under the key {key!r}; a key is a table's name and 12 hex digits, "
        "and the page “How to cite” lists them"
    )
