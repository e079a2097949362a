"""The engine: what a key covers, computing once, threads, nesting, failing, going on."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_cells as sample
import torch
from sample_cells import Config

from thesis_repro.lab import estimates, provenance, threads
from thesis_repro.lab.cells import Cell, CellError, compute, current_workdir
from thesis_repro.lab.engine import run
from thesis_repro.lab.store import Store

from .conftest import Fork

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


def lines(log: Path, name: str = "") -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith(name)]


# keys


def test_the_key_is_of_all_that_decides_the_result() -> None:
    cell = Cell(sample.square, Config(i=3), (("mnist", "00"),))
    assert cell.key == dataclasses.replace(cell).key
    others = [
        Cell(sample.outer, cell.config, cell.data),
        Cell(cell.function, Config(i=4), cell.data),
        Cell(cell.function, Config(i=3, device="cuda"), cell.data),
        Cell(cell.function, cell.config, (("mnist", "01"),)),
        Cell(cell.function, cell.config, (("mnist-5k", "00"),)),
        Cell(cell.function, cell.config, ()),
    ]
    assert len({cell.key, *(other.key for other in others)}) == 7


@pytest.mark.parametrize("what", ["torch", "dtype", "code", "meaning"])
def test_the_key_covers_torch_dtype_and_code(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    cell = Cell(sample.square, Config())
    before = cell.key
    with monkeypatch.context() as patched:
        if what == "torch":
            patched.setattr(torch, "__version__", "0.1")
        elif what == "dtype":
            patched.setattr(torch, "get_default_dtype", lambda: torch.float64)
        elif what == "code":
            patched.setattr("thesis_repro.lab.cells.code_version", lambda *parts: "other")
        else:
            patched.setattr("thesis_repro.lab.cells.MEANING", 0)
        assert cell.key != before
    assert cell.key == before


def test_the_kind_of_device_counts_and_not_its_number() -> None:
    assert Cell(sample.square, Config(device="cuda:1")).device == "cuda"
    assert Cell(sample.square, Config()).device == "cpu"


@dataclasses.dataclass(frozen=True)
class Of:
    """A configuration that says nothing of the device itself."""

    name: str
    subject: object


@pytest.mark.parametrize(
    ("subject", "device"),
    [(Config(device="cuda:1"), "cuda"), (Of("", Config(device="cuda")), "cuda"), (1, "cpu")],
)
def test_the_device_may_be_named_by_a_configuration_inside(subject: object, device: str) -> None:
    cell = Cell(sample.square, Of("cuda", subject))
    assert cell.device == cell.identity()["device"] == device


# computing


def test_a_cell_is_computed_once(log: Path) -> None:
    cells = [Cell(sample.square, Config(i, log=str(log))) for i in (2, 3, 2)]
    first = run(cells)
    assert [r.values["square"] for r in first] == [4, 9, 4]
    assert list(first[1].arrays["ramp"]) == [0, 1, 2]
    assert run(cells)[1].values == first[1].values
    assert len(lines(log)) == 2


def test_fresh_forgets_the_cell_and_what_it_used(log: Path) -> None:
    cells = [Cell(sample.outer, Config(i, log=str(log))) for i in (2, 3)]
    cells.append(Cell(sample.square, cells[0].config))
    run(cells)
    assert len(lines(log, "square")) == len(lines(log, "outer")) == 2
    run(cells, fresh=True)
    assert len(lines(log, "square")) == len(lines(log, "outer")) == 4  # each once more


def test_nested_cells_share_the_store_of_the_outer_one(tmp_path: Path, log: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    config = Config(3, log=str(log))
    assert compute(Cell(sample.outer, config), elsewhere).values == {"more": 10}
    assert elsewhere.get(Cell(sample.square, config).key) is not None
    assert not Store().root.exists()


def test_seconds_are_those_of_computing_even_where_a_nested_cell_is_reused() -> None:
    config = Config(2, seconds=0.05)
    assert compute(Cell(sample.square, config)).seconds >= 0.05
    reusing = compute(Cell(sample.outer, config))
    assert reusing.seconds >= 0.1
    assert compute(Cell(sample.outer, config)).seconds == reusing.seconds


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_while_computing_and_as_before_after() -> None:
    assert compute(Cell(sample.threads, Config())).values == {"torch": 1, "pools": [1]}
    assert torch.get_num_threads() == 2
    assert run([Cell(sample.threads, Config(1))])[0].values["torch"] == 1
    with pytest.raises(CellError):
        run([Cell(sample.raising, Config(1))])
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_more_threads_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "2")
    assert compute(Cell(sample.threads, Config())).values == {"torch": 2, "pools": [2]}
    assert provenance.collect("cpu", Path(__file__).parent)["threads"] == 2
    torch.set_num_threads(1)
    assert run([Cell(sample.threads, Config(1))])[0].values["torch"] == 2
    assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match=r"a cluster gives a cell one thread"):
        run([Cell(sample.threads, Config(2))], scheduler="tcp://localhost:1")
    monkeypatch.setenv(threads.VARIABLE, "")
    assert threads.threads() == 1  # as if it were not set
    for wrong in ("0", "two", " "):
        monkeypatch.setenv(threads.VARIABLE, wrong)
        with pytest.raises(ValueError, match=rf"{threads.VARIABLE}=.* at least 1"):
            run([Cell(sample.square, Config(3))])


@pytest.mark.parametrize(
    ("disabled", "progress", "shown"), [("", True, True), ("1", True, False), ("", False, False)]
)
def test_there_is_a_bar_unless_it_is_switched_off(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    disabled: str,
    progress: bool,
    shown: bool,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)  # it reads its environment when imported
    monkeypatch.setenv("TQDM_DISABLE", disabled)
    run([Cell(sample.square, Config(i, seconds=0.2)) for i in range(3)], progress=progress)
    assert ("3/3 [" in capsys.readouterr().err) is shown


# failing


def test_a_cell_that_raises_is_named_and_the_others_are_kept(log: Path) -> None:
    cells = [Cell(sample.raising, Config(i, log=str(log))) for i in range(4)]
    with pytest.raises(CellError) as caught:
        run(cells)
    said = str(caught.value)
    assert "sample_cells.raising(" in said
    assert '"i": 1' in said
    assert "RuntimeError: no luck with 1 (1 more failed); 2 finished cells are kept" in said
    assert "\n" not in said
    failure = caught.value.__cause__
    assert isinstance(failure, CellError)
    assert 'raise RuntimeError(f"no luck' in failure.details
    assert len(lines(log)) == 2
    assert [r.values["square"] for r in run(cells[::2])] == [0, 4]
    assert len(lines(log)) == 2


def test_a_cell_needs_to_return_a_result() -> None:
    with pytest.raises(CellError, match="returned NoneType, needs a Result"):
        compute(Cell(sample.nothing, Config()))


def test_a_failed_nested_cell_is_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "square", sample.raising)
    with pytest.raises(CellError, match=r"^sample_cells\.raising\("):
        compute(Cell(sample.outer, Config(1)))


def test_a_full_disk_ends_the_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    cells = [Cell(sample.square, Config(i)) for i in range(3)]
    run(cells[:1])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"the disk is full: .* are kept$") as caught:
            run(cells)
    assert "\n" not in str(caught.value)
    kept = {path.name for path in Store().root.rglob("*.*")}
    assert kept == {f"{cells[0].key}.cell", estimates.FILE}


def test_a_damaged_entry_is_computed_again(log: Path) -> None:
    cell = Cell(sample.square, Config(5, log=str(log)))
    run([cell])
    path = Store().path(cell.key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{cell.key}.cell is damaged"):
        assert run([cell])[0].values == {"square": 25}
    assert len(lines(log)) == 2


# going on


def test_a_working_folder_lets_a_cell_go_on(log: Path) -> None:
    stopping = log.with_name("log-stop")
    stopping.touch()
    cell = Cell(sample.resumable, Config(4, log=str(stopping)))
    with pytest.raises(CellError, match="stopped"):
        compute(cell)
    assert compute(cell).values == {"count": 4}
    assert [line.split()[0] for line in lines(stopping)] == [f"step-{i}" for i in range(4)]
    assert not (Store().root / "work" / cell.key).exists()
    with pytest.raises(CellError, match="stopped"):
        run([cell], fresh=True)  # from the start


def test_there_is_no_working_folder_outside_a_cell() -> None:
    with pytest.raises(RuntimeError, match="inside a cell"):
        current_workdir()


def test_two_processes_that_ask_at_once_compute_once(fork: Fork, log: Path) -> None:
    cell = Cell(sample.square, Config(6, seconds=0.4, log=str(log)))
    children = [fork(lambda: compute(cell)) for _ in range(2)]
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(lines(log)) == 1
    found = Store().get(cell.key)
    assert found is not None
    assert found.values == {"square": 36}


def test_the_lock_of_a_killed_process_is_free(fork: Fork, log: Path) -> None:
    cell = Cell(sample.square, Config(7, seconds=60.0, log=str(log)))
    child = fork(lambda: compute(cell))
    while not lines(log):
        time.sleep(0.01)
    child.kill()
    child.join()
    with Store().lock(cell.key):
        assert Store().get(cell.key) is None
