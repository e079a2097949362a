"""How long a cell will take, from how long cells like it took in the same store.

Each cell that was computed leaves a line. Cells are alike when they have the same function, the
same kind of device, and the same configuration but for the seed and the epochs; the time is taken
to grow with the epochs. Without a like cell, the dearest of the same function and device stands in.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from thesis_repro.lab.store import Store

FILE = "seconds.jsonl"
GROWS = ("epochs", "planned")
"""Fields that the time grows with: of a training its epochs, of a plan the seconds it reckoned."""
VARIED = ("seed", *GROWS)
"""Fields of a configuration, or of a part of one, in which like cells may differ."""


@dataclass(frozen=True)
class Line:
    """What one computation took.

    like, config : hashes of what has to agree in like cells, and of the whole configuration
    work : what the time grows with: epochs, mostly
    finished : whether it came to its end; else it was stopped, and may have kept a checkpoint
    """

    function: str
    device: str
    like: str
    config: str
    key: str
    work: float
    seconds: float
    finished: bool

    def counts(self, store: Store) -> bool:
        """Whether what it computed is still there to be used."""
        if self.finished:
            return store.path(self.key).exists()
        return resumable(store, self.key)


def resumable(store: Store, key: str) -> bool:
    """Whether a cell that did not end left something to go on from."""
    folder = store.root / "work" / key
    return folder.is_dir() and any(folder.iterdir())


def record(
    store: Store,
    cell: tuple[str, str, Any],
    key: str,
    seconds: float,
    *,
    finished: bool = True,
    resumed: bool = False,
) -> None:
    """Leave a line; `cell` is its function, its device and its configuration as JSON values.

    A cell that went on from what a killed run had kept leaves none: nobody knows its whole time.
    """
    function, device, config = cell
    if finished and resumed:
        before = [line.seconds for line in lines(store) if line.key == key and not line.finished]
        if not before:
            return
        seconds += sum(before)
    line = Line(
        function=function,
        device=device,
        like=_like(*cell),
        config=_hash(config),
        key=key,
        work=_work(config),
        seconds=seconds,
        finished=finished,
    )
    with suppress(OSError):  # a hint is worth no run
        store.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(store.root / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:  # one write of a short line is atomic
            os.write(handle, json.dumps(asdict(line)).encode() + b"\n")
        finally:
            os.close(handle)


def lines(store: Store) -> list[Line]:
    """What was noted; a line that was cut off is passed over."""
    try:
        text = (store.root / FILE).read_text("utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            found.append(Line(**json.loads(line)))
    return found


def estimate(store: Store, cell: tuple[str, str, Any]) -> float | None:
    """Seconds that a cell will take, without what the store has of it; None where nothing is known.

    Parts of a configuration name the cells that a cell uses: the training of its net, say. Those
    that are finished cost nothing more, and those that were stopped so much less.
    """
    function, device, config = cell
    noted = lines(store)
    ended = [line for line in noted if line.finished]
    like = [line for line in ended if line.like == _like(*cell)]
    same = [line for line in ended if (line.function, line.device) == (function, device)]
    rates = [line.seconds / line.work for line in like or same]
    if not rates:
        return None
    whole = (median(rates) if like else max(rates)) * _work(config)
    inside = {_hash(part) for part in _parts(config)}
    credit: dict[str, float] = {}
    for line in noted:
        if not line.counts(store):
            continue
        if line.finished and line.config in inside:
            credit[line.key] = line.seconds
        elif not line.finished and line.config in {*inside, _hash(config)}:
            credit[line.key] = credit.get(line.key, 0.0) + line.seconds
    return float(max(whole - sum(credit.values()), 0.0))


def _parts(config: Any) -> Iterator[Any]:
    """The objects inside a configuration, however deep."""
    if isinstance(config, Mapping):
        for value in config.values():
            if isinstance(value, Mapping):
                yield value
            yield from _parts(value)


def _work(config: Any) -> float:
    """What the time grows with: the epochs of the longest training, 1 without any."""
    found = [config, *_parts(config)] if isinstance(config, Mapping) else []
    return max((float(p[name]) for p in found for name in GROWS if p.get(name)), default=1.0)


def _like(function: str, device: str, config: Any) -> str:
    return _hash([function, device, _without(config)])


def _without(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    return {name: _without(value) for name, value in config.items() if name not in VARIED}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
