"""JSON files that notice a changed byte: each carries the SHA-256 of its own content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_repro.lab.store import write_atomic


class Altered(ValueError):
    """A recorded file is not what was recorded; the message names it."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its seal, atomically."""
    write_atomic(path, _bytes({**content, "seal": _seal(content)}))


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
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Altered(f"{_name(path)} was altered: it is no sealed JSON file") from None
    if _seal(content) != seal or _bytes({**content, "seal": seal}) != data:
        raise Altered(f"{_name(path)} was altered: its content does not match its seal")
    return content


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


def _bytes(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes(content)).hexdigest()


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])
