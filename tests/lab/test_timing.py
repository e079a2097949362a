import time

import pytest
import torch

from thesis_repro.lab import timing
from thesis_repro.robustness import products

MEGA = 250_000  # float32 numbers in a megabyte


def test_the_median_of_calls_is_what_they_take():
    found = timing.once([lambda s=s: time.sleep(s) for s in (0.01, 0.02, 0.2)])
    assert 0.02 <= found.seconds < 0.1 <= found.high and found.low < 0.02 + 0.01
    assert found.repeats == 3
    with pytest.raises(ValueError, match="at least 2 calls"):
        timing.once([lambda: None])


def test_on_a_cpu_only_the_work_of_its_processor_counts():
    calls = [lambda: time.sleep(0.02)] * 2
    assert timing.once(calls, timing.clock_of("cpu")).seconds < 0.01
    assert timing.once(calls, timing.clock_of("cuda")).seconds >= 0.02


def test_calls_are_timed_in_turn():
    said = []
    timing.interleaved([lambda: said.append("a"), lambda: said.append("b")], repeats=3, warmup=1)
    assert said == ["a", "b"] * 4
    with pytest.raises(ValueError, match="at least 2 repeats"):
        timing.interleaved([lambda: None], repeats=1)


def test_the_peak_counts_what_lives_at_once_and_no_more():
    x = torch.zeros(MEGA)
    with timing.peak() as one_by_one:
        for _ in range(5):
            x + 1.0
    assert one_by_one.bytes == pytest.approx(1e6, rel=0.01)
    with timing.peak() as together:
        kept = [x + 1.0 for _ in range(5)]
    assert together.bytes == pytest.approx(5e6, rel=0.01) and len(kept) == 5
    with timing.peak() as freed:
        y = x + 1.0
        z = torch.cat([y, y])
        del y
        z = z[:MEGA] * 2
    assert freed.bytes == pytest.approx(3e6, rel=0.01) and len(z) == MEGA


def test_views_and_work_in_place_and_what_was_there_before_are_free():
    x = torch.zeros(MEGA)
    with timing.peak() as found:
        x.view(500, 500).add_(1.0).T[:10].mul_(2.0)
    assert found.bytes < 1000


def test_a_net_s_peak_is_that_of_its_two_largest_neighbours():
    net = torch.nn.Sequential(*[torch.nn.Linear(500, 500) for _ in range(4)])
    x = torch.zeros(500, 500)
    with torch.no_grad(), timing.peak() as found:
        net(x)
    assert found.bytes == pytest.approx(2e6, rel=0.01)


def test_operations_of_a_product_and_a_convolution():
    a, b = torch.rand(3, 4), torch.rand(4, 5)
    assert timing.operations(lambda: a @ b) == 2 * 3 * 4 * 5
    conv = torch.nn.Conv2d(2, 3, 3, padding=1, bias=False)
    assert timing.operations(lambda: conv(torch.rand(7, 2, 8, 8))) == 2 * 7 * 64 * 3 * 2 * 9


def test_operations_of_products_that_are_added_in_place():
    into, a, b = torch.zeros(3, 5), torch.rand(3, 4), torch.rand(4, 5)
    assert timing.operations(lambda: into.addmm_(a, b)) == 2 * 3 * 4 * 5
    x, weight = torch.rand(7, 2, 8, 8), torch.rand(3, 2, 3, 3)
    # each of nine taps takes the padded rows of pixels that its shifts leave
    taps = 2 * (7 * 10 * 10 - 2 * 10 - 2) * 2 * 3 * 9
    assert timing.operations(lambda: products.convolve(x, weight, padding=(1, 1))) == taps


def test_a_matrix_rate_is_positive():
    assert timing.matrix_rate(size=64, repeats=2) > 1e6


def test_what_is_no_cpu_is_rated_by_large_matrices(monkeypatch):
    sides = []

    def timed(calls, repeats, warmup):
        sides.append(calls[0]().shape)
        return [timing.Timing(2.0, 2.0, 2.0, repeats)]

    monkeypatch.setattr(timing, "interleaved", timed)
    assert timing.matrix_rate("meta") == 8192.0**3
    assert timing.matrix_rate("cpu") == 1024.0**3
    assert sides == [(8192, 8192), (1024, 1024)]
