"""What the cells of the chapter weaknesses/bias share: data sets of two classes, and SGD."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_repro import data
from thesis_repro.data import Split

Floats = NDArray[np.float64]

STEP = 1e-4
"""SGD's constant step where training is to stop early."""
FULL, PARITY, EXPERTS, L1, SHIFT = "none", "parity", "experts", "L1", "threshold"
SGD, CONVERGED, EARLY = "SGD", "converged", "SGD, small steps"
"""Learners: scikit-learn's defaults, logistic regression to convergence, and one cut short."""
TYPICAL = (200, 1000, 0.5)
"""Weak features, training points and prior where the others are varied."""
MIXTURE, FEW = "synthetic", "synthetic, few points"
MIXTURES = {MIXTURE: TYPICAL[:2], FEW: (1000, 200)}
"""Weak features and training points of each generated set."""
TABULAR = ("breast cancer", "wine 0/1")
DIGITS = {"digits 4/9": ((4,), (9,)), "digits 3/8": ((3,), (8,))}
MNIST = {
    "MNIST-5k 4/9": ((4,), (9,)),
    "MNIST-5k 3/8": ((3,), (8,)),
    "MNIST-5k 0–4/5–9": ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
}
CIFAR, LFW = "CIFAR-10 frog/bird", "LFW Powell/Bush"
PICTURES = {CIFAR: "cifar10", LFW: "lfw"}


def sgd(step: float = STEP) -> Any:
    """Logistic regression by plain SGD with a constant step."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=step)


def learner(name: str) -> Any:
    """Logistic regression by one of SGD, CONVERGED and EARLY, not fitted yet.

    Raises
    ------
    ValueError
        On another name.
    """
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    makes: dict[str, Callable[[], Any]] = {
        SGD: lambda: SGDClassifier(loss="log_loss"),
        CONVERGED: lambda: LogisticRegression(tol=1e-6, max_iter=100_000),
        EARLY: sgd,
    }
    if name not in makes:
        raise ValueError(f"no learner is called {name!r}; there are {', '.join(makes)}")
    return makes[name]()


def features(name: str) -> tuple[Floats, Any]:
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


def fingerprints(name: str) -> tuple[tuple[str, str], ...]:
    """Fingerprints of the data that a row reads; what scikit-learn ships has its version."""
    import sklearn

    if name in MIXTURES:
        return ()
    if name in TABULAR or name in DIGITS:
        return ((name, f"scikit-learn {sklearn.__version__}"),)
    source = PICTURES.get(name, "mnist-5k")
    return ((source, data.fingerprint(source)),)


def add_run(
    found: dict[str, list[float]], remedy: str, scored: tuple[float, float], kept: float
) -> None:
    """Add one run of a remedy to `found`: bias, accuracy, and how many features it kept."""
    for name, value in zip(("bias", "accuracy", "kept"), (*scored, kept), strict=True):
        found.setdefault(f"{remedy}.{name}", []).append(float(value))
