import numpy as np
import pandas as pd

from thesis_repro.experiments.relaxed.conditions import conditions


def line(dataset, guarantee, objective, rejected, fewer=np.nan, higher=np.nan, broken=0.0, half=0):
    return {
        "dataset": dataset,
        "guarantee": guarantee,
        "objective": objective,
        "rejected": rejected,
        "fewer": fewer,
        "fewer_low": fewer - half,
        "fewer_high": fewer,
        "higher": higher,
        "higher_low": higher - half,
        "higher_high": higher,
        "broken": broken,
        "attacked": 10.0,
    }


def test_conditions_can_fail():
    good = [
        line("plane", "top-1", "GloRo", 24.0),
        line("plane", "RT2", "relaxed", 8.0),
        line("EuroSAT", "top-1", "GloRo", 30.0),
        line("EuroSAT", "RT3", "relaxed", 20.0, 5.0, 3.0),
    ]
    assert [c.holds for c in conditions(pd.DataFrame(good))] == [True] * 4
    bad = [
        line("plane", "top-1", "GloRo", 24.0),
        line("plane", "RT2", "relaxed", 8.1),
        line("EuroSAT", "top-1", "GloRo", 30.0),
        line("EuroSAT", "RT3", "relaxed", 25.1, 4.9, 2.9, broken=1.0),
    ]
    assert [c.holds for c in conditions(pd.DataFrame(bad))] == [False] * 4


def test_a_gloro_net_that_is_asked_for_sets_has_to_gain_with_its_interval():
    top = line("CIFAR-100", "top-1", "GloRo", 30.0)
    for half, holds in ((0.5, True), (1.5, None)):
        asked = line("CIFAR-100", "RT5", "GloRo", 24.0, 6.0, 4.0, half=half)
        found = conditions(pd.DataFrame([top, asked]))[1:]
        assert [c.holds for c in found] == [holds] * 2
        trained = line("CIFAR-100", "RT5", "relaxed", 24.0, 6.0, 4.0, half=half)
        assert not {c.says for c in found} & {c.says for c in conditions(pd.DataFrame([trained]))}
