"""Limits of time and SIGTERM: what is started, what is unwound, what is kept, what is said."""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import sample_cells as sample
from sample_cells import Config

from thesis_repro.lab import estimates, timebox, workers
from thesis_repro.lab.cells import Cell, compute
from thesis_repro.lab.engine import run
from thesis_repro.lab.store import Store

from .conftest import Fork

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def terminated() -> None:
    """It is not interruptible itself, what is around it is."""
    with timebox.deferred():
        terminate()
    pytest.fail("went on")


def late() -> None:
    assert timebox.remaining() < 0.096  # a twentieth is kept for the end
    time.sleep(10)
    pytest.fail("went on")


def test_without_a_limit_nothing_stops() -> None:
    assert timebox.remaining() == math.inf
    assert not timebox.wanted()
    with timebox.interruptible(), timebox.deferred():
        timebox.check()


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_minutes_are_a_positive_number(minutes: float) -> None:
    with (
        pytest.raises(ValueError, match="a limit is a positive number of minutes"),
        timebox.limited(minutes),
    ):
        pass


def test_a_signal_waits_for_what_keeps_its_work_and_unwinds_the_rest() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with timebox.limited(None):
        with timebox.deferred():
            terminate()
            assert timebox.wanted() and timebox.asked()
        with pytest.raises(timebox.Stop), timebox.interruptible():
            pytest.fail("it was asked to stop before")
    assert not timebox.wanted()
    assert signal.getsignal(signal.SIGTERM) is before
    for asks in (terminate, terminated):
        with timebox.limited(None), pytest.raises(timebox.Stop), timebox.interruptible():
            asks()


def test_the_end_of_the_time_unwinds_what_runs_and_keeps_a_reserve() -> None:
    began = time.monotonic()
    with timebox.limited(0.1 / 60), pytest.raises(timebox.Stop), timebox.interruptible():
        late()
    assert time.monotonic() - began < 5
    with timebox.limited(100):
        assert 6000 - 31 < timebox.remaining() <= 6000 - timebox.RESERVE


def test_a_stopped_run_says_what_it_kept_and_goes_on(log: Path) -> None:
    cells = [Cell(sample.square, Config(i, 0.02, str(log))) for i in range(4)]
    cells.insert(2, Cell(sample.terminating, Config(9, log=str(log))))
    with timebox.limited(None), pytest.raises(timebox.Unfinished) as caught:
        run(cells)
    assert str(caught.value) == (
        "stopped on request: 2 of 5 cells are finished and kept; the same command goes on from here"
    )
    assert len(log.read_text().splitlines()) == 3
    assert len(run([cell for cell in cells if cell.function is sample.square])) == 4


def test_a_stop_is_no_failure_of_a_cell_and_frees_its_lock() -> None:
    cell = Cell(sample.terminating, Config())
    with timebox.limited(None), pytest.raises(timebox.Stop):
        compute(cell)
    with Store().lock(cell.key):
        assert Store().get(cell.key) is None


def test_a_stopped_cell_goes_on_from_what_it_kept(log: Path) -> None:
    cell = Cell(sample.stoppable, Config(4, log=str(log)))
    with timebox.limited(None), pytest.raises(timebox.Unfinished):
        run([cell])
    kept = (Store().root / "work" / cell.key / "count").read_text()
    assert kept == "2"
    assert run([cell])[0].values == {"count": 4}
    steps = [line.split()[0] for line in log.read_text().splitlines()]
    assert steps == [f"step-{i}" for i in range(4)]


def test_no_cell_is_started_that_cannot_finish(log: Path) -> None:
    run([Cell(sample.square, Config(1, 0.3))])
    long = Cell(sample.square, Config(2, 0.3, str(log)))  # like the first: the dearest stands in
    with timebox.limited(0.2 / 60), pytest.raises(timebox.Unfinished) as caught:
        run([long])
    assert str(caught.value).startswith(
        "no time for another cell: 0 of 1 cells are finished and kept; the shortest that is left "
        "takes about 0.0 minutes, give the same command more than that"
    )
    assert log.read_text() == ""
    with timebox.limited(10):
        assert run([long])[0].values == {"square": 4}


def test_a_short_cell_runs_where_a_long_one_does_not_fit(log: Path) -> None:
    for function, seconds in ((sample.square, 600.0), (sample.matrix, 0.1)):
        about = Cell(function, Config(1)).work
        estimates.record(Store(), about, "0" * 64, seconds)
    cells = [Cell(f, Config(3, log=str(log))) for f in (sample.square, sample.matrix)]
    with timebox.limited(1), pytest.raises(timebox.Unfinished, match=r"1 of 2 cells .* 10\.0 min"):
        run(cells)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["matrix"]


def test_a_worker_keeps_to_the_limit_of_the_run(store: Store, log: Path) -> None:
    ends, short = Cell(sample.terminating, Config(9)), Cell(sample.square, Config(2, log=str(log)))
    with timebox.limited(None):
        limit = timebox.current()
    assert workers._work(ends, ends.key, store.root, limit) == workers.Left()
    assert workers._work(short, short.key, store.root, limit) is None
    over = timebox.Limit(time.monotonic() - 1)
    assert workers._work(ends, ends.key, store.root, over) == workers.Left()
    flag = log.with_name("flag")
    flag.touch()
    asked = timebox.Limit(flag=flag)  # another process of the run got the signal
    assert workers._work(ends, ends.key, store.root, asked) == workers.Left()
    assert not timebox.wanted()


@pytest.mark.slow
def test_in_several_processes_too(log: Path) -> None:
    cells = [Cell(sample.square, Config(i, 0.01, str(log))) for i in range(3)]
    cells.insert(0, Cell(sample.terminating, Config(9)))
    with timebox.limited(None), pytest.raises(timebox.Unfinished, match=r"of 4 cells are finished"):
        run(cells, jobs=2)
    assert len(run(cells[1:])) == 3


def test_a_limit_of_time_is_refused_on_a_cluster() -> None:
    with timebox.limited(5), pytest.raises(ValueError, match="workers know no limit of time"):
        run([Cell(sample.square, Config())], scheduler="tcp://localhost:1")


def test_who_waits_for_another_process_can_be_stopped(fork: Fork, log: Path) -> None:
    cell = Cell(sample.square, Config(6, seconds=60.0, log=str(log)))
    fork(lambda: compute(cell))
    while not log.read_text():
        time.sleep(0.01)
    with timebox.limited(0.1 / 60), pytest.raises(timebox.Unfinished, match="the time is over"):
        run([cell])
