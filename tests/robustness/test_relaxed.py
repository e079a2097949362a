import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from thesis_repro import nets, training
from thesis_repro.robustness import (
    GloroNet,
    attacks,
    certify,
    gloro,
    recipes,
    relaxed,
    set_attack,
    toy2d,
)
from thesis_repro.robustness.margins import Bound
from thesis_repro.robustness.relaxed import RelaxedNet


def asked(guarantee):
    return relaxed.certify(dense(), images(), guarantee=guarantee)


def dense(classes=6, seed=0, epsilon=0.05, guarantee=None):
    """A random net from 16 pixels."""
    generator = torch.Generator().manual_seed(seed)
    first, last = nn.Linear(16, 24), nn.Linear(24, classes)
    body = nn.Sequential(nn.Flatten(), first, nets.MinMax(), last).eval()
    with torch.no_grad():
        first.weight.copy_(torch.randn(24, 16, generator=generator) / 4)
        first.bias.copy_(-first.weight.sum(1) / 2)  # the middle of the pixels goes to zero
        last.weight.copy_(torch.randn(classes, 24, generator=generator) / 5)
        last.bias.zero_()
    if guarantee is not None:
        return RelaxedNet(body, epsilon, (1, 4, 4), guarantee).eval()
    return GloroNet(body, epsilon, (1, 4, 4)).eval()


def images(n=40, seed=1):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def linear_net(weight, bias=None, epsilon=0.1):
    weight = torch.as_tensor(weight, dtype=torch.float32)
    body = nn.Sequential(nn.Flatten(), nn.Linear(4, len(weight)))
    with torch.no_grad():
        body[1].weight.copy_(weight)
        body[1].bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    return GloroNet(body, epsilon, (1, 2, 2)).eval()


def plain_bound(k_ij):
    return Bound(1.0, torch.as_tensor(k_ij, dtype=torch.float64), ())


def symmetric(classes, generator):
    k = torch.rand(classes, classes, generator=generator, dtype=torch.float64)
    return (k + k.T).fill_diagonal_(0)


def brute_force(logits, k_ij, epsilon, size):
    """m_k of one point, straight from the definition."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    inside, outside = order[:size], order[size:]
    return min(logits[j] - max(logits[i] + epsilon * k_ij[j][i] for i in outside) for j in inside)


# the guarantee against its definition


@given(st.integers(0, 10**6), st.integers(3, 7), st.floats(0.0, 0.5), st.booleans())
@settings(max_examples=30)
def test_margins_are_those_of_the_definition(seed, classes, epsilon, coarse):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, classes, generator=generator, dtype=torch.float64)
    if coarse:
        logits = logits.round()  # many ties
    k_ij = symmetric(classes, generator)
    largest = classes - 1
    found = relaxed.from_logits(logits, relaxed.up_to(largest), plain_bound(k_ij), epsilon)
    for row, k in itertools.product(range(5), range(1, classes)):
        expected = brute_force(logits[row].tolist(), k_ij.tolist(), epsilon, k)
        assert found.margin[row, k - 1].item() == pytest.approx(expected, abs=1e-9)
        wanted = [size for size in range(1, classes) if found.margin[row, size - 1] > 0]
        assert found.strictest[row] == min(wanted, default=0)
        assert found.loosest[row] == max(wanted, default=0)
        chosen = found.order[row, :k].tolist()
        worst = min(
            (logits[row, j] - logits[row, i]).item() / k_ij[j, i].item()
            for j in chosen
            for i in set(range(classes)) - set(chosen)
        )
        assert found.radii[row, k - 1].item() == pytest.approx(max(worst, 0.0), abs=1e-9)


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_bottom_logit_says_what_the_margins_say(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    k_ij = symmetric(5, generator)
    for guarantee in (
        relaxed.up_to(3),
        relaxed.top(2),
        relaxed.within([{0, 1}, {2, 3, 4}, {1, 2}]),
    ):
        found = relaxed.from_logits(logits, guarantee, plain_bound(k_ij), 0.1)
        bottom = relaxed.bottom_logit(logits, k_ij, 0.1, guarantee)
        torch.testing.assert_close(logits.amax(1) - bottom, found.margin.amax(1), atol=1e-9, rtol=0)
        assert torch.equal(bottom < logits.amax(1), found.certified)


def trained_on_two_circles(guarantee):
    return toy2d.trained(0.08, 0, guarantee)


@pytest.mark.parametrize("which", ["random", "trained", "relaxed"])
def test_gloro_is_the_case_of_one_label(which):
    if which == "random":
        net, x = dense(), images(300)
    else:
        net = trained_on_two_circles(None if which == "trained" else relaxed.up_to(2))
        x = toy2d.grid(60)
    plain = certify(net, x)
    singletons = [{i} for i in range(net.classes)]
    assert 0 < plain.certified.sum() < len(x)
    for found in (relaxed.certify(net, x, k=1), relaxed.certify(net, x, affinity=singletons)):
        assert torch.equal(found.certified, plain.certified)
        assert torch.equal(found.margin[:, 0], plain.margin)
        assert torch.equal(found.radius, plain.radius)
        assert torch.equal(found.order[:, 0], plain.labels)
    small = RelaxedNet(net.body, net.epsilon, net.input_shape, relaxed.up_to(1)).eval()
    plain_net = GloroNet(net.body, net.epsilon, net.input_shape).eval()
    assert torch.equal(small.predict(x), plain_net.predict(x))
    with torch.no_grad():
        torch.testing.assert_close(small(x), plain_net(x))


@given(st.integers(0, 10**6))
@settings(max_examples=8)
def test_all_sets_up_to_a_size_are_relaxed_top_k(seed):
    net, x = dense(5, seed % 7, epsilon=0.02), images(30, seed)
    every = [set(c) for size in (1, 2, 3) for c in itertools.combinations(range(5), size)]
    first, second = relaxed.certify(net, x, k=3), relaxed.certify(net, x, affinity=every)
    assert torch.equal(first.margin, second.margin)
    assert torch.equal(first.radii, second.radii)
    # and only the sets of exactly three: the same, since smaller sets lie inside larger ones
    third = relaxed.certify(net, x, affinity=itertools.combinations(range(5), 3))
    assert torch.equal(first.margin, third.margin)


def test_affinity_keeps_only_sets_inside_a_member():
    logits = torch.tensor([[3.0, 2.9, 0.0, -1.0], [3.0, 0.0, 2.9, -1.0]], dtype=torch.float64)
    bound = plain_bound(1.0 - torch.eye(4))
    found = relaxed.from_logits(logits, relaxed.within([{0, 1}, {2, 3}]), bound, 0.5)
    assert found.strictest.tolist() == [2, 0]  # {0, 2} is no affinity set
    assert found.margin[1].tolist() == [pytest.approx(-0.4), -math.inf]
    assert found.sets().tolist() == [[True, True, False, False], [False] * 4]
    assert found.radii[1, 1] == 0.0


def test_more_relaxed_is_never_rejected_more():
    net, x = dense(8, epsilon=0.03), images(200)
    rejected = [(~relaxed.certify(net, x, k=k).certified).sum().item() for k in (1, 2, 3, 5, 7)]
    assert rejected == sorted(rejected, reverse=True)
    assert rejected[0] > rejected[-1]
    exact = torch.stack([relaxed.certify(net, x, exactly=k).certified for k in (1, 2, 3)])
    assert torch.equal(exact.any(0), relaxed.certify(net, x, k=3).certified)


def test_a_set_of_labels_by_hand():
    # logits .9, .8 and 0: the first two are close, the third far from both
    net = linear_net([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], epsilon=0.3)
    x = torch.tensor([0.9, 0.8, 0.0, 0.0]).view(1, 1, 2, 2)
    found = relaxed.certify(net, x, k=2)
    assert found.strictest.tolist() == [2]
    assert found.sets().tolist() == [[True, True, False]]
    assert found.radii[0].tolist() == pytest.approx([0.1 / 2**0.5, 0.8 / 2**0.5], rel=1e-4)
    assert net.predict(x).tolist() == [-1]


# ties, and what is not a number


@pytest.mark.parametrize("epsilon", [1e-12, 0.1])
def test_a_tie_at_the_edge_is_never_a_guarantee(epsilon):
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = relaxed.from_logits(logits, relaxed.up_to(3), plain_bound(1.0 - torch.eye(4)), epsilon)
    assert found.guaranteed.tolist() == [[True, False, True], [False] * 3]
    assert found.radii[:, 1].tolist() == [0.0, 0.0]
    assert found.strictest.tolist() == [1, 0] and found.loosest.tolist() == [3, 0]


def test_membership_by_value_would_certify_a_tie():
    """The fault of the public code: every logit equal to the k-th counts as a member."""
    logits = torch.tensor([2.0, 1.0, 1.0, -3.0], dtype=torch.float64)
    by_value = logits >= logits.sort(descending=True).values[1]
    assert set_attack.separation(logits[None], by_value[None]).item() == 4.0  # "guaranteed"
    found = relaxed.from_logits(logits[None], relaxed.top(2), plain_bound(1.0 - torch.eye(4)), 0.01)
    assert not found.certified.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_rejected(value):
    logits = torch.tensor([[5.0, 2.0, value], [5.0, 0.0, 0.0]], dtype=torch.float64)
    found = relaxed.from_logits(logits, relaxed.up_to(2), plain_bound(1.0 - torch.eye(3)), 0.1)
    assert found.certified.tolist() == [False, True]
    assert found.radius.tolist() == pytest.approx([0.0, 5.0])


def test_pairwise_constants_count_not_only_the_largest():
    # class 2 is third but moves fast against class 1: {0, 1} falls, although 1.0 > 0.1 * 5
    logits = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64)
    k_ij = torch.tensor([[0.0, 1, 1], [1, 0, 20], [1, 20, 0]], dtype=torch.float64)
    found = relaxed.from_logits(logits, relaxed.top(2), plain_bound(k_ij), 0.1)
    assert not found.certified.any()
    assert relaxed.from_logits(logits, relaxed.top(2), plain_bound(k_ij / 4), 0.1).certified.all()


def test_the_rounding_budget_of_each_pair_is_taken_off():
    net, x = dense(), images()
    bare = Bound(net.bound().k_sub, net.bound().k_ij, net.bound().layers)
    with_budget = relaxed.certify(net, x, k=3)
    without = relaxed.certify(net, x, k=3, used=bare)
    assert (with_budget.margin < without.margin).all()
    assert (with_budget.radii <= without.radii).all()


# soundness: nothing breaks a guaranteed set


@given(st.integers(0, 10**6), st.sampled_from(["up_to", "within"]))
@settings(max_examples=6)
def test_no_guaranteed_set_is_broken(seed, kind):
    guarantee = relaxed.up_to(3) if kind == "up_to" else relaxed.within([{0, 1, 2}, {3, 4}, {5}])
    net, x = dense(6, seed % 5, epsilon=0.04), images(40, seed)
    found = relaxed.certify(net, x, guarantee=guarantee)
    result = set_attack.break_sets(net, x, found, steps=20, restarts=2)
    assert result["attacked"] == found.guaranteed.sum() > 0
    assert result["broken"] == 0
    assert result["smallest_margin"] > 0


def test_the_attack_breaks_sets_that_are_guaranteed_by_a_bound_too_small():
    net, x = dense(6, epsilon=0.5), images(60)
    honest = net.bound()
    false = Bound(honest.k_sub / 20, honest.k_ij / 20, honest.layers)
    found = relaxed.certify(net, x, k=3, used=false)
    result = set_attack.break_sets(net, x, found, steps=20, restarts=1)
    assert result["broken"] > 0.3 * result["attacked"] > 0


def test_a_certificate_is_attacked_on_its_images_within_its_radius():
    net, x = dense(6, epsilon=0.5), images(8)
    found = relaxed.certify(net, x, k=3, epsilon=0.001)
    assert found.certified.any()
    with pytest.raises(ValueError, match="promises a set up to .* less than epsilon=0.5"):
        set_attack.break_sets(net, x, found, steps=2, restarts=1)  # by the net's own radius
    with pytest.raises(ValueError, match="a certificate of 8 images is not of 9"):
        set_attack.break_sets(net, images(9), found, epsilon=0.001, steps=2, restarts=1)
    result = set_attack.break_sets(net, x, found, epsilon=0.001, steps=2, restarts=1)
    assert result["broken"] == 0 < result["attacked"]


def test_on_a_linear_net_the_attack_falls_exactly_where_it_can():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, 4, generator=generator)
    net = linear_net(weight)
    x = 0.4 + 0.2 * torch.rand(30, 1, 2, 2, generator=generator)
    logits = net.body(x).detach()
    inside = logits >= logits.topk(2).values[:, 1:]
    distances = [
        min(
            ((logits[n, j] - logits[n, i]) / (weight[j] - weight[i]).norm()).item()
            for j in inside[n].nonzero()[:, 0]
            for i in (~inside[n]).nonzero()[:, 0]
        )
        for n in range(len(x))
    ]
    radius = torch.tensor(distances)
    for factor, falls in ((1.03, True), (0.97, False)):
        found = set_attack.pgd_sets(net.body, x, inside, factor * radius, steps=40)
        broken = set_attack.separation(net.body(found), inside) <= 0
        assert (broken == falls).all()
        assert ((found - x).flatten(1).norm(dim=1) <= factor * radius).all()


def test_sets_of_one_label_are_attacked_as_labels_are():
    net, x = dense(epsilon=0.6), images(50)
    y = net.body(x).argmax(1)
    inside = nn.functional.one_hot(y, 6).bool()
    first = attacks.pgd_l2(net.body, x, y, 0.6, 10)
    second = set_attack.pgd_sets(net.body, x, inside, 0.6, 10)
    torch.testing.assert_close(first, second)
    assert (net.body(first).argmax(1) != y).any()


# nets and training


def test_the_bottom_logit_has_the_gradient_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    k_ij = symmetric(6, generator).requires_grad_()
    for guarantee in (relaxed.up_to(3), relaxed.within([{0, 1, 2}, {3, 4, 5}])):
        assert torch.autograd.gradcheck(
            lambda y, k, g=guarantee: relaxed.bottom_logit(y, k, 0.2, g), (logits, k_ij)
        )


def test_the_losses_of_gloro_train_a_relaxed_net():
    net = dense(guarantee=relaxed.up_to(3), epsilon=0.1).train()
    x, y = images(16), torch.arange(16) % 6
    for loss in (
        gloro.cross_entropy(training.constant(0.1)),
        gloro.trades(training.constant(0.1), training.constant(1.0)),
    ):
        net.zero_grad()
        value = loss(net, x, y, 0.5)
        value.backward()
        assert torch.isfinite(value)
        assert net.body[1].weight.grad.abs().sum() > 0


def test_a_recipe_with_a_guarantee_builds_a_relaxed_net_and_an_old_one_does_not():
    recipe = recipes.Recipe("2c2f", 0.3, 0.3, 1, 1, 32)
    assert type(recipes.build(recipe, (1, 28, 28), 10)) is GloroNet
    import dataclasses

    other = dataclasses.replace(recipe, guarantee=relaxed.up_to(3))
    net = recipes.build(other, (1, 28, 28), 10)
    assert isinstance(net, RelaxedNet) and net.guarantee == relaxed.up_to(3)
    plain = recipes.build(recipe, (1, 28, 28), 10)
    assert net.state_dict().keys() == plain.state_dict().keys()  # same weights, same names


def test_in_the_plane_only_the_triple_point_is_rejected():
    x = toy2d.grid(80)
    plain = relaxed.certify(trained_on_two_circles(None), x, k=1)
    found = relaxed.certify(trained_on_two_circles(relaxed.up_to(2)), x, k=2)
    areas = [(~c.certified).double().mean().item() for c in (plain, found)]
    assert 0.1 < areas[0] < 0.5
    assert 0 < areas[1] <= areas[0] / 3
    left = x[~found.certified].flatten(1)
    center = torch.tensor(toy2d.CENTERS).mean(0)
    assert (left - center).norm(dim=1).max() < 0.3  # near the middle of the three classes
    wide = x[~plain.certified].flatten(1)
    assert (wide - center).norm(dim=1).max() > 0.4


def test_a_relaxed_net_uses_its_own_guarantee():
    net, x = dense(guarantee=relaxed.up_to(2)), images()
    assert torch.equal(relaxed.certify(net, x).margin, relaxed.certify(net, x, k=2).margin)
    assert torch.equal(net.predict(x) >= 0, relaxed.certify(net, x, k=2).certified)


# memory


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out


@pytest.mark.parametrize("n", [50, 100])
def test_memory_grows_as_points_times_classes(n):
    logits = torch.randn(n, 100, dtype=torch.float64)
    bound = plain_bound(1.0 - torch.eye(100))
    groups = relaxed.within([range(i, i + 5) for i in range(0, 100, 5)])
    for guarantee in (relaxed.up_to(5), groups):
        with Largest() as seen:
            relaxed.from_logits(logits, guarantee, bound, 0.1)
            relaxed.bottom_logit(logits, bound.k_ij, 0.1, guarantee)
        assert seen.numel <= max(n * 100, 100 * 100)


def test_sizes_and_labels_are_of_any_kind_of_whole_number():
    assert relaxed.up_to(torch.tensor(2)) == relaxed.up_to(np.int64(2)) == relaxed.up_to(2)
    assert relaxed.within(torch.tensor([[1, 0]])) == relaxed.within([{0, 1}])


# bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: relaxed.certify(dense(), images(), k=0), "k needs 1 to 5 labels of 6 classes"),
        (lambda: relaxed.certify(dense(), images(), k=6), "k needs 1 to 5 labels .* got 6"),
        (lambda: relaxed.certify(dense(), images(), exactly=-1), "k needs 1 to 5 .* got -1"),
        (lambda: relaxed.certify(dense(), images(), affinity=[]), "at least one set"),
        (lambda: relaxed.certify(dense(), images(), affinity=[{1}, set()]), "at least one, got"),
        (lambda: relaxed.certify(dense(), images(), affinity=[{1, 2}, {2, 6}]), r"\[2, 6\]"),
        (lambda: relaxed.certify(dense(), images(), affinity=[{-1, 2}]), r"got \[-1, 2\]"),
        (lambda: relaxed.certify(dense(), images(), affinity=[[2, 2]]), r"different.*\[2, 2\]"),
        (lambda: relaxed.certify(dense(), images(), affinity=[range(6)]), "1 to 5 labels .* got 6"),
        (lambda: relaxed.certify(dense(), images()), "give one of .* got 0"),
        (lambda: relaxed.certify(dense(), images(), k=2, affinity=[{1}]), "got 2 of them"),
        (
            lambda: relaxed.certify(dense(), images(), k=2, epsilon=0.0),
            "positive and finite, got 0",
        ),
        (lambda: relaxed.certify(dense(), images() * 9, k=2), r"\[0, 1\]"),
        (lambda: dense(guarantee=relaxed.within([{0, 1}, {3}])), r"\[2, 4, 5\] are in no affinity"),
        (lambda: dense(guarantee=relaxed.up_to(6)), "k needs"),
        (
            lambda: recipes.Recipe(
                "2c2f", 0.3, 0.3, 1, 1, 32, objective="emma", guarantee=relaxed.up_to(2)
            ),
            "a guarantee relaxes the bottom logit, which method 'gloro' with objective 'emma'",
        ),
        (lambda: relaxed.top(3).check(3), "k needs 1 to 2"),
        (lambda: relaxed.certify(dense(), images(), k=2.5), "whole number .* got 2.5"),
        (lambda: relaxed.up_to("3"), "whole number .* got '3'"),
        (lambda: relaxed.top(1.0), "whole number .* got 1.0"),
        (lambda: relaxed.within([1, 2]), r"a set of labels, as \(0, 2\); got 1 alone"),
        (lambda: relaxed.within(["ab"]), "got 'ab' alone"),
        (lambda: relaxed.within(3), "a list of sets .* got 3"),
        (lambda: relaxed.within([(0.5, 1)]), "whole numbers; got 0.5"),
        (lambda: asked(relaxed.Guarantee((2, 1))), r"that ascend, .*got \(2, 1\)"),
        (lambda: asked(relaxed.Guarantee((1, 1))), r"that ascend, .*got \(1, 1\)"),
        (lambda: asked(relaxed.Guarantee(())), r"at least one, .*got \(\)"),
        (lambda: asked(relaxed.Guarantee((1.0, 2))), r"whole numbers .*got \(1.0, 2\)"),
        (lambda: asked(relaxed.Guarantee(2)), "whole numbers .*got 2"),
        (lambda: dense(guarantee=relaxed.Guarantee((3, 1))), r"that ascend, .*got \(3, 1\)"),
        (lambda: relaxed.certify(dense(), images(), guarantee=3), "top, up_to or within.*got 3"),
        (
            lambda: relaxed.certify(dense(), images(), k=2).sets(torch.full((40,), 3)),
            r"k needs to lie in \[0, 2\]",
        ),
        (lambda: attack_sets(steps=0), "steps=0"),
        (lambda: attack_sets(epsilon=-1.0), "positive and finite, got -1"),
        (lambda: attack_sets(inside=torch.ones(4, 6, dtype=torch.bool)), "neither empty nor full"),
        (lambda: attack_sets(inside=torch.zeros(4, 6, dtype=torch.bool)), "neither empty nor"),
        (lambda: attack_sets(inside=torch.eye(6, dtype=torch.bool)), "6 sets"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def attack_sets(inside=None, epsilon=0.1, steps=3):
    inside = torch.eye(6, dtype=torch.bool)[:4] if inside is None else inside
    return set_attack.pgd_sets(dense().body, images(4), inside, epsilon, steps)
