"""Where a data set lies, and whether its files are the ones that were published.

A set is looked for under ``$THESIS_REPRO_DATA`` and then in the user's cache. Its files are
compared with the published hashes before anything is read out of them. Nothing here writes.
"""

import hashlib
from functools import cache
from pathlib import Path

from thesis_repro.data.readers import read_image
from thesis_repro.data.sources import DataDamaged, DataMissing, Source
from thesis_repro.lab import places

SUMS = "SHA256SUMS"  # written beside a set when it is fetched: "hash  path", one line a file


def roots() -> list[Path]:
    """Return the folders that are searched, first choice first."""
    named, cache = places.named(places.DATA), places.cache() / "data"
    return [named, cache] if named else [cache]


def place(source: Source) -> Path | None:
    """Return where the set lies, in the first root that has it; None where no root has."""
    return next((r / source.folder for r in roots() if (r / source.folder).exists()), None)


def require(source: Source) -> Path:
    """Return where the set lies.

    Raises
    ------
    DataMissing
        No root has it.
    """
    found = place(source)
    if found is None:
        looked = " or ".join(str(root) for root in roots())
        raise DataMissing(f"{source.name} is not in {looked}: {source.get}")
    return found


def list_files(source: Source, folder: Path) -> list[Path]:
    """List the files that make up the set, sorted by their path inside ``folder``.

    Raises
    ------
    DataDamaged
        A published file is missing, or there is none at all.
    """
    if source.md5:
        for name, md5 in sorted(source.md5.items()):
            if not (folder / name).is_file():
                raise DataDamaged(f"{folder / name}: expected MD5 {md5}, found no such file")
        return [folder / name for name in sorted(source.md5)]
    if folder.is_file():
        return [folder]
    found = (p for p in folder.glob(source.pattern) if p.is_file())
    paths = [p for p in found if p.name != SUMS and not p.name.startswith(".")]
    if not paths:
        raise DataDamaged(f"{folder}: expected files like {source.pattern}, found none")
    return sorted(paths, key=lambda p: p.relative_to(folder).as_posix())


def read_checked(path: Path, md5: str) -> bytes:
    """Read a whole file and compare it with its published MD5.

    Raises
    ------
    DataDamaged
        The file is absent, or its MD5 is another one; the message gives both.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataDamaged(f"{path}: expected MD5 {md5}, found no such file") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        size = len(content)
        raise DataDamaged(f"{path}: expected MD5 {md5}, found {found} ({size} bytes)")
    return content


def check_sums(folder: Path) -> bool:
    """Compare a fetched set with the hashes noted when it was fetched.

    Returns
    -------
    False if the folder holds no such list, True if every file agrees with it.

    Raises
    ------
    DataDamaged
        The first listed file that is absent or differs; both hashes are given.
    """
    if not (folder / SUMS).is_file():
        return False
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != expected:
            raise DataDamaged(f"{path}: expected SHA-256 {expected}, found {found}")
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes (cached while size and time of change stay)."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(source: Source, folder: Path) -> str:
    """Return one SHA-256 for the whole set: that of the sorted lines "hash  path".

    Raises
    ------
    DataDamaged
        A file is absent, differs from a published or noted hash, or is not an image.
    """
    paths = list_files(source, folder)
    names = [p.name if p == folder else p.relative_to(folder).as_posix() for p in paths]
    for name, md5 in source.md5.items():
        _check_md5(folder / name, (folder / name).stat().st_mtime_ns, md5)
    check_sums(folder)
    lines = (f"{_hash(source, path)}  {name}\n" for path, name in zip(paths, names, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash(source: Source, path: Path) -> str:
    if not source.lossless:
        return sha256_of(path)
    return _pixels(path, path.stat().st_size, path.stat().st_mtime_ns)


@cache
def _check_md5(path: Path, changed: int, md5: str) -> None:
    read_checked(path, md5)


@cache
def _pixels(path: Path, size: int, changed: int) -> str:
    image = read_image(path)
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
