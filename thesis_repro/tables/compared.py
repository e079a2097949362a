"""Ours beside what is published, and a run beside the committed one, as grids to print.

Examples
--------
>>> import pandas as pd
>>> keys, vra = (Column("radius", "radius", kind="key"),), Column("vra", "VRA", "%", kind="rate")
>>> claim = Claim(("0.3",), "vra", 95.0, "a paper", tolerance=1.5, how_read="abstract")
>>> measure_of(claim, vra), claimed(claim, vra), allowed(claim, vra)
('VRA (%)', '95.0 (abstract)', '≥ −1.5')
>>> ours = Judged(claim, "reproduced", 94.0, difference=-1.0)
>>> apart(ours, vra), in_words([ours])[1]  # it has a row, so it is none in words
('−1.0', [])
>>> spec = TableSpec("gloro-example", "An example.", keys, (vra,), "robustness/gloro")
>>> comparison(spec, [ours], None, None)[1][0][-1]
'reproduced'
>>> nothing = Frame(spec, "quick", pd.DataFrame(columns=spec.fields()))
>>> drift(nothing, nothing)[1]
[]
"""

from collections.abc import Sequence

from thesis_repro.tables.claims import FACTOR, ORDER, THEOREM, Claim
from thesis_repro.tables.render import NOTHING, Grid, number, signed, unsigned
from thesis_repro.tables.spec import NOT_JUDGED, NOT_PUBLISHED, NOT_RUN, Column, Frame, TableSpec
from thesis_repro.tables.verdict import WITHIN, Judged, measured


def comparison(
    spec: TableSpec, judged: Sequence[Judged], recorded: Frame | None, live: Frame | None
) -> Grid:
    """Published, recorded, live, difference, tolerance, verdict, for the claims that have a row.

    The column is headed "thesis" where its slides have every value, else "published", and says
    how each was read. The verdict is on the recorded run. The live run has a column of its own,
    which is left out where it shares no row with the claims (a quick run has other data sets).
    """
    rowed = [j for j in judged if j.claim.row]
    shared = live is not None and any(live.lookup(j.claim.row) is not None for j in rowed)
    run = recorded.run if recorded is not None else "no paper run"
    of_thesis = all(j.claim.how_read == "slides" for j in rowed)
    headings = [c.heading for c in spec.keys]
    headings += ["measure", "thesis" if of_thesis else "published", f"recorded ({run})"]
    headings += [f"live ({live.run})"] if shared and live is not None else []
    headings += ["difference", "tolerance", "verdict"]
    rows = []
    for j in rowed:
        claim, column = j.claim, spec.column(j.claim.column)
        cells = [*claim.row, measure_of(claim, column), claimed(claim, column, not of_thesis)]
        absent = NOTHING if j.verdict == NOT_JUDGED else NOT_RUN
        cells.append(absent if j.estimate is None else number(j.estimate, column, j.low, j.high))
        if shared and live is not None:
            found = None if claim.kind == ORDER else measured(live, claim.row, claim.column)
            cells.append(number(None if found is None else found.value, column))
        rows.append([*cells, apart(j, column), allowed(claim, column), j.verdict])
    return headings, rows


def in_words(judged: Sequence[Judged]) -> Grid:
    """The claims without a row: what has to hold, how much is needed, what was measured."""
    rows = [
        [j.claim.column, j.needed or NOTHING, j.measured or NOT_RUN, j.verdict]
        for j in judged
        if not j.claim.row
    ]
    return ["what has to hold", "needed", "measured", "verdict"], rows


def measure_of(claim: Claim, column: Column) -> str:
    """What is measured: the column; for an order also what the row is ahead of."""
    if claim.kind != ORDER:
        return column.heading
    others = " and ".join(" / ".join(row) for row in claim.ahead_of)
    return f"{column.heading}, ahead of {others}"


def claimed(claim: Claim, column: Column, with_reading: bool = True) -> str:
    """The published value, with how it was read; what a theorem needs."""
    if claim.value is None:
        return NOT_PUBLISHED
    text = column.format.format(claim.value)
    if claim.kind == THEOREM:
        return f"{text} needed"
    if claim.kind == ORDER:
        text = f"by {text}" if claim.value else "at all"
    return f"{text} ({claim.how_read})" if with_reading and claim.how_read else text


def apart(judged: Judged, column: Column) -> str:
    """How far ours is from the published value; for a factor, how many times it."""
    value = judged.claim.value
    if judged.difference is None or value is None or judged.estimate is None:
        return NOTHING
    if judged.claim.kind == FACTOR:
        return f"× {judged.estimate / value:.2g}"
    return signed(judged.difference, column)


def allowed(claim: Claim, column: Column) -> str:
    """What the difference may be."""
    if claim.value is None or claim.kind == THEOREM:
        return NOTHING
    if claim.kind == FACTOR:
        return f"× 1/{WITHIN:g} to {WITHIN:g}"
    side = {"at least": "≥ −", "at most": "≤ +", "equal": "±"}[claim.side]
    side = "≥ −" if claim.kind == ORDER else side  # a lead counts in the claim's own direction
    least = column.format.format(claim.tolerance)
    if not any(digit in "123456789" for digit in least):
        side = side.rstrip("−+")  # zero at this precision has no sign
    return side + least


def drift(live: Frame, committed: Frame) -> Grid:
    """The live run beside the committed run of the same profile."""
    spec = live.spec
    headings = [c.heading for c in spec.keys]
    headings += ["measure", "this run", "committed run", "difference", "allowed"]
    rows = []
    for _, line in live.data.iterrows():
        row = tuple(str(line[c.name]) for c in spec.keys)
        for column in spec.columns:
            if column.drift is None:
                continue
            ours, theirs = live.value(row, column.name), committed.value(row, column.name)
            if (ours is None and theirs is None) or column.too_few(line):
                continue
            if column.later and column.name not in committed.data:
                continue
            missing = ours is None or theirs is None
            gap = NOTHING if missing else signed((ours or 0.0) - (theirs or 0.0), column)
            allowed = "±" + unsigned(column).format(column.drift)
            cells = [number(ours, column), number(theirs, column), gap, allowed]
            rows.append([*row, column.heading, *cells])
    return headings, rows
