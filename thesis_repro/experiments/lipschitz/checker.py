"""The table lipschitz-checker: certificate files, judged by the independent checker."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from thesis_repro import data
from thesis_repro.experiments.nets import GLORO_2C2F, TITLES, Net, bounded_nets
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import certificate, certify, checker
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec


@dataclass(frozen=True)
class CheckerConfig:
    """The certificate file of a net's first test points (0: all), judged by the checker."""

    subject: Net
    points: int


def checking(config: CheckerConfig) -> Result:
    """Cell: what the independent checker says of the points of a certificate file."""
    net = config.subject.load()
    x = data.held_out(config.subject.training.dataset).x[: config.points or None]
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
            (TITLES[net.training.dataset], name),
            Cell(checking, CheckerConfig(net, points), net.fingerprints()),
        )
        for name, net in bounded_nets(profile)
        if name == GLORO_2C2F
    ]


def confirmed(frame: pd.DataFrame) -> bool:
    """Nothing contradicted, nearly everything confirmed."""
    return bool((frame["contradicted"] == 0).all() and (frame["confirmed"] >= 99.5).all())


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
        trend=confirmed,
        trend_says="no point contradicted, and at least 99.5% of the claims confirmed",
    ),
    cells,
    timed=True,
)
