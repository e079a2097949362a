"""The information organization hypothesis as conditions on the property game, and its verdict."""

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
    lines: list[tuple[str, str, str, str, str]] = []
    run = data[data["status"] == "run"]
    for title in dict.fromkeys(run["dataset"]):
        rows = run[run["dataset"] == title].set_index(["training", "adversary"])
        share, count = rows["accuracy"], rows["models"]
        there = [method for method in TRAININGS if (method, WEAK) in rows.index]
        robust = [method for method in there if method != STANDARD]
        if STANDARD not in there or not robust:
            lines.append((title, "verdict", "standard and a robust training", "", UNTESTED))
            continue
        held: dict[str, bool] = {}

        def note(
            says: str,
            needed: str,
            measured: str,
            holds: bool,
            title: str = title,
            held: dict[str, bool] = held,
        ) -> None:
            held[says] = holds
            lines.append((title, says, needed, measured, "yes" if holds else "no"))

        def won(method: str, share: pd.Series = share, count: pd.Series = count) -> tuple[int, int]:
            games = 2 * int(count[method, WEAK])
            return round(share[method, WEAK] / 100 * games), games

        clear = []
        for method in robust:
            value = float(share[method, WEAK])
            note(f"weak on {method}", "≥ 90%", f"{value:.1f}%", value >= 90)
            p = compare_wins(won(method), won(STANDARD))
            clear.append(p < 0.05)
            against = f"{value:.1f}% against {share[STANDARD, WEAK]:.1f}%, p = {p:.2g}"
            note(f"weak: {method} above {STANDARD}", "p < 0.05", against, clear[-1])
        for method in there:
            best = float(share[method].reindex(list(STRONG)).max())
            note(f"best strong on {method}", "≥ 80%", f"{best:.1f}%", best >= 80)
        complete = len(there) == len(TRAININGS) and all(held.values())
        partly = any(clear) and held[f"best strong on {STANDARD}"]
        verdict = SUPPORTED if complete else PARTLY if partly else REFUTED
        least = int(count.min())
        enough = f"≥ {ENOUGH} models per arm"
        if least < ENOUGH:
            verdict += ", underpowered"
        lines.append((title, "verdict", enough, f"{least} models per arm", verdict))
    columns = ["data set", "statement", "needed", "measured", "holds"]
    return pd.DataFrame(lines, columns=columns)


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
                    "best strong adversary ≥ 80% on every training",
                    ", ".join(strong["measured"]),
                    bool((strong["holds"] == "yes").all()),
                )
            )
        whole = rows[rows["statement"] == "verdict"].iloc[0]
        if whole["holds"] == UNTESTED:
            continue
        found.append(
            Condition(
                f"{title}: the information organization hypothesis",
                "every condition of the chapter, p < 0.05 by Fisher",
                str(whole["holds"]),
                bool(whole["holds"] == SUPPORTED),
            )
        )
    return found
