import itertools
import json
import math
from contextlib import contextmanager, nullcontext

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from thesis_repro import nets, training
from thesis_repro.data import Split
from thesis_repro.lab import timebox
from thesis_repro.robustness import GloroNet, gloro
from thesis_repro.training import TrainConfig, checkpoint, loop, recording, steps


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


KINDS = [(name, {}) for name in training.OPTIMIZERS] + [
    ("adam", {"channels_last": True}),
    ("adamw", {"channels_last": True, "weight_decay": 0.1}),
    ("nadam", {"channels_last": True, "weight_decay": 0.1}),
    ("sgd", {"channels_last": True, "momentum": 0.9}),
    ("sgd", {"momentum": 0.0}),
]


def conv_net(seed=0):
    """A convolution whose weight has other strides in channels-last, dropout, dense layers."""
    torch.manual_seed(seed)
    body = [nn.Conv2d(1, 4, 3, 4), nn.Conv2d(4, 6, 3), nn.Dropout(0.2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(150, 10))


def noise(x, generator):
    return (x + 0.05 * torch.rand(x.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def stops(monkeypatch):
    """Ask each training to stop when so many steps were taken in all, counted from 1."""

    def at(step):
        asked = itertools.count(1)
        monkeypatch.setattr(timebox, "wanted", lambda: next(asked) == step)

    return at


@pytest.mark.parametrize(("optimizer", "more"), KINDS)
@pytest.mark.parametrize("step", [7, 9])
def test_resumed_training_equals_uninterrupted_bit_for_bit(tmp_path, stops, optimizer, more, step):
    """Stopped at the end of an epoch (3 steps each), and within one."""
    config = TrainConfig(epochs=4, batch_size=20, seed=3, clip=5.0, optimizer=optimizer, **more)
    about = (training.classification, digits(60), config, LR)
    whole, resumed = conv_net(), conv_net()
    history = training.fit(whole, *about, augment=noise)
    path = tmp_path / "checkpoint.safetensors"
    stops(step + 1)
    with pytest.raises(timebox.Stop):
        training.fit(resumed, *about, augment=noise, checkpoint=path)
    stops(0)
    resumed = conv_net(seed=9)  # the start no longer matters
    seen = []
    again = training.fit(
        resumed, *about, augment=noise, checkpoint=path, on_epoch=lambda _, r: seen.append(r)
    )
    assert torch.equal(weights(whole), weights(resumed))
    assert [r["loss"] for r in history] == [r["loss"] for r in again]
    assert len(seen) == 4 - step // 3


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def kill(model, record):
        if record["epoch"] == 3:
            raise Killed

    about = (LOSS, digits(), CONFIG, LR)
    whole = small_net()
    history = training.fit(whole, *about, augment=noise)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        training.fit(small_net(), *about, augment=noise, checkpoint=path, on_epoch=kill)
    resumed = small_net(seed=9)
    again = training.fit(resumed, *about, augment=noise, checkpoint=path)
    assert torch.equal(weights(whole), weights(resumed))
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), resumed.buffers(), strict=True))
    assert [r["loss"] for r in history] == [r["loss"] for r in again]


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("optimizer", "more"), KINDS)
def test_what_comes_back_is_laid_out_as_what_it_belongs_to(tmp_path, optimizer, more, device):
    """State saved on a CPU, contiguous, goes to strides, dtype and device as the optimizer's."""
    config = TrainConfig(1, 20, optimizer=optimizer, **more)

    def made(where):
        net = conv_net().to(where)
        if config.channels_last:
            net.to(memory_format=torch.channels_last)
        weights_of = list(net.parameters())
        chosen = steps.optimizer_of(net, config, 1e-3)
        if where == "meta":  # no fused kernel is there
            for group in chosen.param_groups:
                group["fused"] = False
        return net, weights_of, chosen

    net, _, chosen = made("cpu")
    data = digits(20)
    steps.eager(net, training.classification, chosen, config)(data.x, data.y, 0.5)
    path = tmp_path / "checkpoint.safetensors"
    position = checkpoint.Position([{"epoch": 1.0}], 2, 0.5, torch.tensor(7.0))
    path.write_bytes(checkpoint.pack(net, chosen, position, "mine"))
    there, params, other = made(device)
    _, ours, expected = made(device)
    for p in ours:
        p.grad = torch.zeros_like(p)
    expected.step()
    found = checkpoint.restore(path, there, other, "mine")
    assert (found.history, found.steps, found.seconds) == (position.history, 2, 0.5)
    assert found.total == 7
    for p, q, r in zip(params, ours, net.parameters(), strict=True):
        state, wanted, saved = other.state[p], expected.state[q], chosen.state[r]
        assert p.grad is None
        assert state.keys() == wanted.keys()
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == wanted[name].dtype
                assert value.device == wanted[name].device
                assert value.stride() == wanted[name].stride()
                if device == "cpu":
                    assert torch.equal(value, saved[name])


def test_state_of_another_device_draws_as_from_the_start(tmp_path, stops):
    path = tmp_path / "checkpoint.safetensors"
    about = (training.classification, digits(60), TrainConfig(2, 20), LR)
    stops(3)
    with pytest.raises(timebox.Stop):
        training.fit(conv_net(), *about, augment=noise, checkpoint=path)
    net = conv_net()
    chosen = steps.optimizer_of(net, about[2], 1e-3)
    identity = load_identity(path)
    found = checkpoint.restore(path, net, chosen, identity)
    assert set(found.random) == {"augment.cpu", "global.cpu"}
    found.random = {"augment.cuda": torch.zeros(16, dtype=torch.uint8)}  # as saved on a GPU
    path.write_bytes(checkpoint.pack(net, chosen, found, identity))
    stops(0)
    assert len(training.fit(net, *about, augment=noise, checkpoint=path)) == 2


def load_identity(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["identity"]


def test_a_checkpoint_of_another_layout_is_one_clear_line(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    net = conv_net()
    adam = steps.optimizer_of(net, CONFIG, 1e-3)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    path.write_bytes(checkpoint.pack(net, adam, checkpoint.Position(), "mine"))
    nadam = steps.optimizer_of(conv_net(), TrainConfig(1, 1, optimizer="nadam"), 1e-3)
    with pytest.raises(ValueError, match=r"^checkpoint .* does not fit .*; delete it$"):
        checkpoint.restore(path, net, nadam, "mine")
    with pytest.raises(ValueError, match=r"^checkpoint .* does not fit .*; delete it$"):
        checkpoint.restore(path, nn.Sequential(*conv_net()[:4], nn.Linear(9, 9)), adam, "mine")


@pytest.mark.parametrize(("pays", "compiled"), [(math.inf, 0), (0.0, 1)])
def test_nothing_is_compiled_before_the_first_epoch_or_where_it_does_not_pay(
    monkeypatch, pays, compiled
):
    monkeypatch.setattr(loop, "COMPILING_PAYS", pays)
    entered, epochs = [], []

    @contextmanager
    def fused(enabled=True, device=""):
        entered.append((device, len(epochs)))
        yield True

    monkeypatch.setattr(nets, "fused", fused)
    training.fit(
        conv_net(),
        training.classification,
        digits(40),
        TrainConfig(3, 20, fused=True),
        LR,
        on_epoch=lambda *_: epochs.append(1),
    )
    assert entered == [("cpu", 1)] * compiled


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
    restore = recording.remembered(net, optimizer)
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


def tabled(config, net=None, points=100):
    """A loop on the CPU, and the steps that a GPU would record, taken as they are written."""
    net, data = net or small_net(), digits(points)
    made = loop.Loop(net, LOSS, data.x, data.y, config, LR, augmented, None, "")
    for group in made.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])  # as on a GPU
    return made, made.as_tensors()


def augmented(x, generator):
    return (x + 0.3 * torch.rand(x.shape, generator=generator, device=x.device)).clamp(0, 1)


@pytest.mark.parametrize("points", [64, 100, 331])  # two whole batches, a short one, ten and one
def test_steps_that_read_from_tensors_end_where_the_plain_ones_do(points):
    ends, losses = [], []
    for recorded in (False, True):
        made, steps_ = tabled(TrainConfig(2, 32, clip=5.0), points=points)
        if recorded:
            made.recording = steps_
        losses.append([made.epoch()["loss"]])
        made.position.history.append({})
        losses[-1].append(made.epoch()["loss"])
        ends.append(weights(made.model))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


def test_an_epoch_stopped_between_replays_goes_on_from_there(stops):
    ends = []
    for stop, taken in ((0, 0), (2, 8), (4, 10)):  # one replay of eight, then single steps
        made, made.recording = tabled(TrainConfig(1, 32), points=331)
        stops(stop)
        with pytest.raises(timebox.Stop) if stop else nullcontext():
            made.epoch()
        assert made.position.steps == taken
        stops(0)
        if stop:
            made.epoch()
        ends.append(weights(made.model))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


@pytest.mark.parametrize(
    ("points", "kinds"),
    [(32, {(32, 1)}), (100, {(32, 1), (4, 1)}), (331, {(32, 8), (32, 1), (11, 1)})],
)
def test_each_kind_of_step_is_recorded_and_all_is_as_before(monkeypatch, points, kinds):
    """With stand-ins for what only a GPU has: the steps run while they are recorded."""

    class Graph:
        register_generator_state = pool = lambda self, *_: None

    def capturing(*_, **__):  # a GPU would not run what it records
        steps_.next.zero_()
        return nullcontext()

    stream = type("Stream", (), {"wait_stream": lambda *_: None})
    for name, value in (
        ("CUDAGraph", Graph),
        ("graph", capturing),
        ("stream", lambda _: nullcontext()),
        ("Stream", stream),
        ("current_stream", stream),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    made, steps_ = tabled(TrainConfig(1, 32), points=points)
    made.recording = steps_
    made.begin(0)
    before = weights(made.model).clone(), made.random.get_state(), torch.get_rng_state()
    steps_.record(made.model)
    assert steps_.graphs.keys() == kinds
    after = weights(made.model), made.random.get_state(), torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(not v.any() for s in made.optimizer.state.values() for v in s.values())
    at, taken = 0, []
    while at < steps_.count:
        taken.append(steps_.ahead(at))
        at += taken[-1][1]
    assert set(taken) == kinds and sum(size * count for size, count in taken) == points


def stale_order(steps_):
    order, step = steps_.order.clone(), steps_.step
    return lambda n: (steps_.order.copy_(order), step(n))


def stale_progress(steps_):
    step = steps_.step
    return lambda n: (steps_.progress.zero_(), step(n))


def stale_rate(steps_):
    step = steps_.step
    return lambda n: (steps_.rates.fill_(1e-4), step(n))


def the_same_batch(steps_):
    step = steps_.step
    return lambda n: (step(n), steps_.next.zero_())


def the_same_draws(steps_):
    state, step = steps_.random.get_state(), steps_.step
    return lambda n: (steps_.random.set_state(state), step(n))


def twice(steps_):
    step = steps_.step
    return lambda n: (step(n), steps_.next.sub_(1), step(n))


def short_at_the_start(steps_):
    step = steps_.step
    return lambda n: (steps_.next.fill_(0) if n < 32 else None, step(n))


def short_as_a_whole(steps_):
    step = steps_.step
    return lambda n: (steps_.next.sub_(int(n < 32)), step(32), steps_.next.add_(int(n < 32)))


FAULTS = [stale_order, stale_progress, stale_rate, the_same_batch, the_same_draws, twice]
CASES = [(name, None, n) for name in training.OPTIMIZERS for n in (64, 70)]
CASES += [("adam", fault, n) for fault in FAULTS for n in (64, 70)]
CASES += [("adam", fault, 70) for fault in (short_at_the_start, short_as_a_whole)]


@pytest.mark.parametrize(("optimizer", "fault", "points"), CASES)
def test_recorded_steps_are_compared_with_two_eager_runs(optimizer, fault, points):
    made, steps_ = tabled(TrainConfig(1, 32, clip=5.0, optimizer=optimizer), points=points)
    made.plain(torch.arange(32), 0.1, 1e-3)  # the state is there, as after a recording
    if fault:
        steps_.step = fault(steps_)
    before = [weights(made.model).clone(), *(b.clone() for b in made.model.buffers())]
    draws = torch.get_rng_state(), made.random.get_state()
    about = (made.model, steps_, made.plain, training.constant(1e-3))
    if fault:
        with pytest.warns(UserWarning, match=r"left the eager ones by .* goes on with eager steps"):
            assert not recording.faithful(*about)
    else:
        assert recording.faithful(*about)
    after = [weights(made.model), *made.model.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    again = torch.get_rng_state(), made.random.get_state()
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))


def test_what_cannot_be_recorded_is_said_and_trained_by_eager_steps(monkeypatch):
    def fails(self, model):
        self.random.manual_seed(5)  # it may have drawn
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recording.Recording, "record", fails)
    ends = []
    for records in (False, True):
        made, _ = tabled(CONFIG)
        made.records = records
        with nullcontext() if not records else pytest.warns(UserWarning, match="when stream is"):
            made.epoch()
        ends.append(weights(made.model))
    assert torch.equal(*ends)


@pytest.mark.skipif("config.getoption('markexpr') == 'gpu'")
def test_no_other_test_sees_a_gpu():
    assert not torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.parametrize("points", [64, 356])  # two whole batches; eleven and one of 4
def test_a_recorded_training_ends_where_the_eager_one_does(points):
    ends = []
    for graph in (False, False, False, True):
        net = small_net().cuda()
        config = TrainConfig(3, 32, seed=3, clip=5.0, graph=graph)
        training.fit(net, LOSS, digits(points), config, LR, augment=augmented)
        ends.append(weights(net).cpu().double())
    way = (ends[0] - weights(small_net()).double()).norm()
    spread = max((a - b).norm() for a, b in itertools.combinations(ends[:3], 2))
    assert (ends[3] - ends[0]).norm() <= max(recording.SPREAD * spread, recording.LEAST * way)


@pytest.mark.gpu
def test_a_loss_that_reads_a_value_back_is_trained_by_eager_steps():
    def reads(model, x, y, progress):
        return LOSS(model, x, y, float(progress))

    net, data = small_net().cuda(), digits(64)
    with pytest.warns(UserWarning, match="no step was recorded"):
        history = training.fit(net, reads, data, TrainConfig(2, 32, graph=True), LR)
    assert all(math.isfinite(record["loss"]) for record in history)


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
