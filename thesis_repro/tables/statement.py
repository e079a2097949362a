"""What a table's numbers do not say: ``results/statement.csv``, one line a table.

What was tuned on which data, what was tried and dropped, where a table departs from its paper, and
the commit that wrote down what had to hold. Compute, device and seeds come from the records.

Examples
--------
>>> statements()["gloro-vra"].table
'gloro-vra'
"""

import csv
import io
from dataclasses import dataclass, fields

from thesis_repro.tables import published

NAME = "statement.csv"
WHEN = ("before the run", "after the run")


@dataclass(frozen=True)
class Statement:
    """One line of the file.

    Parameters
    ----------
    table : its name
    tuned_on : what was tuned, and on which data; that nothing was, where that is so
    dropped : what was tried and given up, "–" where nothing was
    deviations : from the paper
    stated : the commit that wrote down what had to hold; empty where nothing has to
    when : "before the run" that is recorded or "after the run"; empty with `stated`
    """

    table: str
    tuned_on: str
    dropped: str
    deviations: str
    stated: str
    when: str


def statements() -> dict[str, Statement]:
    """The lines by table; none where the file is not here.

    Raises
    ------
    ValueError
        Naming the line that lacks a field, or a table that has two.
    """
    file = published.path().with_name(NAME)
    if not file.is_file():
        return {}
    names = [f.name for f in fields(Statement)]
    reader = csv.DictReader(io.StringIO(file.read_text("utf-8")))
    if reader.fieldnames != names:
        raise ValueError(f"{NAME} needs the columns {', '.join(names)}, got {reader.fieldnames}")
    found: dict[str, Statement] = {}
    for record in reader:
        if None in record or None in record.values():
            raise ValueError(f"{NAME}, line {reader.line_num}: a line has {len(names)} fields")
        where = f"{NAME}, line {reader.line_num}"
        if not all(record[name].strip() for name in names[:-2]):
            raise ValueError(f"{where}: only `stated` and `when` may be empty")
        if record["when"] not in (WHEN if record["stated"] else ("",)):
            raise ValueError(f"{where}: what is stated was so {' or '.join(WHEN)}")
        if record["table"] in found:
            raise ValueError(f"{where}: {record['table']} has a line already")
        found[record["table"]] = Statement(**record)
    return found
