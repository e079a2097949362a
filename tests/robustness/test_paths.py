"""Labels proved along paths: a known answer, dense search, faults, the checker, refusals."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from thesis_repro.robustness import GloroNet, certificate, certify, checker, paths
from thesis_repro.robustness import transformations as moves
from thesis_repro.robustness.paths import Balls, broken, certify_path, files
from thesis_repro.robustness.transformations import PATHS, Path

RANGES = {
    "rotation": (-60.0, 60.0),
    "translation": (-6.0, 6.0),
    "brightness": (-100.0, 300.0),
    "contrast": (-100.0, 300.0),
}
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def net() -> GloroNet:
    """A small net whose classes are bars at 0, 60 and 120 degrees."""
    generator = torch.Generator().manual_seed(0)
    bar = torch.zeros(1, *SHAPE).double()
    bar[..., 3:5, :] = 1.0
    angles = torch.tensor([0.0, 60, 120]).double()
    bars = moves.rotation(0, 180).images(bar.expand(3, -1, -1, -1), angles).flatten(1).float()
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    weight = (bars - bars.mean(0)) / 4
    with torch.no_grad():
        body[1].weight.copy_(torch.nn.init.orthogonal_(torch.empty(64, 64), generator=generator))
        body[1].bias.fill_(8.0)  # more than a pixel can take off: all units are on
        body[3].weight.copy_(weight @ body[1].weight.T)
        body[3].bias.copy_(-8 * body[3].weight.sum(1))
    return GloroNet(body, 0.1, SHAPE).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    bars = torch.zeros(3, *SHAPE)
    for i in range(3):
        bars[i, :, 3:5, i : 6 + i] = 0.8
    return (bars + 0.2 * torch.rand(3, *SHAPE, generator=generator)).clamp(0, 1)


def two_pixels(threshold: float) -> GloroNet:
    """A net on (1, 1, 2) images that says 0 while the first pixel is above the threshold."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        body[1].weight.copy_(torch.tensor([[1.0, 0], [-1.0, 0]]))
        body[1].bias.copy_(torch.tensor([-threshold, threshold]))
    return GloroNet(body, 0.1, (1, 1, 2)).eval()


@pytest.mark.parametrize("threshold", [0.1, 0.31])
def test_the_end_is_found_where_it_is_known(threshold):
    x = torch.tensor([[[[0.8, 0.0]]]])
    found = certify_path(two_pixels(threshold), x, moves.brightness(-100, 100))
    truth = 100 * (threshold / 0.8 - 1)
    assert truth <= found.low.item() <= truth + 0.3  # the finest step is 0.1
    assert found.high.item() == 100 and found.labels.item() == 0


@pytest.mark.parametrize("name", PATHS)
def test_a_dense_search_breaks_no_proof(net, x, name):
    path = PATHS[name](*RANGES[name])
    found = certify_path(net, x, path)
    assert (found.low < found.high).all()
    assert (found.low >= path.low).all() and (found.high <= path.high).all()
    assert not broken(net, x, path, found, 3000).any()
    assert (found.labels == certify(net, x).labels).all()


@pytest.mark.parametrize("name", PATHS)
def test_a_finer_search_ends_just_behind_the_proof(net, x, name):
    """So the intervals are not short: a little further the label changes, or the path ends."""
    path = PATHS[name](*RANGES[name])
    found = certify_path(net, x, path)
    near = 0.02 * (path.high - path.low)
    low, high = (found.low - near).clamp_min(path.low), (found.high + near).clamp_max(path.high)
    wider = replace(found, low=low, high=high)
    ended = (found.low == path.low) & (found.high == path.high)
    assert (broken(net, x, path, wider, 3000) | ended).all()


def test_a_planted_fault_is_found_interpolation_error_left_out(net, x):
    """Balls at both ends of a full turn say nothing of what is between them."""
    path = moves.rotation(0, 360)
    still = replace(path, speed=lambda x, a, b: torch.zeros_like(a))
    found = certify_path(net, x, still)
    assert (found.high == 360).all()
    assert broken(net, x, path, found, 500).any()
    assert not broken(net, x, path, certify_path(net, x, path), 500).any()


def test_a_planted_fault_is_found_radii_that_need_not_meet(net, x, monkeypatch):
    path = moves.rotation(0, 180)
    monkeypatch.setattr(paths, "ROOM", 1000.0)
    assert broken(net, x, path, certify_path(net, x, path, step=180), 500).any()


def test_neighbouring_balls_meet_and_each_needs_less_than_it_has(net, x):
    path = moves.rotation(-60, 60)
    found = certify_path(net, x, path)
    balls = found.balls
    assert (balls.needed > 0).all() and (balls.needed <= paths.ROOM * balls.radius).all()
    for i in range(len(x)):
        mine = balls.image == i
        at, order = balls.at[mine].sort()
        needed = balls.needed[mine][order]
        assert at[0] == found.low[i] and at[-1] == found.high[i]
        many = x[i : i + 1].double().expand(len(at) - 1, -1, -1, -1)
        apart = path.speed(many, at[:-1], at[1:]) * at.diff()
        assert (apart < (needed[:-1] + needed[1:]) * (1 + 1e-9)).all()


def test_the_independent_checker_confirms_every_ball(net, x, tmp_path):
    path = moves.rotation(-60, 60)
    balls = certify_path(net, x, path).balls
    weights = certificate.write_net(tmp_path / "net.safetensors", net)
    groups = files(balls)
    assert sorted(torch.cat([rows for _, rows in groups]).tolist()) == list(range(len(balls.at)))
    assert len(groups) < len(balls.at) / 1.5
    for number, (epsilon, rows) in enumerate(groups):
        images = path.images(x[balls.image[rows]].double(), balls.at[rows]).float()
        file = tmp_path / f"{number}.json"
        found = certify(net, images, epsilon)
        certificate.write(file, net, found, images, epsilon=epsilon)
        report = checker.check(file, weights, images.numpy())
        assert report.count(checker.CONFIRMED) == len(rows)


def test_balls_are_grouped_so_that_each_is_certified_for_its_group():
    generator = torch.Generator().manual_seed(0)
    radius = torch.rand(200, generator=generator).double() + 0.01
    needed = radius * (0.3 + 0.6 * torch.rand(200, generator=generator))
    groups = files(Balls(radius, radius, radius, needed))
    assert len(groups) < 20
    for epsilon, rows in groups:
        assert (needed[rows] <= epsilon).all() and (epsilon < radius[rows]).all()


def test_a_fixed_step_keeps_to_it(net, x):
    found = certify_path(net, x, moves.rotation(-15, 15), step=0.5)
    assert torch.equal(found.balls.at % 0.5, torch.zeros_like(found.balls.at))
    free = certify_path(net, x, moves.rotation(-15, 15))
    assert (found.high <= free.high + 0.5).all() and (found.low >= free.low - 0.5).all()


def test_a_step_that_is_too_coarse_is_refused_with_one_that_would_do(net, x):
    path = moves.rotation(-180, 180)
    with pytest.raises(ValueError, match=r"steps of 90 degrees are too coarse for \d of 3") as said:
        certify_path(net, x, path, step=90)
    best = float(str(said.value).rpartition(" is ")[2])
    assert 0.1 < best < 90
    found = certify_path(net, x, replace(path, low=-9.0, high=9.0), step=0.99 * best)
    assert (found.low < found.high).all()


def wrong(images) -> Path:
    return Path("custom", "units", -1.0, 1.0, images, lambda x, a, b: torch.ones_like(a))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (
            lambda x, t: x + t.view(-1, 1, 1, 1),
            r"custom by -1 units leaves \[0, 1\]: .* the largest that would do is -0.05",
        ),
        (
            lambda x, t: x if t[0] > -0.25 else x[..., 1:],
            r"gives images of shape \(1, 8, 7\), needs \(1, 8, 8\); the largest .* is -0.25",
        ),
        (lambda x, t: x[..., 1:], r"gives images of shape \(1, 8, 7\).*, even at 0"),
        (lambda x, t: x * torch.nan, r"leaves \[0, 1\]: pixels from nan to nan, even at 0"),
    ],
)
def test_a_path_that_leaves_the_images_is_refused_with_how_far_it_may_go(net, images, says):
    x = torch.full((2, *SHAPE), 0.05)
    with pytest.raises(ValueError, match=says):
        certify_path(net, x, wrong(images))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"step": 0.0}, "step needs to be positive and finite, got 0.0"),
        ({"finest": float("nan")}, "finest needs to be positive and finite, got nan"),
    ],
)
def test_steps_that_are_none_are_refused(net, x, given, says):
    with pytest.raises(ValueError, match=says):
        certify_path(net, x, moves.rotation(0, 1), **given)


def test_images_may_come_as_an_array(net, x):
    path = moves.brightness(-10, 10)
    given, array = (certify_path(net, images, path) for images in (x, x.numpy()))
    assert torch.equal(given.low, array.low) and torch.equal(given.high, array.high)


def test_an_image_without_a_radius_has_nothing_proved():
    x = torch.full((1, 1, 1, 2), 0.5)
    found = certify_path(two_pixels(0.5), x, moves.brightness(-50, 50))
    assert found.low.item() == found.high.item() == 0
    assert not broken(two_pixels(0.5), x, moves.brightness(-50, 50), found, 10).any()


def test_a_search_of_less_than_two_is_refused(net, x):
    found = certify_path(net, x, moves.rotation(0, 1))
    with pytest.raises(ValueError, match="2 parameters or more, got 1"):
        broken(net, x, moves.rotation(0, 1), found, 1)


@pytest.mark.parametrize("name", PATHS)
def test_what_has_no_height_and_width_is_on_no_path(name):
    net = GloroNet(nn.Sequential(nn.Linear(20, 3)), 0.05, (20,)).eval()
    says = rf"{name} is of images \(n, channels, height, width\), got shape \(5, 20\)"
    with pytest.raises(ValueError, match=says):
        certify_path(net, torch.rand(5, 20), PATHS[name](-1, 1))


def test_a_path_of_ones_own_may_be_of_inputs_of_another_shape():
    net = GloroNet(nn.Sequential(nn.Linear(2, 2)), 0.1, (2,)).eval()
    with torch.no_grad():
        net.body[0].weight.copy_(torch.tensor([[1.0, 0], [-1.0, 0]]))
        net.body[0].bias.copy_(torch.tensor([-0.5, 0.5]))
    path = Path(
        *("shift", "units", -0.1, 0.1),
        lambda x, t: x + t[:, None],
        lambda x, a, b: torch.full_like(a, 2**0.5),
    )
    x = torch.tensor([[0.7, 0.5], [0.3, 0.5]])
    found = certify_path(net, x, path)
    assert found.labels.tolist() == [0, 1] and (found.high == 0.1).all()
    assert not broken(net, x, path, found, 100).any()
