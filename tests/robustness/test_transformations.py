"""Paths of images: scipy and torchvision draw the same, and no image moves faster than proved."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.transforms import functional

from thesis_repro.robustness import transformations
from thesis_repro.robustness.transformations import PATHS, Path

RANGES = {
    "rotation": (-180.0, 180.0),
    "translation": (-9.0, 9.0),
    "brightness": (-100.0, 300.0),
    "contrast": (-100.0, 300.0),
}


def pictures(n: int, channels: int = 1, height: int = 7, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, height, width, generator=generator).double()


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_begins_at_the_image(name):
    x = pictures(2, 3)
    path = PATHS[name](*RANGES[name])
    assert (path.images(x, numbers(0, 0)) - x).abs().max() < 1e-13


@pytest.mark.parametrize("degrees", [-100.0, 7.5, 90.0])
def test_turning_is_that_of_scipy(degrees):
    x = pictures(1, height=9, width=9)
    path = transformations.rotation(-180, 180)
    ours = path.images(x, numbers(degrees))[0, 0].numpy()
    theirs = ndimage.rotate(x[0, 0].numpy(), degrees, reshape=False, order=1, mode="grid-constant")
    assert np.abs(ours - theirs).max() < 1e-12


def test_turning_goes_the_way_of_torchvision():
    x = pictures(1)
    ours = transformations.rotation(-90, 90).images(x, numbers(30.0))
    theirs = functional.rotate(x, 30.0, functional.InterpolationMode.BILINEAR)
    assert (ours - theirs)[..., 2:5, 3:6].abs().max() < 1e-5  # it turns through float32


@pytest.mark.parametrize(("pixels", "direction"), [(2.3, (0.0, 1.0)), (-1.7, (0.6, 0.8))])
def test_shifting_is_that_of_scipy(pixels, direction):
    x = pictures(1)
    ours = transformations.translation(-9, 9, direction).images(x, numbers(pixels))[0, 0]
    by = [pixels * part for part in direction]
    theirs = ndimage.shift(x[0, 0].numpy(), by, order=1, mode="grid-constant")
    assert np.abs(ours.numpy() - theirs).max() < 1e-12


@pytest.mark.parametrize("percent", [-60.0, 45.0])
@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_blending_is_that_of_torchvision(name, percent):
    x = pictures(2)
    ours = PATHS[name](-100, 300).images(x, numbers(percent, percent))
    theirs = getattr(functional, f"adjust_{name}")(x, 1 + percent / 100)
    assert (ours - theirs).abs().max() < 1e-12


def steepest(path: Path, x: Tensor, a: float, b: float, points: int) -> float:
    """The fastest that neighbours of a dense grid in [a, b] are apart."""
    t = torch.linspace(a, b, points, dtype=torch.float64)
    images = path.images(x.expand(points, -1, -1, -1), t)
    return float(images.diff(dim=0).flatten(1).norm(dim=1).max() / (t[1] - t[0]))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("width", [1e-3, 0.5, 20.0])
def test_no_two_images_are_further_apart_than_the_speed_allows(name, width):
    path = PATHS[name](*RANGES[name])
    width = min(width, path.high)
    rng = np.random.default_rng(0)
    for x in (*pictures(4, 3).split(1), torch.ones(1, 1, 5, 8).double()):
        a = rng.uniform(path.low, path.high - width)
        speed = float(path.speed(x, numbers(a), numbers(a + width)))
        found = steepest(path, x, a, a + width, 401)
        assert found <= speed * (1 + 1e-9) + 1e-9
        ends = path.images(x.expand(2, -1, -1, -1), numbers(a, a + width))
        assert (ends[1] - ends[0]).norm() <= speed * width * (1 + 1e-9)
        if width < 0.01:  # then the bound has little to be loose about
            assert speed < 2.5 * found + 1e-9


def test_edges_that_are_met_at_the_end_of_an_interval_alone_count():
    """As its white last column is shifted in from outside, a picture has two edges that move."""
    x = torch.zeros(1, 1, 3, 6).double()
    x[..., -1] = 1
    path, step = transformations.translation(-2, 2), 0.1
    found = steepest(path, x, -step, 0.0, 2)
    assert found == pytest.approx((2 * 3) ** 0.5)  # edges of three pixels each
    assert found <= path.speed(x, numbers(-step), numbers(0.9)) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["rotation", "translation"])
def test_a_wider_interval_is_no_slower_and_a_black_image_does_not_move(name):
    path, x = PATHS[name](*RANGES[name]), pictures(1)
    widths = [float(path.speed(x, numbers(-w), numbers(w))) for w in (0.01, 0.1, 1.0, 8.0)]
    assert widths == sorted(widths)
    assert path.speed(0 * x, numbers(-1), numbers(1)) == 0


def test_a_pixel_that_is_cut_off_all_the_way_does_not_move():
    x = torch.tensor([0.5, 0.9]).double().view(1, 1, 1, 2)
    path = transformations.brightness(0, 300)
    speed = path.speed(x, numbers(20), numbers(90))
    assert speed == pytest.approx(0.5 / 100)  # 0.9 is white from 12% on
    assert path.speed(x, numbers(100), numbers(300)) == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: transformations.rotation(1, 5), "needs a finite range around 0, got 1 to 5"),
        (lambda: transformations.rotation(0, 0), "needs a finite range around 0"),
        (lambda: transformations.rotation(-math.inf, 0), "needs a finite range"),
        (lambda: transformations.contrast(-101, 0), "from -100% or above, got -101"),
        (lambda: transformations.translation(-1, 1, (1.0, 1.0)), "a direction has length 1"),
    ],
)
def test_a_range_or_direction_that_makes_no_path_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
