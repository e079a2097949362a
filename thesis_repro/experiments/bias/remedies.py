"""The table bias-remedies: four remedies for the bias of linear models, on many data sets."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.bias.removal import halves, has_bias, pool
from thesis_repro.experiments.bias.synthetic import RUNS, SIGNED
from thesis_repro.experiments.bias.two_classes import (
    CONVERGED,
    DIGITS,
    EARLY,
    EXPERTS,
    FULL,
    L1,
    LFW,
    MIXTURE,
    MIXTURES,
    MNIST,
    PARITY,
    PICTURES,
    SGD,
    SHIFT,
    TABULAR,
    Floats,
    add_run,
    features,
    fingerprints,
    imbalanced,
    learner,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.conditions import ABOVE, Condition, reaches
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.tables.statistics import clopper_pearson
from thesis_repro.weaknesses import bias

PRIOR = 0.75
"""Share of the majority class in the imbalanced subsamples."""
REMEDIES = (FULL, PARITY, EXPERTS, L1, SHIFT)
LEARNERS = (SGD, CONVERGED)
ON_MIXTURE = (EARLY, *LEARNERS)
"""Learners of the typical generated set: that of `bias-synthetic` too."""
SETS: tuple[tuple[str, int], ...] = (
    *((name, 0) for name in (*MIXTURES, *TABULAR)),
    *((name, 50) for name in DIGITS),
    *((name, points) for name in ("MNIST-5k 4/9", "MNIST-5k 3/8") for points in (50, 100, 200)),
    ("MNIST-5k 0–4/5–9", 200),
    (LFW, 0),
)
"""Data sets with the points that are given to learner and remedy; 0: half of the set."""
QUICK_SETS = (
    *((name, 0) for name in (MIXTURE, *TABULAR)),
    *((name, 50) for name in DIGITS),
    *((name, 100) for name in ("MNIST-5k 4/9", "MNIST-5k 3/8")),
)
FEWER_RUNS = {**dict.fromkeys((*MIXTURES, *MNIST), 10), LFW: 5}
"""Runs for each seed of the slower sets; of the others there are `RUNS`."""


@dataclass(frozen=True)
class RemedyConfig:
    """Remedies on random splits of one data set, made imbalanced unless prior is 0.

    points : given to learner and remedy together; the rest is the test set. 0: half of the set
    """

    dataset: str
    learner: str
    prior: float
    points: int
    runs: int
    seed: int


ESTIMATORS: dict[str, Callable[..., bias.Remedy]] = {
    PARITY: bias.FeatureParity,
    EXPERTS: bias.Experts,
    L1: bias.L1,
    SHIFT: bias.ThresholdShift,
}


def remedies(config: RemedyConfig) -> Result:
    """Cell: bias, accuracy and features kept of each remedy in each run."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.frozen import FrozenEstimator

    found: dict[str, list[float]] = {}
    values: dict[str, Any] = {}
    points = None if config.dataset in MIXTURES else features(config.dataset)
    for run in range(config.runs):
        rng = np.random.default_rng([config.seed, run])
        score: Score
        if points is None:
            weak, n = MIXTURES[config.dataset]
            mixture = bias.Mixture(weak)
            x, y = mixture.sample(round(n / 0.6), rng)
            score = mixture.evaluate
        else:
            x, y, score, values["test_points"] = _real(config, *points, rng)
        with warnings.catch_warnings():
            # SGD at its defaults may stop at its last epoch; what is to converge has to
            warnings.simplefilter(
                "error" if config.learner == CONVERGED else "ignore", ConvergenceWarning
            )
            model = bias.FeatureParity(learner(config.learner), random_state=run)
            full = model.fit(x, y).estimator_
        add_run(found, FULL, score(full.coef_[0], full.intercept_[0]), x.shape[1])
        for name, make in ESTIMATORS.items():
            # the same split again, so the frozen model has seen its part of it and no more
            model = make(FrozenEstimator(full), random_state=run).fit(x, y)
            add_run(found, name, score(model.coef_[0], model.intercept_[0]), model.mask_.sum())
    return Result(values, {name: np.array(one) for name, one in found.items()})


Score = Callable[[Any, float], tuple[float, float]]


def _real(
    config: RemedyConfig, x: Floats, y: Any, rng: np.random.Generator
) -> tuple[Floats, Any, Score, int]:
    """Points to train on, scaled; a function that scores a rule on the others; their number."""
    from sklearn.model_selection import train_test_split

    if config.prior:
        index = imbalanced(y, config.prior, rng)
        x, y = x[index], y[index]
    x, x_test, y, y_test = train_test_split(
        x, y, train_size=config.points or 0.5, stratify=y, random_state=int(rng.integers(2**31))
    )
    used = x.max(0) > x.min(0)
    # pictures share one unit, pixels; other features are brought to one, but not centred
    pixels = config.dataset in MNIST or config.dataset in PICTURES
    scale = 1.0 if pixels else x[:, used].std(0)
    x, x_test = x[:, used] / scale, x_test[:, used] / scale

    def score(coef: Any, intercept: float) -> tuple[float, float]:
        said = (x_test @ coef + intercept > 0).astype(int)
        return bias.measure(y_test, said), float((said == y_test).mean())

    return x, y, score, len(y_test)


def titled(name: str, points: int) -> str:
    """The key of a set: its name, and how many points of it were given."""
    return f"{name}, {points} points" if points else name


def learners_on(name: str) -> tuple[str, ...]:
    """The learners that are run on a set."""
    return ON_MIXTURE if name == MIXTURE else LEARNERS


def config_of(name: str, points: int, learner: str, seed: int) -> RemedyConfig:
    """The configuration of one set, at one learner and seed."""
    prior = 0.0 if name in MIXTURES or name == LFW else PRIOR
    return RemedyConfig(name, learner, prior, points, FEWER_RUNS.get(name, RUNS), seed)


def cells(profile: Profile) -> Plan:
    """The plan of `bias-remedies`; the rows of one learner on one set share their cells."""
    plan: list[tuple[Row, Cell | None]] = []
    for name, points in QUICK_SETS if profile.name == "quick" else SETS:
        if name == LFW and not data.available("lfw"):
            continue
        for trained in learners_on(name):
            configs = [config_of(name, points, trained, seed) for seed in profile.seeds]
            cells = [Cell(remedies, config, fingerprints(name)) for config in configs]
            rows = [(titled(name, points), trained, remedy) for remedy in REMEDIES]
            plan += [(row, cell) for row in rows for cell in cells]
    return plan


def by_learner(name: str, points: int, learner: str, seed: int) -> dict[str, Measurement]:
    """What each remedy did on one set, with any learner, for one seed."""
    result = compute(Cell(remedies, config_of(name, points, learner, seed), fingerprints(name)))
    return {remedy: pool([result], remedy, FULL) for remedy in REMEDIES}


def assemble(_: Profile, gathered: Gathered) -> dict[Row, Measurement]:
    """Pool the runs of all seeds."""
    return {row: pool(results, row[-1], FULL) for row, results in gathered.items()}


NAMES = {PARITY: "parity halves", EXPERTS: "experts halve"}
TRAINED = {EARLY: "SGD, small steps", SGD: "SGD", CONVERGED: "to convergence"}


def _groups(frame: pd.DataFrame, learner: str, mixtures: bool) -> list[pd.DataFrame]:
    """The rows of each set, generated or real, on which this learner has a bias beyond chance."""
    return [rows for rows in _sets(frame, learner, mixtures) if has_bias(rows)]


def _sets(frame: pd.DataFrame, learner: str, mixtures: bool) -> list[pd.DataFrame]:
    mine = frame[(frame["learner"] == learner) & (frame["dataset"].isin(MIXTURES) == mixtures)]
    return [rows for _, rows in mine.groupby("dataset", sort=False)]


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Parity and experts on the sets where a learner has a bias: on the majority of these.

    One for each learner and kind of set; not measurable where no set has a bias. Generated sets
    stand for themselves, and are counted; real ones stand for others, so the interval decides.
    """
    found = []
    for mixtures, kind in ((True, "synthetic sets"), (False, "real sets")):
        for trained in ON_MIXTURE if mixtures else LEARNERS:
            groups = _groups(frame, trained, mixtures)
            measurable = bool(groups) or not _sets(frame, trained, mixtures)
            for remedy in (PARITY, EXPERTS):
                count = sum(halves(rows, remedy) for rows in groups)
                found.append(
                    Condition(
                        f"{NAMES[remedy]} the bias, {kind}, {TRAINED[trained]}",
                        "half removed, accuracy at most 0.5 lower, on more than half of the sets "
                        f"with a bias beyond chance{'' if mixtures else ', interval included'}",
                        f"{count} of {len(groups)} sets",
                        _majority(count, len(groups), exact=mixtures) if groups else None,
                        measurable=measurable,
                    )
                )
    return found


def _majority(count: int, n: int, *, exact: bool) -> bool | None:
    """Whether these are more than half; where they are a sample, with the interval."""
    if exact:
        return 2 * count > n
    return reaches(Estimate(count / n, *clopper_pearson(count, n)), 0.5 + ABOVE)


def side_by_side(frame: pd.DataFrame) -> pd.DataFrame:
    """Every remedy at equal accuracy: on how many real sets it halves the bias at no cost.

    One row for each learner and remedy: sets with a bias beyond chance, those where at least half
    of it is gone and accuracy at most 0.5 points lower, the exact interval of that share in
    percent, and the mean change of accuracy in points.
    """
    found = []
    for trained in LEARNERS:
        groups = _groups(frame, trained, False)
        for remedy in REMEDIES[1:] if groups else ():
            count = sum(halves(rows, remedy) for rows in groups)
            low, high = clopper_pearson(count, len(groups))
            by = [rows.set_index("remedy")["accuracy"] for rows in groups]
            gain = float(np.mean([one[remedy] - one[FULL] for one in by]))
            share = f"[{100 * low:.0f}, {100 * high:.0f}]"
            change = f"{gain:+.1f}".replace("-", "−")
            found.append((trained, remedy, len(groups), count, share, change))
    names = ["learner", "remedy", "sets with bias", "halved", "interval", "accuracy"]
    return pd.DataFrame(found, columns=names)


TABLE = Table(
    TableSpec(
        name="bias-remedies",
        caption=(
            "Four remedies for the bias of logistic regression, trained by scikit-learn's SGD at "
            "its defaults, and to convergence (on the synthetic set also by SGD that takes small "
            "steps and stops early, as in the table of that set). Real sets are random subsamples "
            f"in which class 1 has a share of {PRIOR:.0%}, unless they are photographs; so many "
            "points, or half of a set, go to learner and remedy, and bias is measured on the "
            "others (exactly, for the synthetic sets). By chance: mean absolute bias of an "
            "unbiased model with as many errors. Removed: share of the mean bias, where that lies "
            "beyond chance."
        ),
        chapter="weaknesses/bias",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("learner", "learner", kind="key"),
            Column("remedy", "remedy", kind="key"),
        ),
        columns=(
            Column("bias", "bias", "points", SIGNED, drift=2.0),
            Column("chance", "by chance", "points"),
            Column("removed", "removed", "%", "{:z.0f}"),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("kept", "features kept", format="{:.0f}"),
        ),
        rows=tuple(
            (titled(*one), trained, remedy)
            for one in SETS
            for trained in learners_on(one[0])
            for remedy in REMEDIES
        ),
        claims=published.claims("bias-remedies"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
