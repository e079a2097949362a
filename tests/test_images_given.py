"""Every public function that takes images takes arrays too, and says what it got otherwise."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thesis_repro import data, robustness
from thesis_repro.data.images import tensor
from thesis_repro.explanations.experts import Experts
from thesis_repro.explanations.faithfulness import attribution, curves
from thesis_repro.explanations.influence import class_score, internal_influence, point
from thesis_repro.robustness import (
    GloroNet,
    adopt,
    attacks,
    certificate,
    certify,
    interchange,
    own,
    relaxed,
    set_attack,
)
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.robustness.certifiers.smoothing import Smooth
from thesis_repro.robustness.certifying import measure
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.weaknesses.bias.deep import unit_influence
from thesis_repro.weaknesses.leakage import Watermark, distances, probe_features, reconstruct, trace
from thesis_repro.weaknesses.membership import CalibratedAttack, Whitening, displacement

SHAPE = (1, 9, 7)
torch.manual_seed(3)
BODY = nn.Sequential(
    nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(70, 4), nn.ReLU(), nn.Linear(4, 2)
).eval()
NET = GloroNet(BODY, 0.05, SHAPE).eval()
X = torch.rand(4, *SHAPE)
Y = torch.tensor([0, 1, 0, 1])
MARK = Watermark("T", 1, 0.5)
WHITE = Whitening().fit(BODY[:5](X).detach(), Y, 2)
CERTIFIED = certify(NET, X)
FEW, FILE = data.from_arrays(X.repeat(5, 1, 1, 1), Y.repeat(5)), "own.safetensors"
RECIPE = Recipe("2c2f", 0.1, 0.1, epochs=1, epochs_paper=1, batch_size=4)


def double() -> GloroNet:
    return GloroNet(copy.deepcopy(BODY).double(), 0.1, SHAPE)


def body(x: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    return copy.deepcopy(BODY)


def fitted(train: Any = body, x: Tensor = X, y: Any = Y) -> CalibratedAttack:
    attack = CalibratedAttack(train, "4", shadows=4)
    return attack.fit(
        *(torch.cat([part] * 5) if isinstance(part, Tensor) else part for part in (x, y))
    )


ATTACK = fitted()


def first(x: Any) -> Any:
    return x[0]


def noise(size: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(size)


TAKE: dict[str, Callable[[Any, Any], Any]] = {
    "certify": lambda x, y: robustness.certify(NET, x).radius,
    "measure": lambda x, y: measure(NET, x, 0.1)[0],
    "predict": lambda x, y: NET.predict(x),
    "relaxed": lambda x, y: relaxed.certify(NET, x, k=1).radius,
    "attack": lambda x, y: attacks.pgd_l2(BODY, x, y, 0.5, 2),
    "closest": lambda x, y: attacks.closest(BODY, x, y, torch.full((4,), 0.1), rounds=2)[1],
    "break": lambda x, y: attacks.break_certificates(NET, x, steps=2, restarts=1)["attacked"],
    "attack on sets": lambda x, y: set_attack.pgd_sets(BODY, x, torch.eye(2)[y].bool(), 0.5, 2),
    "box": lambda x, y: bcp.certify(BODY, x, 0.05),
    "dual": lambda x, y: dual.certify(BODY, x, 0.05),
    "smoothing": lambda x, y: Smooth(BODY, 2, 0.2).counts(x[0], 8, 4, noise()),
    "influence": lambda x, y: internal_influence(BODY, x, "1", class_score(0), point()),
    "experts": lambda x, y: Experts(BODY, "4", x, y).labels(),
    "attribution": lambda x, y: attribution("saliency", BODY, x, "1"),
    "curves": lambda x, y: curves(BODY, x, X[:, 0], steps=2)[0],
    "bias": lambda x, y: unit_influence(BODY, x, "4"),
    "displacement": lambda x, y: displacement(BODY, "4", x, y, WHITE),
    "whitening": lambda x, y: Whitening().fit(x, y, 2).means,
    "watermark": lambda x, y: MARK.blend(x),
    "trace": lambda x, y: torch.tensor(trace(x, MARK, 3).z),
    "probe": lambda x, y: probe_features(BODY, x, MARK),
    "reconstruction": lambda x, y: reconstruct(BODY, [0, 1, 0, 1], x, steps=2).images,
    "distances": lambda x, y: distances(x, x),
    "membership": lambda x, y: torch.tensor(ATTACK.score(BODY, x, y)),
}
ANY_LAYOUT = ("whitening", "watermark", "trace", "distances")
"""These ask no model, so that any shape may be meant."""


@pytest.mark.parametrize("name", TAKE)
def test_arrays_give_what_tensors_give(name: str) -> None:
    wanted = torch.as_tensor(TAKE[name](X, Y))
    found = torch.as_tensor(TAKE[name](X.numpy(), Y if name == "attack on sets" else Y.numpy()))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", TAKE)
@pytest.mark.parametrize(
    "what", ["list", "uint8", "channels last", "another size", "without values", "sparse"]
)
def test_what_else_is_given_is_one_line(name: str, what: str) -> None:
    if what in ("channels last", "another size") and name in ANY_LAYOUT:
        pytest.skip("asks no model")
    given = {
        "list": X.tolist(),
        "uint8": (255 * X).to(torch.uint8),
        "channels last": X.permute(0, 2, 3, 1),
        "another size": torch.rand(4, 1, 5, 5),
        "without values": X.to("meta"),
        "sparse": X.to_sparse(),
    }[what]
    says = r"torch tensor|floating|shape|do not fit|takes no|without values|to_dense"
    with pytest.raises(ValueError, match=says) as error:
        TAKE[name](given, Y)
    assert "\n" not in str(error.value)


def test_a_format_that_the_model_does_not_take_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"takes no float16 inputs of shape \(1, 1, 9, 7\)"):
        attacks.pgd_l2(BODY, X.half(), Y, 0.5, 2)


@pytest.mark.gpu
def test_images_go_to_the_device_of_the_net() -> None:
    assert tensor("x", X, nn.Linear(2, 2, device="cuda")).is_cuda
    assert certify(GloroNet(BODY, 0.05, SHAPE).cuda().eval(), X).radius.isfinite().all()


ASK: dict[str, Callable[[Any], Any]] = {
    "certify": lambda net: certify(net, X),
    "measure": lambda net: measure(net, X, 0.1),
    "relaxed": lambda net: relaxed.certify(net, X, k=1),
    "break": lambda net: attacks.break_certificates(net, X, steps=2, restarts=1),
    "certificate": lambda net: certificate.write("own.json", net, CERTIFIED, X),
    "net": lambda net: certificate.write_net("own.safetensors", net),
}
"""These take a GloroNet."""

BARE: dict[str, Callable[[Any], Any]] = {
    "gloro": lambda net: GloroNet(net, 0.1, SHAPE),
    "adopt": lambda net: adopt(net, SHAPE),
    "attack": lambda net: attacks.pgd_l2(net, X, Y, 0.5, 2),
    "influence": lambda net: internal_influence(net, X, "1", class_score(0), point()),
    "experts": lambda net: Experts(net, "4", X, Y),
    "probe": lambda net: probe_features(net, X, MARK),
    "displacement": lambda net: displacement(net, "4", X, Y, WHITE),
    "membership": lambda net: ATTACK.score(net, X, Y),
    "bias": lambda net: unit_influence(net, X, "4"),
    "box": lambda net: bcp.certify(net, X, 0.05),
}
"""These take any module, or any nn.Sequential."""


def made(what: str) -> Any:
    """What is given in the place of a net."""
    module = nn.Sequential(*(copy.deepcopy(layer) for layer in BODY)).eval()
    return {
        "a path": "mine.pt",
        "a state dict": BODY.state_dict(),
        "a class": nn.Linear,
        "a net without values": module.to("meta"),
        "a bare net": BODY,
    }[what]


@pytest.mark.parametrize("what", ["a path", "a state dict", "a class", "a bare net"])
@pytest.mark.parametrize("name", ASK)
def test_what_is_no_glorious_net_is_one_line(name: str, what: str) -> None:
    with pytest.raises(ValueError, match=r"GloroNet is needed, got \w+: .*adopt.*load") as error:
        ASK[name](made(what))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["a path", "a state dict", "a class", "a net without values"])
@pytest.mark.parametrize("name", BARE)
def test_what_is_no_net_is_one_line(name: str, what: str) -> None:
    says = r"nn\.(Module|Sequential),? got|needs to be nn|takes an nn.Module|on (the device )?meta"
    with pytest.raises(ValueError, match=says) as error:
        BARE[name](made(what))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["attack", "influence", "experts", "probe", "membership"])
def test_a_net_in_half_precision_is_one_line_with_what_to_do(name: str) -> None:
    half = copy.deepcopy(BODY).half()
    with pytest.raises(ValueError, match=r"takes no float32 .*; model.float\(\) and x.float\(\)"):
        BARE[name](half)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: adopt(BODY, 9), r"that of one image, as \(3, 32, 32\), got 9"),
        (lambda: adopt(BODY, "1,9,7"), "got '1,9,7'"),
        (lambda: adopt(BODY, (1, -9, 7)), r"got \(1, -9, 7\)"),
        (lambda: GloroNet(BODY, 0.1, (1, 9.0, 7)), r"got \(1, 9.0, 7\)"),
        (
            lambda: GloroNet(BODY, "0.1", SHAPE),
            "epsilon needs to be positive and finite, got '0.1'",
        ),
        (lambda: GloroNet(BODY, 0.1, (1, 5, 5)), r"no float32 inputs of shape \(1, 1, 5, 5\)"),
        (lambda: certify(NET, X, [0.1]), r"positive and finite, got \[0.1\]"),
        (lambda: certificate.write_net("own.pt", NET), "to a .safetensors file, got own.pt"),
        (lambda: certificate.write("own.json", NET, X, CERTIFIED), "Certificate; got Tensor"),
        (lambda: interchange.to_csv("a.csv", CERTIFIED, ["cat"] * 4), "got text"),
        (lambda: interchange.to_csv("a.csv", CERTIFIED, Y[:3]), "one label for each of 4"),
        (
            lambda: interchange.to_csv("a.csv", CERTIFIED, files=["a.png"]),
            "files: need one for each of 4 points, got 1",
        ),
        (lambda: data.from_arrays(X, None), r"shape \(n,\), got \(\)"),
        (lambda: data.from_arrays(X, Y.to("meta")), "without values"),
        (lambda: data.from_arrays(X, Y, "ab"), "a list of names, got 'ab'"),
        (lambda: data.from_arrays(X, Y, 2), "a list of names, got 2"),
        (lambda: data.from_arrays(X, Y, test=X), "a pair .x, y., got Tensor"),
        (lambda: data.from_loader(None), "yield batches, got NoneType"),
        (lambda: own.train("2c2f", FEW, FILE), "a Recipe and a Dataset.*got str and Dataset"),
        (lambda: own.train(RECIPE, X, FILE), "got Recipe and Tensor"),
        (lambda: own.train(RECIPE, FEW, FILE, start=BODY), r"got Sequential: GloroNet\(adopt"),
        (lambda: own.train(RECIPE, FEW, FILE, start=double()), "in float32, got torch.float64"),
        (lambda: own.train(replace(RECIPE, device="gpu"), FEW, FILE), "device 'gpu'; choose cpu"),
        (lambda: fitted(BODY), r"function train\(x, y, seed\) that gives a net, got Sequential"),
        (lambda: fitted(lambda *about: None), "give an nn.Sequential .*, got NoneType"),
        (lambda: fitted(lambda x, *about: BODY(x), X.flatten(1)), r"no float32 .* \(20, 63\)"),
        (lambda: fitted(y=["cat"] * 20), "got text"),
    ],
)
def test_what_else_does_not_fit_is_one_line(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
