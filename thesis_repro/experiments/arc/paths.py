"""The table arc-paths: how far a picture may turn, shift, brighten or fade, by proof."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.arc.judged import NET, PAPER, subjects
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import (
    GloroNet,
    certificate,
    certify,
    checker,
    models,
    paths,
    transformations,
)
from thesis_repro.robustness.paths import Proved
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition, every, of, reaches, said
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec

RANGES = {
    "rotation": (-60.0, 60.0, 10.0),
    "translation": (-8.0, 8.0, 2.0),
    "brightness": (-99.0, 200.0, 30.0),
    "contrast": (-99.0, 200.0, 30.0),
}
"""Ends of each path, and the half range that right images are counted for."""
DEGREES = 2.0


@dataclass(frozen=True)
class PathsConfig:
    """Paths of a net's first held-out images: how many, how densely searched, how many checked."""

    training: Training
    path: str
    images: int
    tried: int
    checked: int


def proving(config: PathsConfig) -> Result:
    """Cell: proved intervals, what a dense search breaks, and what the checker confirms."""
    net, (low, high, half) = models.trained(config.training).cpu(), RANGES[config.path]
    test = data.held_out(config.training.dataset)
    x, y = test.x[: config.images], test.y[: config.images]
    path = transformations.PATHS[config.path](low, high)
    found = paths.certify_path(net, x, path)
    span = (found.high - found.low).numpy()
    right = (found.labels == y) & (found.low <= -half) & (found.high >= half)
    few = paths.certify_path(net, x[: config.checked], path)
    confirmed, files = confirming(net, x, path, few)
    values = {
        "low": float(found.low.median()),
        "high": float(found.high.median()),
        "span": float(np.median(span)),
        "least": float(np.quantile(span, 0.1)),
        "right": {"k": int(right.sum()), "n": len(x)},
        "proved": int((span > 0).sum()),
        "broken": int(paths.broken(net, x, path, found, config.tried).sum()),
        "balls": len(found.balls.at) / max(int((span > 0).sum()), 1),
        "confirmed": {"k": confirmed, "n": len(few.balls.at)},
        "note": f"searched at {config.tried:,} parameters each; {files} certificate files",
    }
    return Result(values)


def confirming(
    net: GloroNet, x: Tensor, path: transformations.Path, proved: Proved
) -> tuple[int, int]:
    """How many balls of a proof the independent checker confirms, and in how many files."""
    balls, confirmed = proved.balls, 0
    groups = paths.files(balls)
    with tempfile.TemporaryDirectory() as folder:
        weights = certificate.write_net(Path(folder) / "net.safetensors", net)
        for epsilon, rows in groups:
            images = path.images(x[balls.image[rows]].double(), balls.at[rows]).to(x.dtype)
            found = certify(net, images, epsilon)
            file = certificate.write(
                Path(folder) / "balls.json", net, found, images, epsilon=epsilon
            )
            report = checker.check(file, weights, images.numpy())
            confirmed += report.count(checker.CONFIRMED)
    return confirmed, len(groups)


def cells(profile: Profile) -> Plan:
    """The plan of `arc-paths`; a large net has fewer paths, of fewer parameters."""
    plan = []
    for title, training in subjects(profile):
        if profile.name == "quick":
            sizes = (30, 200, 3)
        else:
            sizes = (300, 10_000, 20) if training.recipe.net == "2c2f" else (50, 1000, 5)
        for name in RANGES:
            config = PathsConfig(training, name, *sizes)
            plan.append(((title, name), Cell(proving, config, models.fingerprints(training))))
    return plan


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """No proof is broken, the checker agrees, and digits may turn."""
    broken, proved = frame["broken"].sum(), frame["proved"].sum()
    confirmed = [of(row, "confirmed") for _, row in frame.iterrows()]
    turned = frame[(frame["path"] == "rotation") & frame["net"].str.startswith("MNIST")]
    least = float(turned["span"].min())
    return [
        Condition(
            "a dense search breaks no proved path",
            "0 paths",
            f"{broken:.0f} of {proved:,.0f}",
            bool(broken == 0),
        ),
        Condition(
            "the independent checker confirms nearly all balls of paths",
            "≥ 99.5% of balls, in every row",
            said(min(confirmed, key=lambda share: share.low), 2) + "% at least",
            every(reaches(share, 99.5) for share in confirmed),
        ),
        Condition(
            f"the median digit is proved over {DEGREES:.0f} degrees of turning or more",
            f"≥ {DEGREES:.0f} degrees on every net for digits",
            f"{least:.1f} degrees",
            least >= DEGREES,
        ),
    ]


TABLE = Table(
    TableSpec(
        name="arc-paths",
        caption=(
            "Labels proved along whole paths of images: turning in degrees, shifting sideways in "
            "pixels, brightness and contrast in percent. Medians over all images of how far the "
            "proof goes to either side and of the whole interval, and what nine in ten intervals "
            "exceed; right images that are proved within "
            + ", ".join(f"±{half:g} ({name})" for name, (_, _, half) in RANGES.items())
            + "; paths with a proof, those of them that a dense search breaks, balls a path, and "
            "the share of the first images' balls that the independent checker confirms."
        ),
        chapter="arc/arc",
        keys=(NET, Column("path", "path", kind="key")),
        columns=(
            Column("low", "from", drift=12.0),
            Column("high", "to", drift=12.0),
            Column("span", "interval", drift=20.0),
            Column("least", "nine in ten exceed", drift=20.0),
            Column("right", "right and proved", "%", kind="rate", drift=20.0),
            Column("proved", "proved", "paths", "{:,.0f}", drift=2.0),
            Column("broken", "broken", "paths", "{:,.0f}", drift=0.0),
            Column("balls", "balls", "a path", drift=20.0),
            Column("confirmed", "confirmed", "% of balls", "{:.2f}", kind="rate", drift=0.5),
        ),
        rows=tuple((net, name) for net in PAPER for name in RANGES),
        claims=published.claims("arc-paths"),
        conditions=conditions,
    ),
    cells,
)
