"""The information organization hypothesis as conditions on the property game, and its verdict."""

from collections.abc import Mapping
from itertools import chain

import pandas as pd

from thesis_repro.experiments.leakage.models import GLORO, INVISIBLE, STANDARD, TRAININGS
from thesis_repro.tables import statistics
from thesis_repro.tables.conditions import Condition, every, of, reaches
from thesis_repro.tables.spec import NOT_JUDGED
from thesis_repro.tables.verdict import HOLDS

ENOUGH = 20
"""Models per arm below which a game is underpowered."""

WEAK, CALIBRATED = "weak, fixed threshold", "weak, threshold from shadows"
CHOOSING = "strong, reconstructions or z"
STRONG = {
    "strong, reconstructions": "reconstruction",
    CHOOSING: "reconstruction",
    "strong, weights": "weights",
    "strong, probes": "probes",
}
"""What each strong adversary sees. The second was added after a run of the others was recorded."""
ADVERSARIES = (WEAK, CALIBRATED, *STRONG)
CONTROL = f"{GLORO}, {INVISIBLE}"
"""The control: the other arm's word is blended in with opacity 0."""
GAMES = (*TRAININGS, CONTROL)
ROBUST = tuple(method for method in TRAININGS if method != STANDARD)
LEVEL = 0.05

SUPPORTED, PARTLY, REFUTED = "supported", "partly supported", "not supported"
UNTESTED = "not tested"


def compare_wins(above: tuple[int, int], below: tuple[int, int]) -> float:
    """One-sided exact p-value (Fisher) that the first wins no more often; (wins, games) of each.

    For games of nets that have nothing in common; those of one number are paired (McNemar).
    """
    from scipy.stats import fisher_exact

    table = [[above[0], above[1] - above[0]], [below[0], below[1] - below[0]]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def hypothesis(data: pd.DataFrame) -> pd.DataFrame:
    """The information organization hypothesis as conditions with numbers, and its verdict.

    For each data set: the weak adversary wins at least 90% on each robust training, and clearly
    less often on standard nets (McNemar, p < 0.05 by Holm over robust trainings and data sets);
    the best of the strong adversaries that were run wins at least 80% on every training; shares
    with their intervals. All: supported. The clear difference for one robust training, and a
    strong adversary who reaches 80% on standard nets: partly. Else not. Where a record lacks the
    pairs, and how they fell could decide, or where an interval could: not judged.
    """
    lines: list[tuple[str, ...]] = []
    run = data[data["status"] == "run"]
    adjusted = p_values(run)
    for title in dict.fromkeys(run["dataset"]):
        rows = run[run["dataset"] == title].set_index(["training", "adversary"])
        mine = {method: ends for (name, method), ends in adjusted.items() if name == title}
        found, verdict = _judge(rows, mine, len(adjusted))
        lines += [(title, c.says, c.needed, c.measured, c.verdict) for c in found]
        lines.append((title, "verdict", *verdict))
    columns = ["data set", "statement", "needed", "measured", "holds"]
    return pd.DataFrame(lines, columns=columns)


def p_values(run: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Of each data set and robust training: the least and largest p-value, adjusted by Holm.

    That the weak adversary wins as often as on standard nets. Both ends are one where the run
    has the paired test; else they are what McNemar's test can be with so many games won.
    """
    by = run[run["adversary"] == WEAK].set_index(["dataset", "training"])
    found = {}
    for title, method in by.index:
        if method not in ROBUST or (title, STANDARD) not in by.index:
            continue
        line, base = by.loc[(title, method)], by.loc[(title, STANDARD)]
        if pd.notna(line.get("p")):
            found[title, method] = float(line["p"]), float(line["p"])
            continue
        games = 2 * int(min(line["models"], base["models"]))
        first, second = (round(one["accuracy"] / 100 * games) for one in (line, base))
        found[title, method] = statistics.mcnemar_range(first, second, games)
    ends = (statistics.holm(list(end)) for end in zip(*found.values(), strict=True))
    return dict(zip(found, zip(*ends, strict=True), strict=True)) if found else {}


def _judge(
    rows: pd.DataFrame, p: Mapping[str, tuple[float, float]], family: int
) -> tuple[list[Condition], tuple[str, str, str]]:
    """The conditions on one data set; what the verdict needs, what there is, and the verdict."""
    there = [method for method in TRAININGS if (method, WEAK) in rows.index]
    robust = [method for method in there if method != STANDARD]
    if STANDARD not in there or not robust:
        return [], ("standard and a robust training", "", UNTESTED)
    share = rows["accuracy"]
    weak = [_at_least(90, f"weak on {method}", rows.loc[(method, WEAK)]) for method in robust]
    clear = [_clearly_above_standard(method, rows, p[method], family) for method in robust]
    best = {method: rows.loc[(method, share[method].reindex(STRONG).idxmax())] for method in there}
    strong = {
        method: _at_least(80, f"best strong on {method}", row) for method, row in best.items()
    }
    found = [*chain.from_iterable(zip(weak, clear, strict=True)), *strong.values()]
    either = set()
    for undecided in (False, True):  # what pairs that were not recorded could say
        every, each = (
            [undecided if c.holds is None else c.holds for c in some] for some in (found, clear)
        )
        if len(there) == len(TRAININGS) and all(every):
            either.add(SUPPORTED)
        else:
            either.add(PARTLY if any(each) and strong[STANDARD].holds else REFUTED)
    verdict = either.pop() if len(either) == 1 else NOT_JUDGED
    least = int(rows["models"].min())
    if least < ENOUGH:
        verdict += ", underpowered"
    return found, (f"≥ {ENOUGH} models per arm", f"{least} models per arm", verdict)


def _at_least(needed: int, says: str, row: pd.Series) -> Condition:
    """Whether the share of games that a row has won reaches what is needed, interval and all."""
    won = of(row, "accuracy")
    asked = f"≥ {needed}%, with the interval"
    return Condition(says, asked, f"{won.value:.1f}%", reaches(won, needed))


def _clearly_above_standard(
    method: str, rows: pd.DataFrame, p: tuple[float, float], family: int
) -> Condition:
    """The weak adversary wins clearly more often on this training than on standard nets."""
    share, (low, high) = rows["accuracy"], p
    above = bool(share[method, WEAK] > share[STANDARD, WEAK])
    holds = False if low >= LEVEL or not above else True if high < LEVEL else None
    said = f"p = {low:.2g}" if low == high else f"p between {low:.2g} and {high:.2g}"
    against = f"{share[method, WEAK]:.1f}% against {share[STANDARD, WEAK]:.1f}%, {said}"
    needed = f"McNemar, p < {LEVEL:g} by Holm over {family}"
    return Condition(f"weak: {method} above {STANDARD}", needed, against, holds)


def conditions(data: pd.DataFrame) -> list[Condition]:
    """The two halves of the hypothesis on each data set, and the whole."""
    found = []
    lines = hypothesis(data)
    for title, rows in lines.groupby("data set", sort=False):
        strong = rows[rows["statement"].str.startswith("best strong")]
        if len(strong):
            found.append(
                Condition(
                    f"{title}: the game is won on robust and non-robust nets",
                    "best strong adversary ≥ 80% on every training, with the interval",
                    ", ".join(strong["measured"]),
                    every(
                        None if word == NOT_JUDGED else word == HOLDS for word in strong["holds"]
                    ),
                )
            )
        whole = rows[rows["statement"] == "verdict"].iloc[0]
        if whole["holds"] == UNTESTED:
            continue
        found.append(
            Condition(
                f"{title}: the information organization hypothesis",
                f"every condition of the chapter, p < {LEVEL:g} by McNemar and Holm",
                str(whole["holds"]),
                None if NOT_JUDGED in whole["holds"] else bool(whole["holds"] == SUPPORTED),
            )
        )
    return found
