"""The two-sided matched filter as a row of a table: a contest of its own beside that of the others.

It has cells of its own, so that what is recorded of the other attacks stays as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thesis_repro import data
from thesis_repro.experiments.membership.contests import DEVELOPED, KNOWN, SHADOWS, targets
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import contest, pushed, victims, white_box
from thesis_repro.weaknesses.membership.contest import Bools, Contest, Floats, Observations, View
from thesis_repro.weaknesses.membership.guesses import fair
from thesis_repro.weaknesses.membership.pushed import LAYERS, THROUGH, Odds, Pushed
from thesis_repro.weaknesses.membership.two_sided import Dense, TwoSided
from thesis_repro.weaknesses.membership.victims import Victim

TWO_SIDED = "white-box, two-sided"
PROXIES = {"quick": SHADOWS, "paper": 10}


def traced(config: Victim) -> Result:
    """Cell: what a shadow says of every point of its game while it is trained, (n, classes)."""
    x, _ = _points(config)
    return Result({}, {THROUGH: pushed.through_training(config, x).astype(np.float32)})


def filtered(config: Contest) -> Result:
    """Cell: the two-sided attack on every target: scores, and those on the shadows' points.

    Arrays are named as those of a contest. Strength and noise come from shadows; a shadow's own
    score uses those of the others.
    """
    x, y = _points(config.victim)
    filters = _Filters(config, x, y)
    nets = Observations(config, filters.shown)
    known: dict[int, tuple[Pushed, Bools]] = {}
    for index in nets.names["shadow"]:
        view = nets.view("shadow", index)
        kept = fair(view)
        known[index] = filters.pushed("shadow", index, view, kept), view.member[kept]
    odds = {out: _odds(known, out) for out in (None, *known)}
    arrays: dict[str, NDArray[Any]] = {
        f"{KNOWN}.{TWO_SIDED}": np.concatenate([odds[i].score(k) for i, (k, _) in known.items()]),
        f"{KNOWN}.member": np.concatenate([member for _, member in known.values()]),
    }
    for index in config.targets:
        view = nets.view("target", index)
        every = np.ones(len(view.member), np.bool_)
        seen = filters.pushed("target", index, view, every)
        arrays[f"member.{index}"] = view.member
        arrays[f"{TWO_SIDED}.{index}"] = odds[None].score(seen)
    return Result({}, arrays)


def _points(victim: Victim) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Every point that a victim is observed on, on its device, and the labels."""
    everything = victims.points(victim.dataset)
    chosen = torch.from_numpy(contest.parts(len(everything), victim.n).indices)
    return everything.x[chosen].to(victim.device), everything.y[chosen].numpy()


def _odds(known: Mapping[int, tuple[Pushed, Bools]], out: int | None) -> Odds:
    used = [one for i, one in known.items() if i != out]
    return Odds.fit([seen for seen, _ in used], [member for _, member in used])


class _Filters:
    """The filters of all nets of a contest, their noise estimated on its reserve."""

    def __init__(self, config: Contest, x: torch.Tensor, y: NDArray[np.int64]) -> None:
        self.victim, self.x = config.victim, x
        self.n = 2 * config.victim.n
        self.through = {i: self._through(i) for i in range(config.shadows)}
        usual = np.mean([through[2 * self.n :] for through in self.through.values()], 0)
        spare = white_box.expected_residual(y[2 * self.n :], usual, self.victim.smoothing)
        self.spare = torch.from_numpy(spare).to(x.device)
        self.layers: dict[tuple[str, int], dict[str, TwoSided]] = {}

    def _through(self, index: int) -> Floats:
        shadow = victims.other(self.victim, "shadow", index)
        cell = Cell(traced, shadow, named.fingerprints(shadow))
        return compute(cell).arrays[THROUGH].astype(float)

    def shown(self, victim: Victim) -> dict[str, Floats]:
        """The readings of one net; of a shadow, what it said through its training as well."""
        net = named.trained(victim)
        reserve = self.x[2 * self.n :]
        layers = {name: Dense(net, name).null(reserve, self.spare) for name in LAYERS[victim.net]}
        self.layers[victim.role, victim.index] = layers
        found = pushed.shows(net, layers, self.x)
        return found | ({THROUGH: self.through[victim.index]} if victim.role == "shadow" else {})

    def pushed(self, role: str, index: int, view: View, kept: Bools) -> Pushed:
        """What is known of the points that are kept of a view."""
        net = named.trained(victims.other(self.victim, role, index))
        start = 0 if role == "target" else self.n
        x, layers = self.x[start : start + self.n], self.layers[role, index]
        return pushed.pushed(view, kept, net, layers, x, self.victim.smoothing)


def filtered_of(trained: Victim, profile: Profile) -> Cell | None:
    """The two-sided attack on nets trained in this way; None where their data is not here."""
    if not data.available(trained.dataset):
        return None
    proxies = PROXIES[profile.name]
    config = Contest(trained, targets(profile), proxies, development=DEVELOPED)
    return Cell(filtered, config, named.fingerprints(trained))
