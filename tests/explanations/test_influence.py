"""Internal influence: its axioms, its special cases, its oracle, and what it refuses."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.explanations import axioms, influence
from thesis_repro.explanations.influence import internal_influence, line, point

SHAPE = (1, 12, 12)


def digit_net(activation: str = "relu") -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    return nets.cnn_2c2f(activation, in_shape=SHAPE, classes=4, generator=generator).eval()


def images(n: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Wrapped(nn.Module):
    """Not sequential, so the part after a slice cannot be cut off."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Residual(nn.Module):
    """A path goes past the slice `inner`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(6, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.inner(x)) * x)


def distributions(generator: torch.Generator, x: Tensor) -> list[influence.Distribution]:
    return [
        point(),
        line(points=7),
        line(0.3, 5, "input", "trapezoid"),
        line(torch.tensor(0.1), 4, "input", "middle"),
        influence.gaussian(0.5, 6, generator),
        influence.empirical(x),
        influence.empirical([x[:2], x[2:]]),
    ]


@pytest.mark.parametrize("kind", range(7))
def test_linear_agreement(kind: int) -> None:
    net = nn.Linear(5, 3).eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 5, generator=generator)
    found = internal_influence(
        net, x, "", influence.class_score(2), distributions(generator, x)[kind]
    )
    assert (found - net.weight[2]).abs().max() < 1e-6
    assert found.shape == x.shape


def test_by_hand() -> None:
    """q(x) = 3 relu(2 x) - relu(-x): slopes 6 right of zero and 1 left of it."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).eval()
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([[2.0], [-1.0]])
        net[2].weight[:] = torch.tensor([[3.0, -1.0]])
    x = torch.tensor([[0.5], [-2.0]])
    c = influence.class_score(0)
    assert internal_influence(net, x, "", c, point()).flatten().tolist() == [6.0, 1.0]
    hidden = internal_influence(net, x, "0", c, point())
    assert hidden.tolist() == [[3.0, 0.0], [0.0, -1.0]]
    # from -1: two thirds of the way to 0.5 lie left of zero
    halves = internal_influence(net, x[:1], "", c, line(-1.0, 3000, "input", "middle"))
    assert halves.item() == pytest.approx(1 * 2 / 3 + 6 / 3, abs=2e-3)
    spread = internal_influence(
        net, torch.zeros(1, 1), "", c, influence.gaussian(1.0, 4000, torch.Generator())
    )
    assert spread.item() == pytest.approx(3.5, abs=0.2)


@pytest.mark.parametrize("activation", ["relu", "minmax"])
@pytest.mark.parametrize("layer", ["", "0", "1", "4", "5"])
def test_completeness_in_slice_space(activation: str, layer: str) -> None:
    net, x = digit_net(activation), images()
    q = influence.class_score(1)
    given = internal_influence(net, x, layer, q, line(points=400, rule="middle"), multiply=True)
    cut = influence.Cut(net, layer)
    z = cut.activations(x)
    difference = cut.output(z, x)[:, 1] - cut.output(torch.zeros_like(z), x)[:, 1]
    error = (given.flatten(1).sum(1) - difference).abs() / difference.abs().clamp(min=0.1)
    assert error.max() < 0.01


def test_distributional_marginality() -> None:
    """Altering the function away from the distribution's support changes nothing."""
    net, x = digit_net(), images()

    class Altered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            far = torch.relu(x.flatten(1).amax(1) - 1.5)  # zero wherever pixels are below 1.5
            return self.net(x) * (1 + far[:, None] ** 2)

    altered = Altered().eval()
    q = influence.class_score(0)
    for d in (point(), line(0.0, 20, "input"), influence.empirical(images(8, 1))):
        before = internal_influence(net, x, "", q, d)
        after = internal_influence(altered, x, "", q, d)
        assert (before - after).abs().max() < 1e-6 * before.abs().max()
    # and on the support it does change: the test can fail
    assert not torch.allclose(
        internal_influence(net, x + 2, "", q, point()),
        internal_influence(altered, x + 2, "", q, point()),
    )


def test_slice_invariance() -> None:
    """Two ways to write the same h and g have the same influence."""
    net, x = digit_net(), images()
    q = influence.class_score(3)
    first, second = net[:4], net[4:]

    def doubled_and_halved(x: Tensor) -> Tensor:
        return first(2 * x / 2)

    rewritten = axioms.doubled(second)
    assert torch.equal(rewritten(first(x)), net(x))
    assert not torch.equal(rewritten[1].weight, second[1].weight)
    for few in (net[-1:], net[-2:-1]):  # without a hidden dense layer, or without any
        z = torch.rand(3, net[-1].in_features)
        assert torch.equal(axioms.doubled(few)(z), few(z))
    for d in (point(), line(points=9), line(0.0, 9, "input")):
        named = internal_influence(net, x, "3", q, d)
        pair = internal_influence(net, x, (first, second), q, d)
        assert torch.equal(named, pair)
        for h, g in ((doubled_and_halved, second), (first, rewritten)):
            assert (named - internal_influence(net, x, (h, g), q, d)).abs().max() < 1e-6


def test_consistency() -> None:
    """Influence inside the net is the input influence of g over the images of the points."""
    net, x = digit_net(), images()
    q = influence.class_score(3)
    z = influence.Cut(net, "3").activations(x)
    inside = internal_influence(net, x, "3", q, influence.empirical(x))
    outside = internal_influence(net[4:], z, "", q, influence.empirical(z))
    assert torch.equal(inside, outside)


@given(st.integers(0, 3), st.integers(0, 3), st.floats(-2, 2))
def test_linear_in_the_quantity(a: int, b: int, t: float) -> None:
    net, x = digit_net(), images(2)
    parts = [
        internal_influence(net, x, "1", influence.class_score(c), line(points=3)) for c in (a, b)
    ]

    def mixed(y: Tensor) -> Tensor:
        return y[:, a] + t * y[:, b]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", influence.ZeroInfluence)  # t = -1 and a = b
        both = internal_influence(net, x, "1", mixed, line(points=3))
    assert (both - parts[0] - t * parts[1]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", range(7))
@pytest.mark.parametrize("layer", ["", "2", "3", "5"])
def test_batch_size_and_wrapping_change_nothing(kind: int, layer: str) -> None:
    net, x = digit_net("minmax"), images(5)
    q = influence.comparative(0, [1, 2])
    outcomes = []
    for model, name, size in ((net, layer, 256), (net, layer, 2), (Wrapped(net), layer, 7)):
        d = distributions(torch.Generator().manual_seed(9), x)[kind]
        name = f"body.{name}" if name and model is not net else name
        outcomes.append(internal_influence(model.eval(), x, name, q, d, batch_size=size))
    for other in outcomes[1:]:
        assert (outcomes[0] - other).abs().max() < 1e-6


def test_paths_past_the_slice() -> None:
    """With a skip connection, moving z leaves the skipped x where it was."""
    net = Residual().eval()
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    q = influence.class_score(1)
    found = internal_influence(net, x, "inner", q, line(points=40))
    z = net.inner(x).detach()
    total = torch.zeros_like(z)
    for weight, moved in influence.line(points=40).around(z):
        leaf = moved.clone().requires_grad_()
        score = net.out(torch.tanh(leaf) * x)[:, 1].sum()
        total += weight * torch.autograd.grad(score, leaf)[0]
    assert (found - total).abs().max() < 1e-6


def test_rows_of_a_pass_do_not_grow_with_the_points() -> None:
    net, x = digit_net(), images(3)
    largest = []
    net[0].register_forward_hook(lambda m, i, o: largest.append(len(o)))
    for points in (5, 50, 500):
        largest.clear()
        internal_influence(
            net, x, "1", influence.class_score(0), line(0.0, points, "input"), batch_size=24
        )
        assert max(largest) <= 24


def test_quantities() -> None:
    y = torch.tensor([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])
    assert influence.class_score(2)(y).tolist() == [2.0, 3.0]
    assert influence.comparative(1, [0, 2])(y).tolist() == [3.5, -3.5]
    assert influence.max_class()(y).tolist() == [5.0, 4.0]
    maps = torch.arange(16.0).view(1, 2, 2, 4)
    assert influence.unit("m", 1)(maps).tolist() == [15.0]
    assert influence.unit("m", 0, over="mean")(maps).tolist() == [3.5]
    assert influence.unit("m", (1, 0, 2))(maps).tolist() == [10.0]


def test_internal_unit_as_quantity() -> None:
    net, x = digit_net(), images()
    found = internal_influence(net, x, "", influence.unit("3", 2), point())
    leaf = x.clone().requires_grad_()
    value = net[:4](leaf)[:, 2].flatten(1).max(1).values.sum()
    assert (found - torch.autograd.grad(value, leaf)[0]).abs().max() < 1e-6
    on_itself = internal_influence(net, x, "3", influence.unit("3", (2, 1, 1)), point())
    assert on_itself.sum().item() == 3
    assert on_itself[:, 2, 1, 1].tolist() == [1.0] * 3


def test_per_unit() -> None:
    chi = torch.arange(8.0).view(1, 2, 2, 2)
    assert influence.per_unit(chi).tolist() == [[3.0, 7.0]]
    assert influence.per_unit(chi, "mean").tolist() == [[1.5, 5.5]]
    assert influence.per_unit(chi[:, :, 0, 0]).tolist() == [[0.0, 4.0]]


def test_gaussian_follows_its_generator() -> None:
    net, x = digit_net(), images()

    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        d = influence.gaussian(0.2, 3, generator)
        return internal_influence(net, x, "1", influence.class_score(0), d)

    assert torch.equal(run(4), run(4))
    assert not torch.equal(run(4), run(5))


def test_model_comes_back_as_it_was() -> None:
    net, x = digit_net(), images()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept = list(net.parameters())

    def broken(y: Tensor) -> Tensor:
        raise RuntimeError("inside the quantity")

    for q, d in ((influence.class_score(0), line(points=3)), (broken, point())):
        try:
            internal_influence(net, x, "1", q, d)
        except RuntimeError:
            assert q is broken
        assert not any(m._forward_hooks for m in net.modules())
        assert all(a is b for a, b in zip(kept, net.parameters(), strict=True))
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_works_inside_no_grad() -> None:
    net, x = digit_net(), images()
    expected = internal_influence(net, x, "1", influence.class_score(0), point())
    with torch.no_grad():
        assert torch.equal(
            internal_influence(net, x, "1", influence.class_score(0), point()), expected
        )
    with torch.inference_mode():
        again = internal_influence(net, x.clone(), "1", influence.class_score(0), point())
    assert torch.equal(again, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_measure_works_without_gradients_around_it(mode: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    case = axioms.Case(net, torch.rand(4, 6), torch.tensor([0, 0, 1, 2]), ("0", "1"), points=3)
    for measure in (axioms.saliency, axioms.integrated_gradients):
        expected = measure(case)
        with mode():
            assert torch.equal(measure(case), expected)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.unused = nn.Linear(2, 2)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.relu(self.relu(x)))


def refusal(model: nn.Module, x: Tensor, *arguments: object, **options: object) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        internal_influence(model, x, *arguments, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_refusals() -> None:
    net, x, q = digit_net(), images(), influence.class_score(0)
    assert "inner" in refusal(Residual().eval(), torch.ones(1, 6), "iner", q, point())
    assert "training mode" in refusal(digit_net().train(), x, "1", q, point())
    half = digit_net()
    half[1].train()
    assert "'1' is in training mode" in refusal(half, x, "1", q, point())
    in_place = digit_net()
    in_place[1].inplace = True
    assert "'1' (ReLU) works in place" in refusal(in_place, x, "0", q, point())
    assert "2 times" in refusal(Twice().eval(), torch.ones(1, 4), "relu", q, point())
    assert "never" in refusal(Twice().eval(), torch.ones(1, 4), "unused", q, point())
    runs = "'relu' runs 2 times in one forward pass; a quantity needs one that runs once"
    assert runs in refusal(Twice().eval(), torch.ones(1, 4), "", influence.unit("relu", 0), point())
    assert "class 4" in refusal(net, x, "1", influence.class_score(4), point())
    assert "one number per row" in refusal(net, x, "1", lambda y: y, point())
    assert "no rows" in refusal(net, x[:0], "1", q, point())
    for size in (0, 2.5, True, "8"):
        assert "batch_size" in refusal(net, x, "1", q, point(), batch_size=size)
    assert "does not fit" in refusal(net, x, "1", q, line(torch.zeros(7)))
    assert "no unit 99" in refusal(net, x, "", influence.unit("3", 99), point())
    assert "size zero" in refusal(net, x, "1", q, influence.empirical(x[:0]))
    assert "size zero" in refusal(net, x, "1", q, influence.empirical([]))
    assert "not those of x" in refusal(
        nn.Conv2d(1, 2, 3).eval(), x, "", lambda y: y.sum((1, 2, 3)),
        influence.empirical(torch.ones(2, 1, 5, 5)),
    )  # fmt: skip
    for build in (
        lambda: line(points=0),
        lambda: line(rule="simpson"),
        lambda: line(space="hidden"),  # type: ignore[arg-type]
        lambda: line(points=1, rule="trapezoid"),
        lambda: influence.gaussian(1.0, 0),
        lambda: influence.gaussian(-1.0, 3),
        lambda: influence.comparative([], 1),
        lambda: influence.unit("m", 0, over="sum"),
        lambda: influence.per_unit(x, "sum"),
    ):
        with pytest.raises(ValueError, match=r"zero|unknown|needs"):
            build()


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, torch.tensor])
def test_whole_numbers_of_any_type_are_indices(kind: Callable[[int], Any]) -> None:
    output = torch.tensor([[1.0, 5.0, 2.0]])
    assert influence.class_score(kind(1))(output).item() == 5
    assert influence.comparative(kind(1), [kind(0), kind(2)])(output).item() == 3.5
    assert influence.unit("m", kind(2))(output).item() == 2
    for build in (
        lambda: influence.class_score(1.0),  # type: ignore[arg-type]
        lambda: influence.comparative(0, [0.5]),  # type: ignore[list-item]
        lambda: influence.unit("m", "1"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="needs to be a whole number, got"):
            build()


def test_a_baseline_that_is_trained_gets_no_gradient() -> None:
    net, x = digit_net(), images()
    baseline = torch.full(x.shape[1:], 0.2, requires_grad=True)
    found = internal_influence(
        net, x, "", influence.class_score(0), line(baseline, 3, "input"), multiply=True
    )
    assert not found.requires_grad
    plain = line(baseline.detach(), 3, "input")
    assert torch.equal(
        found, internal_influence(net, x, "", influence.class_score(0), plain, multiply=True)
    )


class Overwriting(nn.Module):
    """An in-place function that no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu_(self.first(x)))


def test_a_function_that_overwrites_the_slice() -> None:
    net, q = Overwriting().eval(), influence.class_score(0)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for d in (point(), line(points=3), line(0.0, 3, "input"), influence.empirical(x)):
        assert "overwrites it in place" in refusal(net, x, "first", q, d)
    with pytest.raises(ValueError, match="slice 'first' overwrites it"):
        influence.Cut(net, "first").activations(x)
    assert internal_influence(net, x, "", q, point()).shape == x.shape
    assert not any(m._forward_hooks for m in net.modules())


def test_a_slice_that_does_not_feed_the_quantity() -> None:
    net, x = digit_net(), images()
    later = refusal(net, x, "5", influence.unit("1", 0), point())
    assert "does not depend on slice '5'" in later
    constant = refusal(net, x, "1", lambda y: torch.ones(len(y)), point())
    assert "no gradient" in constant
    with pytest.warns(influence.ZeroInfluence, match="zero everywhere"):
        internal_influence(net, x, "1", lambda y: 0 * y[:, 0], point())


@pytest.fixture(scope="module")
def captum() -> object:
    return pytest.importorskip("captum.attr")


@pytest.mark.parametrize("activation", ["relu", "minmax"])
def test_saliency_equals_captum(captum: object, activation: str) -> None:
    net, x = digit_net(activation), images()
    theirs = captum.Saliency(net).attribute(x, target=2, abs=False)  # type: ignore[attr-defined]
    ours = internal_influence(net, x, "", influence.class_score(2), point())
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_equal_captum(captum: object, baseline: float) -> None:
    net, x = digit_net(), images()
    method = captum.IntegratedGradients(net)  # type: ignore[attr-defined]
    theirs = method.attribute(x, baselines=baseline, target=2, n_steps=50)
    d = line(baseline, 50, "input")
    ours = internal_influence(net, x, "", influence.class_score(2), d, multiply=True)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("layer", [0, 1, 3, 6])
def test_internal_influence_equals_captum(captum: object, layer: int) -> None:
    net, x = digit_net(), images()
    method = captum.InternalInfluence(net, net[layer])  # type: ignore[attr-defined]
    theirs = method.attribute(x, baselines=0.0, target=2, n_steps=50)
    ours = internal_influence(net, x, str(layer), influence.class_score(2), line(0.0, 50, "input"))
    assert (ours - theirs).abs().max() < 1e-5


def test_a_module_used_twice_is_cut_at_its_place() -> None:
    act = nn.Tanh()
    layers = [nn.Linear(4, 5), act, nn.Sequential(nn.Linear(5, 5), act), nn.Linear(5, 3)]
    net = nn.Sequential(OrderedDict(zip(("in", "a", "inner", "out"), layers, strict=True))).eval()
    twin = copy.deepcopy(net)
    twin.a, twin.inner[1] = nn.Tanh().eval(), nn.Tanh().eval()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    d = influence.line(points=5)
    for name in ("a", "inner.1", "inner", "in"):
        cut, other = influence.Cut(net, name), influence.Cut(twin, name)
        z = other.activations(x)
        assert torch.equal(cut.activations(x), z)
        assert torch.equal(cut.output(2 * z, x), other.output(2 * z, x))
        q = influence.class_score(1)
        found = influence.internal_influence(net, x, name, q, d)
        assert torch.equal(found, influence.internal_influence(twin, x, name, q, d))
    with pytest.raises(ValueError, match="'a' stands in the net more than once"):
        influence.internal_influence(net, x, "in", influence.unit("a", 0), d)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"slice": 3}, "a slice is the name of a module.* got 3"),
        ({"slice": ("0", "1")}, "two callables"),
        ({"slice": torch.relu}, "a slice is the name of a module"),
        ({"model": lambda x: x}, "by its name in an nn.Module that is not compiled, got function"),
        ({"quantity": 2}, r"a quantity is needed, such as class_score\(3\).* got int"),
        ({"distribution": "point"}, r"a distribution is needed: point\(\).* got str"),
        ({"distribution": influence.point}, "got point"),
    ],
)
def test_what_is_no_slice_quantity_or_distribution_is_named(changed, said):
    given = {
        "model": nn.Sequential(nn.Linear(3, 2)).eval(),
        "x": torch.rand(2, 3),
        "slice": "",
        "quantity": influence.class_score(0),
        "distribution": influence.point(),
    }
    with pytest.raises(ValueError, match=said):
        influence.internal_influence(**{**given, **changed})


def test_a_class_score_is_of_one_class_and_the_top_class_of_logits():
    for several in (torch.tensor([0, 1]), [0, 1], []):
        with pytest.raises(ValueError, match=f"of one class, the same.* got {len(several)}"):
            influence.class_score(several)
    for mask in (True, torch.tensor([True]), np.array([True])):
        with pytest.raises(ValueError, match="an index needs to be a whole number"):
            influence.class_score(mask)
    assert influence.class_score(torch.tensor([1]))(torch.tensor([[0.0, 2.0]])) == 2
    with pytest.raises(ValueError, match=r"needs logits \(n, classes\), got \(3,\)"):
        influence.max_class()(torch.rand(3))


def _own_forward(net: nn.Sequential) -> None:
    inner = net[0]
    inner.forward = lambda z: 2 * nn.Sequential.forward(inner, z)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.register_forward_hook(lambda module, given, z: 2 * z),
        lambda net: net[0].register_forward_hook(lambda module, given, z: 2 * z),
        lambda net: net[0].register_forward_pre_hook(lambda module, given: (given[0] - 1,)),
        _own_forward,
    ],
)
def test_what_a_sequence_does_beside_its_layers_counts(change: Callable[[nn.Module], Any]) -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)).eval()
    change(net)
    x, c = torch.rand(5, 3), influence.class_score(1)
    cut = influence.Cut(net, "0.0")
    assert torch.equal(cut.output(cut.activations(x), x), net(x).detach())
    # completeness: what the units add makes up the difference from the baseline
    added = internal_influence(net, x, "0.0", c, line(0.0, 30), multiply=True).sum(1)
    nothing = cut.output(torch.zeros(5, 4), x)
    torch.testing.assert_close(added, (net(x).detach() - nothing)[:, 1])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("kind", [torch.jit.script, nn.DataParallel])
def test_parts_whose_parameters_stay_in_them(kind: Callable[[nn.Module], Any]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    x, c, d = torch.rand(5, 3), influence.class_score(1), line(points=3)
    h, g = (kind(part.eval()) for part in (net[:2], net[2:]))
    expected = internal_influence(net, x, "1", c, d)
    assert torch.equal(internal_influence(net, x, (h.eval(), g.eval()), c, d), expected)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    if kind is nn.DataParallel:
        assert torch.equal(internal_influence(kind(net).eval(), x, "module.1", c, d), expected)
    else:
        assert "compiled" in refusal(kind(net), x, "1", c, d)
    assert "is in training mode" in refusal(net, x, (h.train(), g), c, d)


def test_two_callables_are_named_in_one_line() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x, c, d = torch.ones(2, 3), influence.class_score(0), line(points=3)
    h, above = net[:2], net[2:]
    assert "what follows the slice (h, g) overwrites it in place" in refusal(
        net, x, (h, lambda z: above(torch.relu_(z))), c, d
    )
    assert "does not depend on the slice (h, g): there" in refusal(
        net, x, (h, lambda z: above(z.detach())), c, d
    )
    assert "at the slice (h, g)" in refusal(net, x, (h, lambda z: (0 * above(z)).sqrt()), c, d)
    with pytest.warns(influence.ZeroInfluence, match=r"of the slice \(h, g\) on class 0 is zero"):
        internal_influence(net, x, (h, lambda z: 0 * above(z)), c, d)


def test_an_empirical_distribution_takes_what_x_takes() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x, c = torch.rand(5, 3), influence.class_score(1)

    def at(batches: Any) -> Tensor:
        return internal_influence(net, x, "1", c, influence.empirical(batches))

    for same in (x.numpy(), [x.numpy()], [x[:2], x[2:].numpy()], iter([x])):
        torch.testing.assert_close(at(same), at(x))
    for wrong, said in (
        ([(x, torch.zeros(5))], "the distribution's inputs need to be a torch tensor .* got tuple"),
        (x.int(), "the distribution's inputs need to be floating-point numbers, got int32"),
        (list(x), r"as many dimensions as x, 2, in batches \(n, ...\), got shape \(3,\)"),
        (x[0].numpy(), r"got shape \(3,\)"),
        (3, r"inputs \(n, ...\) are needed, or batches, got int"),
    ):
        with pytest.raises(ValueError, match=said):
            at(wrong)


def test_noise_has_the_deviation_that_is_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.01, 3.0):
        drawn = [moved for _, moved in influence.gaussian(sigma, 50, generator).around(images())]
        assert float((torch.stack(drawn) - images()).std()) == pytest.approx(sigma, rel=0.03)


def test_places_of_the_rules() -> None:
    def places(rule: str) -> list[float]:
        return [float(z) for _, z in line(0.0, 4, rule=rule).around(torch.ones(1))]

    assert places("middle") == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert places("right") == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert places("trapezoid") == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("layer", "space", "start"),
    [("3", "slice", 0.3), ("3", "input", 0.0), ("", "slice", 0.3), ("", "input", 0.3)],
)
def test_a_line_multiplies_by_the_way_from_its_own_start(
    layer: str, space: Any, start: float
) -> None:
    net, x, d = digit_net(), images(), line(0.3, 3, space)
    alone, times = (
        internal_influence(net, x, layer, influence.class_score(1), d, multiply=multiply)
        for multiply in (False, True)
    )
    z = influence.Cut(net, layer).activations(x)
    torch.testing.assert_close(times, alone * (z - start))
