"""What has to hold in the chapter weaknesses/bias: the paper's claims in words, with numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thesis_repro.experiments.bias.cells import EXPERTS, FULL, MIXTURE, PARITY
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses import bias


@dataclass(frozen=True)
class Condition:
    """One thing that has to hold, with the number that decides it."""

    says: str
    needed: str
    measured: str
    holds: bool


def ranks(frame: pd.DataFrame, sweep: str) -> tuple[float, int]:
    """Spearman correlation of absolute bias with the swept value, and the number of settings."""
    from scipy.stats import spearmanr

    rows = frame[frame["sweep"] == sweep]
    return float(spearmanr(rows["value"].astype(float), rows["absolute"]).statistic), len(rows)


NAMES = {PARITY: "parity halves", EXPERTS: "experts halve"}
GRID = [(d, p) for d in (0.5, 1.0, 2.0, 4.0) for p in (0.5, 0.6, 0.7, 0.8, 0.9)]
"""Separations and priors at which the closed form is simulated."""


def closed_form_gap(n: int = 400_000, seed: int = 0) -> float:
    """Largest difference, in points, of closed form and simulation over the grid."""
    return 100 * max(
        abs(bias.bayes_bias(d, p) - bias.simulated_bias(d, p, n, seed + i))
        for i, (d, p) in enumerate(GRID)
    )


def synthetic_conditions(frame: pd.DataFrame) -> list[Condition]:
    """Growth with weak features, decay with points, and the symmetric control."""
    grows, settings = ranks(frame, "weak features")
    falls, sizes = ranks(frame, "training points")
    control = float(frame["symmetric"].abs().max())
    gap = closed_form_gap()
    return [
        Condition(
            f"closed form against simulation, {len(GRID)} priors and separations",
            "at most 0.3 points apart",
            f"{gap:.2f}",
            gap <= 0.3,
        ),
        Condition(
            "absolute bias grows with weak features",
            "rank correlation ≥ 0.95, 10 settings",
            f"{grows:.2f}, {settings} settings",
            grows >= 0.95 and settings >= 10,
        ),
        Condition(
            "absolute bias shrinks with training points",
            "rank correlation ≤ −0.95",
            f"{falls:.2f}, {sizes} sizes".replace("-", "−"),
            falls <= -0.95,
        ),
        Condition(
            "the symmetric control stays near zero",
            "within 1 point",
            f"at most {control:.1f}",
            control <= 1.0,
        ),
    ]


def halves(rows: pd.DataFrame, remedy: str) -> bool:
    """Whether a remedy halves the absolute bias and costs at most half a point of accuracy."""
    by = rows.set_index("remedy")
    cut = by.loc[remedy, "absolute"] <= by.loc[FULL, "absolute"] / 2
    return bool(cut and by.loc[remedy, "accuracy"] >= by.loc[FULL, "accuracy"] - 0.5)


def remedy_conditions(frame: pd.DataFrame) -> list[Condition]:
    """Parity and experts, on the synthetic set and on the majority of the real ones."""
    found = []
    groups = {str(name): rows for name, rows in frame.groupby("dataset", sort=False)}
    real = [rows for name, rows in groups.items() if name != MIXTURE]
    for remedy in (PARITY, EXPERTS):
        by = groups[MIXTURE].set_index("remedy")
        gain = by.loc[remedy, "accuracy"] - by.loc[FULL, "accuracy"]
        found.append(
            Condition(
                f"{NAMES[remedy]} the bias, synthetic set",
                "half removed, accuracy at most 0.5 lower",
                f"{by.loc[remedy, 'removed']:.0f}% removed, accuracy {gain:+.1f}".replace("-", "−"),
                halves(groups[MIXTURE], remedy),
            )
        )
        count = sum(halves(rows, remedy) for rows in real)
        found.append(
            Condition(
                f"{NAMES[remedy]} the bias, real sets",
                "the same on more than half of them",
                f"{count} of {len(real)} sets",
                2 * count > len(real),
            )
        )
    return found


def deep_conditions(frame: pd.DataFrame) -> list[Condition]:
    """Experts on hidden layers, one condition for each trained net."""
    found = []
    for net, rows in frame.groupby("net", sort=False):
        layers = [part for _, part in rows.groupby("layer", sort=False)]
        count = sum(halves(part, EXPERTS) for part in layers)
        best = float(rows.loc[rows["remedy"] == EXPERTS, "removed"].max())
        before = float(rows.loc[rows["remedy"] == FULL, "absolute"].iloc[0])
        found.append(
            Condition(
                f"experts of a hidden layer halve the bias, {net}",
                "on one layer at least",
                f"{best:.0f}% of {before:.1f} points removed".replace("-", "−"),
                count > 0,
            )
        )
    return found


def every(check: Callable[[pd.DataFrame], list[Condition]]) -> Callable[[pd.DataFrame], bool]:
    """Whether all conditions hold: the trend of a table."""
    return lambda frame: all(condition.holds for condition in check(frame))


def conditions(synthetic: Frame, remedies: Frame, deep: Frame) -> Any:
    """All conditions as a numbered table; whether they hold is computed."""
    from IPython.display import Markdown

    from thesis_repro.tables.render import myst

    checks = (synthetic_conditions, remedy_conditions, deep_conditions)
    frames = (synthetic, remedies, deep)
    found = [
        condition
        for check, frame in zip(checks, frames, strict=True)
        for condition in check(frame.data[frame.data["status"] == "run"])
    ]
    rows = [[c.says, c.needed, c.measured, "holds" if c.holds else "does not hold"] for c in found]
    headings = ["what has to hold", "needed", "measured", "verdict"]
    caption = (
        "What the paper claims in words, as conditions of ours, and whether they hold: run "
        f"{synthetic.run}."
    )
    name = f"tab-bias-conditions-{synthetic.run}"
    return Markdown(myst((headings, rows), name, caption, len(headings)))
