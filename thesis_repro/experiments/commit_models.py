"""Commit trained models, each only through the gate: every certified point is attacked first."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import torch

from thesis_repro import data
from thesis_repro.experiments.gloro import cifar10 as cifar
from thesis_repro.experiments.nets import paper_training
from thesis_repro.lab import engine, places, provenance
from thesis_repro.lab.cells import Cell, Result, compute, describe
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import (
    Certificate,
    GloroNet,
    attacks,
    boundary,
    certify,
    models,
    recipes,
)
from thesis_repro.robustness.recipes import Training
from thesis_repro.training import named

STEPS, RESTARTS, NEAREST = 100, 10, 3
ON_A_CPU = {"steps": 50, "restarts": 1, "nearest": 1}
"""A lighter attack on nets that a CPU would attack for hours, all but the smallest; `gloro-vra`
attacks their points of the smallest margins in full."""
SMALL = "2c2f"


def trainings(device: str = "cpu") -> dict[str, Training]:
    """The models that chapters use, by the name under which they are committed."""
    return {
        "mnist-2c2f-gloro": paper_training("0.3", 0, device),
        "mnist-4c3f-gloro": paper_training("1.58", 0, device),
        "cifar10-6c2f-gloro": paper_training("36/255", 0, device, long=True),
        "cifar10-6c2f-relu-gloro": cifar.cifar_training(cifar.RELU_GLORO, 0, device),
        "cifar10-6c2f-noise": cifar.cifar_training(cifar.NOISE, 0, device),
        "cifar10-liresnet-gloro": cifar.liresnet_training(0, device),
    }


@dataclass(frozen=True)
class GateConfig:
    """The attack that a model has to withstand: on all certified points of its test set."""

    training: Training
    steps: int = STEPS
    restarts: int = RESTARTS
    nearest: int = NEAREST
    boundary_pairs: int = 500


def withstand(config: GateConfig) -> Result:
    """Cell: the scores on the test set, and how many certified points fell, also by rounding.

    The attacks are on the net in its own format, as are the scores beside them; those of its
    weights in float64, which is another function, stand by themselves.
    """
    net = fresh(config.training)
    test = data.load(config.training.dataset).test
    device = config.training.device
    x, y = test.x.to(device), test.y.to(device)
    certificate = certify(net, x)
    found = attacks.break_certificates(
        net,
        x,
        steps=config.steps,
        restarts=config.restarts,
        generator=torch.Generator(x.device).manual_seed(0),
        nearest=config.nearest,
    )
    near = boundary.search(
        net,
        x,
        pairs=config.boundary_pairs,
        generator=torch.Generator(x.device).manual_seed(0),
    )
    return Result(
        {
            "arithmetic": certificate.arithmetic,
            "scores": scores(certificate, y),
            "scores_float64": scores(certify(net, x, arithmetic="float64"), y),
            "gate": found,
            "boundary": dataclasses.asdict(near),
        }
    )


def fresh(training: Training) -> GloroNet:
    """The net of a training from the store, or trained now: never the one that is committed."""
    return named.loaded(recipes.proving(training), compute(named.cell(training)).arrays)


def scores(certificate: Certificate, y: torch.Tensor) -> dict[str, float]:
    """Clean accuracy and VRA, in [0, 1], of points with labels y (n,), and K before the head."""
    right = certificate.labels == y
    return {
        "clean": right.double().mean().item(),
        "vra": (right & certificate.certified).double().mean().item(),
        "k_sub": certificate.bound.k_sub,
    }


def gate_of(training: Training) -> GateConfig:
    """The attack before a training is committed: lighter for a large net on a CPU."""
    lighter = training.device == "cpu" and training.recipe.net != SMALL
    return GateConfig(training, **(ON_A_CPU if lighter else {}))


def commit(name: str, device: str) -> dict[str, Any]:
    """Train a model or take it from the store, attack it in full, and commit it with its card.

    Raises
    ------
    ValueError
        On an unknown name, or when a certified point falls: nothing is written then.
    """
    known = trainings(profile("paper", device).device)
    if name not in known:
        raise ValueError(f"no model is called {name!r}; there are {', '.join(known)}")
    training = known[name]
    config = gate_of(training)
    cell = Cell(withstand, config, named.fingerprints(training))
    (result,) = engine.run([cell])
    gates = {key: result.values[key] for key in ("gate", "boundary")}
    if any(gate["broken"] for gate in gates.values()):
        raise ValueError(f"{name}: {json.dumps(gates)}; the model is not committed")
    history = compute(named.cell(training)).values["history"]
    card = {
        "data": training.dataset,
        "data_sha256": data.fingerprint(training.dataset),
        "augment": training.augment,
        **{key: result.values[key] for key in ("arithmetic", "scores", "scores_float64")},
        "gate": {**gates["gate"], **describe(config)},
        "boundary": gates["boundary"],
        "cell": cell.key,
        "train_seconds": round(sum(epoch["seconds"] for epoch in history), 1),
        **provenance.collect(device, places.checkout()),
    }
    del card["gate"]["training"]
    models.save(name, fresh(training), training.recipe, card)
    return card
