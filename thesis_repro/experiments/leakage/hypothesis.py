"""The information organization hypothesis as conditions on the property game, and its verdict."""

from itertools import chain

import pandas as pd

from thesis_repro.experiments.leakage.models import GLORO, INVISIBLE, STANDARD, TRAININGS
from thesis_repro.tables.conditions import Condition

ENOUGH = 20
"""Models per arm below which a game is underpowered."""

WEAK, CALIBRATED = "weak, fixed threshold", "weak, threshold from shadows"
STRONG = {
    "strong, reconstructions": "reconstruction",
    "strong, weights": "weights",
    "strong, probes": "probes",
}
ADVERSARIES = (WEAK, CALIBRATED, *STRONG)
CONTROL = f"{GLORO}, {INVISIBLE}"
"""The control: the other arm's word is blended in with opacity 0."""
GAMES = (*TRAININGS, CONTROL)

SUPPORTED, PARTLY, REFUTED = "supported", "partly supported", "not supported"
UNTESTED = "not tested"


def compare_wins(above: tuple[int, int], below: tuple[int, int]) -> float:
    """One-sided exact p-value (Fisher) that the first wins no more often; (wins, games) of each."""
    from scipy.stats import fisher_exact

    table = [[above[0], above[1] - above[0]], [below[0], below[1] - below[0]]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def hypothesis(data: pd.DataFrame) -> pd.DataFrame:
    """The information organization hypothesis as conditions with numbers, and its verdict.

    For each data set: the weak adversary wins at least 90% on each robust training, and clearly
    less often on standard nets (exact test, p < 0.05); the best strong adversary wins at least
    80% on every training. All: supported. The clear difference for one robust training, and a
    strong adversary who reaches 80% on standard nets: partly. Else not.
    """
    lines: list[tuple[str, ...]] = []
    run = data[data["status"] == "run"]
    for title in dict.fromkeys(run["dataset"]):
        rows = run[run["dataset"] == title].set_index(["training", "adversary"])
        found, verdict = _judge(rows)
        lines += [(title, c.says, c.needed, c.measured, c.verdict) for c in found]
        lines.append((title, "verdict", *verdict))
    columns = ["data set", "statement", "needed", "measured", "holds"]
    return pd.DataFrame(lines, columns=columns)


def _judge(rows: pd.DataFrame) -> tuple[list[Condition], tuple[str, str, str]]:
    """The conditions on one data set; what the verdict needs, what there is, and the verdict."""
    there = [method for method in TRAININGS if (method, WEAK) in rows.index]
    robust = [method for method in there if method != STANDARD]
    if STANDARD not in there or not robust:
        return [], ("standard and a robust training", "", UNTESTED)
    share = rows["accuracy"]
    weak = [_at_least(90, f"weak on {method}", share[method, WEAK]) for method in robust]
    clear = [_clearly_above_standard(method, rows) for method in robust]
    strong = {
        method: _at_least(80, f"best strong on {method}", share[method].reindex(STRONG).max())
        for method in there
    }
    found = [*chain.from_iterable(zip(weak, clear, strict=True)), *strong.values()]
    if len(there) == len(TRAININGS) and all(c.holds for c in found):
        verdict = SUPPORTED
    else:
        partly = any(c.holds for c in clear) and strong[STANDARD].holds
        verdict = PARTLY if partly else REFUTED
    least = int(rows["models"].min())
    if least < ENOUGH:
        verdict += ", underpowered"
    return found, (f"≥ {ENOUGH} models per arm", f"{least} models per arm", verdict)


def _at_least(needed: int, says: str, share: float) -> Condition:
    return Condition(says, f"≥ {needed}%", f"{share:.1f}%", bool(share >= needed))


def _clearly_above_standard(method: str, rows: pd.DataFrame) -> Condition:
    """The weak adversary wins clearly more often on this training than on standard nets."""
    share = rows["accuracy"]
    won = []
    for one in (method, STANDARD):
        games = 2 * int(rows["models"][one, WEAK])
        won.append((round(share[one, WEAK] / 100 * games), games))
    p = compare_wins(*won)
    against = f"{share[method, WEAK]:.1f}% against {share[STANDARD, WEAK]:.1f}%, p = {p:.2g}"
    return Condition(f"weak: {method} above {STANDARD}", "p < 0.05", against, p < 0.05)


def supported(data: pd.DataFrame) -> bool:
    """Whether the hypothesis is supported on every data set of a frame's rows, fully powered."""
    found = hypothesis(data)
    verdicts = found.loc[found["statement"] == "verdict", "holds"]
    return bool(len(verdicts) and (verdicts == SUPPORTED).all())
