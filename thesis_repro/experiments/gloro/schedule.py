"""The table gloro-schedule: what the schedule of the radius does, epoch by epoch.

A part of the chapter robustness/gloro. The nets are followed on the test set for the picture
alone: nothing is chosen by what is seen there.
"""

from dataclasses import dataclass, replace

from torch import nn

from thesis_repro import data
from thesis_repro.experiments.nets import QUICK
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import Profile
from thesis_repro.robustness import GloroNet, certify, certifying, recipes
from thesis_repro.robustness.recipes import Recipe, Training
from thesis_repro.tables.spec import Column, Plan, Row, Table, TableSpec

BASE = replace(QUICK["1.58"], epochs=20, batch_size=128, objective="cross-entropy")

SCHEDULES: dict[str, Recipe] = {
    "the full radius from the start": replace(BASE, ramp="constant"),
    "linear over 30% of training": BASE,
    "logarithmic over 50% of training": replace(BASE, ramp="logarithmic", ramp_until=0.5),
}
"""The schedules that are compared; all else is the same."""


@dataclass(frozen=True)
class FollowConfig:
    """A training that is looked at after each epoch."""

    training: Training


def follow(config: FollowConfig) -> Result:
    """Cell: train, and after each epoch record the loss, K and the scores on the test set.

    The constant is the proven one, by the fast method.
    """
    dataset = data.load(config.training.dataset)
    recipe = config.training.recipe
    x, y = dataset.test.x.to(recipe.device), dataset.test.y.to(recipe.device)

    def look(model: nn.Module, record: dict[str, float]) -> None:
        assert isinstance(model, GloroNet)
        used = certifying.bound(model.body, model.input_shape, "fast")
        found = certify(model, x, used=used)
        right = found.labels == y
        record["k"] = used.k_sub
        record["clean"] = 100 * right.double().mean().item()
        record["vra"] = 100 * (right & found.certified).double().mean().item()

    _, history = recipes.train(recipe, dataset, on_epoch=look)
    last = history[-1]
    values = {
        "history": history,
        **{name: {"k": round(last[name] * len(y) / 100), "n": len(y)} for name in ("clean", "vra")},
        "k_sub": last["k"],
        "loss": last["loss"],
    }
    return Result(values)


def cells(profile: Profile) -> Plan:
    """The plan of `gloro-schedule`: MNIST-5k at either profile, at radius 1.58."""
    return [
        (_row(name), _cell(replace(recipe, seed=seed, device=profile.device)))
        for name, recipe in SCHEDULES.items()
        for seed in profile.seeds
    ]


def _cell(recipe: Recipe) -> Cell:
    training = Training("mnist-5k", recipe)
    return Cell(follow, FollowConfig(training), (("mnist-5k", data.fingerprint("mnist-5k")),))


def curves(seed: int = 0) -> dict[str, list[dict[str, float]]]:
    """The epochs of each schedule, from the store or trained now."""
    plan = cells(profiles.profile("quick", "cpu", seed))
    return {row[0]: compute(cell).values["history"] for row, cell in plan if cell is not None}


def _row(name: str) -> Row:
    return (name,)


TABLE = Table(
    TableSpec(
        name="gloro-schedule",
        caption=(
            "2C2F after 20 epochs on MNIST-5k at radius 1.58, with cross-entropy over all classes "
            "and the bottom class, by the schedule of the radius in the loss."
        ),
        chapter="robustness/gloro",
        keys=(Column("schedule", "radius", kind="key"),),
        columns=(
            Column("clean", "clean", "%", kind="rate", drift=3.0),
            Column("vra", "VRA", "%", kind="rate", drift=4.0),
            Column("k_sub", "K", format="{:.2f}"),
            Column("loss", "last loss", format="{:.3f}"),
        ),
        rows=tuple(_row(name) for name in SCHEDULES),
    ),
    cells,
)
