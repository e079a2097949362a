"""A net is asked in eval mode alone, and comes back as it was: modes, buffers, what is trained.

Every public function and method of the explanations and weaknesses that takes a net is here; one
that is missing fails `test_every_function_that_takes_a_net_is_tried`.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import typing
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thesis_repro import explanations, weaknesses
from thesis_repro.explanations import (
    axioms,
    experts,
    faithfulness,
    influence,
    receptive,
    rivals,
)
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.slicing import Cut
from thesis_repro.weaknesses import bias, leakage, membership
from thesis_repro.weaknesses.leakage import Watermark, reconstruction
from thesis_repro.weaknesses.membership import contest, pushed, two_sided

SHAPE = (1, 12, 28)
WORD = Watermark("TEST")
X = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 2
CLASS = influence.class_score(0)
SIDES = two_sided.TwoSided(torch.eye(4 * 12 * 28 + 1).double(), torch.eye(2).double())
SHOWN = {"6": np.ones((6, 2)), pushed.THROUGH: np.full((6, 2), 0.5)}
SEEN = contest.View(
    Y.numpy() == 0, Y.numpy(), SHOWN, [SHOWN], np.zeros((1, 6), bool), ({}, [], Y.numpy())
)


def net() -> nn.Sequential:
    """Batch normalisation, dropout, and a nested part that is frozen."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), inner, nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(4 * 12 * 28, 2),
    )  # fmt: skip
    body[3][0].requires_grad_(False)
    return body


def flat(body: nn.Sequential) -> nn.Sequential:
    """The same modules, the nested ones among the others."""
    return nn.Sequential(*body[:3], *body[3], *body[4:])


def whitening(body: nn.Sequential) -> membership.Whitening:
    return membership.Whitening(1.0).fit(torch.rand(6, 4 * 12 * 28), Y, 2)


def case(body: nn.Sequential) -> axioms.Case:
    return axioms.Case(body, X, Y, ("0", "3", "5"), points=2)


CAPTUM = ("captum_saliency", "captum_integrated", "captum_internal")
AXIOMS = {
    f"axioms.{check.__name__}": lambda body, check=check: check(case(body))
    for check in (
        axioms.marginality,
        axioms.slice_invariance,
        axioms.consistency,
        axioms.completeness,
        axioms.saliency,
        axioms.integrated_gradients,
    )
}

CALLS: dict[str, Callable[[nn.Sequential], object]] = {
    "rivals.gradient_times_input": lambda body: rivals.gradient_times_input(body, X, 0),
    "rivals.relevance": lambda body: rivals.relevance(flat(body), X, 0),
    "rivals.occlusion": lambda body: rivals.occlusion(body, X, 0, 0.0),
    "rivals.conductance": lambda body: rivals.conductance(body, 4, X, 0, 2),
    "slicing.Cut": lambda body: Cut(body, "3").gradient(X, CLASS),
    "modules.evaluating": evaluating,
    "influence.internal_influence": lambda body: influence.internal_influence(
        body, X, "3.1", CLASS, influence.line(points=2)
    ),
    "receptive.top_units": lambda body: receptive.top_units(body, X, "3", CLASS, 2),
    "receptive.receptive": lambda body: receptive.receptive(body, X, "3", torch.tensor([1]), 2),
    "faithfulness.attribution": lambda body: faithfulness.attribution("saliency", body, X, "3"),
    "faithfulness.curves": lambda body: faithfulness.curves(body, X, X[:, 0], 2),
    "experts.Experts": lambda body: experts.Experts(body, "3", X, Y).input_gradient(0),
    "experts.halves": lambda body: experts.halves(body, "3", X, torch.zeros(6).long()).judging,
    "axioms.Case": case,
    "axioms.Altered": lambda body: axioms.marginality(case(body)),
    **AXIOMS,
    "white_box.displacement": lambda body: membership.displacement(
        body, "5", X, Y, whitening(body)
    ),
    "two_sided.Dense": lambda body: two_sided.Dense(body, "6").readings(X, SIDES),
    "pushed.shows": lambda body: pushed.shows(body, {"6": SIDES}, X),
    "pushed.pushed": lambda body: pushed.pushed(SEEN, np.ones(6, bool), body, {"6": SIDES}, X),
    "game.probe_features": lambda body: leakage.probe_features(body, X, WORD),
    "game.weight_features": lambda body: leakage.weight_features(body, SHAPE),
    "reconstruction.reconstruct": lambda body: leakage.reconstruct(body, [0, 1], X[:2], steps=2),
    "deep.unit_influence": lambda body: bias.unit_influence(body, X, "3"),
    "deep.HiddenLayer": lambda body: bias.HiddenLayer(body, "3", X).all_scores(
        np.ones((2, 4), bool)
    ),
}

LOOKING = ("find", "overwriting", "places", "prefix", "suffix", "untouched")
OF_A_CASE = (
    "consistency_of_conductance",
    "linear_agreement_of_activations",
    "linear_agreement_of_gradient_times_input",
    "marginality_of_occlusion",
    "slice_invariance_of_relevance",
)
WITHOUT_A_PASS = {
    "own.CalibratedAttack": "trains shadows: tests/weaknesses/test_membership_own.py",
    **{f"rivals.{name}": "on the net of a case, or on one of its own" for name in OF_A_CASE},
    **{f"modules.{name}": "looks at modules" for name in LOOKING},
    "hooks.hooked": "adds hooks and takes them out",
    "imagenet.Pretrained": "a record",
    "private.fit": "trains: tests/weaknesses/test_membership_private.py",
    "dpsgd.fit": "trains: tests/weaknesses/test_membership_dpsgd.py",
    "private.check": "tried on a copy, in training mode: there as well",
    "victims.loss": "the loss of a training",
    "quantities.Quantity": "scores an output that it is given",
    "quantities.as_quantity": "the same",
    "axioms.linear_agreement": "on nets of its own",
    "axioms.doubled": "a copy, in eval mode",
    **{f"axioms.{name}": "asks internal_influence first; needs Captum" for name in CAPTUM},
    "slicing.jvp": "differentiates what it is given",
}


def public(package: object) -> Iterator[tuple[str, Callable[..., object]]]:
    """Functions and classes by the last part of their module and their name."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != info.name:
                continue
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{info.name.rpartition('.')[2]}.{name}", value


def takes_a_net(function: Callable[..., object]) -> bool:
    """Whether an argument is an nn.Module, a model that is called, or a record with one."""
    target = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    try:
        hints = dict(typing.get_type_hints(target))
    except NameError:
        return False
    hints.pop("return", None)

    def has(hint: object) -> bool:
        if inspect.isclass(hint):
            fields = dataclasses.fields(hint) if dataclasses.is_dataclass(hint) else ()
            return issubclass(hint, nn.Module) or any("nn." in str(f.type) for f in fields)
        return hint == reconstruction.Model or any(map(has, typing.get_args(hint)))

    return any(map(has, hints.values()))


def state(body: nn.Module) -> list[object]:
    modes = [(name, module.training) for name, module in body.named_modules()]
    trained = [(name, p.requires_grad, p.grad) for name, p in body.named_parameters()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in body.modules()]
    return [modes, trained, hooks]


def values(body: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in body.state_dict().items()}


def settings() -> dict[str, Callable[[nn.Sequential], object]]:
    def sequence_flags(body: nn.Sequential) -> None:
        body.eval()
        body.training = body[3].training = True  # moot, and to be left alone

    def frozen_statistics(body: nn.Sequential) -> None:
        body.train()
        body[3].eval()

    def one_dropout(body: nn.Sequential) -> None:
        body.eval()
        body[4].train()

    return {
        "eval": lambda body: body.eval(),
        "sequence flags": sequence_flags,
        "train": lambda body: body.train(),
        "frozen statistics": frozen_statistics,
        "one dropout": one_dropout,
    }


@pytest.mark.parametrize("mode", settings())
@pytest.mark.parametrize("name", CALLS)
def test_a_net_is_asked_in_eval_mode_and_comes_back_as_it_was(name: str, mode: str) -> None:
    body = net()
    settings()[mode](body)
    before, weights = state(body), values(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", influence.ZeroInfluence)
        if mode in ("eval", "sequence flags"):
            CALLS[name](body)
        else:
            with pytest.raises(ValueError, match=r"is in training mode; call model.eval\(\) first"):
                CALLS[name](body)
    assert state(body) == before
    for key, value in values(body).items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize(
    "use",
    [
        lambda body: (found := experts.Experts(body, "3", X, Y), lambda: found.labels()),
        lambda body: (found := experts.Experts(body, "3", X, Y), lambda: found.input_gradient(0)),
        lambda body: (found := experts.Experts(body, "3", X, Y), lambda: found.influence(0)),
        lambda body: (found := bias.HiddenLayer(body, "3", X), lambda: found.scores()),
        lambda body: (found := Cut(body, "3"), lambda: found.activations(X)),
        lambda body: (found := Cut(body, ""), lambda: found.gradient(X, CLASS)),
    ],
)
def test_a_net_that_is_put_into_training_mode_later_is_refused(
    use: Callable[[nn.Sequential], tuple[object, Callable[[], object]]],
) -> None:
    body = net().eval()
    _, later = use(body)
    body.train()
    weights = values(body)
    with pytest.raises(ValueError, match="is in training mode"):
        later()
    assert all(torch.equal(value, weights[key]) for key, value in values(body).items())


def test_a_cut_sees_parameters_that_were_replaced() -> None:
    body = nn.Sequential(nn.Linear(3, 2)).eval()
    cut = Cut(body, "")
    cut.gradient(torch.ones(1, 3), CLASS)
    body[0].weight = nn.Parameter(torch.full((2, 3), 7.0))
    assert torch.equal(cut.gradient(torch.ones(1, 3), CLASS), torch.full((1, 3), 7.0))


def test_every_function_that_takes_a_net_is_tried() -> None:
    found = {
        name
        for package in (explanations, weaknesses)
        for name, function in public(package)
        if takes_a_net(function)
    }
    assert {"slicing.Cut", "reconstruction.reconstruct", "axioms.marginality"} <= found
    assert found - set(CALLS) - set(WITHOUT_A_PASS) == set()
