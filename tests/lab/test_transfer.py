"""The store in one file: what goes in comes out, and nothing that is damaged or foreign."""

import json
import random
import tarfile
import time
from pathlib import Path

import pytest
import sample_cells as sample
from sample_cells import Config

from thesis_repro.lab import transfer
from thesis_repro.lab.cells import Cell, CellError, compute
from thesis_repro.lab.store import Store

from .conftest import Fork

CELLS = [Cell(sample.square, Config(i)) for i in (2, 3)]
HALF = Cell(sample.resumable, Config(4, log="stop"))


@pytest.fixture
def full(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with two finished cells, and one that was stopped half-way."""
    monkeypatch.chdir(tmp_path)
    Path("stop").touch()
    for cell in CELLS:
        compute(cell)
    with pytest.raises(CellError):
        compute(HALF)
    return store


def files(store: Store) -> dict[str, bytes]:
    """What a store holds, but for locks and notes."""
    found = [*store.root.glob("*/*.cell"), *store.root.glob("work/*/*")]
    return {str(p.relative_to(store.root)): p.read_bytes() for p in found}


def test_what_goes_in_comes_out_and_the_half_cell_goes_on(full: Store, tmp_path: Path) -> None:
    path, other = tmp_path / "out" / "store.tar", Store(tmp_path / "other")
    written, moved = transfer.export(full, path)
    assert (written, moved) == ([path], transfer.Moved(2, 1))
    assert transfer.take(other, path) == transfer.Moved(2, 1)
    assert files(other) == files(full) and len(files(full)) == 3
    assert [p.name for p in path.parent.iterdir()] == ["store.tar"]
    Path("stop").write_text("")
    assert compute(HALF, other).values == {"count": 4}
    assert [line.split()[0] for line in Path("stop").read_text().splitlines()] == [
        "step-2",
        "step-3",
    ]
    again = tmp_path / "again.tar"
    transfer.export(full, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("split", [1000, 4096, 10_000_000])
def test_parts_are_one_file_and_a_missing_one_is_named(
    full: Store, tmp_path: Path, split: int
) -> None:
    whole, path = tmp_path / "whole", tmp_path / "parts"
    transfer.export(full, whole)
    parts, _ = transfer.export(full, path, split)
    assert [p.name for p in parts[:2]] == ["parts.001", "parts.002"][: len(parts)]
    assert b"".join(p.read_bytes() for p in parts) == whole.read_bytes()
    assert all(p.stat().st_size == split for p in parts[:-1])
    other = Store(tmp_path / "other")
    if len(parts) > 1:
        for lost in (parts[0], parts[1], parts[-1]):
            aside = lost.rename(tmp_path / "aside")
            with pytest.raises(ValueError, match=r"^parts (was altered, or a|is cut off, or its)"):
                transfer.take(other, path)
            aside.rename(lost)
        assert not other.root.exists()
    assert transfer.take(other, path) == transfer.Moved(2, 1)


def test_what_is_there_stays(full: Store, tmp_path: Path) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    transfer.export(full, path)
    other.put(CELLS[0].key, sample.Result({"square": "mine"}))
    (other.workdir(HALF.key) / "count").write_text("3")
    assert transfer.take(other, path) == transfer.Moved(1, 0, there=2)
    found = other.get(CELLS[0].key)
    assert found is not None and found.values == {"square": "mine"}
    assert (other.workdir(HALF.key) / "count").read_text() == "3"
    other.put(HALF.key, sample.Result({}))  # a finished cell needs no checkpoint
    assert transfer.take(other, path) == transfer.Moved(0, 0, there=3)
    assert not (other.root / "work" / HALF.key).exists()
    assert not list(other.root.glob(".import-*"))


def test_any_damage_is_refused_and_nothing_taken(full: Store, tmp_path: Path) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    transfer.export(full, path)
    whole = path.read_bytes()
    generator = random.Random(0)
    for at in [0, 700, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(30))]:
        for damaged in (
            whole[:at],
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            whole[:at] + whole[at + 1 :],
        ):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"^store\.tar .*; nothing was taken over$"):
                transfer.take(other, path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(ValueError, match="nothing was taken over"):
        transfer.take(other, path)
    assert not other.root.exists()


@pytest.mark.parametrize("what", ["FORMAT", "MEANING", "LAYOUT"])
def test_another_versions_store_is_refused(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    with monkeypatch.context() as older:
        if what == "LAYOUT":  # a store from before layouts were written down
            (full.root / "layout").unlink()
        else:
            older.setattr(transfer, what, 0)
        transfer.export(full, path)
    with pytest.raises(
        ValueError, match=rf"another version's store \(.*{what.lower()} [01]\b.*; needed: "
    ):
        transfer.take(other, path)
    assert not other.root.exists()


def test_names_that_belong_to_no_store_are_not_written(full: Store, tmp_path: Path) -> None:
    inside = tmp_path / "folder"
    inside.mkdir()
    names = [
        "../out",
        "/out",
        f"work/{'0' * 64}/../../out",
        f"work/{'0' * 64}/.hidden",
        "ab/x.cell",
    ]
    with (
        transfer._Sealed(inside, "store.tar", None) as out,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        about = transfer._about(transfer.LAYOUT)
        transfer._add(tar, transfer.ABOUT, json.dumps(about).encode())
        for name in names:
            transfer._add(tar, name, b"x")
    other = Store(inside / "other")
    assert transfer.take(other, inside / "store.tar") == transfer.Moved(0, 0)
    assert sorted(p.name for p in inside.iterdir()) == ["other", "store.tar"]
    assert files(other) == {}


def test_a_cell_under_the_key_of_another_is_not_taken_over(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    one, two = (full.path(cell.key) for cell in CELLS)
    two.write_bytes(one.read_bytes())
    with monkeypatch.context() as trusting:
        trusting.setattr(Store, "get", lambda *_: True)
        transfer.export(full, path)
    with pytest.raises(ValueError, match=rf"{two.name}: it is that of the key {one.stem[:12]}…"):
        transfer.take(other, path)
    assert files(other) == {}


def test_wrong_requests_are_one_line(full: Store, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "store.tar"
    with pytest.raises(ValueError, match="holds nothing to export"):
        transfer.export(Store(tmp_path / "empty"), path)
    assert not path.exists()
    with pytest.raises(ValueError, match=r"there is no file .*, and no store\.tar\.001"):
        transfer.take(store, path)
    transfer.export(full, path, 1000)
    for name in (path, tmp_path / "store.tar.001"):
        with pytest.raises(ValueError, match="is there already"):
            transfer.export(full, name)
    assert [transfer.size(t) for t in ("1000", "2K", "700MB", "2g")] == [
        1000,
        2000,
        7 * 10**8,
        2 * 10**9,
    ]
    for wrong in ("0", "999", "many", "-1G", "1.5G", ""):
        with pytest.raises(ValueError, match="a size is a number with K, M, G or T"):
            transfer.size(wrong)


def test_processes_that_use_the_store_at_once_do_no_harm(
    full: Store, tmp_path: Path, fork: Fork
) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    transfer.export(full, path)
    slow = Cell(sample.square, Config(7, seconds=0.2))
    children = [fork(lambda: transfer.take(other, path)) for _ in range(2)]
    children.append(fork(lambda: compute(slow, other)))
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0, 0]
    found = files(other)
    assert found.keys() == files(full).keys() | {f"{slow.key[:2]}/{slow.key}.cell"}
    assert all(found[name] == content for name, content in files(full).items())


def test_a_killed_import_leaves_whole_entries_and_can_be_repeated(
    full: Store, tmp_path: Path, fork: Fork
) -> None:
    path, other = tmp_path / "store.tar", Store(tmp_path / "other")
    transfer.export(full, path)
    for wait in (0.0, 0.005, 0.01):
        child = fork(lambda: transfer.take(other, path))
        time.sleep(wait)
        child.kill()
        child.join()
    transfer.take(other, path)
    assert files(other) == files(full)
