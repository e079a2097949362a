"""How long a cell will take: like cells, epochs, what the store has of it already."""

from dataclasses import dataclass

import pytest

from thesis_repro.lab import estimates
from thesis_repro.lab.cells import Cell, Result, compute, current_workdir
from thesis_repro.lab.store import Store


@dataclass(frozen=True)
class Recipe:
    net: str
    epochs: int
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    recipe: Recipe
    attack: int
    device: str = "cpu"


def train(config: Recipe) -> Result:
    return Result({})


def score(config: Scored) -> Result:
    compute(Cell(train, config.recipe))
    return Result({})


def noted(store: Store, cell: Cell, seconds: float, **about: bool) -> None:
    estimates.record(store, cell.work, cell.key, seconds, **about)


def of(store: Store, cell: Cell) -> float | None:
    return estimates.estimate(store, cell.work)


def test_nothing_is_known_of_a_first_cell(store: Store) -> None:
    assert of(store, Cell(train, Recipe("small", 10))) is None


def test_like_cells_count_by_their_epochs_else_the_dearest(store: Store) -> None:
    for net, epochs, seconds in (("small", 10, 20.0), ("small", 20, 60.0), ("large", 2, 30.0)):
        noted(store, Cell(train, Recipe(net, epochs)), seconds)
    assert of(store, Cell(train, Recipe("small", 100, seed=5))) == pytest.approx(250.0)
    assert of(store, Cell(train, Recipe("other", 10))) == pytest.approx(150.0)
    assert of(store, Cell(score, Scored(Recipe("small", 10), 3))) is None  # another function


def test_the_device_counts(store: Store) -> None:
    noted(store, Cell(score, Scored(Recipe("small", 10), 3)), 10.0)
    assert of(store, Cell(score, Scored(Recipe("small", 10), 3, "cuda"))) is None


def test_a_finished_part_costs_nothing_more(store: Store) -> None:
    first, second = (Scored(Recipe("small", 10, seed), 3) for seed in (0, 1))
    noted(store, Cell(train, first.recipe), 80.0)
    noted(store, Cell(score, first), 100.0)
    assert of(store, Cell(score, second)) == pytest.approx(100.0)
    training = Cell(train, second.recipe)
    noted(store, training, 80.0)
    assert of(store, Cell(score, second)) == pytest.approx(100.0)  # noted, but not in the store
    store.put(training.key, Result({}))
    assert of(store, Cell(score, second)) == pytest.approx(20.0)


def test_what_was_stopped_costs_so_much_less_while_its_checkpoint_is_there(store: Store) -> None:
    noted(store, Cell(train, Recipe("small", 10)), 100.0)
    stopped = Cell(train, Recipe("small", 10, 1))
    for seconds in (30.0, 20.0):
        noted(store, stopped, seconds, finished=False)
    assert of(store, stopped) == pytest.approx(100.0)
    (store.workdir(stopped.key) / "checkpoint").write_bytes(b"x")
    assert of(store, stopped) == pytest.approx(50.0)
    noted(store, stopped, 55.0, resumed=True)  # it went on, and ended: 105 seconds in all
    assert estimates.lines(store)[-1].seconds == pytest.approx(105.0)


def test_a_cell_that_went_on_after_a_kill_is_no_witness(store: Store) -> None:
    noted(store, Cell(train, Recipe("small", 10)), 5.0, resumed=True)
    assert estimates.lines(store) == []


def test_a_line_that_was_cut_off_is_passed_over(store: Store) -> None:
    compute(Cell(score, Scored(Recipe("small", 10), 3)))
    assert [line.function.split(".")[-1] for line in estimates.lines(store)] == ["train", "score"]
    path = store.root / estimates.FILE
    path.write_bytes(path.read_bytes()[:-30])
    assert [line.function.split(".")[-1] for line in estimates.lines(store)] == ["train"]


def resumable(config: Recipe) -> Result:
    (current_workdir() / "kept").touch()
    return Result({})


def test_what_is_computed_leaves_a_line_once(store: Store) -> None:
    cell = Cell(resumable, Recipe("small", 1))
    for _ in range(2):
        compute(cell)
    (line,) = estimates.lines(store)
    assert (line.key, line.work, line.finished) == (cell.key, 1, True)
