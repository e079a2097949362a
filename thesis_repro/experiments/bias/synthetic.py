"""The table bias-synthetic: bias of linear models on draws of a mixture, one quantity varied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from thesis_repro.experiments.bias.two_classes import SGD, TYPICAL, Floats, learner, sgd
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, every, of, reaches
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.weaknesses import bias

WEAK = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1000)
POINTS = (200, 500, 1000, 2000, 4000)
PRIORS = (0.6, 0.75, 0.9)
ARRIVED = "weak features, default SGD"
"""The sweep of the learner that does not stop early: scikit-learn's SGD at its defaults."""
SWEEPS: dict[str, tuple[float, ...]] = {
    "weak features": WEAK,
    "training points": POINTS,
    "prior": PRIORS,
    ARRIVED: (0, 200, 400, 1000),
}
RUNS = 20
"""Random draws of the mixture for each seed."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Models trained on draws of the mixture; with `twin`, on its symmetric twin too."""

    weak: int
    n: int
    prior: float
    runs: int
    seed: int
    twin: bool


def synthetic(config: SyntheticConfig) -> Result:
    """Cell: exact bias and accuracy of each run's model, and the weights of the first run."""
    found: dict[str, list[float]] = {"bias": [], "accuracy": []}
    weights = np.zeros(0)
    plain = bias.Mixture(config.weak, prior=config.prior)
    twin = bias.Mixture(config.weak, prior=config.prior, symmetric=True)
    for run in range(config.runs):
        x, y = plain.sample(config.n, np.random.default_rng([config.seed, run]))
        model = sgd().set_params(random_state=run).fit(x, y)
        measured = plain.evaluate(model.coef_[0], model.intercept_[0])
        found["bias"].append(measured[0])
        found["accuracy"].append(measured[1])
        if run == 0:
            weights = model.coef_[0]
        if config.twin:
            x += twin.means[y] - plain.means[y]  # the same noise around the other means
            model.fit(x, y)
            other = twin.evaluate(model.coef_[0], model.intercept_[0])
            found.setdefault("symmetric", []).append(other[0])
    arrays = {name: np.array(values) for name, values in found.items()}
    return Result({}, {**arrays, "weights": weights})


@dataclass(frozen=True)
class ArrivedConfig:
    """Models trained by scikit-learn's SGD at its defaults, each on a draw of the mixture."""

    weak: int
    n: int
    prior: float
    runs: int
    seed: int


def arrived(config: ArrivedConfig) -> Result:
    """Cell: exact bias and accuracy of each run's model, on the draws of :func:`synthetic`."""
    mixture = bias.Mixture(config.weak, prior=config.prior)
    measured = []
    for run in range(config.runs):
        x, y = mixture.sample(config.n, np.random.default_rng([config.seed, run]))
        model = learner(SGD).set_params(random_state=run).fit(x, y)
        measured.append(mixture.evaluate(model.coef_[0], model.intercept_[0]))
    leaning, right = np.array(measured).T
    return Result({}, {"bias": leaning, "accuracy": right})


def cell_at(sweep: str, value: float, seed: int) -> Cell:
    """The cell of one value of one sweep, for one seed."""
    if sweep == ARRIVED:
        return Cell(arrived, ArrivedConfig(int(value), *TYPICAL[1:], RUNS, seed))
    return Cell(synthetic, config_at(sweep, value, RUNS, seed))


def config_at(sweep: str, value: float, runs: int, seed: int) -> SyntheticConfig:
    """The configuration at one value of one sweep."""
    weak, n, prior = TYPICAL
    if sweep == "weak features":
        weak = int(value)
    elif sweep == "training points":
        n = int(value)
    else:
        prior = value
    return SyntheticConfig(weak, n, prior, runs, seed, twin=sweep == "weak features")


def cells(profile: Profile) -> Plan:
    """The plan of `bias-synthetic`."""
    return [
        ((sweep, f"{value:g}"), cell_at(sweep, value, seed))
        for sweep, values in SWEEPS.items()
        for value in values
        for seed in profile.seeds
    ]


def drawn(sweep: str, value: float, seed: int = 0) -> Result:
    """The runs behind one row of `bias-synthetic`, for one seed; from the store where there."""
    return compute(Cell(synthetic, config_at(sweep, value, RUNS, seed)))


def pooled(results: Sequence[Result], name: str) -> Floats:
    """One array of all seeds' runs."""
    return np.concatenate([r.arrays[name] for r in results])


def summary(values: Mapping[str, Floats]) -> dict[str, Estimate | str]:
    """Mean and Student interval over all runs, in percentage points unless it is a count."""
    return {
        name: replace(statistics.mean_over(found.tolist(), "runs"), value=float(found.mean()))
        for name, found in values.items()
    }


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Pool the runs of all seeds; add the Bayes-optimal bias in closed form."""
    return {row: _pool(cell_at(row[0], float(row[1]), 0).config, gathered[row]) for row in gathered}


def _pool(config: SyntheticConfig | ArrivedConfig, results: Sequence[Result]) -> Measurement:
    mixture = bias.Mixture(config.weak, prior=config.prior)
    signed = 100 * pooled(results, "bias")
    values = {
        "bias": signed,
        "absolute": np.abs(signed),
        "accuracy": 100 * pooled(results, "accuracy"),
    }
    if isinstance(config, SyntheticConfig) and config.twin:
        values["symmetric"] = 100 * pooled(results, "symmetric")
    bayes = 100 * bias.bayes_bias(mixture.separation, mixture.prior)
    return Measurement(summary(values) | {"bayes": Estimate(bayes)})


def ranks(frame: pd.DataFrame, sweep: str) -> tuple[float, int]:
    """Spearman correlation of absolute bias with the swept value, and the number of settings."""
    from scipy.stats import spearmanr

    rows = frame[frame["sweep"] == sweep]
    return float(spearmanr(rows["value"].astype(float), rows["absolute"]).statistic), len(rows)


GRID = [(d, p) for d in (0.5, 1.0, 2.0, 4.0) for p in (0.5, 0.6, 0.7, 0.8, 0.9)]
"""Separations and priors at which the closed form is simulated."""
SIMULATED = 400_000
"""Points of each simulation."""


@cache
def closed_form_gap() -> float:
    """Largest difference, in points, of closed form and simulation over the grid."""
    return 100 * max(
        abs(bias.bayes_bias(d, p) - bias.simulated_bias(d, p, SIMULATED, seed))
        for seed, (d, p) in enumerate(GRID)
    )


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Growth with weak features, decay with points, and the symmetric control."""
    grows, settings = ranks(frame, "weak features")
    falls, sizes = ranks(frame, "training points")
    control = [of(row, "symmetric") for _, row in frame.iterrows() if pd.notna(row["symmetric"])]
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
            "within 1 point, with the interval",
            f"at most {max(abs(one.value) for one in control):.1f}",
            every(
                reaches(one, end, at_most)
                for one in control
                for end, at_most in ((-1.0, False), (1.0, True))
            ),
        ),
    ]


SIGNED = "{:z.1f}"
"""One decimal; what rounds to zero has no sign."""
POINTS_OF_BIAS = (
    Column("bias", "bias", "points", SIGNED, drift=1.0),
    Column("absolute", "absolute bias", "points", drift=1.0),
)

TABLE = Table(
    TableSpec(
        name="bias-synthetic",
        caption=(
            "Bias of logistic regression by SGD on two Gaussian classes with 20 strong features, "
            "one quantity varied at a time around 200 asymmetric weak features, 1,000 training "
            "points and prior 0.5; bias and accuracy are exact for each trained model. SGD takes "
            "small steps; at its defaults where the row says so. Symmetric: "
            "bias where half of the weak features point to the other class. Bayes: bias of the "
            "best possible rule."
        ),
        chapter="weaknesses/bias",
        keys=(Column("sweep", "varied", kind="key"), Column("value", "value", kind="key")),
        columns=(
            *POINTS_OF_BIAS,
            Column("accuracy", "accuracy", "%", drift=1.0),
            Column("symmetric", "symmetric", "points", SIGNED, drift=1.0),
            Column("bayes", "Bayes", "points", drift=0.01),
        ),
        claims=published.claims("bias-synthetic"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
