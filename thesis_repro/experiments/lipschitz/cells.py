"""Cells of the tables of the chapter robustness/lipschitz."""

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from thesis_repro import data
from thesis_repro.lab.cells import Result
from thesis_repro.robustness import (
    GloroNet,
    certificate,
    certify,
    checker,
    gloro,
    lipschitz,
    models,
    pairs,
    recipes,
)
from thesis_repro.robustness.gloro import Bound, pairwise_norms
from thesis_repro.robustness.recipes import Training


@dataclass(frozen=True)
class Subject:
    """A net: from a training, or a committed model (`model` with the hash of its weights)."""

    training: Training
    model: str = ""
    sha256: str = ""

    def load(self) -> GloroNet:
        """The net in eval mode on the CPU, where proofs are made."""
        if self.model:
            return models.load(self.model)
        return recipes.trained(self.training)[0].cpu()


@dataclass(frozen=True)
class TightnessConfig:
    """The bound of a net against the steepest pairs that an optimiser finds from test points."""

    subject: Subject
    points: int
    steps: int
    seconds: float
    lr: float = 1e-3

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.subject.training.device


def tightness(config: TightnessConfig) -> Result:
    """Cell: bounds by method, and the slopes that were found."""
    net, recipe = config.subject.load(), config.subject.training.recipe
    x = data.held_out(config.subject.training.dataset).x[: config.points]
    began = time.process_time()
    fast = gloro.bound(net.body, net.input_shape, "fast")
    between = time.process_time()
    bound = gloro.bound(net.body, net.input_shape, "auto", config.seconds)
    ended = time.process_time()
    below = converged(net)
    slopes = pairs.steepest(net, x, steps=config.steps, lr=config.lr, k_ij=bound.k_ij)
    values = {
        "bound": bound.k_ij.max().item(),
        "found": slopes.steepest,
        "share": 100 * slopes.share,
        "slack": 100 * (bound.k_sub / below - 1),
        "fast_slack": 100 * (fast.k_sub / below - 1),
        "seconds": ended - between,
        "fast_seconds": between - began,
        "epochs_run": recipe.epochs,
        "epochs_paper": recipe.epochs_paper,
        "note": f"{config.points} pairs, {config.steps:,} steps",
    }
    return Result(values)


def from_below(net: GloroNet, steps: int) -> float:
    """The product of power iterations from a cold start, for all layers before the last."""
    value = 1.0
    for layer, shape in _linear_layers(net):
        start = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
        value *= lipschitz.estimate(layer, shape, steps, start)[0].item()
    return value


def converged(net: GloroNet) -> float:
    """The limit of :func:`from_below` in float64: the product of the finite operators' norms."""
    return math.prod(operator_norm(layer, shape) for layer, shape in _linear_layers(net))


def operator_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The norm of a linear layer for inputs of `shape`, by Lanczos iteration in float64.

    At most the true norm, up to rounding, and below it by a relative 1e-8 or so: no proof.

    Raises
    ------
    scipy.sparse.linalg.ArpackNoConvergence
        If it does not converge.
    """
    size = math.prod(shape)

    def gram(vector: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(vector)).view(1, *shape)
        with torch.no_grad():
            y = lipschitz.adjoint_map(layer, lipschitz.linear_map(layer, x), shape)
        return y.flatten().numpy()

    operator = LinearOperator((size, size), matvec=gram, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    found = eigsh(operator, k=1, v0=start, tol=1e-8, return_eigenvectors=False)
    return math.sqrt(float(found[0]))


def _linear_layers(net: GloroNet) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Layers with weights before the last, each with the shape of its input."""
    walk = list(lipschitz.layers(net.body, net.input_shape))[:-1]
    return [(layer, shape) for _, layer, shape in walk if hasattr(layer, "weight")]


@dataclass(frozen=True)
class SoundnessConfig:
    """One net certified with K got in one of the ways of `METHODS`."""

    subject: Subject
    method: str

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.subject.training.device


METHODS = {
    "power iteration, 10 steps": "no",
    "power iteration, converged": "no",
    "proven bound": "exact arithmetic",
    "proven bound, rounding taken off": "as computed",
}
"""How K is got, and for which arithmetic the certificates then hold."""


def soundness(config: SoundnessConfig) -> Result:
    """Cell: VRA with one way to get K, and the points it loses against power iteration."""
    net = config.subject.load()
    test = data.load(config.subject.training.dataset).test
    began = time.process_time()
    used = _bound(net, config.method)
    seconds = time.process_time() - began
    right = certify(net, test.x, used=used).certified & (_labels(net, test.x) == test.y)
    baseline = certify(net, test.x, used=_bound(net, "power iteration, converged"))
    lost = baseline.certified & (baseline.labels == test.y) & ~right
    values = {
        "vra": {"k": int(right.sum()), "n": len(right)},
        "lost": {"k": int(lost.sum()), "n": len(right)},
        "k_sub": used.k_sub,
        "seconds": seconds,
        "sound": METHODS[config.method],
    }
    return Result(values)


def _labels(net: GloroNet, x: torch.Tensor) -> torch.Tensor:
    return certify(net, x).labels


def _bound(net: GloroNet, method: str) -> Bound:
    if method.startswith("power"):
        k_sub = from_below(net, 10) if "10" in method else converged(net)
        return Bound(k_sub, k_sub * pairwise_norms(net.head.weight.detach().double()), ())
    found = gloro.bound(net.body, net.input_shape, "auto", 30.0)
    return found if "rounding" in method else replace(found, rounding=None)


@dataclass(frozen=True)
class CheckerConfig:
    """The certificate file of a net's first test points (0: all), judged by the checker."""

    subject: Subject
    points: int

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.subject.training.device


def checking(config: CheckerConfig) -> Result:
    """Cell: what the independent checker says of the points of a certificate file."""
    net = config.subject.load()
    x = data.held_out(config.subject.training.dataset).x[: config.points or None]
    with tempfile.TemporaryDirectory() as folder:
        file, weights = Path(folder) / "certificate.json", Path(folder) / "net.safetensors"
        certificate.write(file, net, certify(net, x), x)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights)
        began = time.process_time()
        report = checker.check(file, weights, x.numpy())
        seconds = time.process_time() - began
    confirmed = report.count(checker.CONFIRMED)
    claimed = len(report.verdicts) - report.count(checker.NO_CLAIM)
    values = {
        "points": len(x),
        "claimed": claimed,
        "confirmed": {"k": confirmed, "n": claimed},
        "contradicted": report.count(checker.CONTRADICTED),
        "seconds": seconds,
    }
    return Result(values)
