"""The table membership-sets: other data, a game with a known optimum, and the pink paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from thesis_repro import data
from thesis_repro.experiments.membership.contests import ATTACK, PLAIN, contest_cell, contest_of
from thesis_repro.experiments.membership.rates import answers
from thesis_repro.explanations import subjects
from thesis_repro.explanations.influence import Cut
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import black_box, gaussian, white_box
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.contest import RIDGE, Floats, probabilities
from thesis_repro.weaknesses.membership.guesses import GENERAL, NAIVE, RMIA, SHADOW
from thesis_repro.weaknesses.membership.victims import Victim

TRUE_MEANS, PROXIES = "bayes_wb, true means", "bayes_wb, 10 proxies"


@dataclass(frozen=True)
class GaussianConfig:
    """Random Gaussian games: one model fitted to members, attacked with proxies and with truth."""

    d: int
    n: int
    classes: int
    runs: int
    proxies: int
    seed: int


def gaussians(config: GaussianConfig) -> Result:
    """Cell: accuracy of each attack in each run, and the model's train and test accuracy."""
    found: dict[str, list[float]] = {}
    game = gaussian.GaussianGame(config.d, config.n, config.classes)
    for run in range(config.runs):
        rng = np.random.default_rng([config.seed, run])
        means = game.means(rng)
        members, y = game.sample(means, rng)
        others, _ = game.sample(means, rng)
        target = game.fit(members, y)
        proxies = [game.fit(*game.sample(means, rng)) for _ in range(config.proxies)]
        x, labels = np.concatenate([members, others]), np.concatenate([y, y])
        member = np.arange(len(x)) < len(members)
        right = black_box.naive(x @ target[0].T + target[1], labels)
        against = {
            TRUE_MEANS: gaussian.linear(means),
            PROXIES: gaussian.linear(np.mean([p[0] for p in proxies], 0)),  # their mean's bias
        }
        claims = {"naive": right} | {
            name: white_box.bayes_wb(*target, *known, x, labels) > 0
            for name, known in against.items()
        }
        for name, claimed in claims.items():
            outcome = games.judge(claimed, member)
            found.setdefault(f"{name}.accuracy", []).append(outcome.accuracy)
            found.setdefault(f"{name}.precision", []).append(outcome.precision)
        found.setdefault("gap", []).append(float(right[member].mean() - right[~member].mean()))
    optimum = gaussian.optimum(config.d, config.n)
    return Result({"optimum": optimum}, {name: np.array(v) for name, v in found.items()})


GAUSSIANS = {"Gaussian, d=100, n=100": (100, 100), "Gaussian, d=400, n=100": (400, 100)}
QUICK_SET = "MNIST-5k, one hidden layer"
PAPER_SETS = {
    "LFW, five people": Victim("lfw", "cnn", 250, 30, 0.02),
    "CIFAR-10": Victim("cifar10", "cnn", 10_000, 20, 0.02),
}
SET_ATTACKS = (NAIVE, SHADOW, RMIA, GENERAL)
GAUSSIAN_ATTACKS = (NAIVE, PROXIES, TRUE_MEANS)


def plan(profile: Profile) -> Plan:
    """The plan of `membership-sets`."""
    planned: list[tuple[Row, Cell | None]] = []
    for title, (d, n) in GAUSSIANS.items():
        runs = 10 if profile.name == "quick" else 40
        cells = [Cell(gaussians, GaussianConfig(d, n, 5, runs, 10, s)) for s in profile.seeds]
        planned += [((title, attack), cell) for attack in GAUSSIAN_ATTACKS for cell in cells]
    if profile.name == "quick":
        sets = {QUICK_SET: contest_cell(PLAIN, profile)}
    else:
        trained = {t: replace(v, device=profile.device) for t, v in PAPER_SETS.items()}
        sets = {title: contest_of(v, profile) for title, v in trained.items()}
    for title, cell in sets.items():
        planned += [((title, attack), cell) for attack in SET_ATTACKS]
    return planned


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Gaussian rows from their runs, the others from their contest."""
    return {
        row: _over_runs(row[1], results)
        if row[0] in GAUSSIANS
        else answers(results[0].values["targets"], row[1])
        for row, results in gathered.items()
    }


def _over_runs(attack: str, results: Sequence[Result]) -> Measurement:
    values: dict[str, Estimate | str] = {"optimum": Estimate(100 * results[0].values["optimum"])}
    for column, name in (
        ("gap", "gap"),
        ("accuracy", f"{attack}.accuracy"),
        ("precision", f"{attack}.precision"),
    ):
        found = 100 * np.concatenate([r.arrays[name] for r in results])
        over = statistics.mean_over(found.tolist(), "runs")
        values[column] = replace(over, value=float(found.mean()))
    return Measurement(values)


TABLE = Table(
    TableSpec(
        name="membership-sets",
        caption=(
            "Membership inference on other data. Gaussian: five classes with independent features, "
            "a linear model fitted to n members each; optimum: accuracy of the best attack there "
            "can be, in closed form. Images: plain cross-entropy."
        ),
        chapter="weaknesses/membership",
        keys=(Column("set", "data", kind="key"), ATTACK),
        columns=(
            Column("gap", "gap", "points", "{:.2f}", drift=1.0),
            Column("accuracy", "accuracy", "%", drift=2.0),
            Column("precision", "precision", "%", drift=3.0),
            Column("optimum", "optimum", "%", drift=0.01),
        ),
        rows=tuple(
            [(s, a) for s in GAUSSIANS for a in GAUSSIAN_ATTACKS]
            + [(s, a) for s in PAPER_SETS for a in SET_ATTACKS]
        ),
    ),
    plan,
    assemble,
)


def pink_nets(seed: int) -> list[Cell]:
    """The trainings behind `salience`."""
    nets = (replace(subjects.COLOURED, pink=pink, seed=seed) for pink in (True, False))
    return [named.cell(net) for net in nets]


def salience(seed: int) -> dict[str, tuple[Floats, Floats]]:
    """Displacement of pink threes and of test threes, in a net that trained with pink and one not.

    The pink threes are members of the first net and of no other training set. All nets are those
    of the chapter explanations/influence, so the question to the paper and to the weights is put
    to the same two nets.
    """
    digits = data.load("mnist-5k")
    three = subjects.PINK_CLASS
    both = [subjects.coloured(digits.train, pink) for pink in (True, False)]
    moved = (both[0].x != both[1].x).flatten(1).any(1)
    rest = subjects.coloured(digits.test, False)
    marked, others = both[0].x[moved], rest.x[rest.y == three]
    found = {}
    for pink in (True, False):
        net = named.trained(replace(subjects.COLOURED, pink=pink, seed=seed))
        features = Cut(net, FLAT).activations(rest.x)
        whitening = white_box.Whitening(RIDGE).fit(features, rest.y, 5)
        scores = []
        for x in (marked, others):
            y = torch.full((len(x),), three)
            with torch.no_grad():
                expected = probabilities(net(x).numpy())
            weights = white_box.expected_margin(y.numpy(), expected)
            moved_by = white_box.displacement(net, FLAT, x, y, whitening).numpy()
            scores.append((moved_by * weights).sum(1))
        found[f"{'with' if pink else 'without'} pink"] = (scores[0], scores[1])
    return found


FLAT = "4"
"""The input of the dense layer of those nets."""
