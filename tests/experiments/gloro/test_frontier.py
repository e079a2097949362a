import dataclasses

import numpy as np
import pandas as pd
import pytest

from thesis_repro import nets, tables
from thesis_repro.experiments.gloro import cifar10, frontier
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import measure


def test_the_size_of_a_net_stands_beside_its_scores(cifar, monkeypatch):
    arrays = {"radius": np.array([0.0, 0.5]), "correct": np.array([True, True])}
    stored = Result({"clean": {"k": 2, "n": 2}}, arrays)
    monkeypatch.setattr(frontier, "compute", lambda cell: stored)
    config = cifar10.config_of(cifar10.liresnet_training(0, "cpu"))
    body = nets.build("liresnet-l6w64")
    count = sum(p.numel() for p in body.parameters()) / 1e6
    assert frontier.sized(config).values["parameters"] == count


def test_the_frontier_quotes_each_row_once_with_a_source_and_in_order():
    quoted = frontier.TABLE.spec.quoted
    assert len({q.row for q in quoted}) == len(quoted)
    for q in quoted:
        assert q.source
        values = [q.values[name] for name in ("clean", *cifar10.RADII) if name in q.values]
        assert values == sorted(values, reverse=True), q.row  # VRA falls with the radius
    sizes = {q.row[0]: q.values.get("parameters") for q in quoted}
    assert sizes["GloRo 6C2F (ICML 2021)"] == pytest.approx(2.25, abs=0.01)
    shown = tables.text(measure(frontier.TABLE, profile("quick")), "md")
    assert "78.1" in shown and "quoted: README" in shown


def test_the_sentence_on_liresnet_says_who_is_ahead_and_by_how_much():
    empty = measure(frontier.TABLE, profile("quick"))
    assert frontier.ahead(empty).endswith("not run")
    for gain, says in ((4.0, "4.0 points more"), (-1.5, "1.5 points fewer")):
        shown = pd.DataFrame(frontier.TABLE.spec.rows, columns=["method", "extra"])
        shown["vra36"] = [np.nan, 40.0, 40.0 + gain]
        assert says in frontier.ahead(dataclasses.replace(empty, data=shown))
