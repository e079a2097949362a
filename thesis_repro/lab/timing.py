"""Honest measurements: warm-up, medians and quartiles; memory at its peak; work in operations."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles over the repeats, and each of them."""

    seconds: float
    low: float
    high: float
    repeats: int
    calls: tuple[float, ...] = ()


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(
    calls: Sequence[Callable[[], object]],
    repeats: int = 7,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time several calls in turn, so that a noisy moment of the machine falls on all of them.

    `clock` time.process_time counts what the processor did for this process, whatever else ran.

    Raises
    ------
    ValueError
        With fewer than two repeats.
    """
    if repeats < 2:
        raise ValueError(f"a timing needs at least 2 repeats, got {repeats}")
    for _ in range(warmup):
        for call in calls:
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, mine in zip(calls, seconds, strict=True):
            mine.append(clocked(call, clock))
    return [_summary(mine) for mine in seconds]


def clock_of(device: str) -> Callable[[], float]:
    """What a cell, which has one thread, is timed with: on a CPU the time of its processor.

    So it does not matter what else the machine does. On a GPU it is the time that passes.
    """
    return time.process_time if device == "cpu" else time.perf_counter


def once(
    calls: Sequence[Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Time each call once, in order: for equal pieces of one work that is too slow to repeat.

    The caller warms up.

    Raises
    ------
    ValueError
        With fewer than two calls.
    """
    if len(calls) < 2:
        raise ValueError(f"a timing needs at least 2 calls, got {len(calls)}")
    return _summary([clocked(call, clock) for call in calls])


def clocked(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, up to the end of what it started on a GPU."""
    _synchronize()
    began = clock()
    call()
    _synchronize()
    return clock() - began


def _summary(seconds: Sequence[float]) -> Timing:
    low, _, high = quantiles(seconds, n=4)
    return Timing(median(seconds), low, high, len(seconds), tuple(seconds))


@dataclass
class Peak:
    """Bytes of the tensors that a block made: the most that lived at once."""

    bytes: int = 0
    _live: dict[int, int] = field(default_factory=dict)

    def _born(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._live and storage.nbytes():
            self._live[key] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, key, None)
            self.bytes = max(self.bytes, sum(self._live.values()))


@contextmanager
def peak(device: str = "cpu") -> Iterator[Peak]:
    """Measure the memory of what runs in the block, without what was there before (weights, data).

    On a GPU it is the allocator's peak. On the CPU it is the peak of the bytes of live tensors that
    torch operations returned; what an operation needs inside itself is not seen.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    found = Peak()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        torch.cuda.synchronize()
        found.bytes = torch.cuda.max_memory_allocated() - before
        return

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
            out = func(*args, **(kwargs or {}))
            for tensor in tensors(out):
                storage = tensor.untyped_storage()
                if storage._cdata not in given:  # views and results in place are not new
                    found._born(storage)
            return out

    def tensors(tree: Any) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    with Watch():  # type: ignore[no-untyped-call]
        yield found


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations in the matrix products and convolutions of a call."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    added: Any = torch.ops.aten.addmm_  # what a GPU convolves by; the counter does not know it
    with FlopCounterMode(display=False, custom_mapping={added: _product}) as counter:
        call()
    return int(counter.get_total_flops())


def _product(into: Any, a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of adding the product of two matrices of these shapes in place."""
    return 2 * a[0] * a[1] * b[1]


def matrix_rate(
    device: str = "cpu", size: int | None = None, repeats: int = 5, format: str = "float32"
) -> float:
    """Operations per second of a matrix product in a format of torch: what the device does at best.

    size : of the square matrices; by default 1024 on a CPU, and 8192 on a GPU, which needs some
        thousands to show what it can do
    """
    import torch

    size = size or (1024 if device == "cpu" else 8192)
    a = torch.rand(size, size, device=device).to(getattr(torch, format))
    (found,) = interleaved([lambda: a @ a], repeats, warmup=1)
    return 2.0 * size**3 / found.seconds
