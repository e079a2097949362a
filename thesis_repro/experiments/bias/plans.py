"""Tables of the chapter weaknesses/bias: plans, assembly, specs, and what has to hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thesis_repro import data
from thesis_repro.experiments.bias.cells import (
    CIFAR,
    DIGITS,
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
    TABULAR,
    TYPICAL,
    DeepConfig,
    Floats,
    RemedyConfig,
    SyntheticConfig,
    deep,
    remedies,
    synthetic,
)
from thesis_repro.experiments.bias.conditions import (
    deep_conditions,
    every,
    remedy_conditions,
    synthetic_conditions,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.spec import (
    Claim,
    Column,
    Gathered,
    Plan,
    Quoted,
    Row,
    Table,
    TableSpec,
)
from thesis_repro.weaknesses import bias

PRIOR = 0.75
"""Share of the majority class in the imbalanced subsamples."""
WEAK = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1000)
POINTS = (200, 500, 1000, 2000, 4000)
PRIORS = (0.6, 0.75, 0.9)
SWEEPS: dict[str, tuple[float, ...]] = {
    "weak features": WEAK,
    "training points": POINTS,
    "prior": PRIORS,
}


def synthetic_config(sweep: str, value: float, runs: int, seed: int) -> SyntheticConfig:
    """The configuration at one value of one sweep."""
    weak, n, prior = TYPICAL
    if sweep == "weak features":
        weak = int(value)
    elif sweep == "training points":
        n = int(value)
    else:
        prior = value
    return SyntheticConfig(weak, n, prior, runs, seed, twin=sweep == "weak features")


RUNS = 20
"""Random draws of the mixture for each seed."""


def drawn(sweep: str, value: float, seed: int = 0) -> Result:
    """The runs behind one row of `bias-synthetic`, for one seed; from the store where there."""
    return compute(Cell(synthetic, synthetic_config(sweep, value, RUNS, seed)))


def synthetic_cells(profile: Profile) -> Plan:
    """The plan of `bias-synthetic`."""
    return [
        ((sweep, f"{value:g}"), Cell(synthetic, synthetic_config(sweep, value, RUNS, seed)))
        for sweep, values in SWEEPS.items()
        for value in values
        for seed in profile.seeds
    ]


def pooled(results: Sequence[Result], name: str) -> Floats:
    """One array of all seeds' runs."""
    return np.concatenate([r.arrays[name] for r in results])


def _summary(results: Sequence[Result], values: Mapping[str, Floats]) -> dict[str, Any]:
    """Mean and Student interval over all runs, in percentage points unless it is a count."""
    runs = len(next(iter(values.values())))
    record: dict[str, Any] = {
        "seeds": len(results),
        "interval": f"Student t over {runs} runs",
    }
    for name, found in values.items():
        low, high = statistics.student_t(found.tolist())
        record |= {name: float(found.mean()), f"{name}_low": low, f"{name}_high": high}
    return record


def assemble_synthetic(profile: Profile, gathered: Gathered) -> Mapping[Row, Mapping[str, Any]]:
    """Pool the runs of all seeds; add the Bayes-optimal bias in closed form."""
    records = {}
    for row, results in gathered.items():
        if not results:
            continue
        config = synthetic_config(row[0], float(row[1]), 0, 0)
        mixture = bias.Mixture(config.weak, prior=config.prior)
        signed = 100 * pooled(results, "bias")
        values = {
            "bias": signed,
            "absolute": np.abs(signed),
            "accuracy": 100 * pooled(results, "accuracy"),
        }
        if config.twin:
            values["symmetric"] = 100 * pooled(results, "symmetric")
        records[row] = {
            **_summary(results, values),
            "bayes": 100 * bias.bayes_bias(mixture.separation, mixture.prior),
        }
    return records


def prints(name: str) -> tuple[tuple[str, str], ...]:
    """Fingerprints of the data that a row reads; what scikit-learn ships has its version."""
    import sklearn

    if name == MIXTURE:
        return ()
    if name in TABULAR or name in DIGITS:
        return ((name, f"scikit-learn {sklearn.__version__}"),)
    source = PICTURES.get(name, "mnist-5k")
    return ((source, data.fingerprint(source)),)


def _row_cells(
    name: str, function: Callable[[Any], Result], configs: Sequence[Any], names: Sequence[str]
) -> list[tuple[Row, Cell | None]]:
    cells = [Cell(function, config, prints(name)) for config in configs]
    return [((name, remedy), cell) for remedy in names for cell in cells]


REMEDIES = (FULL, PARITY, EXPERTS, L1, SHIFT)
DEEP_REMEDIES = (FULL, PARITY, EXPERTS, SHIFT)


def remedy_cells(profile: Profile) -> Plan:
    """The plan of `bias-remedies`; a row's cell is that of its data set."""
    quick = profile.name == "quick"
    plan: list[tuple[Row, Cell | None]] = []
    for name in (MIXTURE, *REAL):
        prior = 0.0 if name == MIXTURE else PRIOR
        runs = 10 if quick and name in MNIST else RUNS
        configs = [RemedyConfig(name, prior, runs, seed) for seed in profile.seeds]
        plan += _row_cells(name, remedies, configs, REMEDIES)
    if not quick and data.available("lfw"):
        configs = [RemedyConfig(LFW, 0.0, 5, seed) for seed in profile.seeds]
        plan += _row_cells(LFW, remedies, configs, REMEDIES)
    return plan


def at_step(name: str, step: float, seed: int = 0, runs: int = 10) -> dict[str, dict[str, Any]]:
    """The rows of one real set, by remedy, when SGD takes another step."""
    config = RemedyConfig(name, PRIOR, runs, seed, step)
    result = compute(Cell(remedies, config, prints(name)))
    records = assemble_remedies({(name, remedy): [result] for remedy in REMEDIES})
    return {remedy: dict(records[name, remedy]) for remedy in REMEDIES}


def assemble_remedies(gathered: Gathered) -> dict[Row, dict[str, Any]]:
    """Pool runs; `removed` is the share of the mean absolute bias that a remedy took away."""
    records: dict[Row, dict[str, Any]] = {}
    for row, results in gathered.items():
        if not results:
            continue
        *_, remedy = row
        name, full = ".".join(row[1:]), ".".join((*row[1:-1], FULL))
        signed = 100 * pooled(results, f"{name}.bias")
        before = np.abs(100 * pooled(results, f"{full}.bias")).mean()
        values = {
            "bias": signed,
            "absolute": np.abs(signed),
            "accuracy": 100 * pooled(results, f"{name}.accuracy"),
        }
        records[row] = {
            **_summary(results, values),
            "kept": float(pooled(results, f"{name}.kept").mean()),
        }
        if remedy != FULL and before > 0:
            records[row]["removed"] = 100 * (1 - float(np.abs(signed).mean() / before))
    return records


LAYERS_2C2F = (("second convolution", "3"), ("dense layer", "6"))
EPOCHS = (10, 20)
"""Digits: a net that was stopped early, and one that was not."""
PHOTO_EPOCHS = 15


def digits_net(epochs: int, runs: int, seed: int = 0) -> DeepConfig:
    """The nets on two digits."""
    return DeepConfig("MNIST-5k 4/9", PRIOR, "2c2f", LAYERS_2C2F, epochs, runs, seed)


def deep_cells(profile: Profile) -> Plan:
    """The plan of `bias-deep`: digits in both profiles, photographs where they are in paper."""
    quick = profile.name == "quick"
    wanted = [digits_net(epochs, 6 if quick else 10) for epochs in EPOCHS]
    if not quick:
        wanted += [
            DeepConfig(CIFAR, 0.0, "2c2f", LAYERS_2C2F, PHOTO_EPOCHS, 2, 0),
            DeepConfig(LFW, 0.0, "2c2f", LAYERS_2C2F, PHOTO_EPOCHS, 4, 0),
        ]
    plan: list[tuple[Row, Cell | None]] = []
    for config in wanted:
        here = config.dataset not in PICTURES or data.available(PICTURES[config.dataset])
        cells = [
            Cell(deep, replace(config, seed=seed), prints(config.dataset)) if here else None
            for seed in profile.seeds
        ]
        for title, _ in config.layers:
            for remedy in DEEP_REMEDIES:
                row = (trained_net(config.dataset, config.epochs), title, remedy)
                plan += [(row, cell) for cell in cells]
    return plan


def trained_net(dataset: str, epochs: int) -> str:
    """The key of a net: what it was trained on, and for how long."""
    return f"{dataset}, {epochs} epochs"


PAPER = "Leino et al. 2019"
UNREAD = f"{PAPER}; its table was not at hand"
ABSTRACT = f"{PAPER}, abstract, for VGG16 on CelebA (attractive); here another net and task"
SIGNED = "{:z.1f}"
"""One decimal; what rounds to zero has no sign."""
POINTS_OF_BIAS = (
    Column("bias", "bias", "points", SIGNED, drift=1.0),
    Column("absolute", "absolute bias", "points", drift=1.0),
)

BIAS_SYNTHETIC = Table(
    TableSpec(
        name="bias-synthetic",
        caption=(
            "Bias of logistic regression by SGD on two Gaussian classes with 20 strong features, "
            "one quantity varied at a time around 200 asymmetric weak features, 1,000 training "
            "points and prior 0.5; bias and accuracy are exact for each trained model. Symmetric: "
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
        claims=(Claim(("weak features", "1000"), "absolute", None, UNREAD),),
        trend=every(synthetic_conditions),
        trend_says=(
            "absolute bias grows with weak features, shrinks with training points, and is near "
            "zero in the symmetric control"
        ),
    ),
    synthetic_cells,
    assemble_synthetic,
)

BIAS_REMEDIES = Table(
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
        trend=every(remedy_conditions),
        trend_says=(
            "parity and experts halve the absolute bias and cost at most 0.5 points of accuracy, "
            "on the synthetic set and on most real ones"
        ),
    ),
    remedy_cells,
    lambda _, gathered: assemble_remedies(gathered),
)

NETS = (
    *(trained_net("MNIST-5k 4/9", epochs) for epochs in EPOCHS),
    *(trained_net(name, PHOTO_EPOCHS) for name in (CIFAR, LFW)),
)
DEEP_CLAIMED = (trained_net(CIFAR, PHOTO_EPOCHS), LAYERS_2C2F[1][0], EXPERTS)

BIAS_DEEP = Table(
    TableSpec(
        name="bias-deep",
        caption=(
            "Remedies on one hidden layer of a convolutional net, units ranked by internal "
            f"influence over the training set. Digits: class 1 has a share of {PRIOR:.0%}; "
            "photographs keep their own shares. Chosen on validation images, measured on test "
            "images. Removed: share of the mean absolute bias."
        ),
        chapter="weaknesses/bias",
        keys=(
            Column("net", "trained on", kind="key"),
            Column("layer", "layer", kind="key"),
            Column("remedy", "remedy", kind="key"),
        ),
        columns=(
            *(replace(c, drift=4.0) for c in POINTS_OF_BIAS),
            Column("removed", "removed", "%", "{:z.0f}"),
            Column("accuracy", "accuracy", "%", drift=4.0),
            Column("kept", "units kept", format="{:.0f}"),
        ),
        rows=tuple(
            (net, layer, remedy)
            for net in NETS
            for layer, _ in LAYERS_2C2F
            for remedy in DEEP_REMEDIES
        ),
        claims=(Claim(DEEP_CLAIMED, "removed", 95.0, ABSTRACT, tolerance=5.0),),
        quoted=(Quoted(("CelebA attractive", "VGG16", "the paper's"), {"removed": 95.0}, PAPER),),
        trend=every(deep_conditions),
        trend_says="experts of a hidden layer halve the absolute bias of every net",
    ),
    deep_cells,
    lambda _, gathered: assemble_remedies(gathered),
)
