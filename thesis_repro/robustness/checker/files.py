"""What the checker reads: a certificate and a file of weights, and whether they belong together.

Whatever is wrong with a file ends in one ValueError that names it. Nothing is allocated by a size
that a file states before that size was compared with the file's own length.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from thesis_repro.robustness.checker.bounds import Array
from thesis_repro.robustness.checker.nets import check_entries

FORMAT = "thesis-repro certificate 2"
EARLIER = "thesis-repro certificate 1"
DTYPES = {"float32": ("F32", "<f4"), "float64": ("F64", "<f8")}
CLAIMED = ("bound", "method")
"""What an outer layer of a certificate says beyond the architecture."""
COUNTER = "num_batches_tracked"
"""A number that batch normalisation counts in training; eval mode does not read it."""


def read(path: Path | str) -> dict[str, Any]:
    """The certificate, after a look at its seal and at every field.

    Raises
    ------
    ValueError
        If it is no certificate, was altered, or a field is missing, unknown or out of range.
    """
    path = Path(path)
    about = _json(path.read_bytes(), f"{path.name} is not a sealed certificate")
    if not isinstance(about, dict) or not isinstance(about.get("seal"), str):
        raise ValueError(f"{path.name} is not a sealed certificate")
    seal = about.pop("seal")
    try:
        text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        found = hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is not a sealed certificate") from None
    if found != seal:
        raise ValueError(f"{path.name} was altered: its content does not match its seal")
    try:
        _check(about)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path.name}: a field is nested too deep") from None
    return about


def _json(content: bytes, otherwise: str) -> Any:
    """JSON without NaN, infinity or a name that comes twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(constant: str) -> Any:
        raise ValueError

    try:
        return json.loads(content.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ValueError(otherwise) from None


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300


def _size(value: Any) -> bool:
    return _number(value) and value >= 0


def _list(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(holds, value))


def _digits(count: int) -> Callable[[Any], bool]:
    pattern = re.compile(f"[0-9a-f]{{{count}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _square(value: Any) -> bool:
    rows = _list(value, lambda row: _list(row, _size) and len(row) == len(value))
    return rows and all(row[index] == 0 for index, row in enumerate(value))


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda v: v == FORMAT, repr(FORMAT)),
    "model": (lambda v: isinstance(v, str), "text"),
    "data": (lambda v: isinstance(v, str), "text"),
    "epsilon": (lambda v: _number(v) and v > 0, "a finite number above 0"),
    "arithmetic": (lambda v: isinstance(v, str) and v in DTYPES, "float32 or float64"),
    "input_shape": (
        lambda v: _list(v, lambda n: type(n) is int and 0 < n < 2**31) and len(v) < 5,
        "1 to 4 sizes of at least 1",
    ),
    "weights": (
        lambda v: isinstance(v, dict) and len(v) > 0 and all(map(_digits(64), v.values())),
        "a SHA-256 for each weight",
    ),
    "images": (lambda v: _list(v, _digits(16)), "16 digits of the SHA-256 of each image"),
    "layers": (lambda v: isinstance(v, list) and len(v) > 0, "a list of layers"),
    "k_sub": (_size, "a finite number, at least 0"),
    "k_ij": (_square, "a square of finite numbers, at least 0, with a diagonal of 0"),
    "points": (lambda v: isinstance(v, dict), "what is claimed of each image"),
}

POINTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label": (lambda v: type(v) is int and -1 <= v < 2**31, "a class, or -1"),
    "certified": (lambda v: isinstance(v, bool), "true or false"),
    "margin": (lambda v: v is None or _number(v), "a finite number or null"),
}


def _check(about: dict[str, Any]) -> None:
    if about.get("format") == EARLIER:
        raise ValueError(f"it has the format {EARLIER!r}; write it again as {FORMAT!r}")
    _fields(about, FIELDS, "")
    _fields(about["points"], {key: (lambda v: True, "") for key in POINTS}, "points.")
    for key, (holds, needed) in POINTS.items():
        values = about["points"][key]
        if not _list(values, holds) or len(values) != len(about["images"]):
            raise ValueError(f"points.{key} needs to be {needed}, for each of the images")
    if max(about["points"]["label"]) >= len(about["k_ij"]):
        raise ValueError("points.label names a class that k_ij does not have")
    check_entries(about["layers"], CLAIMED)
    for entry in about["layers"][:-1]:
        if not (_size(entry.get("bound")) and isinstance(entry.get("method"), str)):
            raise ValueError(f"layer {entry['name']!r:.40} needs a finite bound and a method")


def _fields(
    about: dict[str, Any], fields: Mapping[str, tuple[Callable[[Any], bool], str]], prefix: str
) -> None:
    if differing := sorted(set(about) ^ set(fields)):
        named = ", ".join(f"{prefix}{key:.40}" for key in differing)
        raise ValueError(f"missing or unknown: {named}")
    for key, (holds, needed) in fields.items():
        if not holds(about[key]):
            raise ValueError(f"{prefix}{key} needs to be {needed}, got {about[key]!r:.40}")


def architecture(about: Mapping[str, Any]) -> str:
    """Input shape and layers of a certificate or of an architecture, as canonical JSON."""
    layers = [{k: v for k, v in entry.items() if k not in CLAIMED} for entry in about["layers"]]
    return json.dumps(
        {"input_shape": list(about["input_shape"]), "layers": layers},
        sort_keys=True,
        separators=(",", ":"),
    )


def weights(path: Path | str, about: Mapping[str, Any]) -> tuple[dict[str, Array], str | None]:
    """The tensors named body.* in float64, and the architecture that the file states, if any.

    Raises
    ------
    ValueError
        If the file is no safetensors file, if its tensors are not just those of the certificate, or
        if they have another format than the arithmetic and no one narrower format, either: a
        missing, further or other one is named.
    """
    path = Path(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    broken = f"{path.name} is not a safetensors file"
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError(broken)
    header = _json(content[8 : 8 + length], broken)
    body = memoryview(content)[8 + length :]
    if not isinstance(header, dict):
        raise ValueError(broken)
    metadata = header.pop("__metadata__", {})
    _check_header(header, len(body), broken)
    theirs = {name[5:]: entry for name, entry in header.items() if name.startswith("body.")}
    for name in about["weights"]:
        if name not in theirs:
            raise ValueError(f"{path.name} has no weight {name!r}")
    found, (dtype, kind) = {}, _stored(theirs, about["arithmetic"])
    for name, entry in theirs.items():
        if name not in about["weights"]:
            raise ValueError(f"{path.name} has weight {name!r}, which was not certified")
        raw = body[slice(*entry["data_offsets"])]
        if hashlib.sha256(raw).hexdigest() != about["weights"][name]:
            raise ValueError(f"weight {name!r} is not the one that was certified")
        counter = _counter(name, entry)
        if entry["dtype"] != dtype and not counter:
            raise ValueError(
                f"weight {name!r} is {entry['dtype']}; the certificate is about {dtype}"
            )
        if prod(entry["shape"]) * (8 if counter else int(kind[-1])) != len(raw) or not len(raw):
            raise ValueError(
                f"weight {name!r} of shape {entry['shape']!r:.40} has {len(raw)} bytes"
            )
        values = np.frombuffer(raw, "<i8" if counter else kind).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"weight {name!r} has values that are not finite")
        found[name] = values.reshape(entry["shape"])
    stated = metadata.get("architecture") if isinstance(metadata, dict) else None
    return found, stated


def _stored(entries: Mapping[str, Any], arithmetic: str) -> tuple[str, str]:
    """The one format of the weights: that of the arithmetic, or a narrower one that is widened."""
    if arithmetic == "float64" and all(
        entry["dtype"] == "F32" or _counter(name, entry) for name, entry in entries.items()
    ):
        return DTYPES["float32"]
    return DTYPES[arithmetic]


def _counter(name: str, entry: Mapping[str, Any]) -> bool:
    return name.rpartition(".")[2] == COUNTER and entry["dtype"] == "I64"


def _check_header(header: dict[str, Any], size: int, broken: str) -> None:
    """Refuse a header whose tensors do not fill the file, one after the other."""
    reached = 0
    spans = []
    for entry in header.values():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(broken)
        shape, offsets = entry["shape"], entry["data_offsets"]
        numbers = [shape, offsets]
        if not all(isinstance(v, list) and all(type(n) is int for n in v) for v in numbers):
            raise ValueError(broken)
        if len(offsets) != 2 or len(shape) > 8 or not all(0 <= n < 2**48 for n in shape):
            raise ValueError(broken)
        if not isinstance(entry["dtype"], str):
            raise ValueError(broken)
        spans.append((offsets[0], offsets[1]))
    for start, stop in sorted(spans):
        if start != reached or stop < start:
            raise ValueError(broken)
        reached = stop
    if reached != size:
        raise ValueError(broken)
