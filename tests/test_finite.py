"""NaN and infinity are refused, by argument and row, wherever numbers are ranked or scored.

Every public function of the explanations and weaknesses that ranks is here with good arguments;
the tests plant a bad number in each float among them. A function that ranks and is missing fails
`test_every_function_that_ranks_is_tried`.
"""

import ast
import importlib.util
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from thesis_repro import explanations, weaknesses
from thesis_repro.data import Split
from thesis_repro.explanations import (
    axioms,
    experts,
    faithfulness,
    influence,
    quantities,
    receptive,
)
from thesis_repro.explanations import (
    rankings as unit_rankings,
)
from thesis_repro.weaknesses import bias, leakage, membership, reliability
from thesis_repro.weaknesses.bias import gaussian, masks
from thesis_repro.weaknesses.leakage import Nearest, Watermark, instances, reconstruction, watermark
from thesis_repro.weaknesses.membership import (
    black_box,
    calibration,
    dpsgd,
    game,
    lira_rmia,
    one_run,
    private,
    pushed,
    two_sided,
    white_box,
)

RNG = np.random.default_rng(0)
GENERATOR = torch.Generator().manual_seed(0)
WORD = Watermark("TEST")
X = torch.rand(4, 1, 8, 18, generator=GENERATOR)
Y = torch.arange(4) % 2
UNITS = torch.randn(4, 3, generator=GENERATOR)
LOGITS, LABELS = RNG.standard_normal((8, 2)), np.arange(8) % 2
SHARES = softmax(LOGITS, 1)
MEMBER = LABELS == 0
SCORES = RNG.standard_normal(8)
MANY = np.linspace(0.01, 0.99, 40)
REFERENCES, CONTAINS = RNG.standard_normal((5, 8)), np.zeros((5, 8), bool)
CONTAINS[:2] = True
WHITE = membership.Whitening(1.0).fit(UNITS, Y, 2)
SIDES = two_sided.TwoSided.fit(UNITS, UNITS)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)).eval()


def layer() -> experts.Experts:
    return experts.Experts(net(), "0", X, Y)


def compared() -> Nearest:
    return leakage.nearest([torch.rand(3)], [torch.rand(3)], 5)


def fitted() -> membership.ShadowAttack:
    return membership.ShadowAttack().fit(LOGITS, np.arange(8) < 4, LABELS)


def learned() -> membership.GeneralWB:
    return membership.GeneralWB().fit(LOGITS, MEMBER)


CALLS: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    # explanations
    "axioms.difference": (axioms.difference, {"a": UNITS, "b": UNITS + 1}),
    "distributions.gaussian": (influence.gaussian, {"sigma": 1.0, "samples": 2}),
    "distributions.line": (influence.line, {"baseline": UNITS}),
    "experts.Experts": (
        lambda x: experts.Experts(net(), "0", x, Y), {"x": X}
    ),
    "experts.Experts.choose": (
        lambda scores, near: layer().choose(0, scores, 2, near=near),
        {"scores": UNITS[0], "near": 0.1},
    ),
    "rankings.auroc": (
        lambda x: unit_rankings.auroc(experts.Experts(net(), "1", x, torch.arange(len(x)) % 2), 1),
        {"x": X},
    ),
    "experts.keep": (
        lambda scores: experts.keep(scores, experts.Choice(1, 1)), {"scores": UNITS[0]}
    ),
    "faithfulness.area": (faithfulness.area, {"curve": UNITS}),
    "faithfulness.attribution": (
        lambda x: faithfulness.attribution("saliency", net(), x, "0"), {"x": X}
    ),
    "faithfulness.curves": (
        lambda x, worth: faithfulness.curves(net(), x, worth, 2), {"x": X, "worth": X[:, 0]}
    ),
    "influence.internal_influence": (
        lambda x: influence.internal_influence(
            net(), x, "0", influence.max_class(), influence.point()
        ),
        {"x": X},
    ),
    "influence.per_unit": (influence.per_unit, {"influence": X}),
    "receptive.blurred": (receptive.blurred, {"maps": X[:, 0], "sigma": 1.0}),
    "receptive.heat": (receptive.heat, {"attribution": X, "sigma": 1.0}),
    "receptive.mask": (receptive.mask, {"attribution": X, "sigma": 1.0, "quantile": 0.9}),
    "receptive.receptive": (
        lambda x: receptive.receptive(net(), x, "0", torch.tensor([0]), 2), {"x": X}
    ),
    "receptive.share_on": (
        lambda attribution: receptive.share_on(attribution, X[:, 0] > 0.5), {"attribution": X}
    ),
    "receptive.top_units": (
        lambda x: receptive.top_units(net(), x, "0", influence.class_score(0)), {"x": X}
    ),
    # calibration
    "reliability.error_interval": (
        lambda confidence, right: reliability.error_interval(
            confidence, right, 3, np.random.default_rng(0)
        ),
        {"confidence": MANY, "right": (MANY > 0.5) * 1.0},
    ),
    "reliability.ranking": (reliability.ranking, {"score": MANY, "wrong": (MANY > 0.5) * 1.0}),
    "reliability.risk": (
        reliability.risk, {"score": MANY, "wrong": (MANY > 0.5) * 1.0, "coverage": 0.5}
    ),
    "reliability.squared_errors": (
        reliability.squared_errors, {"confidence": MANY, "right": (MANY > 0.5) * 1.0}
    ),
    # bias
    "deep.HiddenLayer": (lambda x: bias.HiddenLayer(net(), "0", x), {"x": X}),
    "deep.unit_influence": (lambda x: bias.unit_influence(net(), x, "0"), {"x": X}),
    "gaussian.bayes_bias": (gaussian.bayes_bias, {"separation": 1.0, "prior": 0.3}),
    "gaussian.measure": (gaussian.measure, {"labels": LABELS * 1.0, "predictions": LABELS * 1.0}),
    "gaussian.Mixture": (
        lambda strength, sigma, prior: bias.Mixture(2, 2, strength, sigma, prior),
        {"strength": 0.5, "sigma": 3.0, "prior": 0.5},
    ),
    "gaussian.Mixture.evaluate": (
        bias.Mixture(1, 2).evaluate, {"coef": SCORES[:3], "intercept": 0.1}
    ),
    "linear.balancing_shift": (bias.balancing_shift, {"scores": SCORES, "labels": LABELS}),
    "linear.Remedy.fit": (
        lambda X: bias.FeatureParity(random_state=0).fit(X, LABELS), {"X": LOGITS}
    ),
    "masks.expert_mask": (
        lambda influence: masks.expert_mask(influence, 1, 1), {"influence": SCORES}
    ),
    "masks.search_linear_experts": (
        lambda influence, contributions: masks.search_linear_experts(
            influence, LABELS[:2], contributions
        ),
        {"influence": SCORES[:2], "contributions": LOGITS[:2]},
    ),
    "masks.parity_mask": (masks.parity_mask, {"influence": SCORES}),
    "masks.search_experts": (
        lambda influence, scores: masks.search_experts(
            influence, LABELS[:4], lambda kept: np.tile(scores, (len(kept), 1))
        ),
        {"influence": SCORES[:3], "scores": SCORES[:4]},
    ),
    # leakage
    "adversaries.by_classifier": (
        lambda shadows, targets: leakage.by_classifier(shadows, MEMBER, targets),
        {"shadows": LOGITS, "targets": LOGITS},
    ),
    "adversaries.by_cross_validation": (
        lambda shadows, targets: leakage.by_cross_validation(shadows, MEMBER, targets),
        {"shadows": LOGITS, "targets": LOGITS},
    ),
    "adversaries.by_fixed_threshold": (
        lambda targets: leakage.by_fixed_threshold(LOGITS, MEMBER, targets), {"targets": LOGITS}
    ),
    "adversaries.by_threshold": (
        lambda shadows, targets: leakage.by_threshold(shadows, MEMBER, targets),
        {"shadows": LOGITS[:, :1], "targets": LOGITS[:, :1]},
    ),
    "adversaries.weak": (leakage.weak, {"z": SCORES, "threshold": 2.0}),
    "game.play": (
        lambda marked, clean: leakage.play(marked, clean, lambda *_: np.zeros(2, bool)),
        {"marked": LOGITS, "clean": LOGITS},
    ),
    "game.probe_features": (
        lambda images: leakage.probe_features(net(), images, WORD), {"images": X}
    ),
    "instances.distances": (instances.distances, {"images": X, "pool": X}),
    "instances.identified": (
        lambda member, other: instances.identified(Nearest(member, other, 1.0, 0.5, SCORES)),
        {"member": SCORES, "other": SCORES},
    ),
    "instances.nearest": (
        lambda members, others: instances.nearest([members], [others], 5),
        {"members": UNITS[0], "others": UNITS[1]},
    ),
    "instances.pooled": (
        lambda member: instances.pooled([Nearest(member, SCORES, 1.0, 0.5, SCORES)]),
        {"member": SCORES},
    ),
    "reconstruction.linear_optimum": (
        reconstruction.linear_optimum, {"weight": X[0], "start": X[1], "radius": 1.0}
    ),
    "reconstruction.project": (reconstruction.project, {"x": X + 1, "center": X, "radius": 1.0}),
    "reconstruction.reconstruct": (
        lambda start, **options: reconstruction.reconstruct(
            net(), [0, 1, 0, 1], start, steps=1, **options
        ),
        {"start": X, "step": 0.1, "radius": 1.0, "smoothness": 0.1},
    ),
    "watermark.choose": (lambda share: watermark.choose(Y, share, 0), {"share": 0.5}),
    "watermark.trace": (lambda images: watermark.trace(images, WORD), {"images": X}),
    "watermark.Watermark": (lambda opacity: Watermark("TEST", opacity=opacity), {"opacity": 0.5}),
    # membership
    "black_box.ShadowAttack.fit": (
        lambda X: membership.ShadowAttack().fit(X, np.arange(8) < 4, LABELS), {"X": LOGITS}
    ),
    "black_box.ShadowAttack.score_samples": (
        lambda X: fitted().score_samples(X, LABELS), {"X": LOGITS}
    ),
    "black_box.log_probabilities": (black_box.log_probabilities, {"logits": LOGITS}),
    "black_box.loss_threshold": (
        black_box.loss_threshold, {"loss": SCORES, "mean_training_loss": 0.5}
    ),
    "black_box.losses": (
        black_box.losses, {"logits": LOGITS, "labels": LABELS, "smoothing": 0.1}
    ),
    "black_box.naive": (black_box.naive, {"logits": LOGITS, "labels": LABELS}),
    "black_box.shadow": (
        lambda logits: black_box.shadow(logits, LABELS, [LOGITS], [LABELS], [np.arange(8) < 4]),
        {"logits": LOGITS},
    ),
    "calibration.best_accuracy": (calibration.best_accuracy, {"scores": SCORES, "member": MEMBER}),
    "calibration.for_precision": (
        calibration.for_precision, {"scores": SCORES, "member": MEMBER, "precision": 0.8}
    ),
    "game.at_fpr": (game.at_fpr, {"scores": SCORES, "member": MEMBER, "fpr": 0.1}),
    "game.for_fpr": (game.for_fpr, {"scores": SCORES, "member": MEMBER, "fpr": 0.1}),
    "game.auc": (game.auc, {"scores": SCORES, "member": MEMBER}),
    "gaussian.GaussianGame": (
        lambda spread: membership.GaussianGame(spread=spread), {"spread": 0.3}
    ),
    "private.fit": (
        lambda x, epsilon, lr: private.fit(
            net(), Split(x, Y), epsilon, epochs=1, batch_size=2, lr=lr, seed=0
        ),
        {"x": X, "epsilon": 8.0, "lr": 0.1},
    ),
    "dpsgd.fit": (
        lambda x, epsilon, lr, clip: dpsgd.fit(
            net(), Split(x, Y), epsilon, epochs=1, batch_size=2, lr=lr, clip=clip, seed=0
        ),
        {"x": X, "epsilon": 8.0, "lr": 0.1, "clip": 0.5},
    ),
    "one_run.right_guesses": (
        lambda scores: one_run.right_guesses(scores, MEMBER, 4), {"scores": SCORES}
    ),
    "one_run.p_value": (
        lambda epsilon, delta: one_run.p_value(20, 10, 8, epsilon, delta),
        {"epsilon": 1.0, "delta": 1e-5},
    ),
    "one_run.epsilon_at_least": (
        lambda delta: one_run.epsilon_at_least(20, 10, 8, delta), {"delta": 1e-5}
    ),
    "quantile.QuantileAttack.fit": (
        lambda X, y: membership.QuantileAttack().fit(X, y), {"X": LOGITS, "y": SCORES}
    ),
    "quantile.QuantileAttack.score_samples": (
        lambda X, y: membership.QuantileAttack().fit(LOGITS, SCORES).score_samples(X, y),
        {"X": LOGITS, "y": SCORES},
    ),
    "white_box.bayes_wb": (
        white_box.bayes_wb,
        {
            "weights": LOGITS[:2], "bias": SCORES[:2], "proxy_weights": LOGITS[2:4],
            "proxy_bias": SCORES[2:4], "x": LOGITS, "labels": LABELS,
        },
    ),
    "white_box.displacement": (
        lambda x: white_box.displacement(nn.Sequential(nn.Linear(3, 2)).eval(), "", x, Y, WHITE),
        {"x": UNITS},
    ),
    "white_box.expected_margin": (
        white_box.expected_margin, {"labels": LABELS, "probabilities": SHARES}
    ),
    "white_box.expected_residual": (
        white_box.expected_residual, {"labels": LABELS, "probabilities": SHARES, "smoothing": 0.1}
    ),
    "two_sided.TwoSided.fit": (
        lambda **given: two_sided.TwoSided.fit(**given),
        {"inputs": UNITS, "gradients": UNITS, "damping": 0.5},
    ),
    "two_sided.TwoSided.reading": (
        lambda **given: SIDES.reading(**given),
        {"moved": UNITS[:3], "inputs": UNITS, "gradients": UNITS},
    ),
    "two_sided.TwoSided.length": (
        lambda **given: SIDES.length(**given), {"inputs": UNITS, "gradients": UNITS}
    ),
    "two_sided.Dense.pushes": (
        lambda x, residual: next(two_sided.Dense(net(), "3").pushes(x, residual)),
        {"x": X, "residual": UNITS[:, :2]},
    ),
    "pushed.Pushed": (
        lambda **given: pushed.Pushed(**given, proxies=np.full(4, 2)),
        {"beyond": UNITS.numpy().T, "length": UNITS.numpy().T ** 2},
    ),
    "white_box.GeneralWB.fit": (lambda X: membership.GeneralWB().fit(X, MEMBER), {"X": LOGITS}),
    "white_box.GeneralWB.score_samples": (lambda X: learned().score_samples(X), {"X": LOGITS}),
    "whitening.Whitening.fit": (
        lambda features: membership.Whitening().fit(features, Y, 2), {"features": UNITS}
    ),
    "whitening.Whitening.transform": (
        lambda features: WHITE.transform(features, Y), {"features": UNITS}
    ),
    "lira_rmia.lira": (
        lira_rmia.lira, {"target": SCORES, "references": REFERENCES, "contains": CONTAINS}
    ),
    "lira_rmia.rmia": (
        lira_rmia.rmia,
        {
            "target": SHARES[:, 0], "references": expit(REFERENCES), "contains": CONTAINS,
            "population": SHARES[:, 0], "population_references": expit(REFERENCES), "a": 0.3,
        },
    ),
    "lira_rmia.scaled": (lira_rmia.scaled, {"logits": LOGITS, "labels": LABELS}),
}  # fmt: skip

OF_A_CASE = (
    "linear_agreement_of_activations",
    "linear_agreement_of_gradient_times_input",
    "marginality_of_occlusion",
)
WITHOUT_A_CALL = {
    "own.CalibratedAttack.fit": "trains shadows: tests/weaknesses/test_membership_own.py",
    **{f"rivals.{name}": "on the nets of a case" for name in OF_A_CASE},
    "guesses.fair": "the smaller of two counts",
    "axioms.per_class": "sorts whole numbers",
    "axioms.linear_agreement": "on nets of its own",
    "axioms.marginality": "asks internal_influence",
    "axioms.captum_integrated": "the larger of two whole numbers",
    "axioms.captum_internal": "the larger of two whole numbers",
    "axioms.Altered.forward": "a net",
    "experts.Detector.precision": "counts",
    "experts.Experts.detect": "asks Experts.logits",
    "experts.Experts.labels": "no float is given; test_logits_that_are_not_finite",
    "quantities.max_class": "test_a_quantity_that_is_not_finite",
    "quantities.unit": "test_a_quantity_that_is_not_finite",
    "watermark.dependence": "whole numbers",
    "audited.canaries": "labels of a data set",
    "victims.game": "whole numbers",
    "victims.Victim.build": "labels of a data set",
}
NO_LIMIT = {
    ("reconstruction.project", "radius"),
    ("reconstruction.reconstruct", "radius"),
    ("reconstruction.linear_optimum", "radius"),
}
"""Where infinity is documented."""
SKLEARN = {"linear.Remedy.fit"}
"""scikit-learn's own check says which argument, not which row."""


ELSEWHERE = {
    "private.fit": "trains: tests/weaknesses/test_membership_private.py",
    "dpsgd.fit": "trains: tests/weaknesses/test_membership_dpsgd.py",
    "white_box.displacement": "compiles on first use: tests/weaknesses/test_membership.py",
}


def floating(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")


def planted(value: Any, bad: float) -> Any:
    """The value with one bad number in its second row, or its only one."""
    if isinstance(value, float):
        return bad
    value = value.clone() if isinstance(value, Tensor) else value.copy()
    value.reshape(len(value), -1)[min(1, len(value) - 1), 0] = bad
    return value


ARGUMENTS = [
    (name, key) for name, (_, given) in CALLS.items() for key in given if floating(given[key])
]


@pytest.mark.parametrize("name", CALLS)
def test_good_arguments_pass(name: str) -> None:
    call, given = CALLS[name]
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    call(**given)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "key"), ARGUMENTS)
def test_what_is_not_finite_is_refused_by_name_and_row(name: str, key: str, bad: float) -> None:
    call, given = CALLS[name]
    if name in ("private.fit", "dpsgd.fit") and not private.available():
        pytest.skip("Opacus is not installed")
    changed = given | {key: planted(given[key], bad)}
    if (name, key) in NO_LIMIT and bad == math.inf:
        call(**changed)
        return
    with pytest.raises(ValueError, match=rf"\b{key}\b") as caught:
        call(**changed)
    message = str(caught.value)
    if name not in SKLEARN:
        assert "\n" not in message
        whole = name == "gaussian.measure"  # names the values that are no label
        row = "" if whole or isinstance(given[key], float) else min(1, len(given[key]) - 1)
        assert row == "" or f"in row {row}" in message


class Rooted(nn.Module):
    """NaN where a value is below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.last = nn.Identity(), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.h(x).sqrt())


@pytest.mark.parametrize("quantity", [influence.max_class(), influence.class_score(0)])
def test_a_quantity_that_is_not_finite(quantity: quantities.Quantity) -> None:
    x = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    for slice in ("h", ""):
        for d in (influence.point(), influence.line(1.0, 2), influence.empirical(x)):
            with pytest.raises(ValueError, match=f"{quantity.name} is not finite at [12] of [24]"):
                influence.internal_influence(Rooted().eval(), x, slice, quantity, d)


def test_a_gradient_that_is_not_finite() -> None:
    """The root of zero is zero, and infinitely steep."""
    x = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    with pytest.raises(
        ValueError, match=r"of class 0 at slice 'h': got -?inf in row 1 \(at \[1, 1\]"
    ):
        influence.internal_influence(
            Rooted().eval(), x, "h", influence.class_score(0), influence.point()
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda body: experts.Experts(body, "0", X, Y).labels(),
        lambda body: experts.Experts(body, "0", X, Y).detect(0),
        lambda body: faithfulness.curves(body, X, X[:, 0], 2),
        lambda body: faithfulness.attribution("saliency", body, X, "0"),
        lambda body: leakage.probe_features(body, X, WORD),
        lambda body: bias.HiddenLayer(body, "0", X).scores(),
    ],
)
def test_logits_that_are_not_finite(call: Callable[[nn.Sequential], object]) -> None:
    body = net()
    body[3].bias.data[1] = torch.nan
    with pytest.raises(ValueError, match="the model's logits: got nan in row 0"):
        call(body)


def test_a_weight_that_is_not_finite() -> None:
    body = net()
    body[3].weight.data[1, 2] = torch.inf
    with pytest.raises(ValueError, match="weight of layer 3: got inf in row 1"):
        leakage.weight_features(body, (1, 8, 18))


RANKS = {
    "argmax", "argmin", "argsort", "sort", "sorted", "topk", "searchsorted", "quantile", "max",
    "min", "amax", "amin", "aminmax", "median", "percentile", "roc_auc_score", "predict_proba",
}  # fmt: skip


def rankings(package: Any) -> Iterator[str]:
    """Public functions and methods that rank, themselves or in a private function beside them."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        spec = importlib.util.find_spec(info.name)
        assert spec is not None and spec.origin is not None
        functions: dict[str, ast.FunctionDef] = {}
        for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            functions |= {f"{prefix}{f.name}": f for f in inner if isinstance(f, ast.FunctionDef)}
        called = {name: set(calls(function)) for name, function in functions.items()}
        for name, names in called.items():
            beside = [called[other] for other in names if other in called and other[0] == "_"]
            if RANKS & names.union(*beside) and not name.rpartition(".")[2].startswith("_"):
                yield f"{info.name.rpartition('.')[2]}.{name}"


def calls(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr


def test_every_function_that_ranks_is_tried() -> None:
    found = {name for package in (explanations, weaknesses) for name in rankings(package)}
    assert {"lira_rmia.rmia", "calibration.best_accuracy", "experts.keep"} <= found
    assert found - set(CALLS) - set(WITHOUT_A_CALL) == set()
    assert set(WITHOUT_A_CALL) <= found
    assert all(inspect.signature(call) for call, _ in CALLS.values())
