"""The table lipschitz-checker: certificate files, judged by the independent checker."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.nets import GLORO_2C2F, TITLES, bounded_nets
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import certificate, certify, checker, models
from thesis_repro.robustness.recipes import Training
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec


@dataclass(frozen=True)
class CheckerConfig:
    """The certificate file of a net's first test points (0: all), judged by the checker."""

    net: Training
    points: int


def checking(config: CheckerConfig) -> Result:
    """Cell: what the independent checker says of the points of a certificate file."""
    net = models.trained(config.net).cpu()
    x = data.held_out(config.net.dataset).x[: config.points or None]
    with tempfile.TemporaryDirectory() as folder:
        file, weights = Path(folder) / "certificate.json", Path(folder) / "net.safetensors"
        certificate.write(file, net, certify(net, x), x)
        certificate.write_net(weights, net)
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


def cells(profile: Profile) -> Plan:
    """The plan of `lipschitz-checker`: MNIST alone, whose net the checker can prove in a minute."""
    points = 200 if profile.name == "quick" else 0
    return [
        (
            (TITLES[net.dataset], name),
            Cell(checking, CheckerConfig(net, points), models.fingerprints(net)),
        )
        for name, net in bounded_nets(profile)
        if name == GLORO_2C2F
    ]


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """Nothing contradicted, nearly everything confirmed."""
    against, least = frame["contradicted"].sum(), float(frame["confirmed"].min())
    return [
        Condition(
            "the independent checker contradicts no certificate",
            "0 points",
            f"{against:.0f} of {frame['claimed'].sum():,.0f}",
            bool(against == 0),
        ),
        Condition(
            "the independent checker confirms nearly all", "≥ 99.5%", f"{least:.2f}%", least >= 99.5
        ),
    ]


TABLE = Table(
    TableSpec(
        name="lipschitz-checker",
        caption=(
            "Certificate files judged by the independent checker: points, points that the file "
            "claims to be certified, the share of these that the checker confirms, points that it "
            "contradicts, and its time on one core."
        ),
        chapter="robustness/lipschitz",
        keys=(Column("dataset", "data set", kind="key"), Column("net", "net", kind="key")),
        columns=(
            Column("points", "points", format="{:,.0f}", drift=0.0),
            Column("claimed", "claimed", format="{:,.0f}", drift=8.0),
            Column("confirmed", "confirmed", "% of claimed", "{:.2f}", kind="rate", drift=0.5),
            Column("contradicted", "contradicted", format="{:,.0f}", drift=0.0),
            Column("seconds", "time", "s", format="{:.0f}"),
        ),
        rows=((TITLES["mnist"], GLORO_2C2F),),
        claims=published.claims("lipschitz-checker"),
        conditions=conditions,
    ),
    cells,
    timed=True,
)
