"""Moving figures: the data that they draw is what the package computes, and small enough."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from thesis_repro.experiments.bias import moving as bias
from thesis_repro.experiments.certifiers import moving as certifiers
from thesis_repro.experiments.gloro import moving as gloro
from thesis_repro.experiments.influence import moving as influence
from thesis_repro.experiments.leakage import moving as leakage
from thesis_repro.experiments.leakage.models import STANDARD, TRAININGS
from thesis_repro.experiments.membership import moving as membership
from thesis_repro.figures.moving import LIMIT, Moving
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.robustness import GloroNet, certify, toy2d
from thesis_repro.robustness.certifiers.smoothing import certified_radius
from thesis_repro.weaknesses.bias import Mixture


def data_of(shown: Moving) -> Any:
    (text,) = re.findall(r'class="moving-data">(.*?)</script>', shown.html(), re.DOTALL)
    assert len(shown.html().encode()) <= LIMIT
    return json.loads(text)


@pytest.mark.slow  # it trains the net
def test_the_plane_shows_as_proved_no_more_than_is_proved() -> None:
    data = data_of(gloro.of_plane())
    side, points = data["side"], toy2d.grid(data["side"])
    found = certify(toy2d.trained(data["start"]), points)
    one = np.array(data["one"]) / 1000
    assert one.shape == (side * side,)
    proved = found.radius.numpy()
    assert (one <= proved + 1e-9).all() and (one >= np.minimum(proved, 1) - 1e-3).all()
    assert (np.array(data["two"]) >= data["one"]).all()
    assert data["labels"] == "".join(map(str, found.labels.tolist()))


def test_a_digit_carries_its_logits_slopes_and_attack() -> None:
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    net = GloroNet(body, 0.1, (1, 28, 28)).eval()
    x = torch.rand(2, 1, 28, 28)
    distance = torch.tensor([1.5, torch.inf])
    found = gloro.Attacked(x, torch.tensor([0, 1]), torch.tensor([0.5, 0.7]), 1 - x, distance)
    (digit,) = data_of(gloro.of_digits(net, found))["digits"]  # no attack was found on the other
    logits = body(x[:1])[0]
    assert digit["logits"] == pytest.approx(logits.tolist(), abs=1e-3)
    answer = int(logits.argmax())
    assert digit["slopes"] == pytest.approx(net.bound().k_ij[answer].tolist(), abs=1e-3)
    assert bytes.fromhex(digit["image"])[:3] == bytes(
        (255 * x[0, 0, 0, :3]).round().byte().tolist()
    )
    assert (digit["radius"], digit["distance"]) == (0.5, 1.5)


def test_influence_has_a_map_for_each_choice() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 3, stride=3), torch.nn.ReLU(), torch.nn.Flatten()]
    layers += [torch.nn.ReLU(), torch.nn.Linear(324, 8), torch.nn.ReLU(), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(8, 10)).eval()
    x = torch.rand(3, 1, 28, 28)
    data = data_of(influence.of_choices(net, x[:1], x, 4, 9))
    sizes = [len(data[name]) for name in ("slices", "quantities", "distributions")]
    maps = data["maps"]
    assert [len(maps), len(maps[0]), len(maps[0][0])] == sizes == [3, 3, 4]
    assert len(maps[0][0][0]) == 784
    for of_slice in maps:
        for of_quantity in of_slice:
            assert all(max(map(abs, values)) == 100 for values in of_quantity)


def test_a_threshold_counts_members_and_others() -> None:
    generator = np.random.default_rng(0)
    member = generator.permutation(np.repeat([True, False], 200))
    scores = member + generator.normal(size=400)
    arrays = {"member.0": member, "a.0": scores}
    data = data_of(membership.of_threshold({"plain": Result({}, arrays)}, ("a",)))
    (training,) = data["trainings"]
    (right, wrong), step = training["counts"][0], 37
    called = right[step] + wrong[step]
    best = np.argsort(-scores, kind="stable")[:called]
    assert (right[step], training["n"]) == (int(member[best].sum()), 200)
    assert (right[-1], wrong[-1], right[0]) == (200, 200, 0)


def test_smoothing_shows_the_certified_radius_of_each_choice_and_no_more() -> None:
    data = data_of(certifiers.of_smoothing(0.01))
    for share, hits, radii, limit in zip(
        data["shares"], data["hits"], data["radii"], data["limits"], strict=True
    ):
        for n, agree, radius in zip(data["copies"], hits, radii, strict=True):
            assert agree <= share * n < agree + 1
            exact = 1000 * 0.5 * certified_radius(agree, n, 0.01, 0.5) / 0.25
            assert exact - 1 < radius <= exact
        assert (limit is None) == (share == 1) and max(radii) <= (limit or np.inf)


def test_a_change_of_what_smoothing_certifies_changes_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nbval compares is the element itself: a radius one percent larger is seen."""
    before = certifiers.of_smoothing().html()
    monkeypatch.setattr(certifiers, "certified_radius", lambda *a: 1.01 * certified_radius(*a))
    assert certifiers.of_smoothing().html() != before


def test_weak_features_lean_as_the_mixture_says() -> None:
    data = data_of(bias.of_weak())
    assert set(map(len, data["rules"])) == {len(data["weights"])}
    at, weight, learned = data["counts"].index(200), data["weights"].index(10), 1
    mixture = Mixture(200)
    coef, full = mixture.bayes_rule()
    coef[mixture.strong :] *= 10
    found = mixture.evaluate(coef, data["learned"][learned] * 10 * full)
    told = data["rules"][0][weight][learned]
    assert (told[0][at], told[1][at]) == pytest.approx([1000 * value for value in found], abs=0.5)
    turned = np.array(data["rules"][1])[:, :, 0]
    assert (np.abs(turned) <= 1).all(), "as many lean to the other side"
    assert max(data["rules"][0][weight][0][0]) == 0, "nor where the whole intercept is learned"


def test_each_opacity_has_its_picture_and_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[leakage.WordConfig] = []

    def reading(cell: Cell) -> Result:
        computed.append(cell.config)
        mask = cell.config.setup.watermark.blend(torch.zeros(10, 1, 28, 28))
        return Result(
            dict.fromkeys(("true", "others", "z", "accuracy"), 0.5), {"images": mask.numpy()}
        )

    monkeypatch.setattr(leakage, "compute", reading)
    data = data_of(leakage.of_word(7))
    assert [one["name"] for one in data["trainings"]] == list(TRAININGS)
    opacities = tuple(data["opacities"])
    assert [(one.method, one.setup.opacity) for one in computed] == [
        (method, opacity) for method in TRAININGS for opacity in opacities
    ]
    assert {one.number for one in computed} == {7} and opacities[0] == 0
    word = leakage.SETUP.watermark.mask((28, 28)).flatten().bool().numpy()
    nets = data["trainings"][0]["nets"]
    most = np.array(list(bytes.fromhex(nets[-1]["change"])))
    for at, net in enumerate(nets):
        pixels = {name: np.array(list(bytes.fromhex(net[name]))) for name in ("image", "change")}
        assert (pixels["image"] == np.round(255 * opacities[at] * word)).all()
        grown = most[most < 255] * opacities[at] / opacities[-1]
        assert pixels["change"][most < 255] == pytest.approx(grown, abs=1)
        marked = np.array(list(bytes.fromhex(data["marked"][at])))
        assert (marked[word] >= np.floor(255 * opacities[at])).all()


@pytest.mark.slow  # it trains two nets
def test_nets_that_saw_the_word_differ_from_their_twins_in_the_word_alone() -> None:
    found = [
        leakage.read_back(leakage.WordConfig(replace(leakage.SETUP, opacity=o), STANDARD, 0))
        for o in (0.0, 0.5)
    ]
    assert found[0].values["z"] < 2 < found[1].values["z"]
    first, last = (entry["change"] for entry in leakage._shown(found))
    assert set(first) == {"0"}, "a net is its own twin"
    change = np.array(list(bytes.fromhex(last))).reshape(28, 28)
    word = leakage.SETUP.watermark.mask((28, 28)).bool().numpy()
    assert change[word].mean() > 2 * change[~word].mean()


def test_a_figure_without_its_data_set_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage.data, "available", lambda name: False)
    assert data_of(leakage.of_word()) is None


def test_a_figure_that_is_too_large_or_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'plane' has .* bytes, allowed are 200,000"):
        Moving("plane", "x", "1" * LIMIT)
    with pytest.raises(ValueError, match="no moving figure is called 'cube': plane, digit"):
        Moving("cube", "x", None)


def test_data_cannot_end_its_element() -> None:
    text = Moving("plane", "x", "</script><b>").html()
    assert "</script><b>" not in text and data_of(Moving("plane", "x", "</script>")) == "</script>"
