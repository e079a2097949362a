"""Cells in several processes: the same bytes, each once, failures named, the rest kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_cells as sample
from joblib.externals.loky import get_reusable_executor
from sample_cells import Config

from thesis_repro import tables
from thesis_repro.lab import engine, workers
from thesis_repro.lab.cells import Cell, CellError, Result
from thesis_repro.lab.engine import run
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.tables.measure import measure
from thesis_repro.tables.spec import Column, Table, TableSpec


@pytest.fixture(scope="module", autouse=True)
def _stop_workers() -> Iterator[None]:
    yield
    get_reusable_executor(max_workers=1).shutdown(wait=True, kill_workers=True)


def processes(log: Path) -> set[str]:
    return {line.split()[2] for line in log.read_text().splitlines()}


def test_processes_change_no_byte_and_each_cell_is_computed_once(
    store: Store, log: Path, tmp_path: Path
) -> None:
    cells = [Cell(sample.matrix, Config(i, seconds=0.3, log=str(log))) for i in (1, 2, 3, 2)]
    many = run(cells, jobs=2)
    assert len(log.read_text().splitlines()) == 3
    assert len(processes(log)) == 2
    alone = run(cells, store=Store(tmp_path / "alone"))
    for one, other in zip(many, alone, strict=True):
        assert one.values == other.values
        assert one.arrays["product"].tobytes() == other.arrays["product"].tobytes()
    run(cells, jobs=2)  # from the store
    assert len(log.read_text().splitlines()) == 6


def test_a_cell_that_two_use_is_computed_by_one(store: Store, log: Path) -> None:
    shared = Config(5, seconds=0.5, log=str(log))
    cells = [Cell(sample.outer, shared), Cell(sample.threads, shared)]
    results = run(cells, jobs=2)
    assert results[0].values["more"] == 26
    assert results[1].values["torch"] == 1
    assert sum(line.startswith("square") for line in log.read_text().splitlines()) == 1


def test_a_failure_is_named_and_the_others_are_kept(store: Store, log: Path) -> None:
    cells = [Cell(sample.raising, Config(i, log=str(log))) for i in (1, 2, 4)]
    with pytest.raises(CellError, match=r"no luck with 1; 2 finished cells are kept") as raised:
        run(cells, jobs=2)
    cause = raised.value.__cause__
    assert isinstance(cause, CellError)
    assert "sample_cells.py" in cause.details  # the worker's traceback
    assert [store.get(cell.key) is not None for cell in cells] == [False, True, True]


def test_a_killed_process_is_one_line_and_the_next_run_goes_on(store: Store, log: Path) -> None:
    cells = [Cell(sample.dying, Config()), Cell(sample.square, Config(3, log=str(log)))]
    with pytest.raises(CellError, match="killed, by lack of memory perhaps; finished cells"):
        run(cells, jobs=2)
    more = [Cell(sample.square, Config(i, log=str(log))) for i in (3, 4)]
    assert [r.values["square"] for r in run(more, jobs=2)] == [9, 16]


def test_one_missing_cell_and_a_fresh_run_stay_in_this_process(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.Parallel", None)
    cells = [Cell(sample.square, Config(i, log=str(log))) for i in (1, 2)]
    run(cells[:1], jobs=2)
    run(cells, jobs=2)
    run(cells, jobs=2, fresh=True)
    assert len(log.read_text().splitlines()) == 4


def test_cells_on_a_gpu_go_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.Parallel", None)
    results = run([Cell(sample.square, Config(i, device="cuda")) for i in (1, 2)], jobs=2)
    assert [r.values["square"] for r in results] == [1, 4]


def test_code_that_was_edited_meanwhile_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell(sample.square, Config(i)) for i in (1, 2)]
    monkeypatch.setattr("thesis_repro.lab.cells.code_version", lambda *parts: "another")
    with pytest.raises(CellError, match="the code was edited while it ran"):
        run(cells, jobs=2)


@pytest.mark.parametrize("timed", [False, True])
def test_a_table_that_takes_the_time_takes_one_process(
    store: Store, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    asked: list[int] = []
    whole = engine.run

    def watched(cells: list[Cell], **options: object) -> list[Result]:
        asked.append(int(str(options["jobs"])))
        return whole(cells)

    monkeypatch.setattr("thesis_repro.lab.engine.run", watched)
    spec = TableSpec(
        "sample-squares",
        "Squares.",
        (Column("i", "i", kind="key"),),
        (Column("square", "square"),),
        "sample",
    )
    table = Table(spec, lambda _: [(("1",), Cell(sample.square, Config(1)))], timed=timed)
    measure(table, profile("quick"), jobs=3)
    assert asked == [1 if timed else 3]


def test_the_number_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.JOBS_VARIABLE, "7")
    assert workers.jobs() == 7
    monkeypatch.delenv(workers.JOBS_VARIABLE)
    unset = workers.jobs()
    assert 1 <= unset <= workers.MOST
    monkeypatch.setenv(workers.JOBS_VARIABLE, "")
    assert workers.jobs() == unset
    for wrong in ("0", "two", "-1", " "):
        monkeypatch.setenv(workers.JOBS_VARIABLE, wrong)
        with pytest.raises(ValueError, match=r"needs a whole number of at least 1"):
            workers.jobs()


def test_cells_that_rest_on_the_same_part_come_apart() -> None:
    one, two = sample.Part(1), sample.Part(2)
    wanted = [sample.Whole(part, i) for i, part in enumerate((one, one, two, one, two))]
    cells = {str(i): Cell(sample.on_part, config) for i, config in enumerate(wanted)}
    assert list(workers.shared_last(cells)) == ["0", "2", "1", "3", "4"]
    plain = {str(i): Cell(sample.square, Config(i)) for i in range(3)}
    assert list(workers.shared_last(plain)) == ["0", "1", "2"]


def test_what_is_prepared_is_not_computed_again(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def table(name: str, numbers: tuple[int, ...], timed: bool = False) -> Table:
        column = Column("square", "square")
        spec = TableSpec(name, "Squares.", (Column("n", "n", kind="key"),), (column,), "a/b")
        cells = [((str(n),), Cell(sample.square, Config(n, log=str(log)))) for n in numbers]
        return Table(spec, lambda _: cells, timed=timed)

    known = {t.spec.name: t for t in (table("a-a", (1, 2)), table("a-b", (3,)),
                                      table("a-c", (4,), timed=True))}  # fmt: skip
    monkeypatch.setattr(tables, "get", known.__getitem__)
    monkeypatch.setenv(workers.JOBS_VARIABLE, "2")
    tables.prepare(*known, also=[Cell(sample.square, Config(5, log=str(log)))])
    done = log.read_text().splitlines()
    assert len(done) == 4
    for name in ("a-a", "a-b"):
        tables.live(name)
    assert log.read_text().splitlines() == done
    monkeypatch.setenv(workers.JOBS_VARIABLE, "1")
    tables.prepare(also=[Cell(sample.square, Config(6, log=str(log)))])
    assert log.read_text().splitlines() == done
