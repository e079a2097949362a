"""The table lipschitz-soundness: what certificates cost that hold, by how K was got."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from thesis_repro import data
from thesis_repro.experiments.nets import GLORO_2C2F, GLORO_6C2F, TITLES, bounded, bounded_nets
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, certifying, lipschitz, models
from thesis_repro.robustness.faults import FAULTS
from thesis_repro.robustness.gloro import Bound, pairwise_norms
from thesis_repro.robustness.lanczos import converged, linear_layers
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Plan, Row, Table, TableSpec

LIMIT = "power iteration, converged"
"""To what the loss of points is compared."""


@dataclass(frozen=True)
class SoundnessConfig:
    """One net certified with K got in one of the ways of `BOUNDS`."""

    net: Training
    method: str


def soundness(config: SoundnessConfig) -> Result:
    """Cell: VRA with one way to get K, and the points it loses against power iteration."""
    net = models.trained(config.net).cpu()
    test = data.load(config.net.dataset).test
    began = time.process_time()
    bound, holds_for = BOUNDS[config.method]
    used = bound(net)
    seconds = time.process_time() - began
    right = _right(net, test, used)
    lost = _right(net, test, BOUNDS[LIMIT][0](net)) & ~right
    values = {
        "vra": {"k": int(right.sum()), "n": len(right)},
        "lost": {"k": int(lost.sum()), "n": len(right)},
        "k_sub": used.k_sub,
        "seconds": seconds,
        "sound": holds_for,
    }
    return Result(values)


def _right(net: GloroNet, test: data.Split, used: Bound) -> torch.Tensor:
    found = certify(net, test.x, used=used)
    return found.certified & (found.labels == test.y)


def from_below(net: GloroNet, steps: int) -> float:
    """The product of power iterations from a cold start, for all layers before the last."""
    value = 1.0
    for layer, shape in linear_layers(net):
        start = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
        value *= lipschitz.estimate(layer, shape, steps, start)[0].item()
    return value


def _from(net: GloroNet, k_sub: float) -> Bound:
    """The bound that this constant of the layers before the last gives, with no rounding."""
    return Bound(k_sub, k_sub * pairwise_norms(net.head.weight.detach().double()), ())


def _proven(net: GloroNet) -> Bound:
    return certifying.bound(net.body, net.input_shape, "auto", 30.0)


BOUNDS: dict[str, tuple[Callable[[GloroNet], Bound], str]] = {
    "power iteration, 10 steps": (lambda net: _from(net, from_below(net, 10)), "no"),
    LIMIT: (lambda net: _from(net, converged(net)), "no"),
    "proven bound": (lambda net: replace(_proven(net), rounding=None), "exact arithmetic"),
    "proven bound, rounding taken off": (_proven, "as computed"),
}
"""How K is got, and for which arithmetic the certificates then hold."""
METHODS = tuple(BOUNDS)


def cells(profile: Profile) -> Plan:
    """The plan of `lipschitz-soundness`."""
    return [
        (
            (TITLES[net.dataset], method),
            Cell(soundness, SoundnessConfig(net, method), models.fingerprints(net)),
        )
        for name, net in bounded_nets(profile)
        if name in (GLORO_2C2F, GLORO_6C2F)
        for method in METHODS
    ]


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Each step towards soundness keeps or lowers the VRA, on MNIST by at most 0.2 points."""
    falls = [
        (part.set_index("method")["vra"].reindex(METHODS).diff().dropna() <= 1e-9).all()
        for _, part in frame.groupby("dataset")
    ]
    digits = frame[frame["dataset"].str.startswith("MNIST")]
    most = float(digits["lost"].max())
    return [
        Condition(
            "each step towards soundness keeps or lowers the VRA",
            "on every data set",
            f"on {sum(map(bool, falls))} of {len(falls)}",
            all(map(bool, falls)),
        ),
        Condition(
            "the steps after converged power iteration cost little, digits",
            "at most 0.2% of points",
            f"{most:.2f}%",
            most <= 0.2,
        ),
    ]


MNIST, CIFAR = TITLES["mnist"], TITLES["cifar10"]

TABLE = Table(
    TableSpec(
        name="lipschitz-soundness",
        caption=(
            "What soundness costs: VRA of one GloRo net (2C2F at radius 0.3 on digits, 6C2F at "
            "36/255 on CIFAR-10) by how K was got; right points that are no longer certified, "
            "against converged power iteration (its limit, by Lanczos iteration); processor time "
            "to get K on one core; and for which arithmetic the certificates hold."
        ),
        chapter="robustness/lipschitz",
        keys=(Column("dataset", "data set", kind="key"), Column("method", "K from", kind="key")),
        columns=(
            Column("vra", "VRA", "%", format="{:.2f}", kind="rate", drift=3.0),
            Column("lost", "lost", "% of points", format="{:.2f}", kind="rate", drift=0.6),
            Column("k_sub", "K", format="{:.4f}", drift=2.0),
            Column("seconds", "time", "s", format="{:.2f}"),
            Column("sound", "holds for", kind="text"),
        ),
        rows=tuple((title, method) for title in (MNIST, CIFAR) for method in METHODS),
        claims=published.claims("lipschitz-soundness"),
        quoted=published.quoted("lipschitz-soundness"),
        conditions=conditions,
    ),
    cells,
    timed=True,
)


def known_faults() -> pd.DataFrame:
    """The faults that the tests plant: what, where it was seen, which check catches it."""
    rows: list[Row] = [(f.fault, f.seen, f.check.partition("::")[2]) for f in FAULTS]
    return pd.DataFrame(rows, columns=["fault", "seen in", "caught by"])


def subject(profile: str, seed: int, device: str) -> Training:
    """The GloRo net on digits that the tables of a profile are about."""
    return bounded(Profile(profile, device, (seed,)), seed)[GLORO_2C2F]
