"""The figures of part I draw what they are given; recorded ones are as their cards say."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thesis_repro import nets
from thesis_repro.experiments.experts import figures as experts
from thesis_repro.experiments.influence import figures
from thesis_repro.figures import recorded
from thesis_repro.lab import places, sealed
from thesis_repro.lab.cells import Result


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


def test_gains_and_curves() -> None:
    gains = {"with pink": torch.tensor([4.0, 5, 6]), "without pink": torch.zeros(3)}
    (axis,) = figures.pink_gains(gains, {"with pink": 0.5, "without pink": 0.0}).axes
    assert "50% called" in axis.get_yticklabels()[0].get_text()
    drawn = experts.compression((1, 2), {"influence": np.array([0.6, 0.9])}, 0.95)
    assert drawn.axes[0].lines[0].get_ydata().tolist() == [60, 90]


def test_deletion_curves() -> None:
    curve = np.array([0.9, 0.1])
    result = Result({}, {"curve_deletion": curve, "curve_insertion": curve[::-1]})
    left, right = experts.deletion({"saliency": result, "random": result}).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.9, 0.1]] * 2
    assert right.lines[1].get_ydata().tolist() == [0.1, 0.9]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["saliency", "random"]


def test_recorded_figures_are_as_their_cards_say(root: Path) -> None:
    folder = root / "results" / "figures"
    for name, sources in recorded.FIGURES.items():
        card = sealed.read(folder / f"{name}.json")
        # the card keeps the place that the script had when the figure was recorded
        assert card["script"].rpartition(":")[2] == recorded.script(name).rpartition(":")[2]
        assert set(card["data"]) == set(card["terms"]) == set(sources)
        sealed.check_bytes(folder / f"{name}.png", card["sha256"])
    with pytest.raises(ValueError, match="no recorded figure"):
        recorded.record("unheard-of")


def test_a_figure_is_recorded_where_results_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    monkeypatch.setitem(recorded.FIGURES, "sample-blank", ())
    monkeypatch.setattr(recorded, "script", lambda name: "matplotlib.figure:Figure")
    path = recorded.record("sample-blank")
    assert path == tmp_path / "figures" / "sample-blank.png"
    sealed.check_bytes(path, sealed.read(path.with_suffix(".json"))["sha256"])
