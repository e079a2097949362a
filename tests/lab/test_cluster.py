"""A real scheduler and real workers on loopback, started and stopped here."""

import contextvars
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import sample_cells as sample
from sample_cells import Config

from thesis_repro.lab import cluster
from thesis_repro.lab.cells import Cell, CellError
from thesis_repro.lab.engine import run
from thesis_repro.lab.places import STORE
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Store
from thesis_repro.tables.measure import measure
from thesis_repro.tables.records import to_csv
from thesis_repro.tables.spec import Column, Table, TableSpec

pytest.importorskip("distributed")
HERE = Path(__file__).resolve().parent
START_SECONDS = 60
T = TypeVar("T")


@dataclass
class Loopback:
    """A scheduler with its workers; logs lie in the folder."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, path: str = "") -> subprocess.Popen[bytes]:
        """Start `dask ...`; workers keep a store of their own."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [path, str(HERE), os.environ.get("PYTHONPATH")])
            ),
            "OMP_NUM_THREADS": "1",
            STORE: str(self.folder / "workers"),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "10",
        }
        log = (self.folder / f"{arguments[0]}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            env=environment,
            cwd=self.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a worker can be killed with its nanny
        )
        log.close()
        self.processes.append(process)
        return process

    def worker(self, path: str = "") -> subprocess.Popen[bytes]:
        """Start a worker of one thread."""
        options = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", "."]
        return self.start("worker", self.address, *options, path=path)

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Loopback(tmp_path, f"tcp://127.0.0.1:{port}")
    try:
        made.start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        _until(lambda: _answers(port))
        yield made
    finally:
        made.stop()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Callable[[], T]) -> T:
    """Wait until a condition holds."""
    end = time.monotonic() + START_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "did not come about in time"
        time.sleep(0.05)
    return found


def content(cells: list[Cell], store: Store) -> list[tuple[object, dict[str, bytes]]]:
    """Values and the bytes of the arrays of stored results."""
    found = [store.get(cell.key) for cell in cells]
    return [(r.values, {k: a.tobytes() for k, a in r.arrays.items()}) for r in found if r]


def csv(cells: list[Cell], scheduler: str | None = None) -> bytes:
    """The CSV of a table of four rows that these cells fill; the default store is used."""
    spec = TableSpec(
        name="sample-traces",
        caption="Traces of random matrices.",
        chapter="robustness/gloro",
        keys=(Column("row", "row", kind="key"),),
        columns=(Column("trace", "trace"),),
    )
    table = Table(spec, lambda _: [((str(i % 4),), cell) for i, cell in enumerate(cells)])
    return to_csv(measure(table, profile("quick"), scheduler=scheduler, progress=False))


def csv_alone(cells: list[Cell], folder: Path) -> bytes:
    """The same in this process, with a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORE, str(folder))
        return csv(cells)


def test_two_workers_give_the_bytes_of_one_process_and_errors_are_one_line(
    loopback: Loopback, store: Store, tmp_path: Path, log: Path
) -> None:
    logged = str(log)
    cells = [Cell(sample.matrix, Config(i, 0.05, logged)) for i in range(8)]
    expected = csv_alone(cells, tmp_path / "alone")
    log.write_text("")
    loopback.worker()
    loopback.worker()

    assert csv(cells, loopback.address) == expected
    assert content(cells, store) == content(cells, Store(tmp_path / "alone"))
    pids = {line.split()[2] for line in log.read_text().splitlines()}
    assert len(log.read_text().splitlines()) == 8
    assert pids <= {str(p.pid) for p in loopback.processes[1:]}
    run(cells, scheduler=loopback.address, progress=False)  # from the store
    assert len(log.read_text().splitlines()) == 8

    # a cell that raises: its configuration, the worker's traceback, the others kept
    some = [Cell(sample.raising, Config(i, log=logged)) for i in range(4)]
    with pytest.raises(CellError, match=r'raising\(.*"i": .* no luck with . \(1 more') as caught:
        run(some, scheduler=loopback.address, progress=False)
    assert "\n" not in str(caught.value)
    assert "2 finished cells are kept" in str(caught.value)
    assert isinstance(caught.value.__cause__, CellError)
    assert "in raising" in caught.value.__cause__.details
    assert len(content(some, store)) == 2

    # fresh: computed once more, nested cells too
    nested = [Cell(sample.outer, Config(i, log=logged)) for i in range(2)]
    run(nested, scheduler=loopback.address, progress=False)
    log.write_text("")
    run(nested, scheduler=loopback.address, fresh=True, progress=False)
    assert sorted(line.rpartition(" ")[0] for line in log.read_text().splitlines()) == [
        "outer 0",
        "outer 1",
        "square 0",
        "square 1",
    ]

    with pytest.raises(CellError, match=r"no worker at tcp://.* offers a GPU; start one with"):
        run([Cell(sample.square, Config(device="cuda"))], scheduler=loopback.address)

    # a worker from another release
    skewed = tmp_path / "skewed"
    about = skewed / "thesis_repro-99.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: thesis-repro\nVersion: 99.0\n")
    loopback.worker(path=str(skewed))
    one = [Cell(sample.square, Config(50))]

    def skew() -> str:
        try:
            run(one, scheduler=loopback.address, fresh=True, progress=False)
        except CellError as error:
            return str(error)
        return ""  # the third worker has not joined yet

    said = _until(skew)
    assert said.startswith("version skew: thesis-repro is ")
    assert "and 99.0 on a worker; install the same environment" in said
    assert "\n" not in said


def test_a_scheduler_that_does_not_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        for given in (address, "nonsense://1", "127.0.0.1", "tcp://127.0.0.1", "tcp://a:b"):
            with pytest.raises(CellError, match=r"no Dask scheduler answers at .* within") as e:
                run([Cell(sample.square, Config())], scheduler=given, progress=False)
            assert "\n" not in str(e.value)


def test_without_dask_what_to_install_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CellError, match="pip install dask distributed"):
        run([Cell(sample.square, Config())], scheduler="tcp://127.0.0.1:1", progress=False)


def test_a_worker_with_other_code_refuses(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    cell = Cell(sample.square, Config())
    alone = contextvars.copy_context()  # a worker's thread settles for good
    said = alone.run(cluster._work, cell, "another key", None)
    assert isinstance(said, tuple)
    assert "the worker's code or torch differs from the client's" in said[0]
    assert isinstance(alone.run(cluster._work, cell, cell.key, None), bytes)


@pytest.mark.slow
def test_a_killed_worker_changes_no_bytes(
    loopback: Loopback, store: Store, tmp_path: Path, log: Path
) -> None:
    cells = [Cell(sample.matrix, Config(i, 0.3, str(log))) for i in range(12)]
    expected = csv_alone(cells, tmp_path / "alone")
    log.write_text("")
    victim = loopback.worker()
    loopback.worker()

    import threading

    def kill() -> None:
        _until(lambda: sum(str(victim.pid) in line for line in log.read_text().splitlines()) == 2)
        os.killpg(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    got = csv(cells, loopback.address)
    killer.join()
    assert victim.wait() == -signal.SIGKILL
    assert len(log.read_text().splitlines()) > len(cells)  # one was begun twice
    assert got == expected
    assert content(cells, store) == content(cells, Store(tmp_path / "alone"))


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_line_and_what_is_finished_is_kept(
    loopback: Loopback, store: Store, log: Path
) -> None:
    import threading

    cells = [Cell(sample.square, Config(i, 0.5, str(log))) for i in range(8)]
    loopback.worker()

    def kill() -> None:
        _until(lambda: len(log.read_text().splitlines()) == 3)
        os.killpg(loopback.processes[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(CellError, match=r"the Dask scheduler at tcp://.* went away; .* kept") as e:
        run(cells, scheduler=loopback.address, progress=False)
    killer.join()
    assert "\n" not in str(e.value)
    assert 1 <= len(content(cells, store)) < 8
    assert [r.values["square"] for r in run(cells, progress=False)] == [i**2 for i in range(8)]
