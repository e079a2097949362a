"""The figures of the chapter influence draw what they are given."""

import matplotlib

matplotlib.use("Agg")

import pytest
import torch
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.experiments.influence import figures


@pytest.fixture
def net() -> nn.Sequential:
    return nets.cnn_2c2f("relu", generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_the_three_choices(net: nn.Sequential, x: Tensor) -> None:
    bars = figures.slices(net, x[:1], 4).axes[3].patches
    heights = [bar.get_height() for bar in bars]
    assert len(heights) == 100
    assert heights == sorted(heights, reverse=True)
    assert len(figures.quantities(net, x[:2], [(4, 9), (1, 7)]).axes) == 8
    titles = [axis.get_title() for axis in figures.distributions(net, x[:1], 3, x).axes]
    assert titles[1:] == ["the point", "noise around it", "the line from black", "its whole class"]


def test_the_sum_of_a_map_stands_above_it() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 5)).eval()
    x, plain = torch.rand(2, 3, 28, 28), torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        scores = linear(x) - linear(plain)
    gain = scores[:, 3] - scores[:, [0, 1, 2, 4]].mean(1)
    drawn = figures.backgrounds({"it": linear}, x, plain)
    says = [axis.get_title() for axis in drawn.axes[2:]]
    assert [float(text.rpartition(",")[2]) for text in says] == pytest.approx(gain, abs=0.06)


def test_pink_gains() -> None:
    gains = {"with pink": torch.tensor([4.0, 5, 6]), "without pink": torch.zeros(3)}
    (axis,) = figures.pink_gains(gains, {"with pink": 0.5, "without pink": 0.0}).axes
    assert "50% called" in axis.get_yticklabels()[0].get_text()
