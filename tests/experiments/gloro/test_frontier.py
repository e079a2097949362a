import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from thesis_repro import nets, tables
from thesis_repro.experiments.gloro import cifar10, frontier
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.claims import Quoted
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
    for name in (frontier.THESIS_ROW, "GloRo 6C2F, trained again (TMLR 2022)"):
        assert sizes[name] == pytest.approx(2.25, abs=0.01)
    told = {name.split()[0] for name, size in sizes.items() if size is not None}
    counted = {"GloRo", "BCP", "LiResNet"}
    assert all(name in frontier.TABLE.spec.caption for name in told - counted)
    shown = tables.text(measure(frontier.TABLE, profile("quick")), "md")
    assert "78.1" in shown and "quoted: README" in shown


def test_the_sentence_on_liresnet_says_who_is_ahead_and_by_how_much():
    empty = measure(frontier.TABLE, profile("quick"))
    assert frontier.ahead(empty).count("not run") == 2
    for gain, says in ((4.0, "4.0 points more"), (-1.5, "1.5 points fewer")):
        shown = pd.DataFrame(frontier.TABLE.spec.rows, columns=["method", "extra"])
        shown["vra36"] = [np.nan, 40.0, 39.0, 40.0 + gain]
        told = frontier.ahead(dataclasses.replace(empty, data=shown)).split("; ")
        assert "as many epochs" in told[0] and says in told[0]
        assert "as much time" in told[1]
        assert f"{abs(gain + 1):.1f} points {'more' if gain > -1 else 'fewer'}" in told[1]


def rows(time, deep, half=0.5):
    """The two rows that the condition compares, with intervals of this half width."""
    keys = [frontier.TIME_ROW, frontier.LIRES_ROW]
    found = pd.DataFrame(keys, columns=["method", "extra"]).assign(vra36=[time, deep], status="run")
    return found.assign(vra36_low=found["vra36"] - half, vra36_high=found["vra36"] + half)


def test_liresnet_has_to_be_ahead_by_its_whole_interval():
    held = [frontier.conditions(rows(50.0, deep))[0].holds for deep in (55.0, 53.1, 51.0)]
    assert held == [True, None, False]
    assert frontier.conditions(rows(50.0, 55.0)[:1]) == []
    assert frontier.conditions(rows(50.0, 55.0).assign(status=["run", "not run"])) == []


def test_the_budgets_of_6c2f_are_those_of_liresnet(cifar):
    for device, epochs in (("cpu", 200), ("cuda", 800)):
        by_row = {row: one.recipe for row, one in frontier.trainings(0, device).items()}
        equal, longer, deep = (
            by_row[row] for row in (frontier.EQUAL_ROW, frontier.TIME_ROW, frontier.LIRES_ROW)
        )
        assert equal.epochs == deep.epochs == epochs
        assert longer.epochs == math.ceil(frontier.EPOCH_COSTS[device] * epochs)
        # nothing is trained for less than a quarter of its epochs
        assert all(4 * one.epochs >= one.epochs_paper for one in (equal, longer, deep))
        assert dataclasses.replace(longer, epochs=epochs, epochs_paper=800) == equal


def test_every_method_has_a_family_and_every_published_one_a_year():
    spec = frontier.TABLE.spec
    for row in (*spec.rows, *(q.row for q in spec.quoted)):
        assert frontier.family(row[0]) in frontier.FAMILIES.values()
    years = {q.row[0]: frontier.year(q) for q in spec.quoted}
    first = {q.row[0]: q.values["vra36"] for q in spec.quoted if q.row[0] == frontier.THESIS_ROW}
    assert first == {frontier.THESIS_ROW: 58.4}  # 60.0 is of radii that came out a year later
    assert years[frontier.THESIS_ROW] == 2021
    assert years["BCP 6C2F (NeurIPS 2020)"] == 2020 and years["SOC, size M"] == 2024
    with pytest.raises(ValueError, match="'Newest net'.*'Newest'"):
        frontier.family("Newest net")
    with pytest.raises(ValueError, match="'Newest'.*'a talk'"):
        frontier.year(Quoted(("Newest", "none"), {}, "a talk"))
