"""The table relaxed-rejection: what each guarantee rejects, on nets trained for it and not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments import evidence
from thesis_repro.experiments import nets as gloro_recipes
from thesis_repro.experiments.relaxed.conditions import conditions
from thesis_repro.experiments.relaxed.settings import (
    CIFAR10,
    CIFAR100,
    EUROSAT,
    MNIST_5K,
    PICTURES,
    PLAIN,
    PLANE,
    RELAXED,
    SETTINGS,
    TINY,
    TOP,
    contenders,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import models, relaxed, set_attack, toy2d
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe, Training
from thesis_repro.robustness.relaxed import Guarantee, SetCertificate
from thesis_repro.tables import published, statistics
from thesis_repro.tables.estimate import Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec


@dataclass(frozen=True)
class SetConfig:
    """A net, certified under a guarantee and attacked, on the test set.

    `attacked`: so many guaranteed sets of the smallest margins are attacked (0: all). `double`: in
    float64, which leaves rounding little to take.
    """

    training: Training
    guarantee: Guarantee
    attacked: int
    steps: int
    restarts: int
    double: bool = False


def evaluate(config: SetConfig) -> Result:
    """Cell: accuracies, VRA, rejection rate and sets of a trained net on a data set's test part."""
    recipe = config.training.recipe
    net = models.trained(config.training)
    found = data.load(config.training.dataset)
    setting = SETTINGS[config.training.dataset]
    setting.check(found.classes)
    x, y = found.test.x.to(recipe.device), found.test.y.to(recipe.device)
    if config.double:
        net, x = net.double(), x.double()
    result = _score(net, x, y, config.guarantee, (config.attacked, config.steps, config.restarts))
    committed = models.standing_for(config.training)
    notes = setting.note(len(found.train), len(found.test)), committed and f"net {committed}"
    about = {**gloro_recipes.epochs(config.training), "note": "; ".join(filter(None, notes))}
    return Result({**result.values, **about}, result.arrays)


@dataclass(frozen=True)
class PlaneConfig:
    """A net of the plane, trained for `trained` (None: GloRo) and scored under `guarantee`."""

    epsilon: float
    trained: Guarantee | None
    guarantee: Guarantee
    seed: int
    side: int = 100


def evaluate_plane(config: PlaneConfig) -> Result:
    """Cell: as `evaluate`, at the centers of a grid; labels are those of the nearest center."""
    net = toy2d.trained(config.epsilon, config.seed, config.trained)
    x = toy2d.grid(config.side)
    y = torch.cdist(x.flatten(1), torch.tensor(toy2d.CENTERS)).argmin(1)
    return _score(net, x, y, config.guarantee, (200, 20, 1))


def _score(
    net: GloroNet, x: Tensor, y: Tensor, guarantee: Guarantee, attack: tuple[int, int, int]
) -> Result:
    attacked, steps, restarts = attack
    certificate = relaxed.certify(net, x, guarantee=guarantee)
    broken = set_attack.break_sets(
        net, x, certificate, steps=steps, restarts=restarts, smallest=attacked or None
    )
    right = holds_label(certificate, y, certificate.loosest)
    certified = certificate.certified

    def rate(hits: Tensor) -> dict[str, int]:
        return {"k": int(hits.sum()), "n": len(y)}

    largest = torch.full_like(y, certificate.order.shape[1])
    values = {
        "clean": rate(certificate.order[:, 0] == y),
        "topk": rate(holds_label(certificate, y, largest)),
        "vra": rate(right),
        "strict": rate(holds_label(certificate, y, certificate.strictest)),
        "rejected": rate(~certified),
        "size": certificate.strictest[certified].double().mean().item() if certified.any() else 0.0,
        "attacked": broken["attacked"],
        "broken": broken["broken"],
    }
    arrays = {
        "order": certificate.order.to(torch.int16),
        "strictest": certificate.strictest.to(torch.int16),
        "right": right,
        "y": y.to(torch.int16),
    }
    return Result(values, {name: value.cpu().numpy() for name, value in arrays.items()})


def holds_label(certificate: SetCertificate, y: Tensor, k: Tensor) -> Tensor:
    """Whether y (n,) is in F^k, k (n,): (n,) bool; never for k = 0."""
    return certificate.sets(k).gather(1, y[:, None])[:, 0]


QUICK = replace(
    gloro_recipes.QUICK["1.58"],
    epsilon=0.8,
    train_epsilon=0.9,
    epochs=10,
    batch_size=128,
    objective="cross-entropy",
)
"""The recipe for MNIST-5k: the radius is one at which many digits are rejected."""

PAPER: dict[str, tuple[Recipe, str]] = {
    EUROSAT: (
        replace(gloro_recipes.PAPER["36/255"], epochs=100, epochs_paper=400, batch_size=128),
        "crop-flip",
    ),
    CIFAR10: (gloro_recipes.PAPER["36/255"], "crop-flip"),
    CIFAR100: (
        replace(gloro_recipes.PAPER["36/255"], epochs=50, epochs_paper=200),
        "crop-flip",
    ),
    TINY: (replace(gloro_recipes.PAPER["36/255"], net="8c2f", epochs_paper=500), "crop-flip"),
}
"""Recipes and augmentations after Leino, Wang and Fredrikson 2021: the schedules of the relaxed
nets are not published where we could read them. Epochs are for a CPU, as is EuroSAT's batch, half
of a GPU's: few epochs need many steps. A row of too few is not run (`is_run`)."""

QUICK_ATTACK = (100, 20, 1)
PAPER_ATTACK = {"cpu": (200, 50, 1), "cuda": (1000, 100, 2)}
"""Sets of the smallest margins that are attacked, steps, restarts."""

PLANE_RADIUS = 0.08


def net_of(
    name: str, guarantee: Guarantee | None, profile: str, seed: int, device: str
) -> Training:
    """The training of a data set's net for a guarantee; None: a plain GloRo net."""
    if profile == "quick":
        return Training(name, replace(QUICK, seed=seed, guarantee=guarantee))
    if name == CIFAR10 and guarantee is None:
        return gloro_recipes.at_hand("36/255", seed, device)
    recipe, augment = PAPER[name]
    recipe = gloro_recipes.at_scale(recipe, seed, device)
    if device == "cuda":  # many epochs afford large batches
        recipe = replace(recipe, batch_size=256)
    if guarantee is not None:  # its masks are made anew in each step: none of it is recorded
        recipe = replace(recipe, guarantee=guarantee, graph=False)
    return Training(name, recipe, augment)


def is_run(training: Training) -> bool:
    """Whether a net may have a row: trained for enough of the published epochs, or committed."""
    recipe = training.recipe
    enough = recipe.epochs >= evidence.LEAST_SHARE * recipe.epochs_paper
    return enough or bool(models.standing_for(training))


def cells(profile: Profile) -> Plan:
    """The plan of `relaxed-rejection`: the rows whose nets may have one."""
    plan: list[tuple[Row, Cell | None]] = []
    quick = profile.name == "quick"
    if quick:
        for guarantee, objective in contenders(PLANE):
            chosen = PLANE.guarantees[guarantee]
            for seed in profile.seeds:
                trained = chosen if objective == RELAXED else None
                config = PlaneConfig(PLANE_RADIUS, trained, chosen, seed)
                plan.append(((PLANE.title, guarantee, objective), Cell(evaluate_plane, config)))
    seeds = profile.seeds if quick or profile.device == "cuda" else profile.seeds[:1]
    for name in (MNIST_5K,) if quick else PICTURES:
        if not data.available(name):
            continue
        for guarantee, objective in contenders(SETTINGS[name]):
            for seed in seeds:
                row = (SETTINGS[name].title, guarantee, objective)
                how = set_config(name, guarantee, objective, profile.name, seed, profile.device)
                if is_run(how.training):
                    plan.append((row, _cell(how)))
    return plan


def set_config(
    name: str, guarantee: str, objective: str, profile: str, seed: int, device: str
) -> SetConfig:
    """The configuration of one row and seed."""
    chosen = SETTINGS[name].guarantees[guarantee]
    trained = chosen if objective == RELAXED else None
    quick = profile == "quick"
    training = net_of(name, trained, profile, seed, device)
    attack = QUICK_ATTACK if quick else PAPER_ATTACK[device]
    return SetConfig(training, chosen, *attack, double=not quick)


def sets(
    name: str, guarantee: str, objective: str, profile: str = "quick", seed: int = 0
) -> Result:
    """The cell behind a row and seed, on the CPU; its arrays hold each test point's sets."""
    config = set_config(name, guarantee, objective, profile, seed, "cpu")
    return compute(_cell(config))


def _cell(config: SetConfig) -> Cell:
    return Cell(evaluate, config, models.fingerprints(config.training))


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Summarise each row, and compare it with others of its data set, point by point.

    With the top-1 row, and what was trained for a guarantee with the GloRo net that is asked it.
    """
    measured = summarise(TABLE.spec, gathered)
    for row, found in measured.items():
        gains = {}
        for column, other, array in (
            ("fewer", TOP, "strictest"),
            ("higher", TOP, "right"),
            ("trained", row[1], "strictest"),
        ):
            against = (row[0], other, PLAIN)
            base = gathered.get(against, ())
            if row == against or len(base) != len(gathered[row]):
                continue
            ours, theirs = ([r.arrays[array] > 0 for r in s] for s in (gathered[row], base))
            more = (theirs, ours) if column == "trained" else (ours, theirs)
            gains[column] = statistics.more_points(*more)
        measured[row] = replace(found, values={**found.values, **gains})
    return measured


TABLE = Table(
    TableSpec(
        name="relaxed-rejection",
        caption=(
            "Points that a guarantee rejects, in percent, on nets trained as GloRo nets and on "
            "nets trained for that guarantee. Top-K: the label is among the K largest logits. VRA: "
            "the label is in the largest guaranteed set; strict VRA: in the smallest. Fewer "
            "rejected, higher VRA: against the first row of the data set. By training: rejected, "
            "above the GloRo net under the same guarantee. Radius: "
            f"{PLANE_RADIUS} in the plane, {QUICK.epsilon} on MNIST-5k; else 36/255, in float64. "
            "EuroSAT is split 80/20 class by class."
        ),
        chapter="robustness/relaxed",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("guarantee", "guarantee", kind="key"),
            Column("objective", "trained as", kind="key"),
        ),
        columns=(
            Column("clean", "clean", "%", kind="rate", drift=2.0),
            Column("topk", "top-K", "%", kind="rate", drift=2.0),
            Column("vra", "VRA", "%", kind="rate", drift=3.0),
            Column("strict", "strict VRA", "%", kind="rate", drift=3.0),
            Column("rejected", "rejected", "%", kind="rate", drift=3.0),
            Column("fewer", "fewer rejected", "points"),
            Column("higher", "higher VRA", "points"),
            Column("trained", "by training", "points", later=True, leads="rejected", over=PLAIN),
            Column("size", "mean set", format="{:.2f}", drift=0.1),
            Column("attacked", "attacked", format="{:,.0f}"),
            Column("broken", "broken", format="{:.0f}", drift=0.0),
        ),
        rows=tuple(
            (SETTINGS[name].title, *row) for name in PICTURES for row in contenders(SETTINGS[name])
        ),
        claims=published.claims("relaxed-rejection"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
