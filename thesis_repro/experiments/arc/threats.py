"""The table arc-threats: does a certificate predict what it does not promise?"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.arc.judged import NET, PAPER, subjects, with_ends
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import certify, models, threats
from thesis_repro.robustness.outputs import Model, ask, classified
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import ABOVE, Condition, every, of, reaches
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

LINF, L1, PATCH, TURNED, NOISE, BLUR = THREATS = (
    "L∞",
    "L1",
    "patch of 5 × 5",
    "turned by up to 20°",
    "noise",
    "blur",
)
SIZES = {"mnist-5k": (0.1, 15.0, 0.3, 1.5), "mnist": (0.1, 15.0, 0.3, 1.5)}
COLOURED = (4 / 255, 6.0, 0.08, 0.7)
"""Radius of L∞ and of L1, deviation of noise, width of blur; digits bear more than colours."""
STRATA = 10
"""Equally full bins of confidence, in which certified and uncertified points are compared."""


@dataclass(frozen=True)
class ThreatsConfig:
    """A net's first held-out images under one threat."""

    training: Training
    threat: str
    images: int
    steps: int


def attacked(model: Model, x: Tensor, y: Tensor, config: ThreatsConfig) -> Tensor:
    """The images (n, c, h, w) as the threat leaves them."""
    linf, l1, noise, blur = SIZES.get(config.training.dataset, COLOURED)
    steps = config.steps
    by_threat: dict[str, Callable[[], Tensor]] = {
        LINF: lambda: threats.linf(model, x, y, linf, steps),
        L1: lambda: threats.l1(model, x, y, l1, steps),
        PATCH: lambda: threats.patch(model, x, y, 5, steps, places=5),
        TURNED: lambda: threats.turned(model, x, y, 20.0),
        NOISE: lambda: _noisy(x, noise),
        BLUR: lambda: _blurred(x, blur),
    }
    return by_threat[config.threat]()


def _noisy(x: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + deviation * noise).clamp(0, 1)


def _blurred(x: Tensor, width: float) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    found: Tensor = gaussian_blur(x, [7, 7], [width, width])
    return found.clamp(0, 1)


def surviving(config: ThreatsConfig) -> Result:
    """Cell: right points that stay right under a threat, by certificate, and the odds of it."""
    net = models.trained(config.training).cpu()
    test = data.held_out(config.training.dataset)
    x, y = test.x[: config.images], test.y[: config.images]
    certificate, logits = certify(net, x), ask(net.body, x)
    right = certificate.labels == y
    x, y, certified = x[right], y[right], certificate.certified[right].numpy()
    confidence = logits[right].double().softmax(1).amax(1).numpy()
    parts = [
        attacked(net.body, some, labels, config)
        for some, labels in zip(x.split(250), y.split(250), strict=True)
    ]
    kept = (classified(ask(net.body, torch.cat(parts))) == y).numpy()
    values = {
        "certified": _counted(kept[certified]),
        "uncertified": _counted(kept[~certified]),
        **compared(kept, certified, confidence),
    }
    return Result(values)


def _counted(which: np.ndarray) -> dict[str, int]:
    return {"k": int(which.sum()), "n": len(which)}


def compared(kept: np.ndarray, certified: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    """Odds ratios with 95% intervals: of all points, and of points of about equal confidence.

    Half a point is added to each count of the first, so that it is finite. The second is Mantel
    and Haenszel's over strata of confidence; it is left out where no stratum has both kinds of
    points with both ends.

    Parameters
    ----------
    kept, certified : (n,) bool
    confidence : (n,) float
    """
    from statsmodels.stats.contingency_tables import StratifiedTable, Table2x2

    whole = Table2x2(counted(kept, certified) + 0.5)
    found = {"odds": [float(whole.oddsratio), *map(float, whole.oddsratio_confint())]}
    strata = np.array_split(np.argsort(confidence, kind="stable"), STRATA)
    tables = [counted(kept[part], certified[part]) for part in strata]
    tables = [t for t in tables if t.sum(0).all() and t.sum(1).all()]
    if tables:
        with np.errstate(all="ignore"):  # an odds ratio of 0 or infinity has no interval
            pooled = StratifiedTable([table.astype(float) for table in tables])
            ends = [float(pooled.oddsratio_pooled), *map(float, pooled.oddsratio_pooled_confint())]
        if all(map(math.isfinite, ends)) and ends[0] > 0:
            found["equal"] = ends
    return found


def counted(kept: np.ndarray, certified: np.ndarray) -> np.ndarray:
    """(2, 2) counts: certified and not, by kept and not."""
    return np.array(
        [[(one & other).sum() for other in (kept, ~kept)] for one in (certified, ~certified)]
    )


def cells(profile: Profile) -> Plan:
    """The plan of `arc-threats`; a large net has fewer images and steps."""
    plan = []
    for title, training in subjects(profile):
        if profile.name == "quick":
            size = (300, 10)
        else:
            size = (10_000, 20) if training.recipe.net == "2c2f" else (1000, 20)
        for name in THREATS:
            config = ThreatsConfig(training, name, *size)
            plan.append(((title, name), Cell(surviving, config, models.fingerprints(training))))
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """What the first seed's cell found."""
    return {row: _measured(results[0].values) for row, results in gathered.items()}


def _measured(values: Mapping[str, Any]) -> Measurement:
    found = {
        name: statistics.exact_rate(**values[name], how="Clopper-Pearson")
        for name in ("certified", "uncertified")
        if values[name]["n"]
    }
    for name, how in (("odds", "Wald on the log odds"), ("equal", "Mantel-Haenszel")):
        if name in values:
            found[name] = with_ends(values[name], how)
    note = " and ".join(f"{values[name]['n']:,} {name}" for name in ("certified", "uncertified"))
    return Measurement(found, seeds=1, note=note)


def conditions(frame: pd.DataFrame) -> Sequence[Condition]:
    """The directions that were written down before the run."""
    above = [_above_one(row, "odds") for _, row in frame.iterrows()]
    near = [_above_one(row, "equal") for _, row in near_by(frame).iterrows()]
    return [
        Condition(
            "certified points survive every threat more often",
            "interval of the odds ratio above 1 in every row",
            f"in {above.count(True)} of {len(above)}",
            every(above) if above else None,
        ),
        Condition(
            "at equal confidence a certificate still tells who survives small changes of pixels",
            "interval above 1 under L∞ and L1, on every net",
            f"in {near.count(True)} of {len(near)}, measured in {len(measured(frame))}",
            every(near) if near else None,
        ),
    ]


def near_by(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of small changes of pixels."""
    return frame[frame["threat"].isin((LINF, L1))]


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Those of them in which points of equal confidence could be compared."""
    return near_by(frame).dropna(subset=["equal"])


def _above_one(row: pd.Series, column: str) -> bool | None:
    """Whether the interval of an odds ratio lies above 1; None where there is no ratio."""
    return None if pd.isna(row[column]) else reaches(of(row, column), 1 + ABOVE)


TABLE = Table(
    TableSpec(
        name="arc-threats",
        caption=(
            "Threats that a certificate for L2 promises nothing about: of the points that a net "
            "has right, those that stay right, among certified and other points; how much larger "
            "the odds of certified points are, over all (half a point is added to each count, so "
            "that it is finite), and among points of about equal confidence (ten strata; none "
            "where no stratum has points of both kinds that stay and that fall). L∞ 0.1 and L1 15 "
            "on digits, 4/255 and 6 on CIFAR-10; Gaussian noise 0.3 and 0.08, blur of 1.5 and 0.7 "
            "pixels."
        ),
        chapter="arc/arc",
        keys=(NET, Column("threat", "threat", kind="key")),
        columns=(
            Column("certified", "certified stay", "%", kind="rate", drift=8.0),
            Column("uncertified", "others stay", "%", kind="rate", drift=8.0),
            Column("odds", "odds ratio"),
            Column("equal", "at equal confidence"),
        ),
        rows=tuple((net, name) for net in PAPER for name in THREATS),
        claims=published.claims("arc-threats"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
