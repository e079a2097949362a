"""Every public function that takes images takes arrays too, and says what it got otherwise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from thesis_repro import robustness
from thesis_repro.data.images import tensor
from thesis_repro.explanations.experts import Experts
from thesis_repro.explanations.faithfulness import attribution, curves
from thesis_repro.explanations.influence import class_score, internal_influence, point
from thesis_repro.robustness import GloroNet, attacks, relaxed, set_attack
from thesis_repro.robustness.certifiers import bcp, dual
from thesis_repro.robustness.certifiers.smoothing import Smooth
from thesis_repro.robustness.certifying import measure
from thesis_repro.weaknesses.bias.deep import unit_influence
from thesis_repro.weaknesses.leakage import Watermark, distances, probe_features, reconstruct, trace
from thesis_repro.weaknesses.membership import Whitening, displacement

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
}
ANY_LAYOUT = ("whitening", "watermark", "trace", "distances")
"""These ask no model, so that any shape may be meant."""


@pytest.mark.parametrize("name", TAKE)
def test_arrays_give_what_tensors_give(name: str) -> None:
    wanted = torch.as_tensor(TAKE[name](X, Y))
    found = torch.as_tensor(TAKE[name](X.numpy(), Y if name == "attack on sets" else Y.numpy()))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", TAKE)
@pytest.mark.parametrize("what", ["list", "uint8", "channels last", "another size"])
def test_what_else_is_given_is_one_line(name: str, what: str) -> None:
    if what in ("channels last", "another size") and name in ANY_LAYOUT:
        pytest.skip("asks no model")
    given = {
        "list": X.tolist(),
        "uint8": (255 * X).to(torch.uint8),
        "channels last": X.permute(0, 2, 3, 1),
        "another size": torch.rand(4, 1, 5, 5),
    }[what]
    says = r"torch tensor|floating|shape|do not fit|takes no"
    with pytest.raises(ValueError, match=says) as error:
        TAKE[name](given, Y)
    assert "\n" not in str(error.value)


def test_a_format_that_the_model_does_not_take_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"takes no float16 inputs of shape \(1, 1, 9, 7\)"):
        attacks.pgd_l2(BODY, X.half(), Y, 0.5, 2)


def test_images_go_to_the_device_of_the_net() -> None:
    meta = nn.Linear(2, 2, device="meta")  # any device that is not the images'
    assert tensor("x", X, meta).device.type == "meta"
