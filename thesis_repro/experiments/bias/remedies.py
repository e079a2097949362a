"""The table bias-remedies: four remedies for the bias of linear models, on many data sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.bias.synthetic import (
    POINTS_OF_BIAS,
    RUNS,
    UNREAD,
    pooled,
    summary,
)
from thesis_repro.experiments.bias.two_classes import (
    EXPERTS,
    FULL,
    L1,
    LFW,
    MIXTURE,
    MNIST,
    PARITY,
    PICTURES,
    REAL,
    SHIFT,
    STEP,
    TYPICAL,
    Floats,
    add_run,
    features,
    fingerprints,
    imbalanced,
    sgd,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables.conditions import Condition, Every
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Claim, Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses import bias

PRIOR = 0.75
"""Share of the majority class in the imbalanced subsamples."""
REMEDIES = (FULL, PARITY, EXPERTS, L1, SHIFT)


@dataclass(frozen=True)
class RemedyConfig:
    """Remedies on random splits of one data set, made imbalanced unless prior is 0."""

    dataset: str
    prior: float
    runs: int
    seed: int
    step: float = STEP


ESTIMATORS: dict[str, Callable[..., bias.Remedy]] = {
    PARITY: bias.FeatureParity,
    EXPERTS: bias.Experts,
    L1: bias.L1,
    SHIFT: bias.ThresholdShift,
}


def remedies(config: RemedyConfig) -> Result:
    """Cell: bias, accuracy and features kept of each remedy in each run."""
    from sklearn.frozen import FrozenEstimator

    found: dict[str, list[float]] = {}
    mixture = bias.Mixture(TYPICAL[0])
    points = None if config.dataset == MIXTURE else features(config.dataset)
    for run in range(config.runs):
        rng = np.random.default_rng([config.seed, run])
        score: Score
        if points is None:
            x, y = mixture.sample(round(TYPICAL[1] / 0.6), rng)
            score = mixture.evaluate
        else:
            x, y, score = _real(config, *points, rng)
        full = bias.FeatureParity(sgd(config.step), random_state=run).fit(x, y).estimator_
        add_run(found, FULL, score(full.coef_[0], full.intercept_[0]), x.shape[1])
        for name, make in ESTIMATORS.items():
            # the same split again, so the frozen model has seen its part of it and no more
            model = make(FrozenEstimator(full), random_state=run).fit(x, y)
            add_run(found, name, score(model.coef_[0], model.intercept_[0]), model.mask_.sum())
    return Result({}, {name: np.array(values) for name, values in found.items()})


Score = Callable[[Any, float], tuple[float, float]]


def _real(
    config: RemedyConfig, x: Floats, y: Any, rng: np.random.Generator
) -> tuple[Floats, Any, Score]:
    """Half of the data to train on, scaled; and a function that scores a rule on the rest."""
    from sklearn.model_selection import train_test_split

    if config.prior:
        index = imbalanced(y, config.prior, rng)
        x, y = x[index], y[index]
    x, x_test, y, y_test = train_test_split(
        x, y, test_size=0.5, stratify=y, random_state=int(rng.integers(2**31))
    )
    used = x.max(0) > x.min(0)
    # pictures share one unit, pixels; other features are brought to one, but not centred
    pixels = config.dataset in MNIST or config.dataset in PICTURES
    scale = 1.0 if pixels else x[:, used].std(0)
    x, x_test = x[:, used] / scale, x_test[:, used] / scale

    def score(coef: Any, intercept: float) -> tuple[float, float]:
        said = (x_test @ coef + intercept > 0).astype(int)
        return bias.measure(y_test, said), float((said == y_test).mean())

    return x, y, score


def cells(profile: Profile) -> Plan:
    """The plan of `bias-remedies`; a row's cell is that of its data set."""
    quick = profile.name == "quick"
    plan: list[tuple[Row, Cell | None]] = []
    for name in (MIXTURE, *REAL):
        prior = 0.0 if name == MIXTURE else PRIOR
        runs = 10 if quick and name in MNIST else RUNS
        configs = [RemedyConfig(name, prior, runs, seed) for seed in profile.seeds]
        plan += _of_each_remedy(configs)
    if not quick and data.available("lfw"):
        configs = [RemedyConfig(LFW, 0.0, 5, seed) for seed in profile.seeds]
        plan += _of_each_remedy(configs)
    return plan


def _of_each_remedy(configs: list[RemedyConfig]) -> list[tuple[Row, Cell | None]]:
    """The rows of one data set, which share its cells."""
    cells = [Cell(remedies, config, fingerprints(config.dataset)) for config in configs]
    return [((configs[0].dataset, remedy), cell) for remedy in REMEDIES for cell in cells]


def at_step(name: str, step: float, seed: int) -> dict[str, dict[str, float]]:
    """The measures of one real set, by remedy, when SGD takes another step."""
    config = RemedyConfig(name, PRIOR, 10, seed, step)
    result = compute(Cell(remedies, config, fingerprints(name)))
    found = assemble(None, {(name, remedy): [result] for remedy in REMEDIES})
    return {
        remedy: {
            column: found[name, remedy].estimate(column).value
            for column in ("absolute", "accuracy")
        }
        for remedy in REMEDIES
    }


def assemble(_: object, gathered: Gathered) -> dict[Row, Measurement]:
    """Pool runs; `removed` is the share of the mean absolute bias that a remedy took away."""
    return {row: _pool(row, results) for row, results in gathered.items()}


def _pool(row: Row, results: Sequence[Result]) -> Measurement:
    name, full = ".".join(row[1:]), ".".join((*row[1:-1], FULL))
    signed = 100 * pooled(results, f"{name}.bias")
    before = np.abs(100 * pooled(results, f"{full}.bias")).mean()
    values = summary(
        {
            "bias": signed,
            "absolute": np.abs(signed),
            "accuracy": 100 * pooled(results, f"{name}.accuracy"),
        }
    )
    values["kept"] = Estimate(float(pooled(results, f"{name}.kept").mean()))
    if row[-1] != FULL and before > 0:
        values["removed"] = Estimate(100 * (1 - float(np.abs(signed).mean() / before)))
    return Measurement(values)


def halves(rows: pd.DataFrame, remedy: str) -> bool:
    """Whether a remedy halves the absolute bias and costs at most half a point of accuracy."""
    by = rows.set_index("remedy")
    cut = by.loc[remedy, "absolute"] <= by.loc[FULL, "absolute"] / 2
    return bool(cut and by.loc[remedy, "accuracy"] >= by.loc[FULL, "accuracy"] - 0.5)


NAMES = {PARITY: "parity halves", EXPERTS: "experts halve"}


def conditions(frame: pd.DataFrame) -> list[Condition]:
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


TABLE = Table(
    TableSpec(
        name="bias-remedies",
        caption=(
            "Four remedies for the bias of logistic regression by SGD. Real sets are random "
            f"subsamples in which class 1 has a share of {PRIOR:.0%}, unless they are photographs; "
            "remedies are chosen on validation points, bias is measured on test points (exactly, "
            "for the synthetic set). Removed: share of the mean absolute bias."
        ),
        chapter="weaknesses/bias",
        keys=(Column("dataset", "data set", kind="key"), Column("remedy", "remedy", kind="key")),
        columns=(
            *(replace(c, drift=2.0) for c in POINTS_OF_BIAS),
            Column("removed", "removed", "%", "{:z.0f}"),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("kept", "features kept", format="{:.0f}"),
        ),
        rows=tuple((name, remedy) for name in (MIXTURE, *REAL, LFW) for remedy in REMEDIES),
        claims=(Claim(("breast cancer", EXPERTS), "absolute", None, UNREAD),),
        trend=Every(conditions),
        trend_says=(
            "parity and experts halve the absolute bias and cost at most 0.5 points of accuracy, "
            "on the synthetic set and on most real ones"
        ),
    ),
    cells,
    assemble,
)
