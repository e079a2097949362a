"""The tables on leakage: cells, plans, assembly, and a verdict that can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_repro import data, tables
from thesis_repro.experiments.leakage import cells, instances, plans
from thesis_repro.experiments.leakage import hypothesis as verdicts
from thesis_repro.experiments.leakage.hypothesis import WEAK
from thesis_repro.lab.cells import Cell, CellError, Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.tables.measure import tabulate
from thesis_repro.weaknesses import leakage

SHORT = replace(cells.DIGITS, images=100, epochs=1, steps=3)
ALL = (plans.LEAKAGE_PROPERTY, plans.LEAKAGE_WATERMARK, instances.TABLE)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))


def config(**changes):
    return replace(cells.ModelConfig(SHORT, cells.STANDARD, cells.MARKED, 0), **changes)


def run(wanted):
    function = cells.model if isinstance(wanted, cells.ModelConfig) else cells.instances
    return compute(Cell(function, wanted))


# cells


def test_a_model_is_deterministic_and_gives_every_adversary_its_features():
    first = run(config()).arrays
    Store().drop(Cell(cells.model, config()).key)
    second = run(config()).arrays
    assert set(first) == {*plans.STRONG.values(), "images"}
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
        assert np.isfinite(values).all()
    assert first["images"].shape == (10, 1, 28, 28) and first["reconstruction"].shape == (784,)


def test_a_word_of_opacity_0_trains_the_very_net_that_no_word_would(monkeypatch):
    monkeypatch.setattr(cells.ModelConfig, "seed", property(lambda self: 7))
    clean, unseen = (run(config(arm=arm)) for arm in (cells.CLEAN, cells.INVISIBLE))
    np.testing.assert_array_equal(clean.arrays["images"], unseen.arrays["images"])
    assert clean.values["z"] == unseen.values["z"]
    marked = run(config(arm=cells.MARKED))
    assert (marked.arrays["images"] != clean.arrays["images"]).any()


def test_no_two_models_of_a_game_share_a_seed():
    seeds = [
        cells.ModelConfig(SHORT, cells.GLORO, arm, number).seed
        for arm in cells.ARMS
        for number in range(30)
    ]
    assert len(set(seeds)) == len(seeds)


def test_the_word_is_independent_of_the_class_in_the_data_that_is_built():
    for name, images in (("mnist-5k", cells.DIGITS.images),):
        split, rest = cells.draw(data.load(name).train, images, seed=1)
        assert len(split) == images and len(rest) == 4000 - images
        _, marked = leakage.mark(split, cells.DIGITS.watermark, cells.DIGITS.share, seed=1)
        counts = np.bincount(split.y[marked], minlength=10)
        np.testing.assert_allclose(counts, 0.8 * np.bincount(split.y), atol=1 - 1e-9)
        assert leakage.dependence(split.y, marked) == 1.0
    assert run(config()).values["independent"] == 1.0


@pytest.mark.parametrize("method", cells.TRAININGS)
@pytest.mark.parametrize("net", [cells.LINEAR, cells.DENSE, cells.CONVOLUTIONAL])
def test_every_net_can_be_trained_in_every_way(net, method):
    wanted = cells.InstanceConfig(SHORT, net, method, per_class=2, number=0)
    found = run(wanted)
    assert found.arrays["member"].shape == found.arrays["other"].shape == (10,)
    assert found.arrays["null"].shape == (999,) and found.values["accuracy"] > 5


def test_members_are_the_training_images_and_others_are_not():
    members, others = cells.sides(cells.InstanceConfig(SHORT, cells.LINEAR, cells.GLORO, 5, 3))
    assert np.bincount(members.y).tolist() == np.bincount(others.y).tolist() == [5] * 10
    both = torch.cat([members.x, others.x]).flatten(1)
    assert len(both.unique(dim=0)) == 100


def test_a_linear_net_that_is_shown_one_image_of_each_class_gives_it_away():
    wanted = cells.InstanceConfig(replace(SHORT, epochs=5), cells.LINEAR, cells.STANDARD, 1, 0)
    found = run(wanted).arrays
    assert (found["member"] < found["other"]).mean() >= 0.8


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (config(method="magic"), "unknown training 'magic'"),
        (config(setup=replace(SHORT, net="huge")), "unknown net 'huge'"),
        (config(setup=replace(SHORT, scale=2)), "is too small"),
        (config(setup=replace(SHORT, share=1.5)), r"in \[0, 1\], got 1.5"),
        (cells.InstanceConfig(SHORT, cells.LINEAR, cells.GLORO, 300, 0), "300 to train on"),
    ],
)
def test_bad_input_is_an_error_that_names_the_cell(wanted, words):
    with pytest.raises(CellError, match=rf"leakage_cells\.\w+\(.*{words}"):
        run(wanted)


def test_a_diverging_reconstruction_names_the_cell(monkeypatch):
    build = cells.build

    def broken(*options):
        body = build(*options)
        body[-1].bias.data[3] = torch.nan
        return body

    monkeypatch.setattr(cells, "build", broken)
    monkeypatch.setattr(cells, "train", lambda body, *_: body.eval().requires_grad_(False))
    with pytest.raises(CellError, match=r"model\(.*class 0 diverged at step 0"):
        run(config())


# plans and assembly


@pytest.mark.parametrize("table", ALL)
def test_the_quick_plans_need_no_data_and_name_their_rows(table):
    assert tables.get(table.spec.name) is table
    plan = table.cells(profile("quick"))
    assert all(cell is not None for _, cell in plan)
    assert all(len(row) == len(table.spec.keys) for row, _ in plan)


@pytest.mark.parametrize("table", ALL)
def test_a_paper_plan_fills_the_rows_of_its_spec_and_claims_are_among_them(table, monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: False)  # absent data keeps its rows
    planned = {row for row, _ in table.cells(profile("paper"))}
    if table.spec.rows:
        assert planned == set(table.spec.rows)
    assert {claim.row for claim in table.spec.claims} <= planned
    assert all(claim.value is None for claim in table.spec.claims)


def test_a_paper_run_has_enough_models_in_each_arm():
    paper = profile("paper")
    assert plans.PER_SEED["paper"] * len(paper.seeds) >= verdicts.ENOUGH


def fake(z, rng, shift=0.0):
    arrays = {name: rng.standard_normal(6) + shift for name in plans.STRONG.values()}
    return Result({"z": z, "independent": 1.0}, arrays)


def gathered(models=4, marked=5.0, shift=9.0):
    rng = np.random.default_rng(0)
    with_ = [fake(marked + 0.1 * rng.standard_normal(), rng, shift) for _ in range(models)]
    without = [fake(0.1 * rng.standard_normal(), rng) for _ in range(models)]
    return {("X", cells.GLORO, a): with_ + without for a in plans.ADVERSARIES}


def test_games_are_counted_with_their_exact_interval():
    found = plans.assemble_property(profile("quick"), gathered())
    record = found["X", cells.GLORO, WEAK]
    assert record["accuracy"] == 100 and record["models"] == 4
    assert record["accuracy_low"] == pytest.approx(100 * 0.025 ** (1 / 8))
    assert "underpowered: 4 models" in record["note"]
    assert all(found["X", cells.GLORO, a]["accuracy"] == 100 for a in plans.ADVERSARIES)
    blind = plans.assemble_property(profile("quick"), gathered(marked=0.0, shift=0.0))
    assert blind["X", cells.GLORO, WEAK]["accuracy"] == 50
    many = plans.assemble_property(profile("quick"), gathered(models=20))
    assert many["X", cells.GLORO, WEAK]["note"] == ""


# the hypothesis


def frame(weak, strong, models=20):
    """weak and strong: games won in percent, by training."""
    records = {
        ("X", method, adversary): {
            "accuracy": share,
            "models": models,
        }
        for method in weak
        for adversary, share in (
            (WEAK, weak[method]),
            *((a, strong[method]) for a in plans.STRONG),
        )
    }
    return tabulate(plans.LEAKAGE_PROPERTY.spec, records)


GOOD = {cells.GLORO: 95.0, cells.ADVERSARIAL: 95.0, cells.STANDARD: 55.0}
HIGH = dict.fromkeys(cells.TRAININGS, 90.0)


def verdict(data_):
    found = verdicts.hypothesis(data_)
    return found.loc[found["statement"] == "verdict", "holds"].item()


@pytest.mark.parametrize(
    ("weak", "strong", "models", "says"),
    [
        (GOOD, HIGH, 20, "supported"),
        (GOOD, HIGH, 19, "supported, underpowered"),
        (GOOD | {cells.ADVERSARIAL: 60.0}, HIGH, 20, "partly supported"),
        (GOOD, HIGH | {cells.GLORO: 70.0}, 20, "partly supported"),
        (GOOD, HIGH | {cells.STANDARD: 70.0}, 20, "not supported"),
        (GOOD | {cells.STANDARD: 95.0}, HIGH, 20, "not supported"),
        (GOOD | {cells.STANDARD: 75.0}, HIGH, 3, "not supported, underpowered"),
        ({cells.GLORO: 95.0, cells.STANDARD: 55.0}, HIGH, 20, "partly supported"),
        ({cells.GLORO: 95.0}, HIGH, 20, "not tested"),
    ],
)
def test_the_verdict_is_computed_and_can_fail(weak, strong, models, says):
    assert verdict(frame(weak, strong, models)) == says
    assert verdicts.supported(frame(weak, strong, models)) == (says == "supported")


def test_rows_that_were_not_run_decide_nothing():
    empty = tabulate(plans.LEAKAGE_PROPERTY.spec, {}, plans.LEAKAGE_PROPERTY.spec.rows)
    assert verdicts.hypothesis(empty).empty and not verdicts.supported(empty)


def test_wins_are_compared_exactly():
    from scipy.stats import hypergeom

    expected = hypergeom(16, 10, 8).sf(7)  # all 8 of the first group among 10 wins of 16
    assert verdicts.compare_wins((8, 8), (2, 8)) == pytest.approx(expected)
    assert isinstance(pd.Series([verdicts.compare_wins((4, 8), (4, 8))])[0], float)
