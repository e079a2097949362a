"""The table of speeds: what is compared; no time is asserted."""

from contextlib import nullcontext

import pytest
import torch

from thesis_repro.experiments.gloro import speed
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.timing import Timing


def test_only_a_paper_run_measures_and_it_fills_every_row():
    assert speed.cells(profile("quick")) == []
    assert [row for row, _ in speed.cells(profile("paper"))] == list(speed.TABLE.spec.rows)
    assert speed.TABLE.timed


@pytest.mark.parametrize(("first", "within"), [(1.3, "yes"), (1.6, "no")])
def test_a_ratio_is_held_against_its_limit(first, within, monkeypatch):
    monkeypatch.setitem(speed.RATIOS, "a / b", (lambda config: ("a", "b"), 1.5))
    timed = {"a": Timing(first, first, first, 7), "b": Timing(1.0, 1.0, 1.0, 7)}
    monkeypatch.setattr(speed, "interleaved", lambda calls, repeats: [timed[c] for c in calls])
    monkeypatch.setattr(speed.nets, "fused", lambda: nullcontext(False))  # compiles nothing
    values = speed.measure(speed.SpeedConfig("a / b", "cpu")).values
    assert (values["seconds"], values["reference"], values["ratio"]) == (first, 1.0, first)
    assert (values["limit"], values["within"]) == (1.5, within)
    assert values["note"] == "no compiler: eager MinMax"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[pytest.mark.slow] if make is speed.certification else [])
        for what, (make, _) in speed.RATIOS.items()
    ],
)
def test_both_sides_of_each_ratio_run(what, monkeypatch):
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(speed, "POINTS", 3)
    make, limit = speed.RATIOS[what]
    assert limit > 1
    with torch.random.fork_rng():
        first, second = make(speed.SpeedConfig(what, "cpu"))
        found = first(), second()
    if make is speed.certification:  # all points, certified at once
        assert len(found[0].labels) == 3
