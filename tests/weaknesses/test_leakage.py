"""Reconstruction and instances: closed forms, brute force, controls at chance, bad input."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import minimize
from torch import nn

from thesis_repro.weaknesses import leakage


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(classes=2, shape=(1, 3, 4), seed=0):
    layer = nn.Linear(int(np.prod(shape)), classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator(seed)))
    return nn.Sequential(nn.Flatten(), layer).double().requires_grad_(False).eval()


# reconstruction


def test_log_odds_is_the_log_of_the_odds_of_softmax():
    logits = torch.randn(5, 4, generator=generator(), dtype=torch.float64)
    classes = torch.tensor([0, 1, 2, 3, 0])
    share = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(leakage.advantage(logits, classes), (share / (1 - share)).log())


@pytest.mark.parametrize(("radius", "steps"), [(0.3, 20), (1.4, 50), (5.0, 300)])
def test_a_linear_model_gives_its_closed_form(radius, steps):
    model = linear()
    start = torch.full((1, 3, 4), 0.5, dtype=torch.float64)
    found = leakage.reconstruct(model, [0, 1], start, steps=steps, step=0.2, radius=radius)
    weight = (model[1].weight[0] - model[1].weight[1]).view(1, 3, 4)
    for image, direction in zip(found.images, (weight, -weight), strict=True):
        best = leakage.linear_optimum(direction, start, radius)
        assert (image - best).norm() < 1e-3
        reached, most = (float((direction * (part - start)).sum()) for part in (image, best))
        assert 0.99 * most < reached <= most + 1e-6


@pytest.mark.parametrize("radius", [0.4, 1.2])
def test_the_closed_form_is_what_a_general_optimiser_finds(radius):
    weight = torch.randn(1, 2, 4, generator=generator(3), dtype=torch.float64)
    start = torch.rand(1, 2, 4, generator=generator(4), dtype=torch.float64)
    ours = leakage.linear_optimum(weight, start, radius).flatten().numpy()
    w, x0 = weight.flatten().numpy(), start.flatten().numpy()
    ball = {"type": "ineq", "fun": lambda x: radius**2 - ((x - x0) ** 2).sum()}
    theirs = minimize(lambda x: -w @ x, x0, bounds=[(0, 1)] * 8, constraints=[ball], method="SLSQP")
    assert w @ ours == pytest.approx(w @ theirs.x, abs=1e-5)
    assert np.linalg.norm(ours - x0) <= radius + 1e-6


def test_without_a_box_in_the_way_the_closed_form_is_the_weight_scaled_to_the_radius():
    weight = torch.randn(1, 3, 3, generator=generator(1), dtype=torch.float64)
    start = torch.full((1, 3, 3), 0.5, dtype=torch.float64)
    best = leakage.linear_optimum(weight, start, 0.2)
    torch.testing.assert_close(best, start + 0.2 * weight / weight.norm(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("tiny", [1e-12, 1e-20, 1e-38])
def test_a_tiny_weight_leaves_the_closed_form_right(tiny):
    weight, start = torch.tensor([[[1.0, tiny]]]), torch.full((1, 1, 2), 0.5)
    near, beyond = (leakage.linear_optimum(weight, start, radius) for radius in (0.2, 0.6))
    torch.testing.assert_close(near, torch.tensor([[[0.7, 0.5]]]))
    # the first pixel ends at white, the second takes what is left of the radius
    torch.testing.assert_close(beyond, torch.tensor([[[1.0, 0.5 + (0.36 - 0.25) ** 0.5]]]))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.05, 4.0))
def test_a_projection_is_feasible_and_no_feasible_point_is_nearer(seed, radius):
    rng = generator(seed)
    center = torch.rand(1, 1, 2, 3, generator=rng, dtype=torch.float64)
    x = center + 2 * torch.randn(1, 1, 2, 3, generator=rng, dtype=torch.float64)
    found = leakage.project(x, center, radius)
    assert found.min() >= 0 and found.max() <= 1
    assert (found - center).norm() <= radius + 1e-9
    # the variational inequality of a projection on a convex set
    for _ in range(20):
        other = torch.rand(1, 1, 2, 3, generator=rng, dtype=torch.float64)
        away = other - center
        other = center + away * min(1.0, radius / float(away.norm()))
        assert float(((x - found) * (other - found)).sum()) <= 1e-6


def test_scaling_and_clipping_alone_would_not_be_the_projection():
    center, x = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[9.0, 1.0]]]])
    crude = (center + 0.55 * (x - center) / (x - center).norm()).clamp(0, 1)
    exact = leakage.project(x, center, 0.55)
    assert (exact - x).norm() < (crude - x).norm() - 0.005


def test_the_score_climbs_and_the_path_leads_to_the_images():
    model = linear(classes=4)
    start = torch.full((1, 3, 4), 0.5, dtype=torch.float64)
    found = leakage.reconstruct(model, range(4), start, steps=6, step=0.05, radius=1, stages=[0, 3])
    assert found.stages == (0, 3, 6) and found.path.shape == (3, 4, 1, 3, 4)
    assert found.score.shape == (7, 4) and (found.score.diff(dim=0) > 0).all()
    torch.testing.assert_close(found.path[0], start.expand(4, 1, 3, 4))
    torch.testing.assert_close(found.path[-1], found.images)


def test_smoothness_makes_images_smoother():
    model, start = linear(shape=(1, 6, 6)), torch.full((1, 6, 6), 0.5, dtype=torch.float64)
    rough, smooth = (
        leakage.reconstruct(model, [0], start, steps=60, step=0.05, radius=1, smoothness=w).images
        for w in (0.0, 50.0)
    )
    assert leakage.total_variation(smooth) < 0.5 * leakage.total_variation(rough)


def test_total_variation_counts_steps_between_neighbours():
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 2:] = 1
    assert leakage.total_variation(edge).item() == pytest.approx(4 / 12)


def test_high_pass_is_the_grey_level_less_its_local_mean():
    x = torch.rand(2, 3, 9, 10, generator=generator())
    grey = x.mean(1).numpy()
    padded = np.pad(grey, ((0, 0), (3, 3), (3, 3)), mode="reflect")
    means = np.array(
        [[[p[i : i + 7, j : j + 7].mean() for j in range(10)] for i in range(9)] for p in padded]
    )
    np.testing.assert_allclose(leakage.high_pass(x).numpy(), grey - means, atol=1e-6)


class Breaks(nn.Module):
    """Gives NaN once the first pixel has grown."""

    def forward(self, x):
        first = x[:, 0, 0, :2]
        return torch.where(first > 0.8, torch.nan, first)


def test_a_reconstruction_that_diverges_names_class_and_step():
    with pytest.raises(ValueError, match=r"class 1 diverged at step \d+: its score is nan"):
        leakage.reconstruct(Breaks().eval(), [1], torch.full((1, 2, 2), 0.5), steps=30, step=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"step": 0.0}, "step > 0"),
        ({"radius": -1.0}, "radius > 0"),
        ({"smoothness": float("nan")}, "smoothness >= 0"),
        ({"classes": [0, 7]}, r"classes need to lie in \[0, 2\), got 7 in row 1"),
        ({"classes": []}, "classes need shape"),
        ({"step": float("inf")}, "step > 0"),
        ({"start": torch.full((1, 3, 4), 1.5).double()}, r"pixels in \[0, 1\]"),
        ({"start": torch.zeros(3, 1, 3, 4).double()}, "of 2 classes needs as many start images"),
    ],
)
def test_a_reconstruction_refuses_bad_input(change, words):
    given_ = {"classes": [0, 1], "start": torch.full((1, 3, 4), 0.5).double(), "steps": 2} | change
    with pytest.raises(ValueError, match=words):
        leakage.reconstruct(linear(), given_.pop("classes"), given_.pop("start"), **given_)


# instances


def test_distances_are_blind_to_brightness_and_contrast_and_agree_with_correlation():
    x, pool = (torch.rand(n, 1, 4, 5, generator=generator(n)) for n in (2, 6))
    found = leakage.distances(x, pool)
    flat = [part.flatten(1).numpy() for part in (x, pool)]
    expected = np.sqrt(2 - 2 * np.corrcoef(*flat)[:2, 2:])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    torch.testing.assert_close(leakage.distances(0.3 * x + 0.2, pool), found, atol=1e-5, rtol=0)
    assert leakage.distances(x, x).diagonal().max() < 1e-3


def test_a_copy_of_a_training_image_is_found_and_unrelated_noise_is_not():
    pool = torch.rand(80, 1, 6, 6, generator=generator(1))
    members, others = pool[:40], pool[40:]
    copies = 0.5 * members[:6] + 0.1
    near = leakage.nearest(
        list(leakage.distances(copies, members)), list(leakage.distances(copies, others))
    )
    assert near.ratio < 0.05 and near.p <= 0.01
    noise = torch.rand(6, 1, 6, 6, generator=generator(2))
    far = leakage.nearest(
        list(leakage.distances(noise, members)), list(leakage.distances(noise, others))
    )
    assert far.p > 0.05 and far.ratio == pytest.approx(1, abs=0.1)
    turned = leakage.nearest(
        list(leakage.distances(copies, others)), list(leakage.distances(copies, members))
    )
    assert turned.p > 0.95  # the test is one-sided


def test_the_p_value_of_one_reconstruction_is_that_of_all_memberships():
    """Four images, two of each side: six memberships, all counted by hand."""
    mine, theirs = torch.tensor([0.1, 0.7]), torch.tensor([0.3, 0.4])
    found = leakage.nearest([mine], [theirs], draws=20_000)
    # 0.1 - 0.3 = -0.2 is beaten or met by pairs whose other side begins at 0.3 or later
    pairs = [(0.1, b) for b in (0.3, 0.4, 0.7)]
    values = [0.1 - min({0.1, 0.3, 0.4, 0.7} - set(pair)) for pair in pairs]
    share = sum(v <= -0.2 + 1e-9 for v in values) / 6
    assert found.p == pytest.approx(share, abs=0.02)
    assert found.difference == pytest.approx(-0.2)


def test_p_values_of_chance_are_uniform():
    rng = generator(5)
    p = [
        leakage.nearest([torch.rand(8, generator=rng)], [torch.rand(8, generator=rng)], 99, seed).p
        for seed in range(300)
    ]
    assert np.mean(np.array(p) <= 0.1) < 0.17 and 0.4 < np.mean(p) < 0.62


def test_a_reconstruction_is_identified_where_its_nearest_image_was_trained_on():
    rng = generator(3)
    near, far = torch.rand(2, 50, 7, generator=rng)
    found = leakage.identified(leakage.nearest(list(near), list(far), draws=9))
    merged = torch.cat([near, far], 1).argmin(1) < 7
    assert found.tolist() == merged.double().tolist()
    tie = leakage.nearest([torch.tensor([0.5, 0.9])], [torch.tensor([0.7, 0.5])], draws=9)
    assert leakage.identified(tie).tolist() == [0.5]


def test_without_a_leak_half_of_the_reconstructions_are_identified():
    near, far = torch.rand(2, 400, 30, generator=generator(4))
    rate = leakage.identified(leakage.nearest(list(near), list(far), draws=1)).mean()
    assert abs(rate - 0.5) < 0.08  # three standard errors


def test_models_are_pooled_by_their_reconstructions():
    one = leakage.nearest([torch.tensor([0.1, 0.9])] * 3, [torch.tensor([0.5, 0.6])] * 3, 50)
    two = leakage.nearest([torch.tensor([0.4, 0.9])], [torch.tensor([0.2, 0.6])], 50)
    both = leakage.pooled([one, two])
    assert len(both.member) == 4
    assert both.difference == pytest.approx((3 * -0.4 + 0.2) / 4)
    np.testing.assert_allclose(both.null, (3 * one.null + two.null) / 4)


@pytest.mark.parametrize(
    ("members", "others", "words"),
    [
        ([], [], "both sides for each reconstruction"),
        ([torch.ones(2)], [], "both sides"),
        ([torch.ones(2)], [torch.ones(3)], "as many training as held-out images"),
        ([torch.ones(0)], [torch.ones(0)], "at least 1"),
    ],
)
def test_instances_refuse_bad_input(members, others, words):
    with pytest.raises(ValueError, match=words):
        leakage.nearest(members, others)
