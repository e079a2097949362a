"""A table of one's own: frozen configurations, cells that are kept, means with intervals."""

from dataclasses import dataclass

from thesis_repro import data, robustness, tables
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.robustness import models
from thesis_repro.tables.measure import measure
from thesis_repro.tables.spec import Column, Plan, Table, TableSpec

NET = "mnist-2c2f-gloro"


@dataclass(frozen=True)
class Config:
    """All that a cell depends on, besides its code and what it reads."""

    radius: float


def share(config: Config) -> Result:
    """Cell: how many test points are certified at a radius."""
    net, test = robustness.load(NET), data.held_out("mnist-5k")
    found = robustness.certify(net, test.x[:200], config.radius)
    right = found.certified & (found.labels == test.y[:200])
    return Result({"vra": {"k": int(right.sum()), "n": 200}})


def plan(size: Profile) -> Plan:
    """Each row with its cells, and the hashes of what these read: the data and the net."""
    read = (("mnist-5k", data.fingerprint("mnist-5k")), (NET, models.card(NET)["sha256"]))
    return [((str(radius),), Cell(share, Config(radius), read)) for radius in (0.1, 0.3, 0.5)]


keys, columns = (Column("radius", "radius", kind="key"),), (Column("vra", "VRA", "%", kind="rate"),)
spec = TableSpec("own-radii", "VRA of a committed net.", keys, columns, "robustness/gloro")
frame = measure(Table(spec, plan), profile("quick", "cpu"))
print(tables.text(frame, "md"))
assert len(frame.data) == 3
