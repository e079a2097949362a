"""Nets that use the background, and nets that do not: planted, so that the count is known."""

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from thesis_repro import data
from thesis_repro.data import Split
from thesis_repro.experiments.influence import backgrounds
from thesis_repro.experiments.influence.backgrounds import (
    CNN,
    MLP,
    ROWS,
    WITH,
    WITHOUT,
    BackgroundConfig,
    assemble,
    background,
    conditions,
    framed,
    spoken_for,
)
from thesis_repro.explanations.subjects import PINK_CLASS
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables import published
from thesis_repro.tables.measure import assembled, tabulate

QUICK = profile("quick")


def reads(weight_on_edge: float) -> nn.Sequential:
    """A linear net of two classes: class 0 by the middle pixel, class 1 by the corner."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).eval()
    with torch.no_grad():
        net[1].weight.zero_(), net[1].bias.copy_(torch.tensor([0.0, 0.5]))
        net[1].weight[0, 4], net[1].weight[1, 0] = 1.0, weight_on_edge
    return net


def images() -> tuple[Split, Tensor]:
    """Ten images: a lit middle is class 0, a dark one class 1; and each of them in a frame."""
    x = torch.zeros(10, 1, 3, 3)
    x[:5, 0, 1, 1] = 1.0
    return Split(x, torch.tensor([0] * 5 + [1] * 5)), framed(x, 1.0)


@pytest.mark.parametrize(("weight", "k"), [(0.0, 0), (2.0, 5), (-2.0, 5), (0.4, 0)])
def test_a_net_is_unsound_that_reads_the_frame_and_no_other(
    monkeypatch: pytest.MonkeyPatch, weight: float, k: int
) -> None:
    monkeypatch.setattr(backgrounds, "subject", lambda config: (reads(weight), *images()))
    values = background(BackgroundConfig(MLP, 0, 1)).values
    assert values["accuracy"] == {"k": 10, "n": 10}
    assert values["overturned"] == {"k": k, "n": 10}
    assert values["unsound"] is (k > 0)


@pytest.mark.parametrize(("k", "unsound"), [(1, True), (0, False)])
def test_a_tenth_of_the_right_answers_is_enough(
    monkeypatch: pytest.MonkeyPatch, k: int, unsound: bool
) -> None:
    split, x = images()
    x = torch.cat([x[:k], split.x[k:]])
    monkeypatch.setattr(backgrounds, "subject", lambda config: (reads(2.0), split, x))
    assert background(BackgroundConfig(MLP, 0, 1)).values["unsound"] is unsound


def test_influence_names_the_class_that_the_background_speaks_for() -> None:
    plain = torch.zeros(60, 1, 3, 3)
    changed = framed(plain, 1.0)
    assert spoken_for(reads(2.0), plain, changed) == 1
    assert spoken_for(reads(-2.0), plain, changed) == 0


def test_a_frame_covers_the_outermost_pixels_alone() -> None:
    x = torch.rand(2, 3, 5, 6)
    found = framed(x, 0.25)
    assert torch.equal(found[..., 1:-1, 1:-1], x[..., 1:-1, 1:-1])
    assert (found != x).sum() == 2 * 3 * (30 - 12) and found.max() <= 1
    assert (framed(x, 0.25) == 0.25).flatten(2).sum(2).min() == 18


@pytest.mark.parametrize("trained", [MLP, CNN, WITHOUT, WITH])
def test_each_net_is_asked_about_images_that_it_was_not_trained_on(
    monkeypatch: pytest.MonkeyPatch, trained: str
) -> None:
    """And only what carries no digit is changed."""
    monkeypatch.setattr(backgrounds.named, "trained", lambda config: config.build().eval())
    config = BackgroundConfig(trained, 3, 1)
    net, split, changed = backgrounds.subject(config)
    assert split.x.shape == changed.shape and len(split.x) == len(split.y) >= 400
    assert changed.min() >= 0 and changed.max() <= 1
    ink = split.x > 0.9
    assert (changed[ink] > 0.9).all()  # no stroke is covered
    assert backgrounds.nets.labels(net, changed[:2]).shape == (2,)
    if trained == CNN:
        test = {x.numpy().tobytes() for x in data.load("mnist-5k").test.x}
        assert {x.numpy().tobytes() for x in split.x} <= test


def rates(unsound: list[int], named: list[int] | None = None) -> list[Result]:
    """Results of some nets."""
    known = {"accuracy": {"k": 90, "n": 100}, "overturned": {"k": 9, "n": 90}}
    named = named or []
    return [
        Result(known | {"unsound": bool(bad)} | ({"named": bool(named[i])} if named else {}))
        for i, bad in enumerate(unsound)
    ]


def frame(
    plain: list[int], named: tuple[list[int], list[int]] = ([1] * 10, [0] * 10)
) -> pd.DataFrame:
    """Rows of ten nets each; which of them are unsound; which twins name the three."""
    gathered = {
        ROWS[MLP]: rates(plain),
        ROWS[WITHOUT]: rates([1] * 10, named[1]),
        ROWS[WITH]: rates([1] * 10, named[0]),
    }
    return tabulate(backgrounds.TABLE.spec, assembled(backgrounds.TABLE, QUICK, gathered))


def test_rates_over_nets_have_exact_intervals() -> None:
    found = assemble(QUICK, {ROWS[MLP]: rates([1] * 9 + [0])})[ROWS[MLP]]
    share = found.estimate("unsound")
    assert (share.value, share.how) == (90.0, "Clopper-Pearson over 10 nets")
    assert share.low == pytest.approx(55.5, abs=0.1) and share.high < 100
    assert found.estimate("nets").value == 10 and "named" not in found.values


def test_the_conditions_hold_and_can_fail() -> None:
    def words(rows: pd.DataFrame) -> list[str]:
        return [c.verdict for c in conditions(rows)]

    assert words(frame([1] * 9 + [0])) == ["holds", "not judged", "holds", "holds"]
    assert words(frame([1] * 8 + [0] * 2))[0] == "not judged"  # 44 to 97% of nets
    assert words(frame([1] + [0] * 9))[0] == "does not hold"  # up to 45%
    few = ([1] * 6 + [0] * 4, [1] * 5 + [0] * 5)  # six of ten against five of ten
    assert words(frame([1] * 10, few))[-1] == "does not hold"
    assert words(frame([1] * 10, (few[1], [1] * 10)))[-1] == "does not hold"  # the twins name it
    assert words(frame([1] * 10)[:1]) == ["holds"] + ["not judged"] * 3
    claimed = {claim.column for claim in published.claims("influence-backgrounds")}
    assert claimed == {c.says for c in conditions(frame([1] * 10))}


def test_the_plan_has_ten_nets_of_a_kind_and_twins_start_alike() -> None:
    numbers: dict[str, list[int]] = {}
    for row, cell in backgrounds.cells(QUICK):
        assert cell is not None and row == ROWS[cell.config.trained]
        numbers.setdefault(row[0], []).append(cell.config.number)
    assert set(numbers) == {MLP, WITHOUT, WITH}
    assert all(found == list(range(10)) for found in numbers.values())
    paper = [cell.config for _, cell in backgrounds.cells(profile("paper")) if cell]
    assert {config.trained for config in paper} == set(ROWS) and len(set(paper)) == 120
    assert PINK_CLASS == 3  # the title of a column names it


def test_what_pink_paper_adds_is_the_change_of_three_less_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exact for a linear net: the paper is changed and nothing else, on digits that are no 3."""

    class Linear(nn.Sequential):
        def __init__(self, weight: Tensor) -> None:
            super().__init__(nn.Flatten(), nn.Linear(weight.shape[1], 5))
            with torch.no_grad():
                self[1].weight.copy_(weight), self[1].bias.zero_()

    split = Split(torch.rand(6, 1, 2, 2), torch.tensor([0, 3, 1, 2, 4, 7]))
    nets = {pink: Linear(torch.randn(5, 12)).eval() for pink in (True, False)}
    monkeypatch.setattr(backgrounds, "held_out", lambda: split)
    monkeypatch.setattr(backgrounds.named, "trained", lambda config: nets[config.pink])
    found, gains, called, accuracy = backgrounds.on_pink(0)
    pink = backgrounds.subjects.on_paper(split, backgrounds.subjects.PINK).x
    grey = backgrounds.subjects.on_paper(split, backgrounds.GREY)
    kept = grey.y != PINK_CLASS
    for name, net in found.items():
        assert net is nets[name == "with pink"]
        change = (net(pink) - net(grey.x))[kept].detach()
        expected = change[:, 3] - change[:, [0, 1, 2, 4]].mean(1)
        torch.testing.assert_close(gains[name], expected, rtol=1e-4, atol=1e-5)
        threes = net(pink)[kept].argmax(1) == PINK_CLASS
        assert called[name] == pytest.approx(float(threes.double().mean()))
        right = net(grey.x).argmax(1) == grey.y
        assert accuracy[name] == pytest.approx(float(right.double().mean()))
