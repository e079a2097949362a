"""The table of speeds: what is compared; no time is asserted."""

import time
from contextlib import nullcontext

import pytest
import torch

from thesis_repro import nets, training
from thesis_repro.experiments.gloro import speed
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.timing import Timing, operations


def test_only_a_paper_run_measures_and_it_fills_every_row():
    assert speed.cells(profile("quick")) == []
    assert [row for row, _ in speed.cells(profile("paper"))] == list(speed.TABLE.spec.rows)
    assert speed.TABLE.timed


@pytest.mark.parametrize(("first", "within"), [(1.3, "yes"), (1.6, "no")])
def test_a_ratio_is_held_against_its_limit(first, within, monkeypatch):
    monkeypatch.setitem(speed.RATIOS, "a / b", (lambda config: ("a", "b"), 1.5))
    timed = {"a": Timing(first, first, first, 7), "b": Timing(1.0, 1.0, 1.0, 7)}
    given = []

    def interleaved(calls, *settings):
        given.append(settings)
        return [timed[call] for call in calls]

    monkeypatch.setattr(speed, "interleaved", interleaved)
    monkeypatch.setattr(speed.nets, "fused", lambda device: nullcontext(False))  # compiles nothing
    values = speed.measure(speed.SpeedConfig("a / b", "cpu")).values
    assert (values["seconds"], values["reference"], values["ratio"]) == (first, 1.0, first)
    assert (values["limit"], values["within"]) == (1.5, within)
    assert values["note"] == "no compiler: eager MinMax"
    assert given == [(7, 1, time.process_time)]  # whatever else the machine does


def test_what_takes_long_on_a_cpu_is_timed_less_often_there():
    repeats = {what: speed.config_of(what, "cpu").repeats for what in speed.RATIOS}
    assert sum(count < 7 for count in repeats.values()) == len(speed.REPEATS)
    assert all(count >= 2 for count in repeats.values())
    assert {speed.config_of(what, "cuda").repeats for what in speed.RATIOS} == {7}


PROVES = ("certify", "bound", "BCP", "KW")
"""How the names begin of what needs proven norms of each layer, or as much time."""


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[pytest.mark.slow] if what.startswith(PROVES) else [])
        for what in speed.RATIOS
    ],
)
def test_both_sides_of_each_ratio_run(what, monkeypatch):
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(speed, "POINTS", 3)
    monkeypatch.setattr(speed, "RIVALS", dict.fromkeys(speed.RIVALS, 1))
    monkeypatch.setattr(speed, "COPIES", 4)
    monkeypatch.setattr(speed, "IMAGES", 2)
    make, limit = speed.RATIOS[what]
    assert limit >= 1
    with torch.random.fork_rng():
        first, second = make(speed.SpeedConfig(what, "cpu"))
        found = first(), second()
    if make is speed.certification:  # all points, certified at once
        assert len(found[0].labels) == 3


@pytest.mark.parametrize("rounds", [1, 3])
def test_matrix_products_do_the_work_that_they_stand_for(rounds):
    work = rounds * 2 * 8**3
    assert operations(speed.products(work, "cpu", half=False, size=8)) == work


def test_a_step_of_a_training_is_timed_as_the_training_takes_it(monkeypatch):
    """The same steps each time, whichever way they are taken, with the weights moving on."""
    monkeypatch.setattr(speed, "BATCH", 2)
    net = nets.cnn_2c2f("relu", in_shape=(3, 32, 32))
    loop = speed.loop_of(net, training.classification, speed.random_split(4, "cpu"), 2)
    call, before = speed.repeated(loop), net[0].weight.clone()
    seen = []
    monkeypatch.setattr(loop, "plain", lambda index, *_: seen.append(index))
    assert call() == call() == 1
    assert torch.equal(seen[0], seen[1])
    monkeypatch.undo()
    call()
    assert not torch.equal(net[0].weight, before)


def test_a_timed_training_takes_other_settings_than_those_of_the_device():
    net, data = nets.cnn_2c2f("relu", in_shape=(3, 32, 32)), speed.random_split(4, "cpu")
    for settings in ({"graph": True, "autocast": False}, {"graph": False, "autocast": True}):
        config = speed.loop_of(net, training.classification, data, 2, **settings).config
        assert {name: getattr(config, name) for name in settings} == settings
