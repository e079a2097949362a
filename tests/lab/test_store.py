"""The store: what goes in comes out, or is named and computed again; a full disk is one line."""

import errno
import fcntl
import hashlib
import json
import os
import signal
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thesis_repro.lab import sealed
from thesis_repro.lab.locks import NO_LOCKS, _without_locks, lockable
from thesis_repro.lab.sealed import Altered
from thesis_repro.lab.store import (
    Result,
    Store,
    leftovers,
    pack,
    unpack,
    write_atomic,
    write_together,
)

from .conftest import Fork

KEY = "ab" * 32
RESULT = Result({"a": 1, "b": [1.5, None, "x"]}, {"w": np.arange(6.0).reshape(2, 3)}, 2.5)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
some_arrays = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.uint8]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


def files(folder: Path) -> list[str]:
    """Names of the files in a folder, but for the one that says the store's layout."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name != "layout")


@settings(max_examples=40)
@given(
    values=st.dictionaries(st.text(), json_values, max_size=4),
    stored=st.dictionaries(st.text("abc._", min_size=1, max_size=5), some_arrays, max_size=3),
    seconds=st.floats(0, 1e6),
)
def test_a_result_comes_back_as_it_was(
    values: dict[str, Any], stored: dict[str, np.ndarray], seconds: float
) -> None:
    given = Result(values, stored, seconds, "a card")
    back = unpack(pack(given))
    assert back.values == values
    assert json.dumps(back.values) == json.dumps(given.values), "in the same order"
    assert (back.seconds, back.device) == (seconds, "a card")
    assert list(back.arrays) == list(given.arrays)
    for name, array in stored.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        np.testing.assert_array_equal(back.arrays[name], array)


def test_a_result_that_an_older_version_stored_names_no_device() -> None:
    from safetensors.numpy import save

    older = save({"w": np.ones(2)}, {"values": '{"a": 1}', "seconds": "2.5"})
    back = unpack(older)
    assert (back.values, back.seconds, back.device) == ({"a": 1}, 2.5, "")


def test_arrays_in_another_order_of_memory_come_back_right() -> None:
    array = np.arange(6.0).reshape(2, 3)
    back = unpack(pack(Result({}, {"t": array.T, "s": array[:, ::2]})))
    np.testing.assert_array_equal(back.arrays["t"], array.T)
    np.testing.assert_array_equal(back.arrays["s"], array[:, ::2])


def test_arrays_are_in_the_order_of_their_names_computed_or_read(store: Store) -> None:
    names = [f"{letter}{i}" for letter in "cab" for i in range(9)]
    result = Result({}, {name: np.zeros(1) for name in names})
    store.put("ab", result)
    back = store.get("ab")
    assert back is not None and list(result.arrays) == list(back.arrays) == sorted(names)


def test_values_are_the_same_computed_or_read_with_their_order(store: Store) -> None:
    result = Result({"z": 1, "a": {"y": (1, 2), "b": [{"d": 0, "c": 1}]}, "m": float("inf")})
    store.put("ab", result)
    back = store.get("ab")
    wanted = '{"a": {"b": [{"c": 1, "d": 0}], "y": [1, 2]}, "m": Infinity, "z": 1}'
    assert back is not None and json.dumps(result.values) == json.dumps(back.values) == wanted
    assert result.values == back.values


def test_a_value_that_is_not_json_is_named_before_anything_is_stored() -> None:
    for values in ({"a": np.float32(1)}, {"a": {1, 2}}):
        with pytest.raises(ValueError, match="^a result's values need to be JSON values: .*\\w$"):
            Result(values)


def test_nothing_is_pickled(store: Store) -> None:
    store.put(KEY, RESULT)
    content = store.path(KEY).read_bytes()
    assert content[64:65] == b"\n"  # a line of hash, then safetensors: a length and its JSON
    length = int.from_bytes(content[65:73], "little")
    assert content[73 : 73 + length].startswith(b'{"__metadata__":{')


def test_an_absent_key_is_none(store: Store) -> None:
    assert store.get(KEY) is None
    store.drop(KEY)


def test_put_clears_the_working_folder(store: Store) -> None:
    (store.workdir(KEY) / "checkpoint").write_text("half")
    store.put(KEY, RESULT)
    assert files(store.root) == [f"{KEY}.cell"]


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_damaged_byte_is_noticed_named_and_set_aside(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.put(KEY, RESULT)
    content = bytearray(store.path(KEY).read_bytes())
    content[place % len(content)] ^= flip
    store.path(KEY).write_bytes(content)
    with pytest.warns(UserWarning, match=f"{KEY}.cell is damaged .* computed again"):
        assert store.get(KEY) is None
    assert files(store.root) == [f"{KEY}.damaged"]
    store.put(KEY, RESULT)
    assert store.get(KEY) is not None


@pytest.mark.parametrize("length", [0, 1, 64, 65, 80, -1])
def test_a_truncated_entry_is_noticed(store: Store, length: int) -> None:
    store.put(KEY, RESULT)
    content = store.path(KEY).read_bytes()
    store.path(KEY).write_bytes(content[:length])
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.get(KEY) is None


def entry(body: bytes) -> bytes:
    """The file of an entry with this content."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_an_entry_of_another_key_is_named_and_set_aside(store: Store) -> None:
    other = "cd" * 32
    store.put(KEY, RESULT)
    write_atomic(store.path(other), store.path(KEY).read_bytes())
    with pytest.warns(UserWarning, match=rf"damaged \(it is that of the key {KEY[:12]}…\); it was"):
        assert store.get(other) is None
    assert files(store.root) == [f"{KEY}.cell", f"{other}.damaged"]
    found = store.get(KEY)
    assert found is not None and found.values == RESULT.values


def test_an_entry_of_an_older_version_which_leaves_its_key_out_is_read(store: Store) -> None:
    write_atomic(store.path(KEY), entry(pack(RESULT)))
    found = store.get(KEY)
    assert found is not None and found.values == RESULT.values


def test_an_older_version_reads_an_entry_of_this_one(store: Store) -> None:
    from safetensors.numpy import load

    store.put(KEY, RESULT)
    digest, _, body = store.path(KEY).read_bytes().partition(b"\n")
    assert hashlib.sha256(body).hexdigest().encode() == digest
    length = int.from_bytes(body[:8], "little")
    about = json.loads(body[8 : 8 + length])["__metadata__"]
    assert json.loads(about["values"]) == RESULT.values and float(about["seconds"]) == 2.5
    assert about.get("device", "") == "" and load(body).keys() == {"w"}


@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"\2\0\0\0\0\0\0\0[]", b"\2\0\0\0\0\0\0\0{}"])
def test_an_entry_of_a_right_hash_that_holds_no_result_is_set_aside(
    store: Store, body: bytes
) -> None:
    write_atomic(store.path(KEY), entry(body))
    with pytest.warns(UserWarning, match=r"damaged \(it holds no result\)"):
        assert store.get(KEY) is None
    assert files(store.root) == [f"{KEY}.damaged"]


@pytest.mark.parametrize("call", ["fsync", "replace", "mkstemp", "write"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_leaves_no_part(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    store.put(KEY, RESULT)
    before = store.path(KEY).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(code, "No space left on device")

    class Full:
        """An open file on a full disk."""

        def __init__(self, handle: int, mode: str) -> None:
            self.file = open(handle, mode)  # noqa: SIM115

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            full()

    target, replacement = {
        "fsync": ("os.fsync", full),
        "replace": ("pathlib.Path.replace", full),
        "mkstemp": ("tempfile.mkstemp", full),
        "write": ("os.fdopen", Full),
    }[call]
    with monkeypatch.context() as patched:
        patched.setattr(target, replacement)
        with pytest.raises(OSError, match=r"the disk is full: .*\.cell \(.* bytes\) was not") as e:
            store.put(KEY, Result({"new": True}))
    assert e.value.errno == code
    assert "\n" not in str(e.value)
    assert files(store.root) == [f"{KEY}.cell"]
    assert store.path(KEY).read_bytes() == before


def test_other_errors_and_interrupts_leave_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()):

        def fail(handle: int, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(type(error)):
                write_atomic(tmp_path / "file", b"content")
        assert files(tmp_path) == []


def test_a_file_that_cannot_be_written_is_named_and_not_its_part(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for place, what in (
        (tmp_path / "file" / "a.csv", rf"\({tmp_path}/file\)"),
        (tmp_path / "folder", "Is a directory"),
        (Path("/proc") / "a.csv", "No such file"),  # where nobody can make a file
    ):
        with pytest.raises(OSError, match=rf"{place} cannot be written: .*{what}") as caught:
            write_atomic(place, b"content")
        assert "\n" not in str(caught.value) and ".part" not in str(caught.value)
    assert files(tmp_path) == ["file"]


def test_parts_of_killed_writers_are_swept_by_the_next_holder_of_the_key(store: Store) -> None:
    folder = store.path(KEY).parent
    folder.mkdir(parents=True)
    (folder / f".{KEY}.cell.x1y2.part").write_bytes(b"half")
    (folder / ".other.cell.x1y2.part").write_bytes(b"half")
    with store.lock(KEY):
        assert files(folder) == [".other.cell.x1y2.part"]


# files that belong together


NAMES = ("quick.csv", "quick.json")


def pair(folder: Path, text: str) -> dict[Path, bytes]:
    return {folder / name: text.encode() for name in NAMES}


def states(folder: Path) -> list[str | None]:
    return [p.read_text() if p.exists() else None for p in (folder / name for name in NAMES)]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("call", ["os.fsync", "tempfile.mkstemp", "pathlib.Path.chmod"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_changes_neither_of_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, call: str, nth: int
) -> None:
    if before:
        write_together(pair(tmp_path, before))
    module, _, name = call.rpartition(".")
    owner = {"os": os, "tempfile": tempfile, "pathlib.Path": Path}[module]
    real, calls = getattr(owner, name), []

    def full(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, full)
        with pytest.raises(OSError, match=rf"the disk is full: {NAMES[nth - 1]} \("):
            write_together(pair(tmp_path, "new"))
    assert states(tmp_path) == [before, before]
    assert files(tmp_path) == (list(NAMES) if before else [])


def test_a_kill_between_two_renames_leaves_what_is_missing_beside_it(
    tmp_path: Path, fork: Fork
) -> None:
    write_together(pair(tmp_path, "old"))

    def killed() -> None:
        real = Path.replace

        def once(path: Path, target: Path) -> Path:
            if target.name == NAMES[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(path, target)

        Path.replace = once  # type: ignore[method-assign]
        write_together(pair(tmp_path, "new"))

    child = fork(killed)
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert states(tmp_path) == ["new", "old"]
    (part,) = leftovers(tmp_path / NAMES[1])
    assert part.read_text() == "new"
    assert leftovers(tmp_path / NAMES[0]) == []


class Killed(BaseException):
    """What ends a process at once: nothing is cleaned up after it."""


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("step", range(6))
def test_a_pair_is_read_as_old_or_as_new_wherever_its_writer_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, step: int
) -> None:
    path = tmp_path / "pair" / NAMES[0]
    if before:
        sealed.write_pair(path, before.encode(), {"is": before})
    steps = iter(range(6))

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps, None) == step:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", counted(tempfile.mkstemp))
        patched.setattr(os, "fsync", counted(os.fsync))
        patched.setattr(Path, "replace", counted(Path.replace))
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # the dead clean nothing
        with pytest.raises(Killed):
            sealed.write_pair(path, b"new", {"is": "new"})
    expected = "new" if step == 5 else before  # 5: the file has its new name, its record not yet
    if expected is None:
        with pytest.raises(Altered, match="missing beside"):
            sealed.read_pair(path)
    else:
        about, data = sealed.read_pair(path)
        assert (about["is"], data) == (expected, expected.encode())
    sealed.write_pair(path, b"newest", {"is": "newest"})
    assert sealed.read_pair(path)[1] == b"newest"
    assert files(path.parent) == sorted(NAMES)  # what the killed one left is swept


@pytest.mark.usefixtures("store")
def test_of_two_writers_of_a_pair_the_second_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: Any
) -> None:
    path, others = tmp_path / "pair" / NAMES[0], []
    real = Path.replace

    def replace(part: Path, target: Path) -> Path:
        if target.name == NAMES[1] and not others:  # the file has its new name, its record not yet
            others.append(None)
            others[0] = beside(lambda: sealed.write_pair(path, b"second", {"is": "second"}))
        return real(part, target)

    monkeypatch.setattr(Path, "replace", replace)
    sealed.write_pair(path, b"first", {"is": "first"})
    others[0].join(60)
    about, data = sealed.read_pair(path)
    assert (about["is"], data) == ("second", b"second")
    assert files(path.parent) == sorted(NAMES)


@pytest.mark.usefixtures("store")
def test_a_pair_is_read_while_another_process_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / NAMES[0], tmp_path / "copy" / NAMES[0]
    sealed.write_pair(path, b"old", {"is": "old"})
    sealed.write_pair(copy, b"new", {"is": "new"})
    real = sealed.read

    def read(card: Path) -> dict[str, Any]:
        found = real(card)
        if path.read_bytes() == b"old":  # now the writer renames the first of the two
            path.write_bytes(b"new")
            part = tmp_path / f".{NAMES[1]}.x.part"
            part.write_bytes(copy.with_suffix(".json").read_bytes())
        return found

    monkeypatch.setattr(sealed, "read", read)
    about, data = sealed.read_pair(path)
    assert (about["is"], data) == ("new", b"new")


@pytest.mark.usefixtures("store")
def test_a_pair_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAMES[0]
    sealed.write_pair(path, b"content", {})
    path.write_bytes(b"another")
    (tmp_path / f".{NAMES[1]}.x.part").write_bytes(b"{cut off")
    with pytest.raises(Altered, match=r"quick\.csv was altered: its SHA-256 is"):
        sealed.read_pair(path)


# locks


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_work_goes_on_with_one_warning(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    _without_locks.cache_clear()
    assert not lockable(store.root.parent)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for key in (KEY, "cd" * 32):
            with store.lock(key):
                store.put(key, RESULT)
    _without_locks.cache_clear()
    assert [str(warning.message) for warning in given] == [NO_LOCKS]
    assert store.get(KEY) is not None


def test_another_fault_of_a_lock_is_not_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), store.lock(KEY):
        pass


def test_locks_are_found_where_there_are_some(store: Store) -> None:
    assert lockable(store.root.parent)


# sealed JSON


def test_a_sealed_file_comes_back(tmp_path: Path) -> None:
    content = {"b": [1.5, None], "a": {"é": 0.1}}
    sealed.write(tmp_path / "x.json", content)
    assert sealed.read(tmp_path / "x.json") == content


def test_any_changed_byte_of_a_sealed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.json"
    sealed.write(path, {"value": 12.5, "names": ["a", "b"]})
    content = path.read_bytes()
    with warnings.catch_warnings():
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(Altered, match=r"results/x\.json was altered"):
                sealed.read(path)
    nested = b'{"seal": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for other in (b"[1, 2]", b"3", b"", nested, content + b" ", content.replace(b" ", b"")):
        path.write_bytes(other)
        with pytest.raises(Altered, match="was altered"):
            sealed.read(path)


def test_entries_of_an_older_layout_are_named_once(tmp_path: Path) -> None:
    older = [tmp_path / name[:2] / f"{name}.cell" for name in ("cd" * 32, "ce" * 32)]
    for path in older:
        path.parent.mkdir()
        path.write_bytes(b"whatever it was")
    store = Store(tmp_path)
    with pytest.warns(UserWarning, match="2 entries of an older layout in .* are not used"):
        store.put(KEY, RESULT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("ac" * 32, RESULT)
        Store(tmp_path).put("ad" * 32, RESULT)
    assert all(path.read_bytes() == b"whatever it was" for path in older)
    assert store.get(KEY) is not None


def test_a_new_store_says_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store(tmp_path / "new").put(KEY, RESULT)


def test_half_a_character_in_a_sealed_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text('{"a": "\\ud800", "seal": "x"}')
    with pytest.raises(Altered, match=r"card\.json was altered: its content does not match its se"):
        sealed.read(path)
