"""Class experts: masks that do not accumulate, rankings, the choice of units, detectors."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.explanations import experts, influence
from thesis_repro.explanations.experts import Choice, Detector, Experts, keep, masked
from thesis_repro.explanations.receptive import top_units
from thesis_repro.weaknesses.bias.deep import HiddenLayer, unit_influence

SHAPE = (1, 12, 12)


@pytest.fixture
def net() -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    return nets.cnn_2c2f("relu", in_shape=SHAPE, classes=4, generator=generator).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def y(net: nn.Sequential, x: Tensor) -> Tensor:
    """Labels in which every class occurs."""
    return torch.arange(40) % 4


def planted() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Units 0 and 1 tell class 0, unit 2 speaks against it; 3 is loud and means nothing."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(4))
        net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[2.0, 1.0, -3.0, 0.0], [0.0, 0.0, 3.0, 0.0]]))
        net[2].bias.copy_(torch.tensor([0.0, 0.5]))
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(60, 4, generator=generator) * 0.1
    y = torch.arange(60) % 2
    x[y == 0, 0] += 1
    x[y == 1, 2] += 1
    x[:, 3] += 9
    return net, x, y


def test_detector_by_hand() -> None:
    found = Detector(found=8, positives=10, alarms=2, negatives=40)
    assert found.recall == 0.8
    assert found.precision == 0.8
    assert found.balanced == pytest.approx((0.8 + 0.95) / 2)
    everything = Detector(10, 10, 40, 40)
    assert (everything.recall, everything.precision, everything.balanced) == (1.0, 0.2, 0.5)
    assert Detector(0, 10, 0, 40).precision == 0


def test_planted_experts_are_found() -> None:
    net, x, y = planted()
    layer = Experts(net, "1", x, y)
    scores = layer.influence(0)
    assert scores.argsort(descending=True).tolist() == [0, 1, 3, 2]
    assert scores.tolist() == [2.0, 1.0, -3.0, 0.0]
    assert layer.activation(0).argmax() == 3
    chosen = layer.choose(0, scores, 2)
    assert layer.detect(0, keep(scores, chosen)).balanced == 1.0
    assert chosen == Choice(1, 0)
    loud = keep(layer.activation(0), Choice(1, 0))
    assert loud.tolist() == [False, False, False, True]
    assert layer.detect(0, loud).balanced <= 0.5


@pytest.mark.parametrize("near", [0.0, 0.2, 1.0])
def test_choose_is_the_best_that_keeps_the_recall(
    net: nn.Sequential, x: Tensor, y: Tensor, near: float
) -> None:
    """Against a search written out: every pair within the budget, recall before balance."""
    layer = Experts(net, "6", x, y)
    for c in range(4):
        scores = layer.influence(c)
        pairs = [(a, b) for a in range(6) for b in range(6) if 1 <= a + b <= 5]
        found = {p: layer.detect(c, keep(scores, Choice(*p))) for p in pairs}
        needed = layer.detect(c).recall - near
        pool = [p for p in pairs if found[p].recall >= needed] or pairs
        top = max(found[p].balanced for p in pool)
        fewest = min(a + b for a, b in pool if found[a, b].balanced == top)
        best = max(p for p in pool if found[p].balanced == top and sum(p) == fewest)
        chosen = layer.choose(c, scores, 5, near=near)
        assert (chosen.alpha, chosen.beta) == best


def test_choose_puts_recall_before_balance() -> None:
    """One unit finds half of the class and nothing else; two find it all, with some alarms."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[2.0, 1.0], [0.0, 0.0]]))
        net[2].bias.copy_(torch.tensor([0.0, 0.5]))
    x = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5 + [[0.0, 1.0]] * 6 + [[0.0, 0.0]] * 4)
    y = torch.tensor([0] * 10 + [1] * 10)
    layer = Experts(net, "1", x, y)
    scores = layer.influence(0)
    one, both = (layer.detect(0, keep(scores, Choice(n, 0))) for n in (1, 2))
    assert (one.recall, both.recall) == (0.5, 1.0)
    assert one.balanced > both.balanced
    assert layer.choose(0, scores, 2).units == 2
    assert layer.choose(0, scores, 2, near=0.6).units == 1


def test_masks_do_not_accumulate(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    """After a mask of zeros, the whole net and any other mask give what they gave before."""
    layer = Experts(net, "3", x, y)
    some = torch.arange(layer.units) % 3 == 0
    whole, part = layer.labels(), layer.labels(some)
    before = layer.z.clone()
    nothing = layer.labels(torch.zeros(layer.units, dtype=torch.bool))
    assert torch.equal(layer.labels(some), part)
    assert torch.equal(layer.labels(), whole)
    assert torch.equal(layer.z, before)
    assert len(nothing.unique()) == 1
    assert torch.equal(layer.labels(torch.ones(layer.units, dtype=torch.bool)), whole)
    assert torch.equal(whole, net(x).argmax(1))


def test_masking_is_zeroing_in_a_forward_pass(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    for name in ("1", "3", "5"):
        layer = Experts(net, name, x, y)
        kept = torch.rand(layer.units, generator=torch.Generator().manual_seed(2)) > 0.5

        def mask(module: nn.Module, inputs: object, z: Tensor, kept: Tensor = kept) -> Tensor:
            z = z.clone()
            z[:, ~kept] = 0
            return z

        handle = net[int(name)].register_forward_hook(mask)
        expected = net(x).argmax(1)
        handle.remove()
        assert torch.equal(layer.labels(kept), expected)


def test_keep_takes_both_ends() -> None:
    scores = torch.tensor([0.5, -2.0, 3.0, 0.0, -1.0])
    assert keep(scores, Choice(2, 1)).tolist() == [True, True, True, False, False]
    assert keep(scores, Choice(0, 2)).tolist() == [False, True, False, False, True]
    assert keep(scores, Choice(5, 0)).all()
    for alpha, beta in itertools.product(range(4), range(2)):
        assert keep(scores, Choice(alpha, beta)).sum() == alpha + beta


def test_curve_is_detect(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    layer = Experts(net, "6", x, y)
    scores = layer.activation(2)
    choices = [Choice(n, 0) for n in (1, 10, 100)]
    curve = layer.curve(2, scores, choices)
    assert curve == [layer.detect(2, keep(scores, choice)) for choice in choices]
    assert curve[-1] == layer.detect(2)


@pytest.mark.parametrize("activation", ["relu", "minmax"])
@pytest.mark.parametrize("name", ["1", "6"])
def test_input_gradient_is_a_directional_derivative(activation: str, name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    net = nets.cnn_2c2f(activation, in_shape=SHAPE, classes=4, generator=generator).double().eval()
    x = torch.rand(6, *SHAPE, generator=generator, dtype=torch.float64)
    layer = Experts(net, name, x, torch.zeros(6, dtype=torch.int64))
    saliency = influence.internal_influence(net, x, "", influence.class_score(0), influence.point())
    step = saliency / saliency.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    t = 1e-6
    moved = [layer.cut.activations(x + s * t * step) for s in (1, -1)]
    expected = influence.per_unit((moved[0] - moved[1]) / (2 * t)).mean(0)
    assert (layer.input_gradient(0) - expected).abs().max() < 1e-6


def test_input_gradient_is_taken_at_the_place_of_the_slice() -> None:
    torch.manual_seed(0)
    relu = nn.ReLU()
    shared = nn.Sequential(nn.Linear(4, 5), relu, nn.Linear(5, 5), relu, nn.Linear(5, 3)).eval()
    apart = nn.Sequential(*shared[:3], nn.ReLU(), shared[4]).eval()
    x, y = torch.rand(12, 4), torch.arange(12) % 3
    expected = Experts(apart, "3", x, y).input_gradient(0)
    assert not torch.equal(expected, Experts(apart, "1", x, y).input_gradient(0))
    assert torch.equal(Experts(shared, "3", x, y).input_gradient(0), expected)
    linear = nn.Sequential(shared[0], shared[2]).eval()  # its saliency map is constant
    saliency = (shared[2].weight[0] @ shared[0].weight).detach()
    found = Experts(linear, "", x, y).input_gradient(0)
    torch.testing.assert_close(found, saliency / saliency.norm())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_input_gradient_works_without_gradients_around_it(mode: Callable[[], Any]) -> None:
    net, x, y = planted()
    expected = Experts(net, "1", x, y).input_gradient(0)
    with mode():
        assert torch.equal(Experts(net, "1", x.clone(), y.clone()).input_gradient(0), expected)


def test_rankings(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    layer = Experts(net, "3", x, y)

    def random(seed: int) -> Tensor:
        return layer.ranking("random", 0, torch.Generator().manual_seed(seed))

    for name in experts.RANKINGS:
        assert layer.ranking(name, 0, torch.Generator()).shape == (layer.units,)
    assert torch.equal(random(1), random(1))
    assert not torch.equal(random(1), random(2))
    of_class = influence.internal_influence(
        net, x[y == 2], "3", influence.class_score(2), influence.point()
    )
    assert torch.equal(layer.ranking("influence", 2), influence.per_unit(of_class).mean(0))


def test_the_direction_of_the_smallest_gradients_counts_as_that_of_others() -> None:
    net, x, y = planted()
    found = Experts(net, "0", x, y).input_gradient(0)
    with torch.no_grad():
        net[2].weight.mul_(2.0**-90)  # squares of these gradients vanish in float32
        net[2].bias.mul_(2.0**-90)
    torch.testing.assert_close(Experts(net, "0", x, y).input_gradient(0), found)


def test_refusals(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    layer = Experts(net, "3", x, y)
    scores = torch.arange(float(layer.units))
    one_logit = nn.Sequential(nn.Flatten(), nn.Linear(144, 1)).eval()
    cases = (
        (lambda: Experts(net, "3", x, y[:2]), "one label for each"),
        (lambda: Experts(net, "33", x, y), "close names"),
        (lambda: layer.influence(9), "no image of class 9"),
        (lambda: Experts(net, "3", x, y.float()), "y need to be whole numbers"),
        (lambda: Experts(net, "3", x, y - 1), "got -1 in row 0"),
        (lambda: layer.choose(9, scores, 2), "no image of class 9"),
        (lambda: layer.choose(0, scores, 2, step=0), "step >= 1"),
        (lambda: layer.choose(0, scores, 1, step=2), "a step of 2 units is more than the budget"),
        (lambda: layer.ranking("beauty", 0), "unknown ranking"),
        (lambda: layer.choose(0, scores, 0), "budget of 0"),
        (lambda: layer.choose(0, scores, 33), "budget of 33"),
        (lambda: keep(scores, Choice(33, 0)), "does not fit"),
        (lambda: keep(scores, Choice(-1, 0)), "does not fit"),
        (lambda: masked(x, torch.ones(2, dtype=torch.bool)), "does not fit"),
        (lambda: layer.detect(0, scores), "float32, does not fit 32 units: need bools"),
        (lambda: layer.detect(0, scores.argsort()), "int64, does not fit 32 units: need bools"),
        (lambda: layer.detect(y), "of one class, the same"),
        (lambda: layer.detect(-1), "class -1 is asked for"),
        (lambda: layer.activation(y), "of one class, the same"),
        (lambda: Experts(one_logit, "0", x, y).detect(0), "two classes or more"),
    )
    for build, says in cases:
        with pytest.raises(ValueError, match=says):
            build()


def test_the_halves_share_no_image() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    x = torch.arange(20.0).view(10, 2)
    sides = experts.halves(net, "1", x, torch.arange(10) % 4 // 2)
    first, second = sides.choosing.x[:, 0].tolist(), sides.judging.x[:, 0].tolist()
    assert sorted(first + second) == x[:, 0].tolist()
    assert not set(first) & set(second)


def test_a_compressed_net_is_judged_on_the_images_that_chose_nothing() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.rand(60, 5) - 0.5
    sides = experts.halves(net, "1", x, net(x).argmax(1))
    choice, found = sides.compressed(1, "influence", 3, torch.Generator())
    kept = experts.keep(sides.choosing.influence(1), choice)
    assert found == sides.judging.detect(1, kept) != sides.choosing.detect(1, kept)


def reads_tokens() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A net of 5 tokens of 8 numbers; its classes, and points of both."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Linear(8, 8), block, nn.Flatten(), nn.Linear(40, 2)).eval()
    return net, torch.rand(12, 5, 8), torch.arange(12) % 2


@pytest.mark.parametrize("name", ["0", "1", "1.linear1"])
def test_tokens_are_not_taken_for_units(name: str) -> None:
    net, x, y = reads_tokens()
    calls: list[Callable[[], Any]] = [
        lambda: Experts(net, name, x, y),
        lambda: HiddenLayer(net, name, x),
        lambda: unit_influence(net, x, name),
        lambda: top_units(net, x, name, influence.class_score(0)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"last axis has the units: .* z.movedim") as error:
            call()
        assert "\n" not in str(error.value)


def test_features_of_tokens_are_units_where_they_are_the_second_axis() -> None:
    net, x, y = reads_tokens()
    around = (lambda x: net[:2](x).movedim(-1, 1), lambda z: net[2:](z.movedim(1, -1)))
    layer = Experts(net, around, x, y)
    assert layer.units == 8
    torch.testing.assert_close(layer.logits(), net(x))
    kept = torch.arange(8) < 3
    torch.testing.assert_close(layer.logits(kept), net[2:](net[:2](x) * kept))
    found = influence.internal_influence(net, x, "1", influence.class_score(1), influence.point())
    means = influence.per_unit(found.movedim(-1, 1), "mean")[y == 1].mean(0)
    torch.testing.assert_close(layer.influence(1, over="mean"), means)
    assert Experts(net, "2", x, y).units == 40
