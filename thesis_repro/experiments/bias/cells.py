"""Cells of the chapter weaknesses/bias: what one row of its tables computes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_repro import data, nets, training
from thesis_repro.data import Split
from thesis_repro.lab.cells import Result
from thesis_repro.weaknesses import bias

Floats = NDArray[np.float64]

STEP = 1e-4
"""SGD's constant step, for the linear models of the tables."""
FULL, PARITY, EXPERTS, L1, SHIFT = "none", "parity", "experts", "L1", "threshold"
MIXTURE = "synthetic"
TYPICAL = (200, 1000, 0.5)
"""Weak features, training points and prior where the others are varied."""


def sgd(step: float = STEP) -> Any:
    """The learning rule of the chapter: logistic regression by plain SGD."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=step)


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
    points = None if config.dataset == MIXTURE else two_classes(config.dataset)
    for run in range(config.runs):
        rng = np.random.default_rng([config.seed, run])
        score: Score
        if points is None:
            x, y = mixture.sample(round(TYPICAL[1] / 0.6), rng)
            score = mixture.evaluate
        else:
            x, y, score = _real(config, *points, rng)
        full = bias.FeatureParity(sgd(config.step), random_state=run).fit(x, y).estimator_
        _note(found, FULL, score(full.coef_[0], full.intercept_[0]), x.shape[1])
        for name, make in ESTIMATORS.items():
            # the same split again, so the frozen model has seen its part of it and no more
            model = make(FrozenEstimator(full), random_state=run).fit(x, y)
            _note(found, name, score(model.coef_[0], model.intercept_[0]), model.mask_.sum())
    return Result({}, {name: np.array(values) for name, values in found.items()})


def _note(
    found: dict[str, list[float]], remedy: str, scored: tuple[float, float], kept: float
) -> None:
    for name, value in zip(("bias", "accuracy", "kept"), (*scored, kept), strict=True):
        found.setdefault(f"{remedy}.{name}", []).append(float(value))


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


def imbalanced(y: Any, prior: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of the largest subsample in which class 1 has the share `prior`.

    Raises
    ------
    ValueError
        If a class is absent or the prior is outside (0, 1).
    """
    zeros, ones = (rng.permutation(np.flatnonzero(y == c)) for c in (0, 1))
    if not len(zeros) or not len(ones) or not 0 < prior < 1:
        raise ValueError(
            f"an imbalanced subsample needs both classes and 0 < prior < 1, got {len(zeros)} and "
            f"{len(ones)} points and prior={prior}"
        )
    n = min(len(ones) / prior, len(zeros) / (1 - prior))
    chosen = np.concatenate([ones[: int(n * prior)], zeros[: round(n * (1 - prior))]])
    return np.asarray(np.sort(chosen))


TABULAR = ("breast cancer", "wine 0/1")
DIGITS = {"digits 4/9": ((4,), (9,)), "digits 3/8": ((3,), (8,))}
MNIST = {
    "MNIST-5k 4/9": ((4,), (9,)),
    "MNIST-5k 3/8": ((3,), (8,)),
    "MNIST-5k 0–4/5–9": ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
}
CIFAR, LFW = "CIFAR-10 frog/bird", "LFW Powell/Bush"
PICTURES = {CIFAR: "cifar10", LFW: "lfw"}
REAL = (*TABULAR, *DIGITS, *MNIST)


def two_classes(name: str) -> tuple[Floats, Any]:
    """Features (n, d) and labels 0 and 1 of a data set of the chapter; "a/b" makes b class 1."""
    from sklearn import datasets

    if name == "breast cancer":
        return datasets.load_breast_cancer(return_X_y=True)  # type: ignore[no-any-return]
    if name == "wine 0/1":
        x, y = datasets.load_wine(return_X_y=True)
        return x[y < 2], y[y < 2]
    if name in DIGITS:
        x, y = datasets.load_digits(return_X_y=True)
        zero, one = DIGITS[name]
        mine = np.isin(y, zero + one)
        return x[mine], np.isin(y[mine], one).astype(np.int64)
    split = pictures(name)
    return split.x.flatten(1).double().numpy(), split.y.numpy()


def pictures(name: str, part: str = "both") -> Split:
    """Pictures with labels 0 and 1; part is "train", "test" or "both"."""
    import torch

    if name in MNIST:
        source, (zero, one) = "mnist-5k", MNIST[name]
    else:
        source = PICTURES[name]
    loaded = data.load(source)
    if name in PICTURES:
        names = ("frog", "bird") if name == CIFAR else ("Colin_Powell", "George_W_Bush")
        zero, one = ((loaded.classes.index(n),) for n in names)
    parts = {"train": [loaded.train], "test": [loaded.test]}.get(part, [loaded.train, loaded.test])
    x, y = torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts])
    mine = torch.isin(y, torch.tensor(zero + one))
    return Split(x[mine], torch.isin(y[mine], torch.tensor(one)).long())


@dataclass(frozen=True)
class DeepConfig:
    """Nets on one pair of classes, and the remedies on hidden layers.

    layers : (title, dotted name) of each layer
    """

    dataset: str
    prior: float
    net: str
    layers: tuple[tuple[str, str], ...]
    epochs: int
    runs: int
    seed: int
    lr: float = 1e-3
    device: str = "cpu"


def deep(config: DeepConfig) -> Result:
    """Cell: bias, accuracy and units kept of each remedy on each layer, on new nets."""
    found: dict[str, list[float]] = {}
    pool = pictures(config.dataset, "train" if config.dataset == CIFAR else "both")
    for run in range(config.runs):
        fit, val, test = parts(config, pool, run)
        model = trained(config, fit, run)
        for title, slice in config.layers:
            _remedy_layer(found, model, (title, slice), fit, val, test)
    return Result({}, {name: np.array(values) for name, values in found.items()})


def parts(config: DeepConfig, pool: Split, run: int) -> tuple[Split, Split, Split]:
    """Training, validation and test part of one run; CIFAR-10 keeps its own test set.

    `pool` holds all pictures, or CIFAR-10's training pictures.
    """
    rng = np.random.default_rng([config.seed, run])
    if config.dataset == CIFAR:
        fit, val = _cut(pool, 0.2, rng)
        return fit, val, pictures(config.dataset, "test")
    if config.prior:
        index = imbalanced(pool.y.numpy(), config.prior, rng)
        pool = Split(pool.x[index], pool.y[index])
    whole, test = _cut(pool, 0.5, rng)
    fit, val = _cut(whole, 0.4, rng)
    return fit, val, test


def _remedy_layer(
    found: dict[str, list[float]],
    model: Any,
    layer: tuple[str, str],
    fit: Split,
    val: Split,
    test: Split,
) -> None:
    """Choose masks from training influence and validation points; score them on test points."""
    title, slice = layer
    influence = bias.unit_influence(model, fit.x, slice)
    chosen_on, judged_on = (bias.HiddenLayer(model, slice, part.x) for part in (val, test))
    y, truth = val.y.numpy(), test.y.numpy()
    alpha, beta = bias.search_experts(influence, y, chosen_on.all_scores, grid=16)
    masks = {
        FULL: None,
        PARITY: bias.parity_mask(influence),
        EXPERTS: bias.expert_mask(influence, alpha, beta),
        SHIFT: None,
    }
    for name, mask in masks.items():
        scores = judged_on.scores(mask)
        if name == SHIFT:
            scores = scores + bias.balancing_shift(chosen_on.scores(), y)
        said = (scores > 0).astype(int)
        scored = bias.measure(truth, said), float((said == truth).mean())
        kept = chosen_on.units if mask is None else float(mask.sum())
        _note(found, f"{title}.{name}", scored, kept)


def trained(config: DeepConfig, fit: Split, run: int) -> Any:
    """A ReLU net of two classes, trained by cross-entropy."""
    import torch

    seed = 1000 * config.seed + run
    channels, height, width = fit.x.shape[1:]
    model = nets.build(
        config.net,
        "relu",
        in_shape=(channels, height, width),
        classes=2,
        generator=torch.Generator().manual_seed(seed),
    )
    schedule = training.cosine(config.lr, warmup=0.1)
    how = training.TrainConfig(config.epochs, 64, seed)
    training.fit(model, training.classification, fit, how, schedule)
    return model.eval()


def _cut(split: Split, share: float, rng: np.random.Generator) -> tuple[Split, Split]:
    """Two parts, the second with `share` of each class."""
    from sklearn.model_selection import train_test_split

    first, second = train_test_split(
        np.arange(len(split)),
        test_size=share,
        stratify=split.y,
        random_state=int(rng.integers(2**31)),
    )
    return Split(split.x[first], split.y[first]), Split(split.x[second], split.y[second])
