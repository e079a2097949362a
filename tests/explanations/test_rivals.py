"""Other measures of influence: what each says on nets by hand, and that it breaks its axiom."""

from functools import partial

import pytest
import torch
from torch import nn

from thesis_repro.experiments.influence import axioms as tables
from thesis_repro.explanations import influence, rivals
from thesis_repro.explanations.axioms import Case
from thesis_repro.explanations.influence import internal_influence, line


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()
    x = torch.rand(20, 6)
    return Case(net, x, net(x).argmax(1), ("0", "1", "2"), points=50)


@pytest.mark.parametrize("name", tables.RIVALS)
def test_each_breaks_its_axiom_in_most_cases(case: Case, name: str) -> None:
    check = tables.RIVALS[name]
    errors = check.measure(case)
    assert errors.isfinite().all()
    assert (errors > 5 * check.bound).double().mean() > 0.9


def test_relevance_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        net[0].bias.copy_(torch.tensor([1.0, 0.0]))
        net[2].weight.copy_(torch.tensor([[3.0, 5.0]]))
        net[2].bias.zero_()
    x = torch.tensor([[1.0, 2.0]])  # hidden: 6 and -1, so 6 and 0; score 18
    found = rivals.relevance(net, x, 0, epsilon=0.5)
    hidden = 6 * 3 * 18 / (18 + 0.5)
    expected = [1 * 1 * hidden / (6 + 0.5), 2 * 2 * hidden / (6 + 0.5)]
    assert found[0].tolist() == pytest.approx(expected)


def test_relevance_without_epsilon_is_gradient_times_input(case: Case) -> None:
    """Of ReLU nets (Ancona et al. 2018): so it is epsilon that breaks slice invariance."""
    found = rivals.relevance(case.net, case.x, 1, epsilon=1e-9)
    torch.testing.assert_close(found, rivals.gradient_times_input(case.net, case.x, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "relevance", partial(rivals.relevance, epsilon=1e-9))
        assert rivals.slice_invariance_of_relevance(case).max() < 1e-5


def test_occlusion_covers_one_patch_after_the_other() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(196, 1, bias=False)).eval()
    nn.init.ones_(net[1].weight)
    x = torch.zeros(1, 1, 14, 14)
    assert rivals.occlusion(net, x, 0, 2.0).tolist() == [[-2.0 * 49] * 4]
    rows = nn.Linear(3, 1, bias=False).eval()
    with torch.no_grad():
        rows.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    found = rivals.occlusion(rows, torch.ones(2, 3), 0, 0.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 3.0]] * 2))


def test_conductance_is_complete_and_on_the_input_it_is_the_line(case: Case) -> None:
    net, x = case.net, case.x
    for cut in (0, 1, 2):
        flow = rivals.conductance(net, cut, x, 1, 400).sum(1)
        change = net(x)[:, 1] - net(torch.zeros_like(x))[:, 1]
        torch.testing.assert_close(flow, change.detach(), atol=2e-3, rtol=0)
    d = line(0.0, 50, "input")
    ours = internal_influence(net, x, "", influence.class_score(1), d, multiply=True)
    torch.testing.assert_close(rivals.conductance(net, 0, x, 1, 50), ours)


def test_conductance_keeps_to_consistency_where_what_lies_below_is_linear(case: Case) -> None:
    net = nn.Sequential(case.net[0], nn.Identity(), *case.net[1:]).eval()
    straight = Case(net, case.x, case.labels, case.slices, points=50)
    assert rivals.consistency_of_conductance(straight).max() < 1e-6


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_measure_works_without_gradients_around_it(case: Case, mode) -> None:
    net = case.net
    measures = (
        lambda x: rivals.gradient_times_input(net, x, 0),
        lambda x: rivals.relevance(net, x, 0),
        lambda x: rivals.conductance(net, 2, x, 0, 4),
        *(lambda x, check=check: check.measure(case) for check in tables.RIVALS.values()),
    )
    for measure in measures:
        expected = measure(case.x)
        with mode():
            assert torch.equal(measure(case.x.clone()), expected)


@pytest.mark.parametrize("c", [torch.zeros(20, dtype=torch.int64), -1, 3])
def test_the_class_is_one_of_the_net(case: Case, c: int) -> None:
    net, x = case.net, case.x
    for explain in (
        lambda: rivals.gradient_times_input(net, x, c),
        lambda: rivals.relevance(net, x, c),
        lambda: rivals.occlusion(net, x, c, 0.0),
        lambda: rivals.conductance(net, 2, x, c, 3),
    ):
        with pytest.raises(ValueError, match="is asked for|of one class, the same"):
            explain()


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sequential(nn.Linear(2, 2), nn.ReLU())])
def test_relevance_is_for_the_layers_of_its_rule(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(3, 2), layer, nn.Linear(2, 2)).eval()
    with pytest.raises(ValueError, match=r"layer '1' \(.*\): the rule is for dense layers"):
        rivals.relevance(net, torch.rand(2, 3), 0)
