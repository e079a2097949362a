"""The store in one file, or in numbered parts: finished cells, and what unfinished ones have kept.

The file is a tar archive of the store's files behind a first member that says which layout they
have, and a last line with the SHA-256 of all before it. Nothing is taken over before all of it is
verified.
"""

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from thesis_repro.lab.cells import MEANING
from thesis_repro.lab.store import LAYOUT, Store, opened, write_atomic

FORMAT = 1
"""Raise it when the layout of this file changes."""

ABOUT = "about.json"
CELL = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\.cell")
KEPT = re.compile(r"work/([0-9a-f]{64})/[^./\0][^/\0]*")
SEAL = re.compile(rb"sha256 ([0-9a-f]{64})\n")
SEALED = len(b"sha256 \n") + 64
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
LEAST = 1000
"""Bytes of the smallest part."""
BLOCK = 2**20


@dataclass(frozen=True)
class Moved:
    """How much was moved.

    cells, unfinished : finished cells, and folders of unfinished ones
    there : those that the store had already, in an import
    """

    cells: int
    unfinished: int
    there: int = 0


def size(text: str) -> int:
    """Bytes of a size like 700M or 2G.

    Raises
    ------
    ValueError
    """
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.strip().upper())
    if not found or int(found[1]) * UNITS[found[2]] < LEAST:
        raise ValueError(f"a size is a number with K, M, G or T, of at least 1K, got {text!r}")
    return int(found[1]) * UNITS[found[2]]


def export(store: Store, path: Path | str, split: int | None = None) -> tuple[list[Path], Moved]:
    """Write the store to a file, or to parts `path.001`, … of `split` bytes.

    Other processes may use the store meanwhile. A damaged cell is left out, with a warning.

    Returns
    -------
    The files, which are there when they are whole, and how much they hold.

    Raises
    ------
    ValueError
        If the store holds nothing, or there is such a file already.
    """
    path = Path(path)
    if there := next((p for p in (path, *_parts(path)) if p.exists()), None):
        raise ValueError(f"{there} is there already: name another file, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = []
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        with (
            _Sealed(Path(folder), path.name, split) as out,
            tarfile.open(
                fileobj=cast(IO[bytes], out), mode="w|", format=tarfile.USTAR_FORMAT
            ) as tar,
        ):
            _add(tar, ABOUT, json.dumps(_about(_layout(store))).encode())
            for name, content in _content(store):
                names.append(name)
                _add(tar, name, content)
        if not names:
            raise ValueError(f"the store {store.root} holds nothing to export")
        files = []
        for part in sorted(Path(folder).iterdir()):
            files.append(part.rename(path.parent / part.name))
    folders = {found[1] for name in names if (found := KEPT.fullmatch(name))}
    return files, Moved(sum(bool(CELL.fullmatch(name)) for name in names), len(folders))


def _about(layout: str) -> dict[str, str | int]:
    return {"format": FORMAT, "layout": layout, "meaning": MEANING}


def _layout(store: Store) -> str:
    """The layout that a store says it has; one with cells that says nothing is an old one."""
    marker = store.root / "layout"
    if marker.is_file():
        return marker.read_text("utf-8")
    return "1" if any(store.root.glob("??/*.cell")) else LAYOUT


def _content(store: Store) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of what is moved; what another process just removed is passed over."""
    for file in sorted(store.root.glob("*/*.cell")):
        name = f"{file.parent.name}/{file.name}"
        if CELL.fullmatch(name) and store.get(file.stem) is not None:
            yield name, file.read_bytes()
    for file in sorted(store.root.glob("work/*/*")):
        name = f"work/{file.parent.name}/{file.name}"
        if KEPT.fullmatch(name):
            with suppress(FileNotFoundError, IsADirectoryError):
                yield name, file.read_bytes()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner, no date: the same store gives the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def take(store: Store, path: Path | str) -> Moved:
    """Take over what a file holds, or the parts of it; what the store has stays as it is.

    Raises
    ------
    ValueError
        If there is no such file, it is cut off, lacks a part, was altered, is of another version's
        store, or holds a damaged cell or one under another's key: nothing is taken over then.
    """
    path = Path(path)
    files = [path] if path.is_file() else _parts(path)
    if not files:
        raise ValueError(f"there is no file {path}, and no {path.name}.001")
    _verify(files, path.name)
    store.settle()
    cells = there = 0
    with tempfile.TemporaryDirectory(prefix=".import-", dir=store.root) as folder:
        for name, content in _members(files):
            if found := CELL.fullmatch(name):
                if store.path(found[2]).exists():
                    there += 1
                else:
                    write_atomic(store.path(found[2]), content)
                    cells += 1
            elif KEPT.fullmatch(name):
                write_atomic(Path(folder) / name, content)
        waiting = sorted((Path(folder) / "work").glob("*"))
        moved = sum(_move(one, store) for one in waiting)
    return Moved(cells, moved, there + len(waiting) - moved)


def _move(folder: Path, store: Store) -> bool:
    """Move what an unfinished cell kept, in one step; not where the cell is, or has kept more."""
    if store.path(folder.name).exists():
        return False
    (store.root / "work").mkdir(exist_ok=True)
    try:
        folder.rename(store.root / "work" / folder.name)
    except OSError:  # there is such a folder, with something in it
        return False
    return True


def _verify(files: Sequence[Path], name: str) -> None:
    """Refuse files that are not, to the last byte, what an export of this layout wrote."""
    digest, end = hashlib.sha256(), b""
    with _Joined(files) as stream:
        while block := stream.read(BLOCK):
            end += block
            digest.update(end[:-SEALED])
            end = end[-SEALED:]
    seal = SEAL.fullmatch(end)
    if seal is None:
        raise ValueError(f"{name} is cut off, or its last part is missing; nothing was taken over")
    if seal[1].decode() != digest.hexdigest():
        raise ValueError(f"{name} was altered, or a part is missing; nothing was taken over")
    members = _members(files)
    first, content = next(members, ("", b""))
    about = json.loads(content) if first == ABOUT else {}
    if about != _about(LAYOUT):
        said, needed = (
            ", ".join(f"{key} {value}" for key, value in one.items())
            for one in (about, _about(LAYOUT))
        )
        raise ValueError(
            f"{name} is of another version's store ({said or 'unknown'}; needed: {needed}): its "
            f"cells are of no use here; nothing was taken over"
        )
    for inner, content in members:
        if found := CELL.fullmatch(inner):
            try:
                opened(content, found[2])
            except ValueError as error:
                raise ValueError(f"{name}: {inner}: {error}; nothing was taken over") from None


def _members(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    with _Joined(files) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                yield member.name, file.read()


def _parts(path: Path) -> list[Path]:
    """The parts of a file that was split, in order."""
    found = path.parent.glob(f"{path.name}.*")
    return sorted(
        (p for p in found if re.fullmatch(r"\.\d{3,}", p.suffix)), key=lambda p: int(p.suffix[1:])
    )


class _Sealed:
    """Writes a file, or parts of it, and a last line with the SHA-256 of all before."""

    def __init__(self, folder: Path, name: str, split: int | None) -> None:
        self.folder, self.name, self.split = folder, name, split
        self.digest = hashlib.sha256()
        self.count = self.room = 0
        self.file: IO[bytes] | None = None

    def __enter__(self) -> "_Sealed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.write(f"sha256 {self.digest.hexdigest()}\n".encode())
        finally:
            if self.file is not None:
                self.file.close()

    def write(self, data: bytes) -> int:
        """Write and hash bytes, in a new part where one is full."""
        self.digest.update(data)
        rest = memoryview(data)
        while rest:
            if self.file is None or (self.split is not None and not self.room):
                self._next()
            assert self.file is not None
            fits = len(rest) if self.split is None else min(len(rest), self.room)
            self.file.write(rest[:fits])
            self.room -= fits
            rest = rest[fits:]
        return len(data)

    def _next(self) -> None:
        if self.file is not None:
            self.file.close()
        self.count += 1
        name = self.name if self.split is None else f"{self.name}.{self.count:03}"
        self.file = (self.folder / name).open("wb")
        self.room = self.split or 0


class _Joined(io.RawIOBase):
    """Reads files one after another, as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.waiting = list(files)
        self.file: IO[bytes] | None = None

    def read(self, size: int = -1) -> bytes:
        """As many bytes, fewer at the end."""
        found = b""
        while size < 0 or len(found) < size:
            if self.file is None:
                if not self.waiting:
                    break
                self.file = self.waiting.pop(0).open("rb")
            block = self.file.read(size - len(found) if size >= 0 else -1)
            if not block:
                self.file.close()
                self.file = None
            found += block
        return found

    def close(self) -> None:
        """Close the file that is read."""
        if self.file is not None:
            self.file.close()
        super().close()
