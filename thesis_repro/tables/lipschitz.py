"""Tables of the chapter robustness/lipschitz."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from thesis_repro import data
from thesis_repro.lab.engine import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, gloro, lipschitz, models, pairs, recipes
from thesis_repro.robustness.faults import FAULTS
from thesis_repro.robustness.gloro import Bound, pairwise_norms
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables.gloro import TITLES, paper_training, quick_training
from thesis_repro.tables.spec import Column, Plan, Quoted, Row, Table, TableSpec

COMMITTED = "mnist-2c2f-gloro"


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
    lr: float = 1e-3

    @property
    def device(self) -> str:
        """The device, for the cell's key."""
        return self.subject.training.device


def tightness(config: TightnessConfig) -> Result:
    """Cell: bounds by method, and the slopes that were found."""
    net = config.subject.load()
    x = data.load(config.subject.training.dataset).test.x[: config.points]
    bound = net.bound()
    fast = gloro.bound(net.body, net.input_shape, "fast")
    below = converged(net)
    slopes = pairs.steepest(net, x, steps=config.steps, lr=config.lr)
    values = {
        "bound": bound.k_ij.max().item(),
        "found": slopes.steepest,
        "share": 100 * slopes.share,
        "slack": 100 * (bound.k_sub / below - 1),
        "fast_slack": 100 * (fast.k_sub / below - 1),
    }
    return Result(values)


def from_below(net: GloroNet, steps: int, dtype: torch.dtype = torch.float32) -> float:
    """The product of power iterations from a cold start, for all layers before the last."""
    value = 1.0
    for _, layer, shape in list(lipschitz.layers(net.body, net.input_shape))[:-1]:
        if hasattr(layer, "weight"):
            start = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1)).to(dtype)
            value *= lipschitz.estimate(layer, shape, steps, start)[0].item()
    return value


def converged(net: GloroNet) -> float:
    """As :func:`from_below`, with 600 steps in float64."""
    return from_below(net, 600, torch.float64)


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
    began = time.perf_counter()
    used = _bound(net, config.method)
    seconds = time.perf_counter() - began
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


def subjects(profile: Profile, seed: int) -> dict[str, Subject]:
    """The GloRo net for radius 0.3, and a standard net of the same shape."""
    if profile.name == "quick":
        robust, epochs = quick_training("0.3", seed), 6
    else:
        robust, epochs = paper_training("0.3", seed, profile.device), 10
    recipe = replace(robust.recipe, method="standard", epochs=epochs, epochs_paper=0, lr=1e-3)
    found = {
        "GloRo 2C2F": Subject(robust),
        "standard 2C2F": Subject(replace(robust, recipe=recipe)),
    }
    if profile.name != "quick" and seed == 0 and COMMITTED in models.names():
        sha256 = models.card(COMMITTED)["sha256"]
        found["GloRo 2C2F"] = Subject(robust, COMMITTED, sha256)
    return found


def _cell(function: Callable[[Any], Result], config: TightnessConfig | SoundnessConfig) -> Cell:
    name = config.subject.training.dataset
    return Cell(function, config, ((name, data.fingerprint(name)),))


def _seeds(profile: Profile) -> tuple[int, ...]:
    """All seeds on a GPU; a CPU run uses the committed net."""
    return profile.seeds if profile.name == "quick" or profile.device == "cuda" else (0,)


def _dataset(profile: Profile) -> str:
    return "mnist-5k" if profile.name == "quick" else "mnist"


def tightness_cells(profile: Profile) -> Plan:
    """The plan of `lipschitz-tightness`."""
    if not data.available(_dataset(profile)):
        return []
    points, steps = (20, 150) if profile.name == "quick" else (100, 1000)
    return [
        ((TITLES[_dataset(profile)], name), _cell(tightness, TightnessConfig(net, points, steps)))
        for seed in _seeds(profile)
        for name, net in subjects(profile, seed).items()
    ]


def soundness_cells(profile: Profile) -> Plan:
    """The plan of `lipschitz-soundness`."""
    if not data.available(_dataset(profile)):
        return []
    return [
        (
            (TITLES[_dataset(profile)], method),
            _cell(soundness, SoundnessConfig(subjects(profile, seed)["GloRo 2C2F"], method)),
        )
        for seed in _seeds(profile)
        for method in METHODS
    ]


def below_the_bound(frame: pd.DataFrame) -> bool:
    """Nothing steeper than the bound was found, and the GloRo net's bound is the tighter one."""
    share = frame.set_index("net")["share"]
    return bool((frame["share"] <= 100).all() and share["GloRo 2C2F"] > share["standard 2C2F"])


def cheap(frame: pd.DataFrame) -> bool:
    """Each step towards soundness keeps or lowers the VRA, all of them by at most 0.2 points."""
    vra = frame.set_index("method")["vra"].reindex(list(METHODS))
    return bool((vra.diff().dropna() <= 1e-9).all() and frame["lost"].max() <= 0.2)


KEYS = (Column("dataset", "data set", kind="key"),)
MNIST = TITLES["mnist"]

LIPSCHITZ_TIGHTNESS = Table(
    TableSpec(
        name="lipschitz-tightness",
        caption=(
            "The largest margin constant that is proven, the steepest slope between two points "
            "that an optimiser found, and the share of K_ij that it reached; then by how much two "
            "proven bounds of K exceed the product of converged power iterations."
        ),
        chapter="robustness/lipschitz",
        keys=(*KEYS, Column("net", "net", kind="key")),
        columns=(
            Column("bound", "largest K_ij", format="{:,.1f}"),
            Column("found", "steepest found", format="{:,.1f}"),
            Column("share", "share reached", "%", drift=8.0),
            Column("slack", "slack of K, auto", "%", format="{:.4f}", drift=0.1),
            Column("fast_slack", "slack of K, fast", "%", format="{:.2f}", drift=1.0),
        ),
        rows=((MNIST, "GloRo 2C2F"), (MNIST, "standard 2C2F")),
        trend=below_the_bound,
        trend_says="no slope above its bound, and the GloRo net closer to it than the standard net",
    ),
    tightness_cells,
)

VERIFIED = "README of a verified certifier (Murray et al. 2025), a dense net trained at 0.45"

LIPSCHITZ_SOUNDNESS = Table(
    TableSpec(
        name="lipschitz-soundness",
        caption=(
            "What soundness costs: VRA of one GloRo 2C2F at radius 0.3 by how K was got; right "
            "points that are no longer certified, against converged power iteration; seconds to "
            "get K on one core; and for which arithmetic the certificates hold."
        ),
        chapter="robustness/lipschitz",
        keys=(*KEYS, Column("method", "K from", kind="key")),
        columns=(
            Column("vra", "VRA", "%", format="{:.2f}", kind="rate", drift=3.0),
            Column("lost", "lost", "% of points", format="{:.2f}", kind="rate", drift=0.6),
            Column("k_sub", "K", format="{:.4f}", drift=2.0),
            Column("seconds", "time", "s", format="{:.2f}"),
            Column("sound", "holds for", kind="text"),
        ),
        rows=tuple((MNIST, method) for method in METHODS),
        quoted=(
            Quoted((MNIST, "GloRo code, dense 8x128"), {"vra": 95.41}, VERIFIED),
            Quoted(
                (MNIST, "verified certifier, dense 8x128"), {"vra": 95.40, "seconds": 960}, VERIFIED
            ),
        ),
        trend=cheap,
        trend_says="each step towards soundness costs VRA, all steps together at most 0.2 points",
    ),
    soundness_cells,
)


def known_faults() -> pd.DataFrame:
    """The faults that the tests plant: what, where it was seen, which check catches it."""
    rows: list[Row] = [(f.fault, f.seen, f.check.partition("::")[2]) for f in FAULTS]
    return pd.DataFrame(rows, columns=["fault", "seen in", "caught by"])


def subject(profile: str, seed: int, device: str) -> Subject:
    """The GloRo net that the tables of a profile are about."""
    return subjects(Profile(profile, device, (seed,)), seed)["GloRo 2C2F"]
