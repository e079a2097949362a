"""JSON files that notice a changed byte: each carries the SHA-256 of its own content."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thesis_repro.lab.locks import exclusive
from thesis_repro.lab.store import default_root, leftovers, sweep, write_atomic, write_together


class Altered(ValueError):
    """A recorded file is not what was recorded; the message names it."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its seal, atomically."""
    write_atomic(path, _packed(content))


def read(path: Path) -> dict[str, Any]:
    """Read sealed JSON.

    Raises
    ------
    Altered
        If any byte differs from what was written.
    """
    data = path.read_bytes()
    try:
        content: dict[str, Any] = json.loads(data)
        seal = content.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise Altered(f"{_name(path)} was altered: it is no sealed JSON file") from None
    try:
        whole = _seal(content) == seal and _bytes({**content, "seal": seal}) == data
    except UnicodeEncodeError:  # half a character, as an escape: nothing that we write has one
        whole = False
    if not whole:
        raise Altered(f"{_name(path)} was altered: its content does not match its seal")
    return content


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a name against other processes that hold it too, by a lock in the store."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    with exclusive(default_root() / "locks" / name):
        yield


def write_pair(path: Path, data: bytes, about: Mapping[str, Any]) -> None:
    """Write a file and its record: sealed JSON beside it, of the same stem, with its SHA-256.

    A full disk changes neither. :func:`read_pair` reads both the old pair or both the new one,
    whenever the writer is killed. Of two writers the second waits for the first. What killed ones
    left is swept away.
    """
    card = path.with_suffix(".json")
    record = {**about, "sha256": hashlib.sha256(data).hexdigest()}
    with alone(path):
        write_together({path: data, card: _packed(record)})
        for file in (path, card):
            sweep(file)


def read_pair(path: Path) -> tuple[dict[str, Any], bytes]:
    """The record of a file, and the file.

    A writer that is killed between its two renames leaves the record as a part: that one is taken.

    Raises
    ------
    Altered
        If no record is whole, or none is of this file.
    """
    card = path.with_suffix(".json")
    wrong: Altered | None = None
    for candidate in _candidates(card):
        try:
            about = read(candidate)
            return about, check_bytes(path, about.get("sha256", ""))
        except FileNotFoundError:
            continue
        except Altered as error:
            wrong = wrong or error
    raise wrong or Altered(f"{_name(card)} is missing beside {path.name}")


def _candidates(card: Path) -> Iterator[Path]:
    """Where the record of a file may lie, each looked up when those before it did not fit."""
    yield card
    yield from leftovers(card)
    yield card  # a writer may have renamed in between


def check_bytes(path: Path, sha256: str) -> bytes:
    """The content of a file whose hash is recorded.

    Raises
    ------
    Altered
        If the hash differs or the file is not there.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Altered(f"{_name(path)} is missing beside its record") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Altered(
            f"{_name(path)} was altered: its SHA-256 is {found[:12]}…, recorded was {sha256[:12]}…"
        )
    return data


def _packed(content: Mapping[str, Any]) -> bytes:
    return _bytes({**content, "seal": _seal(content)})


def _bytes(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes(content)).hexdigest()


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])
