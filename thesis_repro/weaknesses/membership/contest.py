"""The nets of a membership contest, and what each of them shows of the points.

Some nets are targets, the others shadows of the adversary; :class:`Observations` gives any of them
as the adversary sees it. It trains and stores nothing: what a net shows is handed in.

Examples
--------
>>> cut = Parts(np.array([0, 3]), np.array([1, 2]), np.array([4]))
>>> cut.indices, len(parts(total=10, n=2).reserve)
(array([0, 3, 1, 2, 4]), 2)
>>> victim = Victim("mnist-5k", "mlp", n=1000, epochs=10, lr=0.1)
>>> shows = {"logits": np.zeros((5000, 10))}  # in place of what nets show
>>> nets = Observations(Contest(victim, targets=(0,), shadows=4), lambda victim: shows)
>>> view = nets.view("target", 0)
>>> len(view.references), int(view.member.sum()), view.contains.any()
(4, 1000, np.False_)
>>> probabilities(np.zeros((1, 2)))
array([[0.5, 0.5]])
>>> out_mean([np.array([1.0]), np.array([3.0])], np.array([[True], [False]]))
array([3.])
>>> seen, label = {"logits": np.zeros((1, 2))}, np.array([0])
>>> confidence(seen, label), own_probability(seen, label)
(array([0.]), array([0.5]))
>>> sorted(features(view, [], smoothing=0.0))[:2]
['confidence', 'confidence beyond OUT']
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thesis_repro.explanations.influence import Cut
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import black_box, lira_rmia, victims, white_box
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.victims import Victim

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

RIDGE = 0.1
RESERVE = 10_000
"""At most so many points that no victim trains on: for whitening, and RMIA's population."""
SLICES = {"mlp": ("0", "2"), "cnn": ("6", "8")}
"""The inputs of both dense layers."""


@dataclass(frozen=True)
class Parts:
    """The three parts of a game, one after another: indices into the data set."""

    universe: Indices
    pool: Indices
    reserve: Indices

    @property
    def indices(self) -> Indices:
        """Every point that a victim is observed on."""
        return np.concatenate([self.universe, self.pool, self.reserve])

    def cut(self, values: Any) -> tuple[Any, Any, Any]:
        """Split something in the order of `indices` into the three parts."""
        a, b = len(self.universe), len(self.universe) + len(self.pool)
        return values[..., :a], values[..., a:b], values[..., b:]


def parts(total: int, n: int) -> Parts:
    """Universe, pool, and what is left of the data set, which needs to be something."""
    found = victims.game(total, n)
    rest = np.setdiff1d(np.arange(total), np.concatenate([found.universe, found.pool]))
    if not len(rest):
        raise ValueError(f"n={n} leaves nothing of {total} points for a reserve; take a smaller n")
    return Parts(found.universe, found.pool, rest[:RESERVE])


def shown(victim: Victim, ridge: float = RIDGE) -> dict[str, NDArray[np.float32]]:
    """What a victim's net, trained now or before, shows of every point of its game.

    Returns
    -------
    dict
        Of each point in the order of `Parts.indices`: ``"logits"``, and by the name of each of the
        net's `SLICES` the displacement of each logit there, (n, classes) each.
    """
    everything = victims.points(victim.dataset)
    part = parts(len(everything), victim.n)
    net = named.trained(victim)
    chosen = torch.from_numpy(part.indices)
    x, y = (t[chosen].to(victim.device) for t in (everything.x, everything.y))
    with torch.no_grad():
        logits = torch.cat([net(batch) for batch in x.split(500)])
    arrays = {"logits": logits}
    spare = slice(len(part.universe) + len(part.pool), None)
    for name in SLICES[victim.net]:
        features = Cut(net, name).activations(x[spare], 500)
        whitening = white_box.Whitening(ridge).fit(features, y[spare], logits.shape[1])
        arrays[name] = white_box.displacement(net, name, x, y, whitening)
    return {name: value.float().cpu().numpy() for name, value in arrays.items()}


@dataclass(frozen=True)
class Contest:
    """All attacks on some targets, with shadows trained in the same way.

    victim : how all nets are trained; its role and index are not used
    targets : indices of the targets
    shadows : how many shadows there are
    precisions : wanted ones, in percent, for the calibrated attacks
    development : indices of targets that something was chosen on

    Raises
    ------
    ValueError
        If a target is one that something was chosen on.
    """

    victim: Victim
    targets: tuple[int, ...]
    shadows: int
    precisions: tuple[int, ...] = (60, 70, 80, 90)
    ridge: float = RIDGE
    development: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        games.check_fresh(self.targets, self.development)


@dataclass(frozen=True)
class View:
    """One net under attack: its points, and what the adversary's other nets show of them.

    seen, references : logits and displacements of the victim, and of each reference, (n, classes)
    contains : (references, n), whether a reference trained on the point
    spare : the same as seen and references, on the reserve
    """

    member: Bools
    labels: Indices
    seen: Mapping[str, Floats]
    references: Sequence[Mapping[str, Floats]]
    contains: Bools
    spare: tuple[Mapping[str, Floats], Sequence[Mapping[str, Floats]], Indices]


class Observations:
    """The nets of a contest, observed; gives the view of any of them.

    Parameters
    ----------
    config : Contest
        Which nets there are.
    observe : callable
        What the net of a victim shows, as `shown` returns it.

    Raises
    ------
    ValueError
        With fewer than four shadows: each is attacked with three others as references.
    """

    def __init__(
        self, config: Contest, observe: Callable[[Victim], Mapping[str, NDArray[Any]]]
    ) -> None:
        if config.shadows < 4:
            raise ValueError(f"a contest needs at least 4 shadows, got {config.shadows}")
        self.config = config
        everything = victims.points(config.victim.dataset)
        self.parts = parts(len(everything), config.victim.n)
        self.labels = everything.y.numpy()
        self.names = {
            "target": config.targets,
            "shadow": tuple(range(config.shadows)),
        }
        self.observed = {
            (role, i): observe(victims.other(config.victim, role, i))
            for role, indices in self.names.items()
            for i in indices
        }
        found = victims.game(len(everything), config.victim.n)
        self.member = {
            (role, i): victims.members(victims.other(config.victim, role, i), found)
            for role, i in self.observed
        }

    def view(self, role: str, index: int, online: bool = False) -> View:
        """One net under attack, as the adversary sees it.

        A target's references are the shadows, which contain none of its points, and with `online`
        the other targets too, which contain some. A shadow's references are the other shadows.
        """
        n = len(self.parts.universe)
        where = slice(0, n) if role == "target" else slice(n, 2 * n)
        part = self.parts.universe if role == "target" else self.parts.pool
        rivals = [("shadow", i) for i in self.names["shadow"] if (role, index) != ("shadow", i)]
        if online and role == "target":
            rivals += [("target", i) for i in self.names["target"] if i != index]
        nothing = np.zeros(n, bool)
        inside = [self.member[r] if r[0] == role else nothing for r in rivals]

        def cut(who: tuple[str, int], which: slice) -> Mapping[str, Floats]:
            return {k: v[which].astype(float) for k, v in self.observed[who].items()}

        rest = slice(2 * n, None)
        mine = self.member[role, index]
        games.check_splits(part[mine], part[~mine], self._trained_on(rivals, role))
        return View(
            mine,
            self.labels[part],
            cut((role, index), where),
            [cut(r, where) for r in rivals],
            np.array(inside),
            (
                cut((role, index), rest),
                [cut(r, rest) for r in rivals],
                self.labels[self.parts.reserve],
            ),
        )

    def _trained_on(self, rivals: Sequence[tuple[str, int]], role: str) -> Indices:
        """Points of references of the other role: these may never meet the points judged."""
        if role == "shadow" or not any(r[0] != role for r in rivals):
            return np.zeros(0, np.int64)
        used = np.any([self.member[r] for r in rivals if r[0] != role], axis=0)
        return self.parts.pool[used]


def probabilities(logits: Floats) -> Floats:
    """Softmax of logits (n, classes)."""
    return np.asarray(np.exp(black_box.log_probabilities(logits)))


def out_mean(values: Sequence[Floats], contains: Bools) -> Floats:
    """Mean over the references that do not contain the point: (references, n, ...) to (n, ...)."""
    stacked = np.stack(values)
    out = ~contains.reshape(*contains.shape, *[1] * (stacked.ndim - 2))
    return np.asarray((stacked * out).sum(0) / np.maximum(out.sum(0), 1))


def confidence(seen: Mapping[str, Floats], labels: Indices) -> Floats:
    """LiRA's scaled confidence of each point."""
    return lira_rmia.scaled(seen["logits"], labels)


def own_probability(seen: Mapping[str, Floats], labels: Indices) -> Floats:
    """The probability that a net gives to each point's label."""
    return np.asarray(probabilities(seen["logits"])[np.arange(len(labels)), labels])


def features(view: View, slices: Sequence[str], smoothing: float) -> dict[str, Floats]:
    """What is known of each point, by name, (n,) each: of the victim, and of its OUT references."""
    expected = out_mean([probabilities(r["logits"]) for r in view.references], view.contains)
    questions = {
        "margin": white_box.expected_margin(view.labels, expected),
        "residual": white_box.expected_residual(view.labels, expected, smoothing),
    }
    found: dict[str, Floats] = {}

    def compare(name: str, mine: Floats, theirs: Sequence[Floats]) -> None:
        usual = out_mean(theirs, view.contains)
        found[name] = mine
        found[f"{name} beyond OUT"] = mine - usual

    for name in slices:
        for question, weights in questions.items():
            compare(
                f"{name} {question}",
                (view.seen[name] * weights).sum(1),
                [(r[name] * weights).sum(1) for r in view.references],
            )
    seen = [view.seen, *view.references]
    for name, all_scores in (
        ("confidence", [confidence(s, view.labels) for s in seen]),
        ("loss", [-black_box.losses(s["logits"], view.labels, smoothing) for s in seen]),
    ):
        compare(name, all_scores[0], all_scores[1:])
    found["push"] = np.abs(questions["residual"]).sum(1)
    found["true push"] = questions["residual"][np.arange(len(view.labels)), view.labels]
    return found
