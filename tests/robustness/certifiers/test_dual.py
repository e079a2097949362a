import math

import nets_by_hand as oracle
import numpy as np
import pytest
import torch
from torch import nn

from thesis_repro import nets
from thesis_repro.robustness import attacks
from thesis_repro.robustness.certifiers import backward, dual, full_precision, windows
from thesis_repro.robustness.certifiers.lines import hull_of, lines, unstable


def point(seed, size=3):
    return torch.rand(1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_the_bound_is_its_fixed_slope_relaxation_and_below_the_triangle(seed, norm):
    net, x, epsilon = oracle.random_net(seed, (3, 3, 3)), point(seed), 0.3
    own = net(x).argmax().item()
    found = dual.margins(net, x, epsilon, norm=norm)[0].numpy()
    for rival in {0, 1, 2} - {own}:
        c = np.eye(3)[own] - np.eye(3)[rival]
        closed = oracle.fixed_slope_minimum(net, x, epsilon, c, norm)
        triangle = oracle.triangle_minimum(net, x, epsilon, c, norm)
        assert found[rival] == pytest.approx(closed, abs=1e-9)
        assert found[rival] <= triangle + 1e-4
        if norm == 2:
            assert triangle <= oracle.exact_minimum(net, x, epsilon, c) + 1e-4
    assert found[own] == math.inf


def test_the_triangle_is_strictly_tighter_somewhere():
    """Else the oracle, or the bound, would be another relaxation than it says."""
    gaps = []
    for seed in range(3):
        net, x = oracle.random_net(seed), point(seed)
        c = np.array([1.0, -1.0, 0.0])
        closed = oracle.fixed_slope_minimum(net, x, 0.5, c, 2.0)
        gaps.append(oracle.triangle_minimum(net, x, 0.5, c, 2.0) - closed)
    assert max(gaps) > 1e-3


def convolutional(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )
    return net.double().eval()


def test_a_convolution_gives_what_its_matrix_gives():
    net = convolutional()
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    dense = []
    size = (1, 6, 6)
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            inputs = math.prod(size)
            with torch.no_grad():
                zero = layer(torch.zeros(1, *size, dtype=torch.float64))
                columns = layer(torch.eye(inputs, dtype=torch.float64).view(-1, *size)) - zero
            matrix = nn.Linear(inputs, zero.numel(), dtype=torch.float64)
            matrix.weight = nn.Parameter(columns.flatten(1).T.contiguous())
            matrix.bias = nn.Parameter(zero.flatten())
            dense.append(matrix)
            size = tuple(zero.shape[1:])
        elif not isinstance(layer, nn.Flatten):
            dense.append(layer)
    flat = nn.Sequential(*dense)
    expected = dual.margins(flat, x.flatten(1), 0.2)
    torch.testing.assert_close(dual.margins(net, x, 0.2), expected)
    # neither points nor rows at a time change anything
    torch.testing.assert_close(dual.margins(net, x, 0.2, rows=20, batch_size=1), expected)


def test_hidden_units_stay_in_their_bounds_and_labels_in_their_ball():
    net, epsilon = convolutional(1), 0.3
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(2000, 1, 6, 6, generator=generator, dtype=torch.float64)
    inside = x + epsilon * steps / steps.flatten(1).norm(dim=1)[:, None, None, None]
    with full_precision(net):
        chain = dual._chain(net, x, epsilon, 2.0)
        ball = dual.Ball(x, epsilon, 2.0)
        slopes = dual.relaxed(chain, ball)
        for index, (name, layer, shape) in enumerate(chain):
            if not isinstance(layer, nn.ReLU):
                continue
            low, high = backward.every_unit(chain[:index], slopes, ball, shape, 64)
            seen = net[:index](inside)
            assert (seen >= low - 1e-12).all() and (seen <= high + 1e-12).all(), name
    logits = net(inside)
    own = net(x).argmax().item()
    gaps = (logits[:, own, None] - logits).amin(0)
    found = dual.margins(net, x, epsilon)[0]
    rivals = [i for i in range(4) if i != own]
    assert (found[rivals] <= gaps[rivals] + 1e-12).all()


def wide(*layers, seed=0):
    """A net of these layers, with a last layer of three classes, whose biases settle many signs."""
    torch.manual_seed(seed)
    net = nn.Sequential(*layers).double()
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, 0.0, 0.5)
    return net.eval()


NETS = {
    "strides": lambda: wide(
        nn.Conv2d(2, 4, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, (2, 3), stride=(1, 2), padding=(0, 1)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 9),
        nn.ReLU(),
        nn.Linear(9, 3),
    ),
    "no ReLU between": lambda: wide(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3, padding=2),
        nn.ReLU(),
        nn.Conv2d(2, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * 16 * 16, 3),
    ),
    "groups and dilation": lambda: wide(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 14 * 14, 3),
    ),
    "ReLU first, and twice": lambda: wide(
        nn.ReLU(), nn.Flatten(), nn.Linear(392, 8), nn.ReLU(), nn.ReLU(), nn.Linear(8, 3)
    ),
    "windows larger than the image": lambda: wide(
        *(part for _ in range(3) for part in (nn.Conv2d(2, 2, 7, padding=3), nn.ReLU())),
        nn.Flatten(),
        nn.Linear(392, 3),
    ),
}


@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.parametrize("name", NETS)
def test_no_bound_depends_on_which_units_are_sent_back(name, norm, monkeypatch):
    net = NETS[name]()
    x = torch.rand(2, 2, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    epsilon = 0.3 if norm == 2 else 0.01
    to_the_letter = dual.margins(net, x, epsilon, norm=norm, every_unit=True)
    torch.testing.assert_close(dual.margins(net, x, epsilon, norm=norm), to_the_letter)
    monkeypatch.setattr(windows, "LARGEST", 0)  # kernels, no matrices
    monkeypatch.setattr(windows, "HELD", 0)  # one point at a time
    torch.testing.assert_close(dual.margins(net, x, epsilon, norm=norm, rows=5), to_the_letter)


@pytest.mark.parametrize("name", ["strides", "no ReLU between", "ReLU first, and twice"])
def test_the_hull_holds_all_that_the_relaxed_net_does(name):
    """Not only what the net does: else it would settle signs that KW leaves open."""
    net = NETS[name]()
    x = torch.rand(2, 2, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with full_precision(net):
        chain, ball = dual._chain(net, x, 1.0, 2.0), dual.Ball(x, 1.0, 2.0)
        slopes, hull = dual.relaxed(chain, ball, every_unit=True), hull_of(ball)
        for index, (part, layer, shape) in enumerate(chain):
            if not isinstance(layer, nn.ReLU):
                hull = hull.through(layer, shape, 2.0)
                continue
            low, high = backward.every_unit(chain[:index], slopes, ball, shape, 512)
            least, most = hull.bounds
            assert (least <= low + 1e-9).all() and (high <= most + 1e-9).all()
            if hull.exact:
                torch.testing.assert_close(least, low)
                torch.testing.assert_close(most, high)
            hull = hull.between(low, high, slopes[part])  # as tight as it may be
    assert all(found.low.min() < 0 for found in slopes.values())


def test_what_is_sent_back_are_units_of_open_sign_behind_the_first_layer():
    net = NETS["strides"]()
    x = torch.rand(3, 2, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units = [4 * 7 * 7, 3 * 6 * 4, 9]
    with full_precision(net):
        chain, ball = dual._chain(net, x, 0.03, 2.0), dual.Ball(x, 0.03, 2.0)
        slopes = dual.relaxed(chain, ball)
        all_of_them = dual.relaxed(chain, ball, every_unit=True)
    sent = [found.sent for found in slopes.values()]
    assert sent[0].tolist() == [0, 0, 0]
    for name, count in zip(slopes, sent, strict=True):
        crossing = (slopes[name].low < 0).flatten(1).sum(1)
        torch.testing.assert_close(slopes[name].slope, all_of_them[name].slope)
        torch.testing.assert_close(slopes[name].low, all_of_them[name].low)
        if name != "1":
            assert (crossing <= count).all()
    assert sent[1].min() > 0 and sent[1].max() < units[1] / 3
    assert dual.sent(net, x, 0.03).tolist() == sum(sent).tolist()
    assert dual.sent(net, x, 0.03, every_unit=True).tolist() == 3 * [sum(units)]
    whole = [found.sent for found in all_of_them.values()]
    assert [int(count[0]) for count in whole] == units


def test_the_sets_are_the_same_and_no_attack_breaks_them():
    certified = 0
    for seed in range(4):
        net = wide(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
            seed=seed,
        )
        x = torch.rand(
            10, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        for epsilon in (0.1, 0.3):
            found = dual.certify(net, x, epsilon)
            assert torch.equal(found, dual.certify(net, x, epsilon, every_unit=True))
            if found.any():
                labels = net(x[found]).argmax(1)
                moved = attacks.pgd_l2(net, x[found], labels, epsilon, 10, 2)
                assert torch.equal(net(moved).argmax(1), labels)
            certified += int(found.sum())
    assert 10 < certified < 80


def test_a_sign_that_is_not_a_number_is_open():
    low, high = torch.tensor([[math.nan, -1.0]]), torch.tensor([[1.0, math.nan]])
    assert unstable(low, high).all()
    assert lines(low, high, torch.zeros(1)).slope.isnan().all()


def test_a_linear_net_is_certified_up_to_its_distance():
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[0.9, 0.4]])
    distance = 0.5 / math.sqrt(2)
    assert dual.certify(net, x, distance * 0.999).tolist() == [True]
    assert dual.certify(net, x, distance * 1.001).tolist() == [False]
    assert dual.certify(net, x, 0.249, norm=math.inf).tolist() == [True]
    assert dual.certify(net, x, 0.251, norm=math.inf).tolist() == [False]


def test_any_linear_function_of_the_outputs_can_be_bounded():
    net, x = oracle.random_net(2), point(2)
    c = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    found = dual.lower(net, x, 0.2, c)
    expected = [oracle.fixed_slope_minimum(net, x, 0.2, row.numpy(), 2.0) for row in c]
    assert found[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_many_projections_come_close_to_the_exact_bounds(norm):
    net = convolutional(2)
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    epsilon = 0.3 if norm == 2 else 0.03
    exact = dual.margins(net, x, epsilon, norm=norm)
    gaps = []
    for projections in (30, 4_000):
        generator = torch.Generator().manual_seed(0)
        found = dual.margins(
            net, x, epsilon, norm=norm, projections=projections, generator=generator
        )
        gaps.append((found - exact).nan_to_num(0.0).abs().max().item())
    scale = exact.where(exact.isfinite(), 0.0).abs().max().item()
    assert gaps[1] < 0.05 * scale
    assert gaps[1] < gaps[0]


def test_ties_and_what_is_not_a_number_are_never_certified():
    net = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, 1.0, 0.0]))
    x = torch.rand(2, 2)
    assert not dual.certify(net, x, 1e-6).any()
    for value in (math.nan, math.inf):
        with torch.no_grad():
            net[0].bias[0] = value
        with pytest.raises(ValueError, match="finite, got NaN or infinity in 0.bias"):
            dual.certify(net, x, 0.1)


def test_what_it_cannot_handle_is_refused_by_name():
    x = torch.rand(1, 1, 28, 28)
    with pytest.raises(ValueError, match="layer '1' is MinMax; this certifier knows"):
        dual.certify(nets.cnn_2c2f(), x, 0.1)
    net = nets.cnn_2c2f("relu")
    for epsilon in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="epsilon needs to be positive and finite"):
            dual.certify(net, x, epsilon)
    with pytest.raises(ValueError, match="norm of the ball"):
        dual.certify(net, x, 0.1, norm=1.0)
    with pytest.raises(ValueError, match="pixels need to lie"):
        dual.certify(net, 2 + x, 0.1)
    with pytest.raises(ValueError, match="do not fit the net"):
        dual.certify(net, torch.rand(1, 3, 32, 32), 0.1)
    with pytest.raises(ValueError, match="torch.float32 on cpu as the net is, got torch.float64"):
        dual.certify(net, x.double(), 0.1)
    with pytest.raises(ValueError, match="ending in nn.Linear"):
        dual.certify(nn.Linear(3, 2), torch.rand(1, 3), 0.1)


def test_mode_and_gradients_are_as_before():
    net = oracle.random_net(0).train()
    dual.certify(net, point(0), 0.1)
    assert net.training and torch.is_grad_enabled()


def test_out_of_memory_halves_the_rows_and_changes_no_bound(monkeypatch, caplog):
    net = convolutional()
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    expected = dual.margins(net, x, 0.2)
    original = backward.adjoint_map

    def crowded(layer, rows, shape):
        if len(rows) > 20:
            raise torch.OutOfMemoryError("no room")
        return original(layer, rows, shape)

    monkeypatch.setattr(backward, "adjoint_map", crowded)
    torch.testing.assert_close(dual.margins(net, x, 0.2, every_unit=True), expected)
    assert any("going on with batches" in record.message for record in caplog.records)


def test_one_output_has_a_lower_bound_though_it_is_no_certificate():
    net = nn.Sequential(nn.Linear(2, 1))
    x = torch.tensor([[0.5, 0.5]])
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
        net[0].bias.zero_()
    found = dual.lower(net, x, 0.1, torch.ones(1, 1))
    assert found.item() == pytest.approx(3.5 - 0.1 * 5, abs=1e-5)
