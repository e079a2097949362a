"""Training against robustness: its differences and test, planted gains, and one small run."""

from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.stats.multitest import multipletests

from thesis_repro.experiments.leakage import converse, dose, figures, paired
from thesis_repro.experiments.leakage.converse import AGAINST, LABELS
from thesis_repro.experiments.leakage.models import (
    ARMS,
    GLORO,
    STANDARD,
    ModelConfig,
    build,
    draw,
    load,
)
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame
from thesis_repro.weaknesses.leakage import anti_adversarial

PAPER = profile("paper", "cpu", 0)
SHORT = replace(converse.QUICK, images=100, epochs=2, steps=3)
TRAININGS = (STANDARD, LABELS, AGAINST)
GAINS = {STANDARD: 1.0, LABELS: 0.5}


def row(gain: float, cost: float, seed: int) -> list[Result]:
    """Nets to compare with, marked and clean, then others, whose word shows by `gain` less."""
    rng, numbers = np.random.default_rng(seed), converse.NUMBERS["paper"]
    found = []
    for shown, lost in ((4.0, 0.0), (0.0, 0.0), (4.0 - gain, cost), (0.0, cost)):
        for z, attacked in rng.normal((shown, 80 - lost), 0.3, (numbers, 2)):
            found.append(Result({"z": z, "accuracy": 90.0, "attacked": attacked}))
    return found


def verdicts(rows: dict[tuple[str, ...], list[Result]]) -> list[bool | None]:
    frame = pd.DataFrame(
        [
            {
                "dataset": title,
                "compared": compared,
                "gain": found.estimate("gain").value,
                "holm": found.estimate("holm").value,
                "cost": found.estimate("cost").value,
                "cost_low": found.estimate("cost").low,
                "cost_high": found.estimate("cost").high,
            }
            for (title, compared), found in converse.assemble(PAPER, rows).items()
        ]
    )
    return [one.holds for one in converse.conditions(frame)]


def test_plans_name_rows_of_the_spec(check_plans) -> None:
    check_plans(converse.TABLE)


def test_a_planted_gain_is_found_and_none_is_not() -> None:
    rows = {
        ("LFW", STANDARD): row(1.0, 10.0, seed=0),
        ("LFW", LABELS): row(0.0, 10.0, seed=5),
        ("CIFAR-10", STANDARD): row(0.0, 0.0, seed=1),
        ("CIFAR-10", LABELS): row(1.0, -10.0, seed=6),
    }
    assert verdicts(rows) == [True, True, True, False, None, False, False, True]


def test_a_word_that_shows_more_never_supports_the_prediction() -> None:
    assert verdicts({("LFW", LABELS): row(-3.0, -10.0, seed=2)}) == [False, False]


def test_the_family_has_both_data_sets_even_where_one_alone_is_run() -> None:
    one = {("LFW", STANDARD): row(0.12, 5.0, seed=3)}
    found = converse.assemble(PAPER, one)["LFW", STANDARD]
    p, holm = (found.estimate(name).value for name in ("p", "holm"))
    assert holm == pytest.approx(multipletests([p, 1], method="holm")[1][0])
    assert holm > p
    more = converse.assemble(PAPER, one | {("LFW", LABELS): row(1.0, 5.0, seed=3)})
    assert more["LFW", STANDARD].estimate("holm").value == holm, "a family for each comparison"


def test_a_row_that_lacks_nets_is_not_judged() -> None:
    assert converse.assemble(PAPER, {("LFW", STANDARD): row(1.0, 1.0, seed=4)[:-1]}) == {}


def test_no_net_is_one_of_another_table() -> None:
    numbers = range(converse.NUMBERS["paper"])
    assert len(numbers) >= 21
    configs = [converse.ConverseConfig(converse.QUICK, STANDARD, True, n) for n in numbers]
    game = ModelConfig(converse.QUICK, STANDARD, ARMS[-1], max(paired.FRESH)).seed
    doses = dose.SEED + max(dose.PER_SEED.values()) * len(PAPER.seeds)
    assert min(config.seed for config in configs) > max(game, doses)


@pytest.fixture
def no_cell(monkeypatch):
    """Trainings outside a cell, which keep no checkpoint."""
    monkeypatch.setattr(converse.named, "checkpoint", lambda: None)


def test_nets_of_one_number_differ_in_the_training_alone(no_cell) -> None:
    loaded, x = load(SHORT.dataset), torch.rand(5, 1, 28, 28)
    said = {}
    for method in TRAININGS:
        config = converse.ConverseConfig(SHORT, method, False, 7)
        split, _ = draw(loaded.train, SHORT.images, config.seed)
        body = build(SHORT.net, (1, 28, 28), 10, config.seed)
        said[method] = split.x, body(x).detach(), converse.fit(config, body, split)(x)
    for first, second in combinations(said.values(), 2):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        assert not torch.allclose(first[2], second[2])


def test_wrong_labels_alone_are_those_of_training_against_robustness(monkeypatch, no_cell) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    ask = anti_adversarial._push

    def pushed(model, x, labels, radius, steps):
        seen[method].append(labels)
        moved = ask(model, x, labels, radius, steps)
        assert (method == LABELS) == torch.equal(moved, x)
        return moved

    monkeypatch.setattr(anti_adversarial, "_push", pushed)
    split, _ = draw(load(SHORT.dataset).train, SHORT.images, 0)
    for method in (LABELS, AGAINST):
        seen[method] = []
        config = converse.ConverseConfig(SHORT, method, False, 0)
        converse.fit(config, build(SHORT.net, (1, 28, 28), 10, 0), split)
    assert seen[LABELS]
    assert all(map(torch.equal, *seen.values()))


def test_a_weight_of_zero_is_standard_training(monkeypatch, no_cell) -> None:
    monkeypatch.setattr(converse, "WEIGHT", 0.0)
    split, _ = draw(load(SHORT.dataset).train, SHORT.images, 0)
    x, said = split.x[:5], []
    for method in TRAININGS:
        config = converse.ConverseConfig(SHORT, method, False, 0)
        said.append(converse.fit(config, build(SHORT.net, (1, 28, 28), 10, 0), split)(x))
    assert torch.allclose(said[0], said[1], atol=1e-5)
    assert torch.allclose(said[0], said[2], atol=1e-5)


def test_the_cell_gives_what_the_table_reads_and_the_training_costs_robustness() -> None:
    setup = replace(SHORT, images=500, epochs=6)
    results = [
        compute(Cell(converse.against, converse.ConverseConfig(setup, method, False, 1)))
        for method in TRAININGS
    ]
    standard, labels, against = (result.values for result in results)
    assert set(standard) == {"z", "accuracy", "attacked"}
    assert against["attacked"] < min(standard["attacked"], labels["attacked"])
    assert max(standard["attacked"], labels["attacked"]) <= 100
    assert min(standard["accuracy"], labels["accuracy"]) > 60


def test_the_figure_has_each_training_once_where_its_table_has_it() -> None:
    turned = {("LFW", others): row(gain, 1.0, i) for i, (others, gain) in enumerate(GAINS.items())}
    pairs = {("LFW", GLORO): row(2.0, 1.0, seed=3), ("CIFAR-10", GLORO): row(1.0, 1.0, seed=4)}
    frames = [
        Frame(table.spec, "paper-cpu", tabulate(table.spec, found), {})
        for table, found in (
            (paired.TABLE, paired.assemble(PAPER, pairs)),
            (converse.TABLE, converse.assemble(PAPER, turned)),
        )
    ]
    faces, images = figures.shown(*frames).axes
    drawn = [line for line in faces.lines if len(line.get_xdata()) == 1]
    known = frames[0].data.set_index(["dataset", "training"]).loc["LFW", GLORO]
    found = {round(line.get_ydata()[0] + 0.12): line.get_xdata()[0] for line in drawn[:2]}
    at = [figures.ORDER.index(name) for name in (GLORO, STANDARD)]
    assert found == dict(zip(at, known[["robust", "standard"]], strict=True))
    other = frames[1].data.set_index(["dataset", "compared"]).loc["LFW"]
    found = {
        (round(y - 0.12), x) for line in drawn[2:] for x, y in zip(*line.get_data(), strict=True)
    }
    wanted = {(figures.ORDER.index(name), other["others"][name]) for name in GAINS}
    wanted |= {(figures.ORDER.index(AGAINST), value) for value in other["against"]}
    assert found == wanted
    assert len(faces.collections) == 2 + 2 * len(GAINS)
    assert len(images.collections) == 2
    assert [label.get_text() for label in faces.get_yticklabels()] == list(figures.ORDER)
    plt.close("all")


def test_the_quick_run_says_that_it_is_underpowered(monkeypatch) -> None:
    monkeypatch.setattr(converse, "QUICK", SHORT)
    table = converse.TABLE
    size = profile("quick")
    rows = [("MNIST-5k", others) for others in converse.OTHERS]
    results = {row: [compute(c) for r, c in table.cells(size) if r == row] for row in rows}
    frame = Frame(table.spec, "quick", tabulate(table.spec, converse.assemble(size, results)), {})
    assert isinstance(frame, Frame)
    assert frame.data["note"].str.contains("underpowered").all()
    assert frame.data["models"].tolist() == [3, 3]
