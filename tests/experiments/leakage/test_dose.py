"""Dose and response: the slope against scipy, planted relations, twins that are lacking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from scipy.stats import linregress
from statsmodels.stats.multitest import multipletests

from thesis_repro.experiments.leakage import dose, figures
from thesis_repro.experiments.leakage.models import GLORO, STANDARD
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame, Row

PAPER = profile("paper")
DOSES = dose.DOSES["paper"]
SHORT = replace(dose.QUICK, images=100, epochs=1, steps=3)


def row(slope: float, seed: int, numbers: int = 12) -> list[Result]:
    """Nets whose marked ones show the word by `slope` more for each step of log2(1 + 8 r)."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(numbers):
        common = rng.normal(0, 3)
        for r in DOSES:
            for marked in (True, False):
                z = common + marked * (1 + slope * np.log2(1 + 8 * r)) + rng.normal(0, 0.3)
                values = {"z": z, "dose": r, "marked": marked, "number": number}
                found.append(Result(values))
    return found


def values(rows: dict[Row, list[Result]], name: str) -> list[float]:
    return [m.estimate(name).value for m in dose.assemble(PAPER, rows).values()]


def test_plans_name_rows_of_the_spec(check_plans) -> None:
    check_plans(dose.TABLE)


def test_a_row_has_each_dose_with_its_twin_for_twelve_numbers(monkeypatch) -> None:
    monkeypatch.setattr(dose.data, "available", lambda name: True)
    monkeypatch.setattr(dose.data, "fingerprint", lambda name: "0")
    plan = list(dose.plan(PAPER))
    for wanted in dose.TABLE.spec.rows:
        configs = [cell.config for found, cell in plan if found == wanted and cell]
        numbers = {c.number for c in configs}
        assert len(numbers) >= 12
        there = {(c.number, c.dose, c.marked) for c in configs}
        assert there == {(n, r, m) for n in numbers for r in DOSES for m in (True, False)}
        assert len(configs) == len(there)
        assert {c.method for c in configs if not c.dose} == {STANDARD}
        assert {c.method for c in configs if c.dose} == {wanted[2]}


def test_the_slopes_are_scipys_and_their_mean_is_that_of_all_points_with_fixed_effects() -> None:
    found = dose.scores(row(0.4, seed=0))
    x = np.log2(1 + 8 * found.columns.to_numpy(float))
    mine = dose.slopes(found)
    np.testing.assert_allclose(mine, [linregress(x, line).slope for line in found.to_numpy()])
    centred = found.sub(found.mean(axis=1), axis=0).to_numpy()  # each number's own intercept
    assert mine.mean() == pytest.approx(linregress(np.tile(x, len(found)), centred.ravel()).slope)


def test_a_score_is_marked_less_clean_less_the_same_at_dose_0() -> None:
    z = {(0.0, True): 5.0, (0.0, False): 1.0, (2.0, True): 9.0, (2.0, False): 2.0}
    results = [
        Result({"z": value, "dose": r, "marked": m, "number": 3}) for (r, m), value in z.items()
    ]
    assert dose.scores(results).to_dict("list") == {0.0: [0.0], 2.0: [3.0]}


def test_a_planted_relation_is_found_and_none_is_not() -> None:
    rows = {("a",): row(0.3, seed=1), ("b",): row(0.0, seed=2), ("c",): row(-0.3, seed=3)}
    up, none, down = values(rows, "holm")
    assert up < dose.LEVEL < none and down == 1
    assert values(rows, "slope")[0] == pytest.approx(0.3, abs=0.1)


def test_the_family_has_all_its_lines_even_where_one_alone_is_run() -> None:
    (p,) = values({("a",): row(0.1, seed=4)}, "p")
    (adjusted,) = values({("a",): row(0.1, seed=4)}, "holm")
    family = len(dose.TABLE.spec.rows)
    assert family == 8
    assert adjusted == pytest.approx(multipletests([p] + [1] * (family - 1), method="holm")[1][0])


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (
            lambda v: v["marked"] or v["dose"] != 0.5,
            "at dose 0.5 has its marked net and no clean",
        ),
        (lambda v: not v["marked"] or v["number"] != 1, "number 1 at dose 0 has its clean net and"),
        (lambda v: v["marked"], "no clean twin"),
        (lambda v: v["dose"] > 0, "every number needs the doses 0 and 0.125"),
        (lambda v: v["dose"] < 2 or v["number"] != 1, "every number needs the doses 0 and"),
    ],
)
def test_a_dose_without_its_twin_is_refused_by_one_line(keep, says) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        dose.scores([result for result in row(0.0, seed=0) if keep(result.values)])
    assert "\n" not in str(refused.value)


def test_the_figure_has_a_line_with_its_intervals_for_each_row() -> None:
    rows = {("LFW", *line): row(0.2, seed) for seed, line in enumerate(dose.LINES)}
    data = tabulate(dose.TABLE.spec, dose.assemble(PAPER, rows))
    (axis,) = figures.doses(Frame(dose.TABLE.spec, "paper-cpu", data, {})).axes
    assert len(axis.collections) == len(dose.LINES)
    drawn = [line for line in axis.lines if len(line.get_xdata()) == len(DOSES)]
    wanted = [0, *data.iloc[1][[dose.shown(r) for r in DOSES if r]]]
    np.testing.assert_allclose(drawn[1].get_ydata(), wanted)
    plt.close("all")


def test_a_row_that_lacks_nets_is_not_judged() -> None:
    assert dose.assemble(PAPER, {("a",): row(1.0, seed=0)[:-1]}) == {}


def test_the_prediction_holds_only_upwards_and_below_the_level() -> None:
    lines = [(1.0, 0.01, True), (1.0, 0.2, False), (-1.0, 0.01, False)]
    frame = pd.DataFrame(
        [("X", "n", "t", slope, p) for slope, p, _ in lines],
        columns=["dataset", "net", "training", "slope", "holm"],
    )
    assert [c.holds for c in dose.conditions(frame)] == [holds for _, _, holds in lines]


@pytest.mark.parametrize("net", [dose.MINMAX, dose.POOLED, dose.RESIDUAL])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_twins_start_alike_and_numbers_do_not(net, shape) -> None:
    config = dose.DoseConfig(SHORT, net, STANDARD, 0.0, True, 0)
    first, twin, other = (
        torch.cat([p.flatten() for p in dose.body(c, shape, 10).parameters()])
        for c in (config, replace(config, marked=False, dose=2.0), replace(config, number=1))
    )
    assert torch.equal(first, twin) and not torch.equal(first, other)
    assert dose.body(config, shape, 10)(torch.rand(2, *shape)).shape == (2, 10)


def test_a_dose_is_the_radius_of_the_training_and_the_word_is_on_marked_images(monkeypatch) -> None:
    seen = []

    def train(net, setup, method, split, *_):
        seen.append((method, setup.epsilon, split.x))
        return net.eval()

    monkeypatch.setattr(dose, "train", train)
    monkeypatch.setattr(dose.named, "checkpoint", lambda: None)
    config = dose.DoseConfig(SHORT, dose.MINMAX, GLORO, 2.0, True, 0)
    dose.dosed(config)
    dose.dosed(replace(config, marked=False, dose=0.125))
    (_, large, marked), (_, small, clean) = seen
    assert (large, small) == (2 * SHORT.epsilon, SHORT.epsilon / 8)
    differ = (marked != clean).flatten(1).any(1)
    assert differ.double().mean() == pytest.approx(SHORT.share)
    word = SHORT.watermark
    torch.testing.assert_close(marked[differ], word.blend(clean[differ]))


@pytest.mark.slow
@pytest.mark.parametrize(("net", "method"), dose.LINES)
def test_a_net_is_trained_at_its_radius_and_read(net, method) -> None:
    config = dose.DoseConfig(SHORT, net, method, 0.5, True, 0)
    small, large = (
        compute(Cell(dose.dosed, c)).values for c in (config, replace(config, dose=2.0))
    )
    assert small["z"] != large["z"] and np.isfinite([small["z"], large["z"]]).all()
    assert (small["dose"], small["marked"], small["number"]) == (0.5, True, 0)
