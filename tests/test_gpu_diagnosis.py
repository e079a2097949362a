"""The diagnosis of a GPU, on a CPU: what its exit status says, and that its checks see faults."""

import importlib.util
import sys

import pytest
import torch

from thesis_repro.training import checkpoint, recording


@pytest.fixture(scope="module")
def gpu(request):
    path = request.config.rootpath / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("diagnosis", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fine(machine):
    yield "a time", "1 s"
    yield "a check", "0 apart", True


def wrong(machine):
    yield "a check", "7 apart", False


def fails(machine):
    yield "a time", "2 s"
    raise RuntimeError("no kernel image is available\nfor this card")


@pytest.mark.parametrize(
    ("parts", "checks", "status"),
    [
        ((fine,), (fine,), 0),
        ((fails, fine), (fine,), 0),
        ((fails, fine), (fails,), 1),
        ((wrong, fine), (wrong,), 1),
    ],
)
def test_a_fault_is_said_the_rest_goes_on_and_the_status_tells(
    gpu, monkeypatch, capsys, parts, checks, status
):
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "CHECKS", checks)
    monkeypatch.setattr(gpu, "BEGAN", gpu.time.perf_counter())
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    threads = torch.get_num_threads()
    assert gpu.main() == status
    torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "a check" in said and "0 apart, right" in said
    assert ("7 apart, WRONG" in said) is (wrong in parts)
    failed = "FAILED: RuntimeError: no kernel image is available\n"
    assert (failed in said) is (fails in parts)


def test_no_part_begins_when_the_time_is_over(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "BEGAN", gpu.time.perf_counter() - 1000)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    threads = torch.get_num_threads()
    gpu.main()
    torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert said.count("left out: the time is over") == len(gpu.PARTS)


@pytest.mark.slow
def test_each_way_to_train_has_its_time_and_one_that_fails_says_so(gpu, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no rule\nfor this layer")

    machine = gpu.Machine("cpu")
    machine.nets = {"2C2F": machine.nets["2C2F"]}
    monkeypatch.setattr(gpu.training, "fit_seeds", fails)
    lines = dict(gpu.variants(machine))
    assert list(lines) == [f"2C2F: {way}" for way in gpu.WAYS]
    assert lines.pop("2C2F: three nets as one") == "FAILED: no rule"
    assert all(float(said.removesuffix(" ms a step")) > 0 for said in lines.values())


def stale_rate(monkeypatch, gpu):
    load = recording.Recording.load
    monkeypatch.setattr(
        recording.Recording,
        "load",
        lambda self, o, p, r, at=0: load(self, o, p, [1e-4] * len(r), at),
    )


def state_lost(monkeypatch, gpu):
    monkeypatch.setattr(checkpoint, "_fill", lambda optimizer, saved: None)


def radius_too_large(monkeypatch, gpu):
    certify = gpu.certify

    def larger(net, x):
        found = certify(net, x)
        if x.dtype == torch.float32:
            found.radius.mul_(1.2)
        return found

    monkeypatch.setattr(gpu, "certify", larger)


def self_check_fails(monkeypatch, gpu):
    monkeypatch.setattr(gpu.selfcheck, "conventional", lambda *_, **__: False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("recorded_steps", stale_rate),
        ("resumed", state_lost),
        ("proven", radius_too_large),
        ("proven", self_check_fails),
    ],
)
def test_each_check_sees_its_fault(gpu, monkeypatch, part, fault):
    machine = gpu.Machine("cpu")
    check = getattr(gpu, part)
    assert all(line[2] for line in check(machine))
    fault(monkeypatch, gpu)
    try:
        right = all(line[2] for line in check(machine))
    except ValueError:  # state that is not there
        right = False
    assert not right
