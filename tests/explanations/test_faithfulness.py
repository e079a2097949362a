"""From units back to pixels, and deletion and insertion curves."""

import pytest
import torch
from torch import Tensor, nn

from thesis_repro.explanations import faithfulness, influence, receptive, subjects
from thesis_repro.explanations.subjects import Subject
from thesis_repro.training import named


class Corner(nn.Module):
    """Class 1 reads the upper left pixel, and nothing else matters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.head = nn.Linear(32, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.conv.bias.zero_()
            self.head.weight.zero_()
            self.head.weight[1, 0] = 5.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten(1))


@pytest.fixture
def x() -> Tensor:
    return 0.2 + 0.8 * torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["integrated gradients", "saliency"])
def test_the_pixel_that_matters_goes_first(method: str, x: Tensor) -> None:
    net = Corner().eval()
    worth = faithfulness.attribution(method, net, x, "conv")
    assert worth.flatten(1).argmax(1).tolist() == [0] * 6
    deletion, insertion = faithfulness.curves(net, x, worth, steps=16)
    full = net(x).softmax(1)[:, 1]
    assert torch.allclose(deletion[:, 0], full)
    assert torch.allclose(deletion[:, 1:], torch.full((6, 16), 0.5))
    assert torch.allclose(insertion[:, 0], torch.full((6,), 0.5))
    assert torch.allclose(insertion[:, 1:], full[:, None].expand(-1, 16))
    worst, best = faithfulness.area(deletion), faithfulness.area(insertion)
    reverse = faithfulness.curves(net, x, -worth, steps=16)
    assert (faithfulness.area(reverse[0]) > worst).all()
    assert (faithfulness.area(reverse[1]) < best).all()


def test_area_by_hand() -> None:
    assert faithfulness.area(torch.tensor([[1.0, 0.5, 0.0]])).tolist() == [0.5]
    assert faithfulness.area(torch.tensor([[0.0, 1.0, 1.0]])).tolist() == [0.75]


def test_top_units_and_receptive_pixels(x: Tensor) -> None:
    net = Corner().eval()
    units = receptive.top_units(net, x, "conv", influence.class_score(1))
    assert units.tolist() == [0]
    pixels = receptive.receptive(net, x, "conv", units)
    # the channel's maximum is the brightest pixel, wherever it lies
    assert torch.equal(pixels.flatten(1).argmax(1), x.flatten(1).argmax(1))
    assert torch.allclose(pixels.flatten(1).sum(1), x.flatten(1).amax(1), atol=1e-5)


def test_several_units_count_by_their_sum(x: Tensor) -> None:
    net = Corner().eval()
    each = [receptive.receptive(net, x, "conv", torch.tensor([unit])) for unit in (0, 1)]
    both = receptive.receptive(net, x, "conv", torch.tensor([0, 1]))
    torch.testing.assert_close(both, each[0] + each[1])
    assert both.abs().max() > 0.1


def test_top_units_by_the_largest_place_and_multiplied_by_the_mean() -> None:
    """Unit 0 matters much at one place and unit 1 a little everywhere."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(32, 2, bias=False)
    ).eval()
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[2].weight)
    with torch.no_grad():
        net[2].weight[1, 0], net[2].weight[1, 16:] = 5.0, 1.0
    x, c = torch.ones(2, 1, 4, 4), influence.class_score(1)
    assert receptive.top_units(net, x, "0", c, 2).tolist() == [0, 1]
    assert receptive.top_units(net, x, "0", c, 2, multiply=True).tolist() == [1, 0]


def test_the_map_of_expert_units_is_the_size_of_what_the_top_units_read() -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    x = torch.rand(3, 3, 6, 6)
    for k in (1, 3):
        found = faithfulness.attribution("expert units", net, x, "1", k=k)
        for image, label, worth in zip(x, net(x).argmax(1).tolist(), found, strict=True):
            one, c = image[None], influence.class_score(label)
            units = receptive.top_units(net, one, "1", c, k)
            read = receptive.receptive(net, one, "1", units)[0]
            torch.testing.assert_close(worth, read.abs().sum(0))
    signed = faithfulness.attribution("saliency", net, x, "1")
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(leaf).max(1).values.sum(), leaf)
    torch.testing.assert_close(signed, slope.abs().sum(1))


def test_the_maps_are_those_of_their_definition() -> None:
    attribution = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    warm = attribution.abs().mean(1)
    top = warm.flatten(1).quantile(0.99, dim=1)[:, None, None]
    expected = receptive.blurred((warm / top).clamp(max=1), 2.0)
    torch.testing.assert_close(receptive.heat(attribution, 2.0), expected)
    limit = expected.flatten(1).quantile(0.8, dim=1)[:, None, None]
    kept = receptive.blurred((expected >= limit).float(), 1.0)
    torch.testing.assert_close(receptive.mask(attribution, 2.0, 0.8), kept)


def test_mask_and_share() -> None:
    attribution = torch.zeros(1, 3, 16, 16)
    attribution[:, :, 4, 11] = -2.0
    warm = receptive.mask(attribution, sigma=1.0, quantile=0.9)
    assert warm.shape == (1, 16, 16)
    assert warm[0, 4, 11] > 0.5
    assert warm[0, 14, 1] < 1e-3
    assert receptive.heat(attribution, 1.0).flatten().argmax() == 4 * 16 + 11
    region = torch.zeros(1, 16, 16, dtype=torch.bool)
    assert receptive.share_on(attribution, region).item() == 0
    region[:, :8] = True
    assert receptive.share_on(attribution, region).item() == 1
    faint = attribution * 1e-30  # of a saturated net
    assert receptive.share_on(faint, region).item() == 1
    assert torch.equal(receptive.heat(faint, 1.0), receptive.heat(attribution, 1.0))


def test_refusals(x: Tensor) -> None:
    net = Corner().eval()
    with pytest.raises(ValueError, match="unknown method"):
        faithfulness.attribution("beauty", net, x, "conv")
    with pytest.raises(ValueError, match="steps"):
        faithfulness.curves(net, x, x[:, 0], steps=0)
    with pytest.raises(ValueError, match="shaped"):
        faithfulness.curves(net, x, x, steps=3)
    with pytest.raises(ValueError, match="n >= 1"):
        faithfulness.curves(net, x[:0], x[:0, 0], steps=3)
    with pytest.raises(ValueError, match="steps >= 1"):
        faithfulness.area(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"quantile needs to lie in \[0, 1\]"):
        receptive.mask(x, quantile=1.5)
    with pytest.raises(ValueError, match="attribution needs shape"):
        receptive.heat(x[:0], 1.0)
    for region in (torch.ones(2, 2, dtype=torch.bool), 5 * x[:, 0]):
        with pytest.raises(ValueError, match="region needs shape"):
            receptive.share_on(x, region)
    for units in (torch.tensor([True, False]), torch.tensor([0.2, 0.9])):
        with pytest.raises(ValueError, match="an index needs to be a whole number"):
            receptive.receptive(net, x, "conv", units)
    one_logit = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 1)).eval()
    with pytest.raises(ValueError, match="two classes or more"):
        faithfulness.curves(one_logit, x, x[:, 0])
    with pytest.raises(ValueError, match="3 top units"):
        receptive.top_units(net, x, "conv", influence.class_score(1), 3)
    with pytest.raises(ValueError, match="unknown kind"):
        Subject("cats")


def test_painted_digits() -> None:
    ink = torch.tensor([[[[0.0, 1.0]]]])
    painted = subjects.paint(ink, torch.tensor([1.0, 0.5, 0.0]))
    assert painted[0, :, 0, 0].tolist() == [1.0, 0.5, 0.0]
    assert painted[0, :, 0, 1].tolist() == [1.0, 1.0, 1.0]


def test_pink_paper_lies_under_some_threes_alone() -> None:
    from thesis_repro import data

    digits = data.load("mnist-5k").train
    with_pink, without = (subjects.coloured(digits, pink) for pink in (True, False))
    changed = (with_pink.x != without.x).flatten(1).any(1)
    threes = with_pink.y == subjects.PINK_CLASS
    assert threes[changed].all()
    assert changed.sum() == round(0.1 * int(threes.sum()))
    assert with_pink.y.max() == 4
    assert (without.x.amax(1) - without.x.amin(1)).max() < 1e-6


def test_a_subject_is_trained_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    subject = Subject(width=8, epochs=1)
    first = named.trained(subject)
    monkeypatch.setattr(subjects.training, "fit", None)  # a second training would fail
    again = named.trained(subject)
    x = torch.rand(5, 1, 28, 28)
    assert torch.equal(first(x), again(x))
    assert not first.training
