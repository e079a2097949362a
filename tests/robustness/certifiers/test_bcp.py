import itertools
import math
from dataclasses import replace

import nets_by_hand as oracle
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, certify
from thesis_repro.robustness.certifiers import bcp, dual, full_precision, row_lengths


def box_problem(seed, features=6):
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=features)
    low, high = -rng.exponential(0.4, features), rng.exponential(0.4, features)
    return direction, rng.uniform(0.1, 1.5), low, high


@pytest.mark.parametrize("seed", range(12))
def test_the_last_layer_s_optimum_is_that_of_a_solver(seed):
    direction, radius, low, high = box_problem(seed)
    solved = minimize(
        lambda z: -direction @ z,
        np.zeros(6),
        jac=lambda z: -direction,
        bounds=[*zip(low, high, strict=True)],
        constraints={
            "type": "ineq",
            "fun": lambda z: radius**2 - z @ z,
            "jac": lambda z: -2 * z,
        },
        method="SLSQP",
        options={"ftol": 1e-10},
    )
    # 8: no step improves it any more, which rounding decides on some processors
    assert solved.status in (0, 8) and np.linalg.norm(solved.x) <= radius + 1e-6
    expected = -solved.fun
    tensors = [torch.from_numpy(v)[None] for v in (direction, low, high)]
    args = tensors[0][:, None], torch.tensor([radius], dtype=torch.float64), tensors[1], tensors[2]
    assert bcp.furthest(*args).item() == pytest.approx(expected, abs=1e-5)
    steps = [bcp.furthest(*args, steps=k).item() for k in range(1, 8)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(steps))
    assert steps[0] == pytest.approx(radius * np.linalg.norm(direction))  # the ball alone
    assert min(steps) >= expected - 1e-5


def test_a_box_inside_the_ball_is_reached_at_its_corner():
    direction = torch.tensor([[[1.0, -2.0, 0.0]]])
    low, high = torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[0.5, 2.0, 1.0]])
    assert bcp.furthest(direction, torch.tensor([9.0]), low, high).item() == 2.5
    assert bcp.furthest(0 * direction, torch.tensor([9.0]), low, high).item() == 0.0
    with pytest.raises(ValueError, match="at least 1 step"):
        bcp.furthest(direction, torch.tensor([9.0]), low, high, steps=0)


@pytest.mark.parametrize("seed", range(8))
def test_no_radius_exceeds_the_exact_one(seed):
    net = oracle.random_net(seed, (3, 5, 3)).float()
    x = torch.rand(1, 3, generator=torch.Generator().manual_seed(seed))
    exact = oracle.exact_distance(net, x)
    gloro = certify(GloroNet(net, 0.1, (3,)).eval(), x).radius.item()
    known = bcp.prepare(net, (3,))
    high = 2 * min(exact, 10.0)
    bcp_radius = oracle.largest_radius(lambda e, z: bcp.certify(net, z, e, prepared=known), x, high)
    dual_radius = oracle.largest_radius(lambda e, z: dual.certify(net, z, e), x, high)
    assert 0 < gloro <= bcp_radius + high / 2**12
    assert bcp_radius <= exact and dual_radius <= exact


def test_the_exact_radius_of_the_oracle_is_a_distance_to_another_label():
    net = oracle.random_net(1, (2, 4, 3))
    x = torch.rand(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = oracle.exact_distance(net, x)
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    around = torch.stack([angle.cos(), angle.sin()], 1)
    own = net(x).argmax().item()
    with torch.no_grad():
        assert (net(x + 0.999 * exact * around).argmax(1) == own).all()
        assert (net(x + 1.001 * exact * around).argmax(1) != own).any()


def robust_net(activation, seed=0):
    torch.manual_seed(seed)
    act = nn.ReLU if activation == "relu" else nets.MinMax
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        act(),
        nn.Conv2d(4, 4, 4, stride=2, padding=1),
        act(),
        nn.Flatten(),
        nn.Linear(16, 10),
        act(),
        nn.Linear(10, 5),
    )
    for layer in body:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        body[5].bias.sub_(0.3)  # so that some units of the ReLU net are surely off
    return body.eval()


@pytest.mark.parametrize("activation", ["relu", "minmax"])
def test_what_the_ball_alone_certifies_is_certified_and_the_box_adds_to_it(activation):
    body = robust_net(activation)
    net = GloroNet(body, 0.1, (1, 8, 8)).eval()
    x = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ball = replace(net.bound(), rounding=None)
    epsilon = certify(net, x, used=ball).radius.median().item()
    lipschitz = certify(net, x, epsilon, used=ball)
    found = bcp.margins(body, x, epsilon).amin(1)
    assert 0 < lipschitz.certified.sum() < 400
    assert ((found > 0) | ~lipschitz.certified).all()
    gain = found - lipschitz.margin
    assert (gain > -1e-6).all()
    if activation == "relu":  # units that cannot fire are taken out by the box
        assert gain.max() > 0.05 * epsilon * ball.k_ij.max()


def test_the_region_holds_all_that_the_ball_becomes():
    body, epsilon = robust_net("relu", 1).double(), 0.4
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    steps = torch.randn(2000, 1, 8, 8, dtype=torch.float64)
    inside = x[:1] + epsilon * steps / steps.flatten(1).norm(dim=1)[:, None, None, None]
    known = bcp.prepare(body, (1, 8, 8))
    with full_precision(body):
        for depth in range(1, 8):
            chain = bcp.parts(body, x, epsilon, bcp.KNOWN)[:depth]
            held = bcp.region(chain, known, x[:1], epsilon)
            seen = body[:depth](inside)
            assert (seen >= held.low - 1e-12).all() and (seen <= held.high + 1e-12).all()
            away = (seen - held.centre).flatten(1).norm(dim=1)
            assert (away <= held.radius + 1e-12).all()
            assert (held.centre >= held.low - 1e-12).all()


def test_rows_of_a_padded_convolution_are_shorter_at_the_border():
    layer = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    body = nn.Sequential(layer, nn.Flatten(), nn.Linear(9, 2))
    known = bcp.prepare(body, (1, 3, 3))
    rows = known.layers["0"].rows * 2.0 ** known.scaled.steps["0"]
    assert rows[0, 0].square().round().tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_a_linear_net_is_certified_up_to_its_distance():
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[0.9, 0.4]])
    distance = 0.5 / math.sqrt(2)
    assert bcp.certify(net, x, distance * 0.999).tolist() == [True]
    assert bcp.certify(net, x, distance * 1.001).tolist() == [False]


def test_ties_and_what_is_not_a_number_are_never_certified():
    net = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, 1.0, 0.0]))
    x = torch.rand(2, 2)
    assert not bcp.certify(net, x, 1e-6).any()
    with torch.no_grad():
        net[0].bias[0] = math.nan
    with pytest.raises(ValueError, match="finite, got NaN or infinity in 0.bias"):
        bcp.certify(net, x, 0.1)


def test_what_it_cannot_handle_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="layer '1' is GELU; this certifier knows Conv2d"):
        bcp.certify(net, torch.rand(1, 3), 0.1)
    with pytest.raises(ValueError, match="epsilon needs to be positive"):
        bcp.certify(nn.Sequential(nn.Linear(3, 2)), torch.rand(1, 3), 0.0)
    for certifier in (bcp, dual):  # of one logit every point would be certified
        with pytest.raises(ValueError, match="the net gives one logit"):
            certifier.certify(nn.Sequential(nn.Linear(3, 1)), torch.rand(1, 3), 0.1)
        rows = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        with pytest.raises(ValueError, match=r"layer '0' .* shape \(1, 4, 4\).* nn.Flatten\(\)"):
            certifier.certify(rows, torch.rand(1, 1, 4, 4), 0.1)
    with pytest.raises(ValueError, match="whole number of at least 1, got 0"):
        bcp.certify(nn.Sequential(nn.Linear(3, 2)), torch.rand(1, 3), 0.1, batch_size=0)


def test_points_at_a_time_change_nothing():
    body = robust_net("relu")
    x = torch.rand(7, 1, 8, 8)
    expected = bcp.margins(body, x, 0.2, batch_size=7)
    torch.testing.assert_close(bcp.margins(body, x, 0.2, batch_size=3), expected)


def test_rows_of_a_dense_layer_have_the_length_of_their_weights_on_rows_of_images_too():
    layer = nn.Linear(3, 3)  # square: a wrong axis would fit
    found = row_lengths(layer, (3, 3))
    assert torch.allclose(found, layer.weight.norm(dim=1).expand(found.shape), atol=1e-6)
