import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from thesis_repro import nets, training
from thesis_repro.data import Split
from thesis_repro.robustness import GloroNet, gloro
from thesis_repro.training import TrainConfig, steps


def digits(n=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 10, (n,), generator=generator)
    x = torch.rand(n, 1, 28, 28, generator=generator) * 0.2
    x[torch.arange(n), 0, 2 * y, :] = 1.0  # class c lights row 2c
    return Split(x, y)


def small_net(seed=0):
    body = nets.cnn_2c2f(generator=torch.Generator().manual_seed(seed))
    return GloroNet(body, 0.3, (1, 28, 28), power_steps=1)


LOSS = gloro.trades(training.linear(0.01, 0.3, 0.5), training.linear(0, 1))
CONFIG = TrainConfig(epochs=4, batch_size=32, seed=3, clip=5.0)
LR = training.decay_after(1e-3, 1e-5)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


class Killed(Exception):
    pass


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_resumed_training_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    config = TrainConfig(epochs=4, batch_size=32, seed=3, clip=5.0, optimizer=optimizer)

    def noise(x, generator):
        return (x + 0.05 * torch.rand(x.shape, generator=generator)).clamp(0, 1)

    whole = small_net()
    history = training.fit(whole, LOSS, digits(), config, LR, augment=noise)

    def kill(model, record):
        if record["epoch"] == 3:
            raise Killed

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        training.fit(
            small_net(), LOSS, digits(), config, LR, augment=noise, checkpoint=path, on_epoch=kill
        )
    resumed = small_net(seed=9)  # the start no longer matters
    again = training.fit(resumed, LOSS, digits(), config, LR, augment=noise, checkpoint=path)
    assert torch.equal(weights(whole), weights(resumed))
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), resumed.buffers(), strict=True))
    assert [r["loss"] for r in history] == [r["loss"] for r in again]


def test_it_learns_and_the_seed_decides():
    nets_ = [small_net() for _ in range(3)]
    config = TrainConfig(epochs=8, batch_size=16, seed=3)
    for net, seed in zip(nets_, (1, 1, 2), strict=True):
        training.fit(net, LOSS, digits(), TrainConfig(8, 16, seed=seed), LR)
    assert torch.equal(weights(nets_[0]), weights(nets_[1]))
    assert not torch.equal(weights(nets_[0]), weights(nets_[2]))
    plain = nets.cnn_2c2f("relu", generator=torch.Generator().manual_seed(0))
    training.fit(plain, training.classification, digits(), config, LR)
    held_out = digits(seed=1)
    assert (plain(held_out.x).argmax(1) == held_out.y).float().mean() > 0.9


def test_every_point_is_seen_once_an_epoch_in_a_new_order():
    seen = []

    def spy(model, x, y, progress):
        seen.append(y.clone())
        return model(x).sum() * 0

    data = Split(torch.zeros(10, 1, 2, 2), torch.arange(10))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    training.fit(model, spy, data, TrainConfig(2, 4), training.constant(0.1))
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    training.fit(small_net(), LOSS, digits(), CONFIG, LR, checkpoint=path)
    other = TrainConfig(epochs=5, batch_size=32, seed=3, clip=5.0)
    with pytest.raises(ValueError, match="another configuration"):
        training.fit(small_net(), LOSS, digits(), other, LR, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(ValueError, match=r"damaged \(its bytes were altered\)"):
        training.fit(small_net(), LOSS, digits(), CONFIG, LR, checkpoint=path)
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="damaged"):
        training.fit(small_net(), LOSS, digits(), CONFIG, LR, checkpoint=path)


def test_bad_data_and_divergence_are_one_clear_line():
    good = digits(8)
    bad = [
        (Split(good.x * 2, good.y), r"\[0, 1\], got values from .* to 2"),
        (Split(good.x[:3], good.y), r"got x \(3, 1, 28, 28\) and y \(8,\)"),
        (Split(good.x * math.nan, good.y), "nan"),
        (Split(good.x.numpy(), good.y.numpy()), "needs tensors, got x of ndarray and y of ndarray"),
        (Split(good.x, good.y.int()), "int64 y, got torch.float32 and torch.int32"),
        (Split((good.x * 255).byte(), good.y), "floating x and int64 y, got torch.uint8"),
        (Split(good.x, good.y - 10), "labels need to be >= 0, got -"),
        (Split(good.x, good.y + 10), r"labels need to lie in \[0, classes\) .*out of bounds"),
    ]
    for split, message in bad:
        with pytest.raises(ValueError, match=message):
            training.fit(small_net(), LOSS, split, CONFIG, LR)
    with pytest.raises(ValueError, match=r"diverged: loss nan in epoch [12] of 4"):
        training.fit(small_net(), LOSS, good, CONFIG, training.constant(math.inf))
    with pytest.raises(ValueError, match="epochs=-1"):
        TrainConfig(-1, 5)
    with pytest.raises(ValueError, match="adam, adamw, nadam, sgd"):
        TrainConfig(1, 5, optimizer="lion")


def test_a_gpu_without_enough_memory_is_one_clear_line():
    def full(model, x, y, progress):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n20 GiB")

    with pytest.raises(ValueError, match=r"does not suffice .* batches of 32: ask for smaller"):
        training.fit(small_net(), full, digits(), CONFIG, LR)


def test_weight_decay_of_the_decoupled_optimizers_shrinks_weights_without_a_gradient():
    for name in ("adamw", "nadam"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
        before = model[1].weight.detach().clone()
        config = TrainConfig(1, 96, optimizer=name, weight_decay=0.1)
        training.fit(model, lambda m, *_: m(digits(1).x).sum() * 0, digits(), config, lambda _: 0.5)
        torch.testing.assert_close(model[1].weight.detach(), before * (1 - 0.5 * 0.1))


def test_what_a_recording_moves_is_put_back():
    net = small_net()
    optimizer = steps.optimizer_of(net, TrainConfig(1, 32, optimizer="nadam"), 0.01)
    step = steps.eager(net, LOSS, optimizer, CONFIG)
    data = digits(32)
    first, buffers = weights(net).clone(), [b.clone() for b in net.buffers()]
    restore = steps._remembered(net, optimizer)
    moved = step(data.x, data.y, 0.5)
    assert not torch.equal(weights(net), first)
    restore()
    assert torch.equal(weights(net), first)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), buffers, strict=True))
    again = step(data.x, data.y, 0.5)  # also the state is as before any step
    assert torch.equal(moved, again)
    after = weights(net).clone()
    fresh = small_net()
    other = steps.optimizer_of(fresh, TrainConfig(1, 32, optimizer="nadam"), 0.01)
    steps.eager(fresh, LOSS, other, CONFIG)(data.x, data.y, 0.5)
    assert torch.equal(weights(fresh), after)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records a step on a GPU")
def test_a_recorded_training_ends_where_the_eager_one_does():
    ends = []
    for graph in (False, True):
        net = small_net().cuda()
        config = TrainConfig(3, 32, seed=3, clip=5.0, graph=graph)
        training.fit(net, LOSS, digits(100), config, LR)  # the last batch is a short one
        ends.append(weights(net).cpu())
    torch.testing.assert_close(*ends, rtol=1e-2, atol=1e-4)


def test_noise_is_added_unclipped_and_follows_its_seed():
    x = torch.full((64, 1, 8, 8), 0.9)
    noisy = training.with_noise(training.crop_flip, 0.25)
    one, same = (noisy(x, torch.Generator().manual_seed(4)) for _ in range(2))
    plain = training.crop_flip(x, torch.Generator().manual_seed(4))
    assert torch.equal(one, same) and one.max() > 1.2
    assert (one - plain).std().item() == pytest.approx(0.25, rel=0.05)


def test_autocast_runs_the_layers_in_bfloat16_and_keeps_float32_weights():
    seen = []

    def spy(model, x, y, progress):
        out = model(x)
        seen.append(out.dtype)
        return nn.functional.cross_entropy(out.float(), y)

    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    training.fit(model, spy, digits(8), TrainConfig(1, 8, autocast=True), LR)
    assert seen == [torch.bfloat16]
    assert next(model.parameters()).dtype == torch.float32


@given(st.floats(0, 1), st.floats(1e-3, 10), st.floats(0.1, 1))
def test_schedules(progress, stop, until):
    assert training.constant(stop)(progress) == stop
    straight = training.linear(0.0, stop, until)
    assert straight(0.0) == 0 and straight(until) == pytest.approx(stop)
    assert straight(progress) == pytest.approx(stop * min(progress / until, 1))
    curve = training.logarithmic(stop, until)
    assert curve(0.0) == pytest.approx(0.01 * stop)
    assert curve(1.0) == pytest.approx(stop)
    assert curve(progress) >= straight(progress) - 1e-9  # fast first
    fall = training.decay_after(stop, stop / 1000, 0.5)
    assert fall(0.25) == fall(0.5) == stop
    assert fall(0.75) == pytest.approx(stop / math.sqrt(1000))
    assert fall(1.0) == pytest.approx(stop / 1000)
    wave = training.cosine(stop, 0.1)
    assert wave(0.0) == 0 and wave(0.1) == pytest.approx(stop)
    assert wave(1.0) == pytest.approx(0, abs=1e-12)


def test_crop_flip_cuts_and_mirrors_as_a_loop_does():
    x = torch.rand(16, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    got = training.crop_flip(x, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    tops, lefts = torch.randint(0, 2 * training.CROP + 1, (2, 16), generator=generator)
    mirrored = torch.rand(16, generator=generator) < 0.5
    assert 0 < int(mirrored.sum()) < 16
    for image, out, top, left, mirror in zip(x, got, tops, lefts, mirrored, strict=True):
        padded = nn.functional.pad(image, (training.CROP,) * 4)
        cut = padded[:, top : top + 8, left : left + 6]
        assert torch.equal(out, cut.flip(2) if mirror else cut)


def test_crop_flip_leaves_shape_and_range_and_follows_its_seed():
    x = torch.rand(4, 1, 28, 28)
    one, same, other = (
        training.crop_flip(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert one.shape == x.shape and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, same) and not torch.equal(one, other)
