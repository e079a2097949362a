"""A content-addressed store of finished results: each entry is whole, or it is not there."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thesis_repro.lab import places
from thesis_repro.lab.locks import exclusive

LAYOUT = "2"
"""Raise it when keys are made in another way, so that no older entry is found."""


@dataclass(frozen=True)
class Result:
    """What a cell gives: JSON values and numpy arrays; the engine adds how long it took, and on
    which device, by its product name (empty in what an older version stored).

    Computed now or read back, it is the same: values are as JSON gives them back (a tuple is a
    list), and values and arrays are in the order of their names. A safetensors file is read in an
    order that differs from process to process, and what is drawn or written in the order of a
    result, such as a bootstrap, would differ with it.

    Raises
    ------
    ValueError
        If the values are no JSON values.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = ""

    def __post_init__(self) -> None:
        try:
            values = json.dumps(dict(self.values), sort_keys=True)
        except TypeError as error:
            raise ValueError(f"a result's values need to be JSON values: {error}") from None
        object.__setattr__(self, "values", json.loads(values))
        object.__setattr__(self, "arrays", dict(sorted(self.arrays.items())))


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file or none: temporary name beside it, fsync, rename.

    Raises
    ------
    OSError
        In one line that names the file and, when the disk is full, says so; the old file is
        untouched, no part is left.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: no name is changed before the content of all is on disk.

    Renaming needs no space: a disk that fills up leaves all of them as they were. A kill between
    two renames leaves the part of the second beside it, whole (:func:`leftovers`).

    Raises
    ------
    OSError
        As :func:`write_atomic`.
    """
    parts: dict[Path, Path] = {}
    begun = False
    try:
        for path, data in files.items():
            with _named(path, data):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(
                    prefix=f".{path.name}.", suffix=".part", dir=path.parent
                )
                parts[path] = Path(name)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                parts[path].chmod(0o644)
        for path, data in files.items():
            with _named(path, data):
                parts[path].replace(path)
            del parts[path]
            begun = True
    finally:
        for part in () if begun else parts.values():  # once begun, they are what is missing
            part.unlink(missing_ok=True)


@contextmanager
def _named(path: Path, data: bytes) -> Iterator[None]:
    """Say of an error which file was not written, not which part of it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        found = str(error.filename or "")  # what is in the way, where it is no part of ours
        where = f" ({found})" if found and not found.endswith(".part") else ""
        said = f"{path} cannot be written: {error.strerror}{where}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = (
                f"the disk is full: {path.name} ({len(data):,} bytes) was not written; free space "
                f"under {path.parent.name}/ and run again, finished cells are kept"
            )
        raise OSError(error.errno, said) from error


def leftovers(path: Path) -> list[Path]:
    """Parts of this file that killed writers left; any of them may be cut off."""
    return sorted(path.parent.glob(f".{path.name}.*.part"))


def sweep(path: Path) -> None:
    """Remove what writers of this file left when they were killed; nobody may be writing it."""
    for part in leftovers(path):
        part.unlink(missing_ok=True)


def default_root() -> Path:
    """$THESIS_REPRO_STORE, or a folder in the user's cache."""
    return places.named(places.STORE) or places.cache() / "store"


class Store:
    """Results by key. An entry is one file, KEY.cell: a line with its SHA-256, then the content.

    The content is a safetensors file; the values are JSON in its header, beside the key. Never
    pickle.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def path(self, key: str) -> Path:
        """Where the entry of this key lies, present or not."""
        return self.root / key[:2] / f"{key}.cell"

    def get(self, key: str) -> Result | None:
        """The stored result, or None.

        An entry that is damaged, or that of another key, is named and moved aside: None.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return opened(content, key)
        except ValueError as error:
            why = str(error)
        aside = path.with_suffix(".damaged")
        try:
            path.replace(aside)
        except FileNotFoundError:  # another process did
            return None
        warnings.warn(
            f"stored cell {path.name} is damaged ({why}); it was moved to {aside.name} and is "
            f"computed again",
            stacklevel=2,
        )
        return None

    def put(self, key: str, result: Result) -> None:
        """Store a result atomically and clear the key's working folder."""
        self.settle()
        body = pack(result, key)
        write_atomic(self.path(key), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        self._clear(key)

    def drop(self, key: str) -> None:
        """Forget a result and what a running cell kept for it."""
        self.path(key).unlink(missing_ok=True)
        self._clear(key)

    def workdir(self, key: str) -> Path:
        """A folder in which a running cell keeps what lets it resume; made if need be."""
        folder = self.root / "work" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def settle(self) -> None:
        """Say once that entries whose keys were made in another way are not used any more."""
        marker = self.root / "layout"
        if marker.is_file() and marker.read_text("utf-8") == LAYOUT:
            return
        older = sum(1 for _ in self.root.glob("??/*.cell"))
        if older:
            warnings.warn(
                f"{older} entries of an older layout in {self.root} are not used; delete the "
                f"folder to free their space",
                stacklevel=3,
            )
        write_atomic(marker, LAYOUT.encode())

    def _clear(self, key: str) -> None:
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a key against other processes; the kernel frees it when a process dies."""
        with exclusive(self.root / "locks" / key):
            sweep(self.path(key))  # whoever held the lock before may have been killed
            yield


def opened(content: bytes, key: str) -> Result:
    """The result in the file of an entry, if it is whole and, where it says its key, of this one.

    Raises
    ------
    ValueError
        Saying what is wrong with it.
    """
    from safetensors import SafetensorError

    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("its hash differs")
    try:
        said, result = _about(body).get("key", key), unpack(body)
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError):
        raise ValueError("it holds no result") from None
    if said != key:  # an older version left it out
        raise ValueError(f"it is that of the key {said[:12]}…")
    return result


def pack(result: Result, key: str = "") -> bytes:
    """Bytes of a result, values first in a sorted header; the key among them where there is one."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(a, order="C") for name, a in result.arrays.items()}
    about = {"values": json.dumps(result.values), "seconds": repr(float(result.seconds))}
    return save(arrays, {**about, "device": result.device, **({"key": key} if key else {})})


def unpack(content: bytes) -> Result:
    """The inverse of :func:`pack`."""
    from safetensors.numpy import load

    about = _about(content)
    values, seconds = json.loads(about["values"]), float(about["seconds"])
    return Result(values, load(content), seconds, about.get("device", ""))


def _about(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    about: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return about
